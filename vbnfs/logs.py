"""Structured logging: one line for each noteworthy event, none for a read.

The log file has JSON lines. The terminal (`--foreground`) has `key=value`, with values quoted as Python quotes them.
Both forms escape control characters, so that names from a bucket cannot control a terminal. Messages of libraries
(httpx, trio) of level WARNING and above are written in the same form.
"""

import logging
import math
import threading
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TextIO

import structlog
from cachetools import TTLCache

WARN_AGAIN_SECONDS: Final = 600.0  # for what goes on while a mount is used

_MOST_REMEMBERED: Final = 1_024
_TAIL_BYTES: Final = 64 << 10

log = structlog.get_logger()


class WarnOnce:
    """Logs each warning once in `again_after_seconds`; called from any thread.

    A warning repeats an earlier one if their `key` is equal: by default the event and all values. At most 1,024 keys
    are remembered. When more are needed, the oldest is forgotten, and its warning can be logged again.
    """

    def __init__(self, *, again_after_seconds: float = math.inf) -> None:
        self._lock = threading.Lock()
        self._logged: TTLCache[Hashable, None] = TTLCache(_MOST_REMEMBERED, ttl=again_after_seconds)

    def __call__(self, event: str, *, key: Hashable = None, **values: str) -> None:
        """Log `event` with `values`, unless it repeats an earlier warning."""
        key = (event, *values.values()) if key is None else key
        with self._lock:
            is_repeated = key in self._logged
            if not is_repeated:
                self._logged[key] = None
        if not is_repeated:
            log.warning(event, **values)


class LogTail(logging.Handler):
    """The last lines of the log, as JSON, of so many bytes together at the most."""

    def __init__(self, *, most_bytes: int = _TAIL_BYTES) -> None:
        super().__init__()
        self._most_bytes = most_bytes
        self._lines: deque[bytes] = deque()
        self._count_bytes = 0
        self.setFormatter(_formatter(as_json=True))

    def emit(self, record: logging.LogRecord) -> None:
        """A line is logged. The thread that logs it holds the lock."""
        line = self.format(record).encode(errors="backslashreplace")[: self._most_bytes - 1] + b"\n"
        self._lines.append(line)
        self._count_bytes += len(line)
        while self._count_bytes > self._most_bytes:
            self._count_bytes -= len(self._lines.popleft())

    def text(self) -> bytes:
        """They, the last one last."""
        self.acquire()
        try:
            return b"".join(self._lines)
        finally:
            self.release()


@contextmanager
def log_tail() -> Iterator[LogTail]:
    """While entered, the last lines that are logged are remembered."""
    tail, root = LogTail(), logging.getLogger()
    root.addHandler(tail)
    try:
        yield tail
    finally:
        root.removeHandler(tail)


_SHARED: Final[Sequence[structlog.typing.Processor]] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


def _formatter(*, as_json: bool) -> logging.Formatter:
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"])
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


def configure_logging(stream: TextIO, *, level: str, as_json: bool) -> None:
    """Send all log lines of `level` (debug, info, warning, error) and above to `stream`."""
    structlog.reset_defaults()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(as_json=as_json))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("vbnfs").setLevel(level.upper())
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=_ModuleLoggers(),
        cache_logger_on_first_use=False,
    )


def quieten(*loggers: str) -> None:
    """Have loggers of libraries write nothing: what matters of it is raised, and said in our own words."""
    for name in loggers:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def log_by_python() -> None:
    """Send log lines to the standard logger `vbnfs`, whose handlers and level are the program's own choice.

    For a program that imports vbnfs: without handlers of its own nothing is printed. One that has configured
    structlog itself keeps that.
    """
    if structlog.is_configured():
        return
    logging.getLogger("vbnfs").addHandler(logging.NullHandler())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=_ModuleLoggers(),
        cache_logger_on_first_use=False,
    )


class _ModuleLoggers:
    """Every structlog logger writes to the standard logger `vbnfs`, whose level is the configured one."""

    def __call__(self, *_: object) -> logging.Logger:
        return logging.getLogger("vbnfs")

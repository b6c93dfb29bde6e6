"""Structured logging: one line for each noteworthy event, none for a read.

The log file has JSON lines; the terminal (`--foreground`) has `key=value` with values quoted as Python does.
Both escape control characters: names from a bucket cannot drive a terminal. Messages of libraries
(httpx, trio) come the same way, from WARNING up.
"""

import logging
from typing import TextIO

import structlog


def configure_logging(stream: TextIO, *, level: str, as_json: bool) -> None:
    """Send all log lines of `level` (debug, info, warning, error) and above to `stream`."""
    structlog.reset_defaults()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"])
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("vbnfs").setLevel(level.upper())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=_ModuleLoggers(),
        cache_logger_on_first_use=False,
    )


class _ModuleLoggers:
    """Every structlog logger writes to the standard logger `vbnfs`, whose level is the setting's."""

    def __call__(self, *_: object) -> logging.Logger:
        return logging.getLogger("vbnfs")

"""Metrics of a mount for Prometheus: at a loopback port, and in a file for node_exporter's textfile collector.

What cannot be had is refused before anything is mounted. The file is replaced as a whole, four times a minute, and is
gone at the end: one that stays would say that the mount is still there.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import trio

from vbnfs.access.restarting import restart_on_failure
from vbnfs.config.settings import Config
from vbnfs.daemon import metrics_port
from vbnfs.errors import MountError
from vbnfs.figures import Figures
from vbnfs.host.atomic import output_file
from vbnfs.logs import WarnOnce

log = structlog.get_logger()

_FILE_SECONDS: Final = 15.0
_LAST_SECONDS: Final = 1.0  # for the file to go: its disk may hang
_FILE_MODE: Final = 0o644  # node_exporter is another user

Now = Callable[[], Figures]


class Exporting:
    """What a mount exports, as far as its settings want it."""

    def __init__(self, listener: trio.SocketListener | None, file: Path | None) -> None:
        self._listener, self._file = listener, file

    def start(self, services: trio.Nursery, figures: Now) -> None:
        """Begin to, for as long as the mount. `figures` gives those of now, and is called on the event loop."""
        if self._listener is not None:
            answer = partial(metrics_port.serve, self._listener, partial(_text, figures))
            services.start_soon(restart_on_failure, "metrics at a port", answer)
        if self._file is not None:
            write = partial(_keep_writing, self._file, figures)
            services.start_soon(restart_on_failure, "metrics in a file", write)


@asynccontextmanager
async def prepared(config: Config) -> AsyncIterator[Exporting]:
    """What the settings want, until the end. Raises `MountError` where it cannot be had."""
    if config.metrics_address is not None or config.metrics_file is not None:
        check_library()
    if config.metrics_file is not None:
        await trio.to_thread.run_sync(_check_folder, config.metrics_file, abandon_on_cancel=True)
    listener = None if config.metrics_address is None else metrics_port.listen(config.metrics_address)
    try:
        yield Exporting(listener, config.metrics_file)
    finally:
        if listener is not None:
            with trio.CancelScope(shield=True):
                await listener.aclose()
        if config.metrics_file is not None:
            await _remove(config.metrics_file)


def check_library() -> None:
    """Raises `MountError` where there is no prometheus_client."""
    try:
        from vbnfs.daemon import exporter  # noqa: F401, PLC0415 - an extra, which a plain mount does not import
    except ModuleNotFoundError as error:
        library = str(error.name).partition(".")[0]
        raise MountError(f"metrics need {library}: pip install 'vbnfs[metrics]'") from error


def _check_folder(file: Path) -> None:
    if not os.access(file.parent, os.W_OK | os.X_OK):
        reason = "you cannot write there" if file.parent.is_dir() else "there is no such folder"
        raise MountError(f"the metrics cannot be written to {file}: {reason}; choose another --metrics-file")


async def _text(figures: Now, accept: str) -> tuple[bytes, str]:
    from vbnfs.daemon.exporter import exposition  # noqa: PLC0415 - see check_library

    now = figures()
    return await trio.to_thread.run_sync(exposition, lambda: now, accept)


async def _keep_writing(file: Path, figures: Now) -> None:
    warn_once = WarnOnce()
    while True:
        body, _ = await _text(figures, "")
        try:
            await trio.to_thread.run_sync(_write, file, body, abandon_on_cancel=True)
        except OSError as error:
            warn_once("the metrics cannot be written", file=str(file), reason=str(error.strerror))
        await trio.sleep(_FILE_SECONDS)


def _write(file: Path, body: bytes) -> None:
    with output_file(file, mode=_FILE_MODE) as out:
        out.write(body)


async def _remove(file: Path) -> None:
    with trio.move_on_after(_LAST_SECONDS, shield=True), suppress(OSError):
        await trio.to_thread.run_sync(file.unlink, abandon_on_cancel=True)

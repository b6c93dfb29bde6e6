"""A trial: an empty folder is mounted as a dataset would be, and taken away again.

It shows whether this user may mount here, and whether the kernel would read files by itself (passthrough). Nothing of
a dataset, of a cache or of the network takes part.
"""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from vbnfs.config.settings import Config
from vbnfs.daemon.alone import mount_alone, take_away
from vbnfs.daemon.fuse_options import fuse_options
from vbnfs.errors import MountError, root_error
from vbnfs.filesystem.passthrough import why_not
from vbnfs.fuse.empty import EmptyFolder
from vbnfs.fuse.engines import Connection, load
from vbnfs.host.mountinfo import MountEntry

SOURCE: Final = "vbnfs-doctor:trial"  # as lists of mounts have it
_FOLDER: Final = "vbnfs-doctor-"
_AGREE_SECONDS: Final = 5.0  # the kernel asks at once
_STACK_DEPTH: Final = 1


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it: why no mount can be made, or else why the kernel reads no file by itself; None: it is well."""

    refusal: MountError | None = None
    no_passthrough: str | None = None


async def try_mount(config: Config) -> Trial:
    """Mount, ask the kernel, and take the mount away."""
    try:
        with _folder() as folder:
            return await _mount_and_ask(config, folder)
    except MountError as error:
        return Trial(error)
    except OSError as error:  # no folder can be made
        return Trial(MountError(f"a folder for a trial cannot be made: {error.strerror}; name another one by TMPDIR"))


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder of this user alone, among the temporary ones. It is deleted, unless a mount is still there."""
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER)).resolve()
    try:
        yield folder
    finally:
        with suppress(OSError):
            folder.rmdir()


async def _mount_and_ask(config: Config, folder: Path) -> Trial:
    """Raises `MountError`."""
    mount = partial(
        load(config.fuse_engine),
        folder,
        fuse_options(config, source=SOURCE),
        EmptyFolder(),
        is_busy=lambda: False,
        stack_depth=_STACK_DEPTH,
    )
    connection, entry = await trio.to_thread.run_sync(mount_alone, folder, mount)
    async with _taken_away(connection, entry):
        return await _ask(connection)


@asynccontextmanager
async def _taken_away(connection: Connection, entry: MountEntry) -> AsyncIterator[None]:
    """At the end the mount is gone."""
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(take_away, connection, entry)


async def _ask(connection: Connection) -> Trial:
    """Raises `MountError` for a kernel that cannot be served."""
    failures: list[BaseException] = []

    async def serve() -> None:
        try:
            await connection.serve()
        except* MountError as group:
            failures.append(root_error(group))
            connection.agreed.set()  # there is nothing to wait for any more

    reason: str | None = "the kernel does not answer"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with trio.move_on_after(_AGREE_SECONDS):
            await connection.agreed.wait()
            reason = why_not(connection) if not failures else None
        nursery.cancel_scope.cancel()
    if failures:
        raise failures[0]
    return Trial(no_passthrough=reason)

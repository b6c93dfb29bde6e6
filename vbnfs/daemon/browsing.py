"""The folders below `by/`: made in the background when a program looks there, from the table of sessions.

Until then the folder has a README.txt. A look never waits, and nothing is fetched for it: `ls -lR` and `find` ask S3
for nothing. So the folders are made once the table is cached, whatever has read it.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
import trio

from vbnfs.daemon.mounted_versions import MountedVersions
from vbnfs.dataset.contents import NamedContent
from vbnfs.dataset.manifest import DataFile
from vbnfs.dataset.tree import Tree
from vbnfs.errors import StorageError
from vbnfs.logs import WarnOnce

log = structlog.get_logger()

_PAUSE_SECONDS: Final = 2.0  # between two looks whether the table is cached
_LONGEST_PAUSE_SECONDS: Final = 600.0  # behind a failure it is twice the one before, up to this


class Browsing:
    """Of one mount, which shows `shown`."""

    def __init__(self, shown: MountedVersions) -> None:
        self._shown = shown
        self._looked = trio.Event()
        self._warn_once = WarnOnce()

    def look(self) -> None:
        """A program looks into the folder. Returns at once."""
        self._looked.set()

    async def run(
        self,
        read_cached: Callable[[NamedContent], Awaitable[bytes | None]],
        show: Callable[[Tree, Sequence[int]], None],
    ) -> None:
        """Make the folders once they are wanted, and `read_cached` gives the table's bytes, and `show` them."""
        table = self._shown.table
        if table is None:
            return
        await self._looked.wait()  # only the first look: the kernel keeps listings, and may not ask again
        data = await self._cached(table, read_cached)
        try:
            await self._shown.browse(data, show)
        except ValueError as error:  # so it is not tried again: an object version has these bytes and no others
            self._warn(table, error)
        else:
            log.info("sessions can be browsed")

    async def _cached(self, table: DataFile, read_cached: Callable[[NamedContent], Awaitable[bytes | None]]) -> bytes:
        """The table's bytes, once they are cached; other processes may have done that."""
        pause_seconds = _PAUSE_SECONDS
        while True:
            try:
                data = await read_cached(self._shown.content_of(table))
                if data is not None:
                    return _checked(table, data)
                pause_seconds = _PAUSE_SECONDS
            except StorageError as error:
                self._warn(table, error)
                pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
            await trio.sleep(pause_seconds)

    def _warn(self, table: DataFile, error: Exception) -> None:
        self._warn_once("sessions cannot be browsed", table="/".join(table.path), reason=str(error))


def _checked(table: DataFile, data: bytes) -> bytes:
    """Bytes of a table. Raises a `StorageError` for others than the manifest has the hash of."""
    if table.file_hash not in {None, hashlib.blake2b(data).hexdigest()}:
        raise StorageError("its bytes do not have the manifest's hash")
    return data

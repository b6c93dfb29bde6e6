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

_PAUSE_SECONDS: Final = 2.0  # between two tries


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
        while not await self._is_made(table, read_cached, show):  # noqa: ASYNC110 - other processes may cache it
            await trio.sleep(_PAUSE_SECONDS)

    async def _is_made(
        self,
        table: DataFile,
        read_cached: Callable[[NamedContent], Awaitable[bytes | None]],
        show: Callable[[Tree, Sequence[int]], None],
    ) -> bool:
        try:
            if (data := await read_cached(self._shown.content_of(table))) is None:
                return False
            if table.file_hash not in {None, hashlib.blake2b(data).hexdigest()}:
                raise ValueError("its bytes do not have the manifest's hash")
            await self._shown.browse(data, show)
        except (StorageError, ValueError) as error:
            self._warn_once("sessions cannot be browsed", table="/".join(table.path), reason=str(error))
            return False
        log.info("sessions can be browsed")
        return True

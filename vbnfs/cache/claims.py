"""Which blocks this process is fetching, shown to the other processes on the same cache.

    blocks-v2/<scope>/.claims       an empty file; a claim is an exclusive lock on the byte that stands for a block

Locks are open file description locks (fcntl(2), F_OFD_SETLK): the kernel takes them back when a process ends,
however it ends, and NFS has them. Nothing waits for a lock. A claim is advice: without one, because the file system
has no locks or the file has been removed, a block is fetched twice, and nothing else happens.

There are two lanes. A process that has waited too long for a claim may claim the block in the other lane: so of many
processes that wait for one that hangs, one fetches, and not all.
"""

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from vbnfs.host import locks
from vbnfs.host.places import Place, folder_at

LANES: Final = (0, 1)
_INDEX_BITS: Final = 24  # 4 TiB of blocks; beyond that, and where hashes are the same, two blocks share a byte
_HASH_BITS: Final = 37
_LANE: Final = 1 << (_INDEX_BITS + _HASH_BITS)
PRESENCE: Final = 1 << 62  # every process has a shared lock on this byte
_TAKEN: Final = frozenset({errno.EAGAIN, errno.EACCES})


class Claims:
    """The claims of this process in `directory`. Takes microseconds, on a network file system a round trip.

    Where no lock can be had, every process can claim everything, and none is alone.
    """

    def __init__(self, directory: Path | Place) -> None:
        self._descriptor = -1
        folder = folder_at(directory)
        with suppress(OSError):  # a cache that can only be read
            folder.mkdir()
            self._descriptor = (folder / ".claims").open(os.O_RDWR | os.O_CREAT)
            self._lock(locks.SHARED, PRESENCE, 1)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)  # gives everything back

    @property
    def is_alone(self) -> bool:
        """Whether no other process uses these claims."""
        try:
            return locks.could_lock(self._descriptor, PRESENCE, 1)
        except (OSError, ValueError):
            return False

    def take(self, content_id: str, indices: range, *, lane: int = 0) -> list[int]:
        """Claim adjacent blocks. Returns those that no other process has claimed."""
        start = _position(content_id, indices[0], lane)
        try:
            self._lock(locks.EXCLUSIVE, start, len(indices))
        except OSError as error:
            if error.errno in _TAKEN:
                return self._take_halves(content_id, indices, lane)
        return list(indices)

    def drop(self, content_id: str, indices: range) -> None:
        """Give the claims on adjacent blocks back: they are on the disk, or will not come."""
        for lane in LANES:
            with suppress(OSError):
                self._lock(locks.UNLOCKED, _position(content_id, indices[0], lane), len(indices))

    def _take_halves(self, content_id: str, indices: range, lane: int) -> list[int]:
        if len(indices) == 1:
            return []
        middle = len(indices) // 2
        halves = indices[:middle], indices[middle:]
        return [index for half in halves for index in self.take(content_id, half, lane=lane)]

    def _lock(self, kind: int, start: int, length: int) -> None:
        if self._descriptor < 0:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        locks.set_lock(self._descriptor, kind, start, length)


def _position(content_id: str, index: int, lane: int) -> int:
    """The byte that stands for a block."""
    digest = hashlib.blake2b(content_id.encode(), digest_size=8).digest()
    place = int.from_bytes(digest) % (1 << _HASH_BITS)
    return lane * _LANE + (place << _INDEX_BITS) + index % (1 << _INDEX_BITS)

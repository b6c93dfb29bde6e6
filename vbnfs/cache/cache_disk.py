"""The state of the disk below the cache: usage, room, and why it takes no blocks, if it takes none.

Figures are those of the last check, so that the event loop waits for no disk. Housekeeping checks at intervals, and a
request for the state of the mount checks first.
"""

import errno
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import trio

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.eviction import Evictor
from vbnfs.cache.pins import READABLE_AGAIN
from vbnfs.cache.reserve import Reserve, space_of
from vbnfs.errors import CacheError
from vbnfs.host.disk_space import DiskSpace
from vbnfs.host.places import Place

_PATIENCE_SECONDS: Final = 3.0
_FREE_SOME: Final = "free some on that disk, or mount again with another --cache-dir or a smaller --cache-size"
_ALLOW_IT: Final = "allow writing there, or mount again with another --cache-dir"
_MORE_FILES: Final = "raise the limit of open files (ulimit -n)"
_REMEDIES: Final[Mapping[int, str]] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _FREE_SOME),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _ALLOW_IT),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), _MORE_FILES),
}


class CacheDisk:
    """The disk of `cache`, which `evictor` keeps within its size."""

    def __init__(self, cache: BlockCache, evictor: Evictor) -> None:
        self.problem: str | None = None  # why what is fetched is not kept, and what to do; None if it is
        self._cache = cache
        self._evictor = evictor
        self._space: DiskSpace | None = None
        self._checked_at = -1.0
        self._one_at_a_time = trio.CapacityLimiter(1)  # a disk that hangs must not take all threads

    @property
    def usage_bytes(self) -> int:
        """What the cache takes."""
        return self._evictor.usage_bytes

    @property
    def limit_bytes(self) -> int:
        """What the cache may take."""
        return self._evictor.limit_bytes

    @property
    def available_bytes(self) -> int:
        """What may still be kept, in bytes: the limit leaves it, and the disk has it, as far as is known."""
        left_bytes = max(0, self.limit_bytes - self.usage_bytes)
        return left_bytes if self._space is None else min(left_bytes, max(0, self._above_reserve(self._space)))

    @property
    def free_bytes(self) -> int | None:
        """What its disk has free; None before the first check."""
        return None if self._space is None else self._space.free_bytes

    @property
    def reserve_bytes(self) -> int | None:
        """What the cache leaves free of its disk; None before the first check."""
        return None if self._space is None else self._evictor.reserve.bytes_of(self._space)

    def _above_reserve(self, space: DiskSpace) -> int:
        return space.free_bytes - self._evictor.reserve.bytes_of(space)

    async def check(self) -> None:
        """Check files and disk, in a thread; one check serves all callers that ask at the same time.

        If that takes more than some seconds, the disk does not answer, and the figures stay the old ones.
        """
        await self._patiently(partial(self._check_since, time.monotonic()))

    async def check_room(self) -> None:
        """Check the disk alone, in a thread."""
        await self._patiently(self.check_room_now)

    async def _patiently(self, work: Callable[[], None]) -> None:
        with trio.move_on_after(_PATIENCE_SECONDS) as patience:
            await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._one_at_a_time)
        if patience.cancelled_caught:
            self.problem = f"the disk of {self._cache.directory.parent} does not answer; reads that need it fail"

    def _check_since(self, asked_at: float) -> None:
        if self._checked_at < asked_at:
            began_at = time.monotonic()
            self.check_now()
            self._checked_at = began_at

    def check_now(self) -> None:
        """Scan the files, of which there may be 20,000, evict what is too much, and check the disk."""
        self._evictor.scan_and_evict()
        self.check_room_now()

    def check_room_now(self) -> None:
        """Check what the disk has free, and whether it takes blocks again if it did not. May wait for it.

        If it has less free than the reserve, contents are evicted first.
        """
        directory = self._cache.directory.parent
        self._evictor.keep_reserve()
        try:
            reason = self._why_nothing_is_kept(directory)
        except CacheError as error:  # another user can write to it by now
            self.problem = str(error)
            return
        except OSError as error:
            reason = error
        self.problem = why_no_room(directory, self._evictor.reserve, self._space, reason)
        self.problem = self.problem or why_pins_are_in_the_way(directory, self._evictor)

    def _why_nothing_is_kept(self, directory: Place) -> OSError | None:
        try:
            self._space = space_of(directory)
        except FileNotFoundError:  # it was deleted; what keeps the next block makes it anew
            return self._cache.failure
        self._cache.try_again()
        return why_no_block(self._space) or self._cache.failure


def why_no_block(space: DiskSpace) -> OSError | None:
    """Why a disk takes no block, as far as its space says; None if it does."""
    if space.is_read_only:
        return OSError(errno.EROFS, "it is read-only")
    if space.free_bytes < BLOCK_BYTES:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return None


def why_no_room(directory: Place, reserve: Reserve, space: DiskSpace | None, reason: OSError | None) -> str | None:
    """Why the disk is the cause that what is fetched is not stored, and what to do; None if it is not.

    `reason` is why it takes no block, None if it does.
    """
    if reason is not None:
        remedy = _REMEDIES.get(reason.errno or 0, "look at that disk")
        return f"{directory} takes no more: {reason.strerror}; reads go on from S3: {remedy}"
    if space is not None and space.free_bytes < (reserve_bytes := reserve.bytes_of(space)):
        return _below_reserve(directory, space, reserve_bytes - space.free_bytes)
    return None


def why_pins_are_in_the_way(directory: Place, evictor: Evictor) -> str | None:
    """Why pins are the cause, as the evictor's last scan found it, and what to do; None if they are not."""
    if evictor.pins_problem is not None:
        return _pins_unread(evictor.pins_problem)
    return _full_of_pins(directory, evictor) if evictor.kept_bytes > evictor.limit_bytes else None


def _full_of_pins(directory: Place, evictor: Evictor) -> str:
    kept, limit = (f"{count / (1 << 20):,.1f} MiB" for count in (evictor.kept_bytes, evictor.limit_bytes))
    return (
        f"{directory}: what is pinned takes {kept} of {limit}, so nothing else is kept; reads go on from S3:"
        " 'vbnfs pins' lists the pins, 'vbnfs unpin NAME' takes one away, or give the cache a larger --cache-size"
    )


def _pins_unread(reason: str) -> str:
    return f"{reason}, so nothing is evicted: a cache that is full keeps nothing more: {READABLE_AGAIN}"


def _below_reserve(directory: Place, space: DiskSpace, lacking_bytes: int) -> str:
    free, wanted = (f"{count / (1 << 30):.1f} GiB" for count in (space.free_bytes, space.free_bytes + lacking_bytes))
    return (
        f"{directory}: the disk has less free than the reserve ({free} of {wanted}), so nothing more is kept; reads"
        " go on from S3: free some on that disk, or mount again with another --cache-dir or a smaller --cache-reserve"
    )

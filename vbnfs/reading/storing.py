"""Which GETs are stored as they come, by what receives them, and that there is room on the disk before they begin.

The others come through memory (block_writer.py): a few blocks, for which a reader waits; and all of them where the
disk is full, failing or slow, or where the cache has so little room that what is being read will be evicted: memory
remembers what came last.
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.block_sink import BlockSink
from vbnfs.cache.digests import DigestSet
from vbnfs.cache.eviction import Evictor
from vbnfs.objects import ByteRange, Content

_LEAST_BYTES: Final = 4 * BLOCK_BYTES  # fewer are sooner in a reader's hands without the disk
_LEAST_ROOM_BYTES: Final = 256 << 20  # of the cache: more than memory remembers, and what is under way
_PATIENCE_SECONDS: Final = 1.0  # with the disk, for room
_REST_SECONDS: Final = 5.0  # without it, after that
_THREADS: Final = 4  # a disk that hangs must not take all threads


class Sinks:
    """Sinks for what comes to `cache`, or to another cache below the same `evictor`."""

    def __init__(self, cache: BlockCache, evictor: Evictor) -> None:
        self._cache = cache
        self._evictor = evictor
        self._threads = trio.CapacityLimiter(_THREADS)
        self._rests_until = -math.inf

    @asynccontextmanager
    async def of(
        self, content: Content, byte_range: ByteRange, *, kept_in: BlockCache | None, digests: DigestSet | None
    ) -> AsyncIterator[BlockSink | None]:
        """The sink of a GET, as long as this is entered; None if its bytes are to come through memory.

        What of the room was not used is given back in the end.
        """
        cache = kept_in or self._cache
        if not self._may_store(cache, byte_range) or not await self._has_room(len(byte_range)):
            yield None
            return
        sink = BlockSink(cache, content, digests)
        try:
            yield sink
        finally:
            self._evictor.not_written(len(byte_range) - sink.stored_bytes)

    def _may_store(self, cache: BlockCache, byte_range: ByteRange) -> bool:
        is_well = cache.failure is None and trio.current_time() >= self._rests_until
        return is_well and len(byte_range) >= _LEAST_BYTES and self._evictor.room_bytes >= _LEAST_ROOM_BYTES

    async def _has_room(self, count_bytes: int) -> bool:
        make_room = partial(self._make_room, count_bytes)
        with trio.move_on_after(_PATIENCE_SECONDS):
            try:
                return await trio.to_thread.run_sync(make_room, abandon_on_cancel=True, limiter=self._threads)
            except RuntimeError:  # no thread to be had
                return False
        self._rests_until = trio.current_time() + _REST_SECONDS
        return False

    def _make_room(self, count_bytes: int) -> bool:
        """In a thread. One that nothing waits for any more leaves its bytes announced: until the next scan."""
        has_room = self._evictor.make_room(count_bytes)
        if not has_room:
            self._evictor.not_written(count_bytes)
        return has_room

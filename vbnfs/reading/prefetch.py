"""Fetching before anybody asks, behind foreground reads.

An advice is a range that will likely be read soon. Which of its blocks the disk lacks is found out in a thread;
they are then fetched by `BlockSource.prefetch`, which leaves connections free for readers.
"""

import trio

from vbnfs.objects import ByteRange, Content
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.planner import blocks_of
from vbnfs.storage.block_cache import BlockCache


class Prefetcher:
    """Takes advice; works in tasks of `nursery`, which outlives all reads."""

    def __init__(self, cache: BlockCache, source: BlockSource, *, nursery: trio.Nursery) -> None:
        self._cache = cache
        self._source = source
        self._nursery = nursery

    def advise(self, content: Content, byte_range: ByteRange) -> None:
        """Have the blocks of a range fetched soon. Returns at once; failures are left to the readers."""
        self._nursery.start_soon(self._fetch, content, byte_range)

    async def _fetch(self, content: Content, byte_range: ByteRange) -> None:
        indices = blocks_of(byte_range)
        self._source.prefetch(content, await trio.to_thread.run_sync(self._cache.missing, content, indices))

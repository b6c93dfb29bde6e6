"""Fetching before a program asks, behind foreground reads.

Advice are blocks that will likely be read soon. A thread finds out which of its blocks the disk lacks;
`BlockSource.prefetch` then fetches those, and leaves connections free for readers.
"""

from collections.abc import Callable, Sequence
from typing import Final

import structlog
import trio
from cachetools import TTLCache

from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.cache.block_cache import BlockCache
from vbnfs.objects import ByteRange, Content
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.planner import LONG_GET_BLOCKS
from vbnfs.reading.prefetch_queue import Rank

log = structlog.get_logger()

_LATELY_SECONDS: Final = 2.0
_MOST_READERS: Final = 64  # that share what is fetched ahead: each gets a little even so


class Prefetcher:
    """Takes advice; works in tasks of `nursery`, which outlives all reads."""

    def __init__(self, cache: BlockCache, source: BlockSource, *, nursery: trio.Nursery) -> None:
        self._cache = cache
        self._source = source
        self._nursery = nursery
        # By their ids: a reader has its prefetcher, and the two would be garbage that only a full collection frees.
        self._readers: TTLCache[int, None] = TTLCache(_MOST_READERS, ttl=_LATELY_SECONDS, timer=trio.current_time)

    def readers(self, reader: object) -> int:
        """How many readers have gone on in a row lately, this one included."""
        self._readers[id(reader)] = None
        return len(self._readers)

    def advise(
        self,
        content: Content,
        indices: Sequence[int],
        *,
        window_bytes: int = 0,
        position: Callable[[], int] = lambda: 0,
        rank: Rank = Rank.READ_AHEAD,
    ) -> None:
        """Have these blocks fetched soon. Returns at once; failures are left to the readers.

        `window_bytes`: how much is wanted ahead of the reader in all, if more will be wanted behind these.
        `position` tells where the reader is: what it has passed meanwhile may be evicted already, and is not wanted.
        """
        self._nursery.start_soon(self._fetch, content, indices, window_bytes // BLOCK_BYTES, position, rank)

    def advise_whole(self, content: Content) -> None:
        """Have all of a file fetched some time, unless what comes would be gone before it is read."""
        if content.size_bytes <= self._source.room_bytes:
            blocks = blocks_of(ByteRange(0, content.size_bytes))
            for start in range(0, len(blocks), LONG_GET_BLOCKS):
                self.advise(content, blocks[start : start + LONG_GET_BLOCKS], rank=Rank.LATER)

    async def _fetch(
        self,
        content: Content,
        indices: Sequence[int],
        window_blocks: int,
        position: Callable[[], int],
        rank: Rank,
    ) -> None:
        try:
            missing = await trio.to_thread.run_sync(self._cache.missing, content, indices, abandon_on_cancel=True)
        except (RuntimeError, OSError) as error:  # no thread to be had, or a disk that fails; it was advice
            log.debug("not fetched ahead", reason=str(error))
            return
        passed = position() // BLOCK_BYTES
        lacking = [index for index in missing if index >= passed]
        self._source.prefetch(content, lacking, window_blocks=window_blocks, rank=rank)

"""All bytes of a content, hashed in the background.

Hashing is done a few MiB at a time in a thread, and pauses for as long as it worked: it never takes more than half of
a processor, and reads go before it.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from vbnfs.blocks import blocks_of, digest
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.digests import DigestStore
from vbnfs.cache.verdict import Fingerprint
from vbnfs.objects import ByteRange, Content
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.fetches import Bytes
from vbnfs.reading.planner import LONG_GET_BLOCKS

_HASHED_BLOCKS: Final = 8  # at a time, and as many are read meanwhile: 4 MiB beside the limit for memory
_AHEAD_BLOCKS: Final = 8 * LONG_GET_BLOCKS


@dataclass(frozen=True, slots=True)
class Hashes:
    """Of all bytes of a content: their blake2b (hex), the fingerprint of their blocks, and the blocks' digests.

    `digests` is None where proven ones are known: they are those of the bytes if the bytes have their hash.
    """

    whole: str
    fingerprint: str
    digests: bytes | None


class Hasher:
    """Hashes what `cache` has, and what `source` fetches where that is wanted. `without_pauses`: without pausing.

    `on_hashed_bytes` is called with how many bytes have been hashed since it was called before.
    """

    def __init__(
        self,
        cache: BlockCache,
        source: BlockSource,
        digests: DigestStore,
        *,
        without_pauses: bool = False,
        on_hashed_bytes: Callable[[int], None] = lambda count_bytes: None,
    ) -> None:
        self._cache = cache
        self._source = source
        self._digests = digests
        self._without_pauses = without_pauses
        self._on_hashed_bytes = on_hashed_bytes

    async def hash(self, content: Content, *, fetch: bool) -> Hashes | None:
        """Hash the blocks, each checked now, a few MiB at a time. None if one is missing and not to be fetched.

        Raises a `StorageError` if fetching fails.
        """
        whole, fingerprint, digests = hashlib.blake2b(), Fingerprint(), bytearray()
        known = await trio.to_thread.run_sync(self._digests.of, content)
        makes_digests = known is None or not known.are_proven
        indices = blocks_of(ByteRange(0, content.size_bytes))
        for first in indices[::_HASHED_BLOCKS]:
            window = range(first, min(first + _HASHED_BLOCKS, indices.stop))
            if fetch and first % LONG_GET_BLOCKS == 0:
                await self._fetch_ahead(content, window.stop)
            found = await self._blocks(content, window, fetch=fetch)
            if found is None:
                return None

            def add(blocks: dict[int, Bytes] = found) -> None:
                for index in sorted(blocks):
                    whole.update(blocks[index])
                    fingerprint.add(self._cache.record_of(content, index, blocks[index]))
                    digests.extend(digest(blocks[index]) if makes_digests else b"")

            await self.with_pause(add)
            self._on_hashed_bytes(sum(map(len, found.values())))
        return Hashes(whole.hexdigest(), fingerprint.text(), bytes(digests) if makes_digests else None)

    async def _blocks(self, content: Content, window: range, *, fetch: bool) -> dict[int, Bytes] | None:
        def kept() -> dict[int, Bytes]:
            blocks = ((index, self._cache.checked_block(content, index)) for index in window)
            return {index: data for index, data in blocks if data is not None}

        found = await trio.to_thread.run_sync(kept)
        lacking = [index for index in window if index not in found]
        if lacking and not fetch:
            return None
        if fetch:
            found |= await self._source.get(content, lacking, is_reader=False)
        return found

    async def _fetch_ahead(self, content: Content, start: int) -> None:
        end = blocks_of(ByteRange(0, content.size_bytes)).stop
        ahead = range(start, min(start + _AHEAD_BLOCKS, end))
        missing = await trio.to_thread.run_sync(self._cache.missing, content, ahead)
        self._source.prefetch(content, missing, window_blocks=_AHEAD_BLOCKS if ahead.stop < end else 0)

    async def with_pause(self, work: Callable[[], None]) -> None:
        """Do a part of such work in a thread, then pause for as long as it took."""
        began = time.monotonic()
        await trio.to_thread.run_sync(work)
        if not self._without_pauses:
            await trio.sleep(time.monotonic() - began)

"""One open file: read(offset, size), and what its pattern of reads says about the next ones."""

from collections import deque
from contextlib import suppress
from typing import Final

import trio

from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.stored_blocks import block_range
from vbnfs.cache.verdicts import Verdicts
from vbnfs.objects import ByteRange, Content
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.planner import AccessPattern, fresh_advice, metadata_neighbourhood, step_blocks, tail_of
from vbnfs.reading.prefetch import Prefetcher
from vbnfs.reading.walks import Walks

_REMEMBERED_BLOCKS: Final = 64


class FileReader:
    """Reads one content for one file handle, unless `verdicts` refuse it. `walks` go ahead of it."""

    def __init__(
        self,
        content: Content,
        cache: BlockCache,
        source: BlockSource,
        prefetcher: Prefetcher,
        verdicts: Verdicts,
        *,
        walks: Walks | None = None,
        advises: bool = True,
    ) -> None:
        self._content = content
        self._cache = cache
        self._source = source
        self._prefetcher = prefetcher
        self._verdicts = verdicts
        self._walks = walks
        self._pattern = AccessPattern()
        self._advised = ByteRange(0, 0)
        self._lacked: deque[int] = deque(maxlen=_REMEMBERED_BLOCKS)  # blocks that were not there lately
        self.advises: Final = advises  # False: what is read says nothing about what will be

    def read_nowait(self, offset: int, size: int) -> bytes | memoryview:
        """Like `read`, but raises `trio.WouldBlock` where that has to wait; then nothing has changed."""
        wanted = self._wanted(offset, size)
        if not wanted:
            return b""
        self._verdicts.refuse(self._content)
        data = self._without_waiting(wanted)
        if data is None:
            raise trio.WouldBlock
        self._advise(wanted)
        return data

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Up to `size` bytes from `offset`, fewer only at the file's end. Raises a `StorageError`."""
        try:
            return self.read_nowait(offset, size)
        except trio.WouldBlock:
            wanted = self._wanted(offset, size)
        self._advise(wanted)
        is_coming = any(self._source.is_coming(self._content, index) for index in blocks_of(wanted))
        data: bytes | memoryview | None = None if is_coming else await self._from_disk(wanted)
        if data is None:
            # Whole blocks, what is cut out of them, and the reply that it is joined to.
            needed_bytes = len(blocks_of(wanted)) * BLOCK_BYTES + 2 * len(wanted)
            async with self._source.answers.holding(needed_bytes):
                data = await self._from_source(wanted)
        self._verdicts.refuse(self._content)  # a verdict may have been given while this waited
        return data

    def close(self) -> None:
        """No more will be read."""
        if self._walks is not None:
            self._walks.leave(self, self._content)

    def _wanted(self, offset: int, size: int) -> ByteRange:
        return ByteRange(offset, offset + size).clip(self._content.size_bytes)

    def _without_waiting(self, wanted: ByteRange) -> bytes | memoryview | None:
        """The bytes, of blocks that came just now, or from pages that are in memory; None where that has to wait.

        In that order: blocks that came just now need no check.
        """
        parts: list[memoryview] = []
        for index in blocks_of(wanted):
            block = self._source.in_memory(self._content, index)
            if block is None:
                break
            parts.append(self._cut(block, wanted, index))
        else:
            return b"".join(parts) if len(parts) > 1 else parts[0]
        with suppress(trio.WouldBlock):
            return self._cache.read_nowait(self._content, wanted)
        return None

    async def _from_disk(self, wanted: ByteRange, *, is_stored: bool = False) -> memoryview | None:
        """`is_stored`: something has said so since the content was opened here."""
        with suppress(trio.WouldBlock):
            data = self._cache.read_nowait(self._content, wanted)
            if data is not None or not is_stored:
                return data
        read = self._cache.read_anew if is_stored else self._cache.read
        # A disk that hangs must not outlast the reader's deadline: the thread is abandoned then.
        return await trio.to_thread.run_sync(read, self._content, wanted, abandon_on_cancel=True)

    async def _from_source(self, wanted: ByteRange) -> bytes | memoryview:
        """At least one block is not on the disk. Those that are come from there, the others from S3."""
        parts: dict[int, bytes | memoryview] = {}
        lacking: list[int] = []
        unasked: list[int] = []
        for index in blocks_of(wanted):
            is_coming = self._source.is_coming(self._content, index)
            data = None if is_coming else await self._from_disk(self._part(wanted, index))
            if data is None:
                lacking.append(index)
                unasked += [] if is_coming else [index]
            else:
                # A copy: the file of a view could be cut short while this waits for S3.
                parts[index] = bytes(data)
        if unasked and self.advises and not self._pattern.is_sequential:
            self._advise_around(range(unasked[0], unasked[-1] + 1))
        came = await self._source.bring(self._content, lacking)
        if None in came.values():  # it was stored as it came: all of the range, mostly, which is then one view
            if (data := await self._from_disk(wanted, is_stored=True)) is not None:
                return data
            came = dict(await self._source.get(self._content, lacking))
        parts |= {index: self._cut(block, wanted, index) for index, block in came.items() if block is not None}
        return b"".join(parts[index] for index in blocks_of(wanted)) if len(parts) > 1 else parts.popitem()[1]

    def _advise_around(self, unasked: range) -> None:
        """Have fetched what a program that reads at random is likely to read next."""
        if self._walks is not None:
            if self._pattern.is_elsewhere:
                self._walks.note(self, self._content, unasked)
            if self._walks.is_walked(self._content):
                return
        tail = tail_of(self._content.size_bytes)
        beside = tail if unasked[-1] in tail else metadata_neighbourhood(unasked, self._lacked)
        wanted = ByteRange(beside.start * BLOCK_BYTES, beside.stop * BLOCK_BYTES).clip(self._content.size_bytes)
        if not set(blocks_of(wanted)) <= set(unasked):
            self._prefetcher.advise(self._content, wanted)
        self._lacked.extend(unasked)

    def _cut(self, block: bytes | memoryview, wanted: ByteRange, index: int) -> memoryview:
        start, part = index * BLOCK_BYTES, self._part(wanted, index)
        return memoryview(block)[part.start - start : part.stop - start]

    def _part(self, wanted: ByteRange, index: int) -> ByteRange:
        """The part of block `index` that is wanted."""
        block = block_range(self._content, index)
        return ByteRange(max(wanted.start, block.start), min(wanted.stop, block.stop))

    def _advise(self, wanted: ByteRange) -> None:
        """Hand what lies ahead to the prefetcher: each part once, and not in tiny steps."""
        if not self.advises:
            return
        self._pattern = self._pattern.after(wanted)
        if not self._pattern.is_sequential:
            return
        readers = self._prefetcher.readers(self)
        ahead = self._pattern.readahead(
            self._content.size_bytes,
            room_bytes=self._source.room_bytes,
            window_bytes=self._source.window_bytes,
            readers=readers,
        )
        if not self._advised.start <= ahead.start <= self._advised.stop:
            self._advised = ByteRange(ahead.start, ahead.start)  # a new run
        fresh = fresh_advice(ahead, self._advised.stop)
        step_bytes = step_blocks(len(ahead), readers=readers) * BLOCK_BYTES
        goes_on = fresh.stop < self._content.size_bytes
        is_tiny = goes_on and len(fresh) < step_bytes
        if fresh and not is_tiny:
            self._advised = ByteRange(self._advised.start, fresh.stop)
            window_bytes = len(ahead) if goes_on else 0
            self._prefetcher.advise(self._content, fresh, window_bytes=window_bytes, position=self._position)

    def _position(self) -> int:
        return self._pattern.position

"""One open file: read(offset, size), and what its pattern of reads says about the next ones."""

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from typing import Final

import trio

from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.stored_blocks import block_range
from vbnfs.cache.verdicts import Verdicts
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content
from vbnfs.reading.advice import Advisor
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.fetches import Bytes
from vbnfs.reading.prefetch import Prefetcher
from vbnfs.reading.walks import Walks


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
        metrics: Metrics | None = None,
    ) -> None:
        self.fetched_reads = 0  # reads that waited for blocks that the disk did not have
        self._metrics = metrics or Metrics()
        self._content = content
        self._cache = cache
        self._source = source
        self._verdicts = verdicts
        self.advises: Final = advises  # False: what is read says nothing about what will be
        self._advisor = Advisor(content, source, prefetcher, walks, peek=_peek_by(self)) if advises else None

    def read_nowait(self, offset: int, size: int) -> bytes | memoryview:
        """Like `read`, but raises `trio.WouldBlock` where that has to wait; then nothing has changed."""
        wanted = self._wanted(offset, size)
        if not wanted:
            return b""
        self._verdicts.refuse(self._content)
        data = self._without_waiting(wanted)
        if data is None:
            raise trio.WouldBlock
        self._note(wanted)
        self._source.note_read(self._content, wanted)
        return data

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Up to `size` bytes from `offset`, fewer only at the file's end. Raises a `StorageError`."""
        try:
            return self.read_nowait(offset, size)
        except trio.WouldBlock:
            wanted = self._wanted(offset, size)
        self._note(wanted)
        is_coming = any(self._source.is_coming(self._content, index) for index in blocks_of(wanted))
        data: bytes | memoryview | None = None if is_coming else await self._from_disk(wanted)
        if data is None:
            # Whole blocks, what is cut out of them, and the reply that it is joined to.
            needed_bytes = len(blocks_of(wanted)) * BLOCK_BYTES + 2 * len(wanted)
            async with self._source.answers.holding(needed_bytes):
                data = await self._from_source(wanted)
        self._source.note_read(self._content, wanted)
        self._verdicts.refuse(self._content)  # a verdict may have been given while this waited
        return data

    async def bring(self, ranges: Sequence[ByteRange]) -> dict[int, Bytes]:
        """Have what the disk lacks of some ranges come, in one wave, as long as memory has room for it.

        Returns the blocks that came, by number; the caller reads the others from the cache, as it does those that
        were stored as they came. Raises a `StorageError`.
        """
        self._verdicts.refuse(self._content)
        wanted = [one.clip(self._content.size_bytes) for one in ranges]
        for one in wanted:
            self._note(one)
        blocks = sorted({index for one in wanted for index in blocks_of(one)})
        unasked = [index for index in blocks if not self._source.is_coming(self._content, index)]
        missing = await self._missing(unasked)
        lacking = sorted(missing | (set(blocks) - set(unasked)))
        came = await self._bring(wanted, lacking, missing) if lacking else {}
        for one in wanted:
            self._source.note_read(self._content, one)
        self._verdicts.refuse(self._content)  # a verdict may have been given while this waited
        return {index: data for index, data in came.items() if data is not None}

    async def _missing(self, blocks: Sequence[int]) -> set[int]:
        if not blocks:
            return set()
        return set(await trio.to_thread.run_sync(self._cache.missing, self._content, blocks, abandon_on_cancel=True))

    async def _bring(
        self, wanted: Sequence[ByteRange], lacking: Sequence[int], missing: Set[int]
    ) -> Mapping[int, Bytes | None]:
        self.fetched_reads += 1
        self._metrics.fetched_reads += 1
        async with self._source.answers.holding(len(lacking) * BLOCK_BYTES):
            if missing and self._advisor is not None and len(wanted) == 1:
                self._advisor.note_lacking(range(min(missing), max(missing) + 1), wanted[0])
            return await self._source.bring(self._content, lacking)

    def note_answered(self, reads: Iterable[ByteRange]) -> None:
        """These were read of what is here, without this reader: its advice begins where they end."""
        for read in reads:
            self._note(read)
            self._source.note_read(self._content, read)

    def expect_structure(self) -> None:
        """A program will read the structure of this file, which is one of HDF5's, next."""
        if self._advisor is not None:
            self._advisor.expect_structure()

    @property
    def is_read_whole(self) -> bool:
        """Whether it was read in a row from its beginning to its end."""
        return self._advisor is not None and self._advisor.is_read_whole

    @property
    def run_bytes(self) -> int:
        """How many bytes were read in a row, up to now."""
        return 0 if self._advisor is None else self._advisor.run_bytes

    def close(self) -> None:
        """No more will be read."""
        if self._advisor is not None:
            self._advisor.close()

    def _note(self, wanted: ByteRange) -> None:
        if self._advisor is not None:
            self._advisor.note(wanted)

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
        self.fetched_reads += 1
        self._metrics.fetched_reads += 1
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
        if unasked and self._advisor is not None:
            self._advisor.note_lacking(range(unasked[0], unasked[-1] + 1), wanted)
        came = await self._source.bring(self._content, lacking)
        if None in came.values():  # it was stored as it came: all of the range, mostly, which is then one view
            if (data := await self._from_disk(wanted, is_stored=True)) is not None:
                return data
            came = dict(await self._source.get(self._content, lacking))
        parts |= {index: self._cut(block, wanted, index) for index, block in came.items() if block is not None}
        return b"".join(parts[index] for index in blocks_of(wanted)) if len(parts) > 1 else parts.popitem()[1]

    def _cut(self, block: bytes | memoryview, wanted: ByteRange, index: int) -> memoryview:
        start, part = index * BLOCK_BYTES, self._part(wanted, index)
        return memoryview(block)[part.start - start : part.stop - start]

    def _part(self, wanted: ByteRange, index: int) -> ByteRange:
        """The part of block `index` that is wanted."""
        block = block_range(self._content, index)
        return ByteRange(max(wanted.start, block.start), min(wanted.stop, block.stop))


def _peek_by(reader: FileReader) -> Callable[[ByteRange], Bytes | None]:
    """What reads what is in memory. It does not keep the reader, which has it: else the two would be garbage."""
    itself = weakref.ref(reader)

    def peek(wanted: ByteRange) -> Bytes | None:
        found = itself()
        return None if found is None else found._without_waiting(wanted)

    return peek

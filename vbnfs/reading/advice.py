"""What the reads of one open file say about the next ones, and what is fetched for it before a program asks.

    reads in a row                  a growing window (`AccessPattern`)
    a block that is lacking         its neighbourhood, or the file's structure (walks.py)
    the same within an array        the rest of a small array, of a row, of a walk in small or equal steps (arrays.py)
    the same within chunks          the rest of a chunk, the chunks of a walk from one to the next (chunks.py)

It is all advice: what comes of it changes no byte that a program gets.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.hdf5.structure import Extent, RowEnds
from vbnfs.objects import ByteRange, Content
from vbnfs.reading.arrays import Guess, SmallReads, Steps, place_of, rest_of, row_at, value_of
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.chunks import ChunkWalk, chunk_read
from vbnfs.reading.planner import AccessPattern, fresh_advice, metadata_neighbourhood, step_blocks, tail_of
from vbnfs.reading.prefetch import Prefetcher
from vbnfs.reading.walks import Walks

_REMEMBERED_BLOCKS: Final = 64


class Advisor:
    """Of one file handle. `peek` returns bytes of the file, if they are in memory."""

    def __init__(
        self,
        content: Content,
        source: BlockSource,
        prefetcher: Prefetcher,
        walks: Walks | None,
        *,
        peek: Callable[[ByteRange], bytes | memoryview | None],
    ) -> None:
        self._content = content
        self._source = source
        self._prefetcher = prefetcher
        self._walks = walks
        self._peek = peek
        self._pattern = AccessPattern()
        self._advised = ByteRange(0, 0)
        self._lacked: deque[int] = deque(maxlen=_REMEMBERED_BLOCKS)  # blocks that were not there lately
        self._array: Extent | None = None  # in which the last read began
        self._small, self._steps, self._guess = SmallReads(), Steps(), Guess()
        self._chunks = ChunkWalk()
        self._stepped = ByteRange(0, 0)  # what of the steps was asked for

    @property
    def is_read_whole(self) -> bool:
        """Whether the file was read in a row from its beginning to its end."""
        return self._pattern.has_read(self._content.size_bytes)

    @property
    def run_bytes(self) -> int:
        """How many bytes were read in a row, up to now."""
        return self._pattern.run_bytes

    def note(self, read: ByteRange) -> None:
        """A program reads this. Each part of what lies ahead is asked for once, and not in tiny steps."""
        self._pattern = self._pattern.after(read)
        array = self._array_at(read.start)
        if array is None or self._array is None or array.start != self._array.start:
            self._small, self._steps, self._chunks = SmallReads(), Steps(read.start, read.start), ChunkWalk()
        self._array = array
        if array is not None:
            self._small, self._steps = self._small.after(read), self._steps.after(read.start)
            self._guess = self._guess.after(read)
            self._note_chunk(read, array)
        if self._pattern.is_sequential:
            self._advise_window(self._end_of_structure() if array is None else self._end_in(array))
        elif array is not None:
            self._advise_walk(read, array)

    def expect_structure(self) -> None:
        """A program is about to read the file's structure."""
        if self._walks is not None:
            self._walks.expect(self, self._content)

    def note_lacking(self, unasked: range, wanted: ByteRange) -> None:
        """These blocks of `wanted` were neither here nor on their way: a program waits for them."""
        if self._pattern.is_sequential:
            return
        if self._walks is not None:
            if 0 in unasked:
                self._walks.prepare(self._content)
            if self._pattern.is_elsewhere:
                is_end = wanted.stop == self._content.size_bytes
                self._walks.note(self, self._content, unasked, is_end=is_end)
        array = self._array_at(wanted.start)
        if array is not None and self._walks is not None and self._is_of(array, wanted.start):
            row = row_at(array, wanted.start, partial(self._number, array.rows))
            self._advise_around(unasked, rest_of(array, wanted.start, row))
        elif self._walks is None or not self._walks.is_walked(self._content):
            tail = tail_of(self._content.size_bytes)
            beside = tail if unasked[-1] in tail else metadata_neighbourhood(unasked, self._lacked)
            self._advise_around(unasked, ByteRange(beside.start * BLOCK_BYTES, beside.stop * BLOCK_BYTES))
            self._lacked.extend(unasked)

    def _is_of(self, array: Extent, offset: int) -> bool:
        """Whether a read is one of the array, and not one at random: some program follows the file's structure.

        A read that begins where a chunk does is no chance.
        """
        chunk = chunk_read(array, offset)
        begins_chunk = chunk is not None and chunk.start >= offset
        return begins_chunk or (self._walks is not None and self._walks.is_followed(self._content))

    def close(self) -> None:
        """No more will be read."""
        if self._walks is not None:
            self._walks.leave(self, self._content)

    def _array_at(self, offset: int) -> Extent | None:
        """The array that has a byte; None for a program that has come to it on its way through the file."""
        array = None if self._walks is None else self._walks.array_at(self._content, offset)
        return None if array is None or self._pattern.passes(array.start) else array

    def _advise_around(self, unasked: range, wanted: ByteRange) -> None:
        wanted = wanted.clip(self._content.size_bytes)
        if not set(blocks_of(wanted)) <= set(unasked):
            self._prefetcher.advise(self._content, blocks_of(wanted))

    def _advise_window(self, stop: int) -> None:
        """Reads in a row go on, up to byte `stop`."""
        if self._walks is not None:
            self._walks.rest(self, self._content)
        readers = self._prefetcher.readers(self)
        ahead = self._pattern.readahead(
            self._content.size_bytes,
            room_bytes=self._source.room_bytes,
            window_bytes=self._source.window_bytes,
            readers=readers,
        )
        self._advise_ahead(ahead.clip(stop), stop, readers=readers)

    def _advise_ahead(self, ahead: ByteRange, stop: int, *, readers: int = 1) -> None:
        if not self._advised.start <= ahead.start <= self._advised.stop:
            self._advised = ByteRange(ahead.start, ahead.start)  # a new run
        fresh = fresh_advice(ahead, self._advised.stop)
        step_bytes = step_blocks(len(ahead), readers=readers) * BLOCK_BYTES
        goes_on = fresh.stop < stop
        is_tiny = goes_on and len(fresh) < step_bytes
        if fresh and not is_tiny:
            self._advised = ByteRange(self._advised.start, fresh.stop)
            window_bytes = len(ahead) if goes_on else 0
            blocks = blocks_of(fresh)
            self._prefetcher.advise(self._content, blocks, window_bytes=window_bytes, position=self._position)

    def _note_chunk(self, read: ByteRange, array: Extent) -> None:
        """Where steps over chunks go on, the next ones are fetched."""
        if not array.chunks:
            return
        before, self._chunks = self._chunks, self._chunks.after(array, read)
        if self._chunks.last != before.last and (blocks := self._chunks.strided_blocks(array)):
            self._prefetcher.advise(self._content, blocks, position=self._position)

    def _end_of_structure(self) -> int:
        """Where reading ahead ends outside of arrays: with structure that a program has just begun to read in a row.

        Whether it reads on behind that is known when it does. Else it ends with the file.
        """
        end = None
        if self._walks is not None and not self._pattern.is_long:
            end = self._walks.end_of_structure(self._content, self._pattern.position - 1)
        return self._content.size_bytes if end is None else end

    def _end_in(self, array: Extent) -> int:
        """Where in an array reading ahead ends: with it, or with a chunk."""
        return self._chunks.end(array) if array.chunks else array.stop

    def _advise_walk(self, read: ByteRange, array: Extent) -> None:
        """Small reads go on through an array, or equal steps do."""
        stop = self._end_in(array)
        if ahead := self._small.ahead(stop):
            self._advise_ahead(ahead.clip(ahead.start + self._source.room_bytes), stop)
        elif array.chunks:
            return
        elif not self._steps.are_equal(self._guess.least_steps):
            self._stepped = ByteRange(read.stop, read.stop)
        elif self._steps.last - self._stepped.start >= len(self._stepped) // 2:
            beyond = max(read.start, self._stepped.stop)
            if blocks := self._steps.next_blocks(beyond, len(read), array.stop):
                self._guess = self._guess if self._stepped else self._guess.then(blocks)
                self._stepped = ByteRange(read.start, max(read.start, (blocks[-1] + 1) * BLOCK_BYTES))
                self._prefetcher.advise(self._content, blocks, position=self._position)

    def _number(self, rows: RowEnds | None, number: int) -> int | None:
        """A number of an index, if it is in memory."""
        data = None if rows is None else self._peek(place_of(rows, number))
        return None if rows is None or data is None else value_of(rows, data)

    def _position(self) -> int:
        return self._pattern.position

"""What a read within an array of an HDF5 file says about the next ones (pure).

A walk (walks.py) says where the arrays lie. A program that reads one reads no further than its end. It reads a small
array whole, of a ragged one the row that it has begun, and in a large one it goes on in the steps that it has taken.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil
from typing import Final

from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.hdf5.structure import Extent, RowEnds
from vbnfs.objects import ByteRange
from vbnfs.reading.chunks import chunk_read

_SMALL_ARRAY_BYTES: Final = 1 << 20
_LONGEST_ROW_BYTES: Final = 16 << 20
_PAGE_BYTES: Final = 4096  # the kernel reads whole ones, so equal steps of a program differ by one of these
# Ten seconds of an LFP channel are 4.8 MB: the rest of so much comes at once.
_WALK_BYTES: Final = 5 << 20
_WALK_BLOCKS: Final = _WALK_BYTES // BLOCK_BYTES
_LEAST_STEPS: Final = 2  # equal ones, that is three reads; more after a wrong guess
_LEAST_WALKED_BYTES: Final = 48 << 10  # what two reads of the kernel's make for one in a row; then more are likely
_NEAR_BYTES: Final = 128 << 10  # what the kernel reads ahead of a program
_LARGEST_FIRST_BYTES: Final = 32 << 10  # a program that reads much at once has asked for what it wants


class Arrays:
    """The arrays of a file. Where they overlap, which no sound file has, the later beginning counts."""

    def __init__(self, extents: Iterable[Extent] = ()) -> None:
        self._extents = sorted(extents, key=lambda extent: extent[:2])
        self._starts = [extent.start for extent in self._extents]

    def with_more(self, extents: Iterable[Extent]) -> "Arrays":
        """These and others, which take the place of those that begin at the same byte."""
        known = {extent.start: extent for extent in (*self._extents, *extents)}
        return Arrays(known.values())

    def at(self, offset: int) -> Extent | None:
        """The array that has a byte."""
        place = bisect_right(self._starts, offset) - 1
        return self._extents[place] if place >= 0 and offset < self._extents[place].stop else None

    def have(self, blocks: range) -> bool:
        """Whether all of some blocks is of one array, so that no structure is in them."""
        array = self.at(blocks.start * BLOCK_BYTES)
        return array is not None and blocks.stop * BLOCK_BYTES <= array.stop


@dataclass(frozen=True, slots=True)
class Steps:
    """Reads that each begin nearly as far behind the one before: where the first and last began, how many steps."""

    first: int = 0
    last: int = 0
    count: int = 0

    def after(self, start: int) -> "Steps":
        """The steps after one more read. Another distance begins new ones, and so does a step back."""
        step = start - self.last
        if step <= 0:
            return Steps(start, start)
        if self.count and abs(step - self.mean_bytes) <= _PAGE_BYTES:
            return Steps(self.first, start, self.count + 1)
        return Steps(self.last, start, 1)

    @property
    def mean_bytes(self) -> float:
        """How long a step is."""
        return (self.last - self.first) / self.count if self.count else 0.0

    def are_equal(self, least: int = _LEAST_STEPS) -> bool:
        """Whether the next one is likely to be as long, after so many. Of short ones see `SmallReads`."""
        return self.count >= least and self.mean_bytes > _NEAR_BYTES

    def next_blocks(self, beyond: int, read_bytes: int, stop: int) -> list[int]:
        """The blocks of the next reads of `read_bytes`, from byte `beyond` on and before `stop`.

        As many as five MiB have, or as were read in such steps.
        """
        most, mean_bytes = max(_WALK_BLOCKS, self.count), self.mean_bytes
        at = max(1, ceil((beyond - self.last) / mean_bytes))
        found: dict[int, None] = {}
        while len(found) < most and (start := self.last + round(at * mean_bytes)) < stop:
            found.update(dict.fromkeys(blocks_of(ByteRange(start, min(start + read_bytes, stop)))))
            at += max(1, int((BLOCK_BYTES - start % BLOCK_BYTES) / mean_bytes))  # no block twice
        return list(found)


@dataclass(frozen=True, slots=True)
class Guess:
    """The blocks that were guessed last, while none of them was read, and how many equal steps the next guess takes.

    These are twice as many after a guess of which nothing was read: reads at random have equal steps now and then.
    """

    least_steps: int = _LEAST_STEPS
    unread: frozenset[int] = frozenset()

    def after(self, read: ByteRange) -> "Guess":
        """What it is after one more read: one of its blocks says that it was right."""
        return self if self.unread.isdisjoint(blocks_of(read)) else Guess()

    def then(self, blocks: Iterable[int]) -> "Guess":
        """The next one. Until it is found right, it counts as wrong."""
        return Guess(2 * self.least_steps, frozenset(blocks))


@dataclass(frozen=True, slots=True)
class SmallReads:
    """Reads one behind the other, of which the first was small: where they began, how many, up to which byte.

    A program that reads one column of rows reads some bytes of each. Of that the kernel makes pages with gaps between
    them, or reads in a row, small ones to begin with. A program that reads much at once has asked for what it wants.
    """

    start: int = 0
    stop: int = 0
    count: int = 0

    def after(self, read: ByteRange) -> "SmallReads":
        """The run after one more read. One that is not a little further on begins a new one."""
        if self.count and self.start <= read.start <= self.stop + _NEAR_BYTES:
            return SmallReads(self.start, max(self.stop, read.stop), self.count + 1)
        is_small = len(read) <= _LARGEST_FIRST_BYTES
        return SmallReads(read.start, read.stop, 1) if is_small else SmallReads()

    def ahead(self, stop: int) -> ByteRange:
        """What to have before byte `stop`: five MiB at once, or as much as was read; nothing while little was."""
        span_bytes = self.stop - self.start
        if self.count <= _LEAST_STEPS or span_bytes < _LEAST_WALKED_BYTES:
            return ByteRange(self.stop, self.stop)
        return ByteRange(self.stop, max(self.stop, min(self.start + max(_WALK_BYTES, 2 * span_bytes), stop)))


def rest_of(array: Extent, offset: int, row: ByteRange | None) -> ByteRange:
    """What of an array a program is likely to read that lacks byte `offset` of it.

    That is all of a small one, the rest of a chunk that is read whole, or the row.
    """
    if array.stop - array.start <= _SMALL_ARRAY_BYTES:
        return ByteRange(array.start, array.stop)
    if (chunk := chunk_read(array, offset)) is not None:
        return ByteRange(offset, chunk.stop)
    if row is not None and row.start <= offset < row.stop:
        return ByteRange(offset, min(row.stop, offset + _LONGEST_ROW_BYTES))
    return ByteRange(offset, offset)


def row_at(array: Extent, offset: int, end_of: Callable[[int], int | None]) -> ByteRange | None:
    """The row of a ragged array that has a byte. `end_of` reads a number of its index; None: it is not in memory.

    The numbers ascend. Where they do not, some row is returned that is within the array, or none.
    """
    if array.rows is None or array.row_bytes <= 0:
        return None
    element = (offset - array.start) // array.row_bytes
    low, high = 0, array.rows.rows
    begins, ends = 0, None
    while low < high:
        middle = (low + high) // 2
        end = end_of(middle)
        if end is None:
            return None
        if end > element:
            high, ends = middle, end
        else:
            low, begins = middle + 1, end
    if ends is None:
        return None
    start, stop = array.start + begins * array.row_bytes, array.start + ends * array.row_bytes
    return ByteRange(start, min(stop, array.stop)) if start <= offset < stop else None


def place_of(rows: RowEnds, number: int) -> ByteRange:
    """Where number `number` of an index stands."""
    start = rows.start + number * rows.width
    return ByteRange(start, start + rows.width)


def value_of(rows: RowEnds, data: bytes | memoryview) -> int:
    """The number that has these bytes."""
    return int.from_bytes(data, "big" if rows.is_big_endian else "little")

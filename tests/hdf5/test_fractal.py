"""Fractal heaps: in which block an offset is, and what ids say."""

from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbnfs.hdf5.fields import Fields, Sizes, UnparsableError
from vbnfs.hdf5.fractal import Apart, FractalHeap, Huge, Managed, read_heap, read_id

WIDTH, START_BYTES, DIRECT_ROWS = 4, 512, 5
HEAP = FractalHeap(
    id_bytes=8,
    offset_bytes=4,
    length_bytes=2,
    width=WIDTH,
    start_bytes=START_BYTES,
    direct_rows=DIRECT_ROWS,
    root=4096,
    root_rows=8,
    huge_tree=None,
    free_space=None,
)


def row_bytes(row: int) -> int:
    """The doubling table as the specification draws it: two rows of the least blocks, then twice as many in each."""
    return START_BYTES << max(0, row - 1)


ROWS = [row for row in range(9) for _ in range(WIDTH)]  # of each block


@given(st.integers(0, sum(map(row_bytes, ROWS)) - 1))
def test_where_an_offset_is(offset: int) -> None:
    """An offset is in the block that counting finds; below the direct rows, the rows within a block fill it."""
    starts = list(accumulate(map(row_bytes, ROWS), initial=0))
    entry = bisect_right(starts, offset) - 1
    place = HEAP.place(offset)
    assert (place.row, place.entry, place.within) == (ROWS[entry], entry, offset - starts[entry])
    assert place.block_bytes == row_bytes(place.row)
    within = sum(WIDTH * row_bytes(each) for each in range(place.rows))
    assert within == (place.block_bytes if place.row >= DIRECT_ROWS else 0)


def fields(data: bytes) -> Fields:
    """The fields of an id."""
    return Fields(data, Sizes(), "fractal heap")


def test_ids() -> None:
    """An id names an object in the heap's space, one that a tree has, one at an address, or is the object itself."""
    managed = b"\0" + (70).to_bytes(4, "little") + (9).to_bytes(2, "little")
    assert read_id(fields(managed), HEAP, 16) == Managed(70, 9)
    assert read_id(fields(b"\x10" + (5).to_bytes(7, "little")), HEAP, 16) == Huge(5)
    wide = replace(HEAP, id_bytes=20)
    apart = b"\x10" + (4096).to_bytes(8, "little") + (300).to_bytes(8, "little")
    assert read_id(fields(apart), wide, 16) == Apart(4096, 300)
    assert read_id(fields(b"\x22abcdefg"), HEAP, 16) == b"abc"
    assert read_id(fields(b"\x20\x03abcdefg"), wide, 16) == b"abcd"
    with pytest.raises(UnparsableError):
        read_id(fields(b"\x30" + bytes(7)), HEAP, 16)


@pytest.mark.parametrize(("filter_bytes", "width"), [(8, 4), (0, 3), (0, 0)])
def test_heaps_that_are_not_read(filter_bytes: int, width: int) -> None:
    """A heap whose blocks are filtered is not read, nor one whose rows are of no power of two."""
    numbers = [(8, 2), (filter_bytes, 2), (0, 1), (4096, 4), *[(0, 8)] * 12, (width, 2), (512, 8), (65536, 8)]
    data = b"FRHP\0" + b"".join(value.to_bytes(size_bytes, "little") for value, size_bytes in numbers)
    with pytest.raises(UnparsableError):
        read_heap(fields(data + bytes(30)))

"""What reads within an array say about the next ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.hdf5.structure import Extent, RowEnds
from vbnfs.objects import ByteRange
from vbnfs.reading.arrays import Arrays, Guess, SmallReads, Steps, place_of, rest_of, row_at, value_of

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
LFP = Extent(100 * KIB, 100 * KIB + 4 * GIB, 384)
SPIKES = Extent(8 * MIB, 8 * MIB + 80_000, 8, RowEnds(0, 4, 4, is_big_endian=False))
extents = st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 500)), max_size=20, unique_by=lambda one: one[0])


def small_reads(*reads: tuple[int, int]) -> SmallReads:
    run = SmallReads()
    for start, size in reads:
        run = run.after(ByteRange(start, start + size))
    return run


def steps(*starts: int) -> Steps:
    found = Steps(starts[0], starts[0])
    for start in starts[1:]:
        found = found.after(start)
    return found


@given(extents, st.integers(0, 6000))
def test_the_array_at_a_byte_has_that_byte(places: list[tuple[int, int]], offset: int) -> None:
    """Of arrays that overlap, which no sound file has, it is one that has the byte, or none."""
    arrays = [Extent(start, start + size, 1) for start, size in places]
    assert Arrays(arrays).at(offset) in [None, *(one for one in arrays if one.start <= offset < one.stop)]


@given(extents, st.integers(0, 6000))
def test_each_byte_of_an_array_is_found(places: list[tuple[int, int]], offset: int) -> None:
    """Of arrays with gaps between them."""
    arrays, at = list[Extent](), 0
    for gap, size in places:
        arrays.append(Extent(at + gap, at + gap + size, 1))
        at += gap + size
    assert Arrays(reversed(arrays)).at(offset) == next(
        (one for one in arrays if one.start <= offset < one.stop), None
    )


def test_more_that_is_known_of_an_array_takes_its_place() -> None:
    """By where it begins."""
    arrays = Arrays([LFP, SPIKES._replace(rows=None)]).with_more([SPIKES])
    assert arrays.at(SPIKES.start) == SPIKES
    assert arrays.at(LFP.start) == LFP


def test_blocks_of_one_array_have_no_structure() -> None:
    """Those that are all of one array; not one in which an array begins or ends."""
    arrays = Arrays([Extent(BLOCK_BYTES + 1, 5 * BLOCK_BYTES, 8)])
    assert [arrays.have(range(index, index + 1)) for index in range(6)] == [False, False, True, True, True, False]
    assert arrays.have(range(2, 5))
    assert not arrays.have(range(4, 6))


def test_one_column_of_rows_is_a_walk_in_small_reads() -> None:
    """As the kernel makes them of 12,500 reads of 4 bytes: then five MiB come at once, and as much as was read."""
    at, sizes = LFP.start, [4, 16, 32, 64, 128, 128]
    run, wanted = SmallReads(), []
    for size in sizes:
        run = run.after(ByteRange(at, at + size * KIB))
        at += size * KIB
        wanted.append(run.ahead(LFP.stop))
    assert [len(one) for one in wanted[:2]] == [0, 0]
    assert all(one.stop == LFP.start + 5 * MIB for one in wanted[2:])
    later = small_reads((0, 4 * KIB), *((at * 128 * KIB, 128 * KIB) for at in range(80)))
    assert later.ahead(GIB) == ByteRange(10 * MIB, 20 * MIB)
    assert later.ahead(11 * MIB) == ByteRange(10 * MIB, 11 * MIB)


def test_every_hundredth_row_is_such_a_walk_too() -> None:
    """One page of each 38 KB."""
    run = small_reads(*((LFP.start + number * 38_400 // 4096 * 4096, 4096) for number in range(4)))
    assert run.ahead(LFP.stop).stop == LFP.start + 5 * MIB


@pytest.mark.parametrize(
    "reads",
    [
        [(0, 128 * KIB), (128 * KIB, 128 * KIB), (256 * KIB, 128 * KIB)],  # 480 KB that were asked for at once
        [(0, 4 * KIB), (900 * KIB, 4 * KIB), (100 * KIB, 4 * KIB), (700 * KIB, 4 * KIB)],  # at random
        [(0, 4 * KIB), (8 * KIB, 4 * KIB), (4 * KIB, 4 * KIB), (0, 4 * KIB)],  # within some pages
    ],
)
def test_other_reads_are_no_such_walk(reads: list[tuple[int, int]]) -> None:
    """What is asked for at once, at random, or within few pages has nothing fetched ahead."""
    assert not small_reads(*reads).ahead(GIB)


@given(
    st.integers(0, 1000),
    st.integers(140 * KIB, 40 * MIB),
    st.integers(3, 40),
    st.integers(1, 64 * KIB),
    st.integers(0, 1),
)
def test_equal_steps_have_the_blocks_of_the_next_reads_fetched(
    first: int, step: int, count: int, size: int, share: int
) -> None:
    """In whole pages, as the kernel reads them: each block that is fetched is that of a next read, or beside it."""
    pages = [(first + number * step) // 4096 * 4096 for number in range(count)]
    found = steps(*pages)
    assert found.are_equal()
    stop = 100 * GIB
    blocks = found.next_blocks(found.last, size, stop)
    assert len(blocks) == len(set(blocks)) >= 20
    for number in range(1, 5):  # the next four, all of their blocks
        at = found.last + round(number * found.mean_bytes)
        assert set(blocks_of(ByteRange(at, at + size))) <= set(blocks)
    for block in blocks:
        nearest = round((block * BLOCK_BYTES - found.last) / found.mean_bytes)
        around = [found.last + (nearest + more) * found.mean_bytes for more in (-1, 0, 1)]
        assert any(abs(at - block * BLOCK_BYTES) <= BLOCK_BYTES + size for at in around)


def test_steps_end_with_the_array_and_begin_anew_elsewhere() -> None:
    """Nothing is fetched behind the array's end; a step of another length, or back, is no equal one."""
    found = steps(0, MIB, 2 * MIB)
    assert found.next_blocks(2 * MIB, 4, 5 * MIB) == [12, 16]
    assert found.next_blocks(4 * MIB, 4, 5 * MIB) == [16]
    assert found.next_blocks(4 * MIB + 1, 4, 5 * MIB) == []
    assert not steps(0, MIB, 3 * MIB).are_equal()
    assert not steps(0, 2 * MIB, MIB).are_equal()
    assert steps(0, 3 * MIB, 4 * MIB, 5 * MIB).are_equal()


def test_a_small_array_comes_whole_and_of_a_ragged_one_the_row() -> None:
    """Of others nothing is known from one read."""
    small, row = Extent(MIB, 2 * MIB, 8), ByteRange(LFP.start + 10 * MIB, LFP.start + 11 * MIB)
    assert rest_of(small, MIB + 5, None) == ByteRange(MIB, 2 * MIB)
    assert not rest_of(LFP, GIB, None)
    assert rest_of(LFP, row.start + 100, row) == ByteRange(row.start + 100, row.stop)
    assert not rest_of(LFP, GIB, row)
    assert len(rest_of(LFP, row.start, ByteRange(row.start, row.start + GIB))) == 16 * MIB


@pytest.mark.parametrize(("width", "is_big_endian"), [(1, False), (4, False), (8, True)])
@given(st.lists(st.integers(0, 60), min_size=1, max_size=12), st.integers(0, 1000))
def test_a_row_is_found_by_its_index(width: int, is_big_endian: bool, lengths: list[int], element: int) -> None:
    """Whatever the width and the order of its bytes; empty rows have no byte."""
    ends = np.cumsum(lengths)
    rows = RowEnds(64, len(ends), width, is_big_endian)
    stored = bytes(64) + b"".join(
        int(end % 256).to_bytes(width, "big" if is_big_endian else "little") for end in ends
    )
    array = Extent(10_000, 10_000 + 8 * 1000, 8, rows)

    def number(index: int) -> int:
        place = place_of(rows, index)
        return value_of(rows, stored[place.start : place.stop])

    if ends[-1] < 256:
        found = row_at(array, array.start + 8 * element + 3, number)
        expected = next((index for index, end in enumerate(ends) if end > element), None)
        if expected is None:
            assert found is None
        else:
            start, stop = ends[expected] - lengths[expected], ends[expected]
            assert found == ByteRange(array.start + 8 * int(start), array.start + 8 * int(stop))


@given(st.lists(st.integers(0, 1 << 64), max_size=20), st.integers(0, 79_999))
def test_an_index_of_any_numbers_gives_a_row_within_the_array_or_none(numbers: list[int], offset: int) -> None:
    """Also one that does not ascend, or leads beyond."""
    array = SPIKES._replace(rows=RowEnds(0, len(numbers), 8, is_big_endian=False))
    found = row_at(array, array.start + offset, lambda index: numbers[index])
    assert found is None or array.start <= found.start <= array.start + offset < found.stop <= array.stop


def test_without_its_index_in_memory_a_row_is_not_known() -> None:
    """Nothing is read for it."""
    assert row_at(SPIKES, SPIKES.start, lambda number: None) is None
    assert row_at(LFP, LFP.start, lambda number: 0) is None


def test_wrong_guesses_take_more_steps() -> None:
    """Twice as many each time, until some block of the last guess is read."""
    read, elsewhere = ByteRange(5 * BLOCK_BYTES, 5 * BLOCK_BYTES + 1), ByteRange(9 * BLOCK_BYTES, 10 * BLOCK_BYTES)
    guess = Guess()
    assert steps(0, MIB, 2 * MIB).are_equal(guess.least_steps)
    guess = guess.then([5, 6])
    assert guess.after(elsewhere) == guess
    assert not steps(0, MIB, 2 * MIB, 3 * MIB).are_equal(guess.least_steps)
    assert steps(0, MIB, 2 * MIB, 3 * MIB, 4 * MIB).are_equal(guess.least_steps)
    assert guess.then([5]).least_steps == 2 * guess.least_steps
    assert guess.then([5]).after(read) == Guess()

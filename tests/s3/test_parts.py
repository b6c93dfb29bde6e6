"""Cutting a body: nothing is lost, whatever parts it comes in, and what is stored are whole blocks."""

from collections.abc import Iterator, Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbnfs.blocks import BLOCK_BYTES, PIECE_BYTES
from vbnfs.objects import ByteRange, ObjectVersion, Piece, RangeRequest
from vbnfs.s3.parts import Parts, Run

BLOCKS: Final = 12
# Blocks are not of one byte, or many: places in them are what counts.
NOISE: Final = bytes(range(251)) * (BLOCKS * BLOCK_BYTES // 251 + 1)


class NoSink:
    """Says that what comes is stored; the tests store nothing."""

    def store(self, start: int, parts: Sequence[bytes]) -> bool:
        raise AssertionError


def request(start: int, stop: int, size_bytes: int, *, is_stored: bool) -> RangeRequest:
    sink = NoSink() if is_stored else None
    return RangeRequest(ObjectVersion("key", None), ByteRange(start, stop), size_bytes, sink=sink)


def cut(wanted: RangeRequest, lengths: Sequence[int], takes: Sequence[bool]) -> list[Piece | Run]:
    """What a body becomes that comes in parts of these lengths, again and again; some are followed by a `take`."""
    parts, at, stop = Parts(wanted), wanted.byte_range.start, wanted.byte_range.stop
    made: list[Piece | Run] = []
    for turn in range(stop):
        part = NOISE[at : min(at + lengths[turn % len(lengths)], stop)]
        made += parts.add(part)
        if takes[turn % len(takes)]:
            made += parts.take()
        at += len(part)
        if at == stop:
            break
    made += parts.take()
    return made


def bytes_of(one: Piece | Run) -> bytes:
    return one.as_piece().data if isinstance(one, Run) else one.data


@st.composite
def bodies(draw: st.DrawFn) -> tuple[int, int, int, list[int], list[bool]]:
    """The first byte, the end, the object's size; the lengths of parts, and which are followed by a `take`."""
    near = st.builds(
        lambda block, beside: max(0, block * BLOCK_BYTES + beside), st.integers(0, BLOCKS - 1), st.integers(-2, 2)
    )
    anywhere = st.integers(0, BLOCKS * BLOCK_BYTES - 1) | near
    size_bytes = 1 + draw(anywhere)
    start = draw(anywhere.map(lambda at: at % size_bytes))
    stop = draw(st.just(size_bytes) | anywhere.map(lambda at: start + 1 + at % (size_bytes - start)))
    lengths = draw(st.lists(st.sampled_from([16_384, 65_536, BLOCK_BYTES, PIECE_BYTES + 1, 9_999_999]), min_size=1))
    return start, stop, size_bytes, lengths, draw(st.lists(st.booleans(), min_size=1, max_size=5))


@given(body=bodies(), is_stored=st.booleans())
def test_nothing_is_lost(body: tuple[int, int, int, list[int], list[bool]], is_stored: bool) -> None:
    """What is handed on is the body, in its order, with no byte twice; and each says where it begins."""
    start, stop, size_bytes, lengths, takes = body
    made = cut(request(start, stop, size_bytes, is_stored=is_stored), lengths, takes)
    at = start
    for one in made:
        assert (one.start, len(one) > 0) == (at, True)
        assert bytes_of(one) == NOISE[at : at + len(one)]
        at += len(one)
    assert at == stop


@given(body=bodies())
def test_runs_are_whole_blocks(body: tuple[int, int, int, list[int], list[bool]]) -> None:
    """A run begins where a block does, and ends where one does, or the object; no block comes as both.

    A block that came whole, between two `take`s, is in a run.
    """
    start, stop, size_bytes, lengths, takes = body
    made = cut(request(start, stop, size_bytes, is_stored=True), lengths, takes)
    for one in made:
        end = one.start + len(one)
        assert len(one) <= PIECE_BYTES
        if isinstance(one, Run):
            assert one.start % BLOCK_BYTES == 0
            assert end % BLOCK_BYTES == 0 or end == size_bytes
        else:  # a part of one block, or the parts of it that came before and after a `take`
            assert one.start // BLOCK_BYTES == (end - 1) // BLOCK_BYTES
            assert one.start % BLOCK_BYTES or (end % BLOCK_BYTES and end != size_bytes)


@given(body=bodies())
def test_without_a_sink_there_are_no_runs(body: tuple[int, int, int, list[int], list[bool]]) -> None:
    """All of it are pieces, and none is longer than `PIECE_BYTES`."""
    start, stop, size_bytes, lengths, takes = body
    made = cut(request(start, stop, size_bytes, is_stored=False), lengths, takes)
    assert all(isinstance(one, Piece) and len(one) <= PIECE_BYTES for one in made)


def lengths_of(made: Sequence[Piece | Run]) -> Iterator[tuple[type, int]]:
    return ((type(one), len(one) // BLOCK_BYTES) for one in made)


@pytest.mark.parametrize("length", [16_384, 100_000, 9_999_999])
def test_the_first_block_comes_alone(length: int) -> None:
    """A reader may wait for it: it does not wait for the rest of a piece or of a run, whatever the parts are."""
    size_bytes = 10 * BLOCK_BYTES
    pieces = cut(request(0, size_bytes, size_bytes, is_stored=False), [length], [False])
    assert list(lengths_of(pieces)) == [(Piece, 1), (Piece, 3), (Piece, 4), (Piece, 2)]
    runs = cut(request(0, size_bytes, size_bytes, is_stored=True), [length], [False])
    assert list(lengths_of(runs)) == [(Run, 1), (Run, 4), (Run, 4), (Run, 1)]


def test_what_begins_within_a_block_ends_with_it() -> None:
    """The rest of a GET that broke: the end of a block, whose beginning was handed on, and then runs."""
    size_bytes, start = 4 * BLOCK_BYTES + 7, BLOCK_BYTES - 5
    made = cut(request(start, size_bytes, size_bytes, is_stored=True), [65_536], [False])
    assert [(type(one), one.start, len(one)) for one in made] == [
        (Piece, start, 5),
        (Run, BLOCK_BYTES, size_bytes - BLOCK_BYTES),
    ]


def test_what_has_come_of_a_block_is_a_piece() -> None:
    """Where no more comes, whole blocks are a run, and the beginning of the next one is a piece; its end is, too."""
    size_bytes = 6 * BLOCK_BYTES
    parts = Parts(request(0, size_bytes, size_bytes, is_stored=True))
    assert [type(one) for one in parts.add(NOISE[:BLOCK_BYTES])] == [Run]
    assert list(parts.add(NOISE[BLOCK_BYTES : 2 * BLOCK_BYTES + 9])) == []
    assert [(type(one), one.start, len(one)) for one in parts.take()] == [
        (Run, BLOCK_BYTES, BLOCK_BYTES),
        (Piece, 2 * BLOCK_BYTES, 9),
    ]
    assert list(parts.take()) == []
    rest = list(parts.add(NOISE[2 * BLOCK_BYTES + 9 : 4 * BLOCK_BYTES]))
    assert [(type(one), len(one)) for one in rest] == [(Piece, BLOCK_BYTES - 9)]
    assert [(type(one), one.start) for one in parts.take()] == [(Run, 3 * BLOCK_BYTES)]

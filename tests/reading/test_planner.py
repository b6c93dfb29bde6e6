"""The arithmetic of fetching: which GETs, and how far ahead."""

import itertools
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.objects import ByteRange
from vbnfs.reading.planner import (
    LONGEST_GET_BLOCKS,
    AccessPattern,
    even_share,
    fresh_advice,
    metadata_neighbourhood,
    plan_gets,
    plan_wave,
    step_blocks,
    tail_of,
)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
LFP_BYTES = 5 * GIB
reads = st.lists(st.tuples(st.integers(0, 40 * MIB), st.integers(1, MIB)), max_size=60)


def pattern_after(*ranges: ByteRange) -> AccessPattern:
    pattern = AccessPattern()
    for byte_range in ranges:
        pattern = pattern.after(byte_range)
    return pattern


def in_a_row(total_bytes: int, *, start: int = 0, step: int = 128 * KIB) -> list[ByteRange]:
    return [ByteRange(at, min(at + step, start + total_bytes)) for at in range(start, start + total_bytes, step)]


def window(pattern: AccessPattern, *, size: int = LFP_BYTES, room: int = GIB) -> int:
    return len(pattern.readahead(size, room_bytes=room))


@given(st.sets(st.integers(0, 300)))
def test_gets_cover_exactly_the_missing_blocks(missing: set[int]) -> None:
    """In order, each once, only adjacent blocks together, at most 64 in one, and no more GETs than that takes."""
    gets = list(plan_gets(sorted(missing)))
    assert [index for get in gets for index in get] == sorted(missing)
    assert all(1 <= len(get) <= LONGEST_GET_BLOCKS and get.step == 1 for get in gets)
    for before, after in itertools.pairwise(gets):
        assert before.stop < after.start or len(before) == LONGEST_GET_BLOCKS


def test_a_get_is_at_most_16_mib() -> None:
    """129 adjacent blocks are three GETs: 64, 64 and 1; more, if they shall be shorter."""
    assert [len(get) for get in plan_gets(range(100, 229))] == [64, 64, 1]
    assert [len(get) for get in plan_gets(range(10), longest=4)] == [4, 4, 2]


@pytest.mark.parametrize(
    ("window", "readers", "blocks"),
    [(0, 1, 4), (4 * MIB, 1, 4), (32 * MIB, 1, 8), (256 * MIB, 1, 64), (64 * MIB, 4, 64), (16 * MIB, 16, 32)],
)
def test_a_window_moves_on_in_steps(window: int, readers: int, blocks: int) -> None:
    """The windows of all readers have sixteen steps together, at least two for each, of 1 to 16 MiB."""
    assert step_blocks(window, readers=readers) == blocks


@pytest.mark.parametrize(
    ("coming", "connections", "blocks"),
    [(0, 15, 2), (16, 15, 2), (38, 16, 3), (128, 16, 8), (900, 15, 60), (1024, 15, 64), (9, 1, 9)],
)
def test_a_get_is_an_even_share_of_what_is_to_come(coming: int, connections: int, blocks: int) -> None:
    """For each connection, from 512 KiB to 16 MiB."""
    assert even_share(coming, connections=connections) == blocks


@pytest.mark.parametrize(("coming", "window", "blocks"), [(4, 1024, 35), (0, 60, 2), (800, 1024, 54), (4, 4096, 64)])
def test_where_a_window_has_come_a_get_is_a_share_of_half_of_it(coming: int, window: int, blocks: int) -> None:
    """A reader that is slower than the network needs no short GETs."""
    assert even_share(coming, connections=15, window_blocks=window) == blocks


@given(st.sets(st.integers(0, 300), max_size=60), st.integers(1, 40), st.integers(0, 20))
def test_a_wave_is_sent_at_once(wanted: set[int], gets: int, most_bridged: int) -> None:
    """It has all blocks that are wanted, each once, few others, and no more GETs than may be if that can be."""
    runs = plan_wave(sorted(wanted), gets=gets, most_bridged=most_bridged)
    fetched = [block for run in runs for block in run]
    assert fetched == sorted(set(fetched))
    assert set(fetched) >= wanted
    assert len(set(fetched) - wanted) <= most_bridged
    assert len(runs) <= max(gets, len(list(plan_gets(sorted(wanted), longest=1000))))
    if len(runs) > gets:
        gaps = [after.start - before.stop for before, after in pairwise(runs)]
        assert min(gaps) > most_bridged - len(set(fetched) - wanted)
    assert all(len(run) <= 2 for run in runs) or len(runs) >= gets  # long ones are cut while there is room


@given(st.integers(1, 10 * MIB))
def test_a_tail_is_what_is_behind_the_last_whole_block_and_that_block(size: int) -> None:
    """At least a block, if the file has as much, and less than two."""
    tail = tail_of(size)
    assert tail[-1] == blocks_of(ByteRange(0, size))[-1]
    assert min(size, BLOCK_BYTES) <= size - tail.start * BLOCK_BYTES < 2 * BLOCK_BYTES


@pytest.mark.parametrize(
    ("lacking", "earlier", "wanted"),
    [
        (range(20, 21), [], range(20, 21)),
        (range(20, 21), [16], range(19, 22)),
        (range(20, 21), [15, 40], range(20, 21)),
        (range(20, 22), [25], range(19, 23)),
        (range(20, 21), [20], range(20, 21)),
        (range(20, 21), [19], range(20, 21)),  # going on in a row
        (range(20, 21), [19, 900], range(19, 22)),
        (range(1), [3], range(2)),
    ],
)
def test_a_block_near_an_earlier_one_has_a_neighbourhood(lacking: range, earlier: list[int], wanted: range) -> None:
    """One on each side, where one that was lacking before is within 1 MiB."""
    assert metadata_neighbourhood(lacking, earlier) == wanted


@given(st.lists(st.integers(0, 2000), max_size=50))
def test_random_reads_give_no_readahead(places: list[int]) -> None:
    """4 KiB at random, each further than 1 MiB from the last: nothing is fetched ahead."""
    pattern, last = AccessPattern(), 0
    for place in places:
        start = place * 3 * MIB
        if abs(start - last) > 2 * MIB:
            pattern, last = pattern.after(ByteRange(start, start + 4 * KIB)), start
            assert window(pattern, size=100 * GIB) == 0


def test_the_first_reads_of_a_file_give_no_readahead() -> None:
    """Reading the header is not yet a pattern: half a MiB in a row is."""
    assert window(pattern_after(*in_a_row(512 * KIB - 128 * KIB))) == 0
    assert window(pattern_after(*in_a_row(512 * KIB))) > 0


def test_sequential_reads_are_fetched_ahead_further_and_further() -> None:
    """The window never shrinks, and at last keeps many connections busy."""
    pattern, windows = AccessPattern(), []
    for byte_range in in_a_row(64 * MIB):
        pattern = pattern.after(byte_range)
        windows.append(window(pattern))
    assert windows == sorted(windows)
    assert windows[-1] == 256 * MIB
    assert pattern.readahead(LFP_BYTES, room_bytes=GIB).start == 64 * MIB


@pytest.mark.parametrize(("readers", "each"), [(1, 512 * MIB), (2, 128 * MIB), (16, 16 * MIB)])
def test_readers_share_what_is_fetched_ahead(readers: int, each: int) -> None:
    """One that reads alone may have more than 256 MiB ahead; together they have that much."""
    pattern = pattern_after(*in_a_row(256 * MIB))
    ahead = pattern.readahead(4 * GIB, room_bytes=4 * GIB, window_bytes=512 * MIB, readers=readers)
    assert len(ahead) == each


def test_a_run_as_short_as_ten_seconds_of_a_channel_is_fetched_ahead_by_4_mib_only() -> None:
    """4.8 MB in a row and then elsewhere is a usual pattern: less than as much again may be wasted on it."""
    assert window(pattern_after(*in_a_row(4_800_000))) == 4 * MIB
    assert window(pattern_after(*in_a_row(8 * MIB))) == 32 * MIB


@given(reads, st.integers(0, 41 * MIB), st.integers(0, 64 * MIB))
def test_readahead_is_bounded_by_what_was_read_the_room_and_the_file(
    requests: list[tuple[int, int]], size: int, room: int
) -> None:
    """At most four times the bytes consumed, or a small file; at most what can be kept, and never beyond the end."""
    pattern, consumed = AccessPattern(), 0
    for start, length in requests:
        pattern, consumed = pattern.after(ByteRange(start, start + length)), consumed + length
        ahead = pattern.readahead(size, room_bytes=room)
        assert len(ahead) <= min(size if size <= 16 * MIB else 4 * consumed, room)
        assert ahead.stop <= size


@given(st.randoms(use_true_random=False))
def test_requests_that_arrive_out_of_order_within_1_mib_are_still_sequential(order: "object") -> None:
    """The kernel sends its readahead side by side: 128 KiB requests, up to 1 MiB of them in any order."""
    requests = in_a_row(16 * MIB)
    for at in range(0, len(requests), 8):
        part = requests[at : at + 8]
        order.shuffle(part)  # type: ignore[attr-defined]
        requests[at : at + 8] = part
    pattern = pattern_after(*requests)
    assert pattern == pattern_after(*in_a_row(16 * MIB))
    assert window(pattern) == 64 * MIB


def test_reading_elsewhere_begins_a_new_run() -> None:
    """What was read in a row at one place says nothing about another."""
    pattern = pattern_after(*in_a_row(4 * MIB), ByteRange(GIB, GIB + 4 * KIB))
    assert window(pattern) == 0
    pattern = pattern_after(*in_a_row(4 * MIB), *in_a_row(2 * MIB, start=GIB))
    assert pattern.readahead(LFP_BYTES, room_bytes=GIB).start == GIB + 2 * MIB


@pytest.mark.parametrize("room", [0, 1, MIB])
def test_no_more_is_fetched_ahead_than_can_be_kept(room: int) -> None:
    """With a small cache, what was fetched would be gone before it is read."""
    assert window(pattern_after(*in_a_row(64 * MIB)), room=room) == room


@given(st.integers(0, GIB), st.integers(0, GIB), st.integers(0, 2 * GIB))
def test_advice_is_given_in_parts(start: int, length: int, advised: int) -> None:
    """What is ahead and was not asked for, 16 MiB of it at a time: a read in the event loop stays short."""
    fresh = fresh_advice(ByteRange(start, start + length), advised)
    assert fresh.start == advised
    assert len(fresh) == max(0, min(start + length - advised, 16 * MIB))

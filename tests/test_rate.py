"""The bucket of a limit of bytes a second: what is admitted in a time, and what goes first."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.rate import LEAST_RATE, OFF, Bucket, ahead_bytes, burst_bytes, longest_get_blocks, rate_text

MIB = 1 << 20
rates = st.integers(LEAST_RATE, 1 << 40)


@given(
    rates,
    st.lists(st.tuples(st.floats(0, 60), st.integers(1, 8 * BLOCK_BYTES), st.booleans()), min_size=1, max_size=60),
)
def test_no_more_than_the_rate(rate: int, asked: list[tuple[float, int, bool]]) -> None:
    """In any time no more is admitted than the rate, one filling and one GET allow, if GETs are as long as planned.

    A longer one was planned at a higher rate. Of its debt a part is let off, so that no reader waits for long.
    """
    bucket, now, most_bytes = Bucket(), 0.0, longest_get_blocks(rate) * BLOCK_BYTES
    admitted: list[tuple[float, int]] = []
    for pause, any_bytes, is_wanted in asked:
        now, count_bytes = now + pause, min(any_bytes, most_bytes)
        bucket = bucket.filled(rate, now)
        if not bucket.wait_seconds(count_bytes, rate, is_wanted=is_wanted):
            bucket = bucket.without(count_bytes)
            admitted.append((now, count_bytes))
    for first, (began, _) in enumerate(admitted):
        for last, (ended, _) in enumerate(admitted[first:], first):
            sent = sum(count_bytes for _, count_bytes in admitted[first : last + 1])
            longest = max(count_bytes for _, count_bytes in admitted[first : last + 1])
            assert sent <= (rate * (ended - began) + burst_bytes(rate) + longest) * 1.001


@given(rates, st.integers(1, 64 * BLOCK_BYTES), st.booleans())
def test_after_the_wait_it_goes(rate: int, count_bytes: int, is_wanted: bool) -> None:
    """A GET that has waited for as long as the bucket says is admitted, whatever its length: nothing hangs."""
    bucket = Bucket().filled(rate, 5.0).without(3 * BLOCK_BYTES)
    wait = bucket.wait_seconds(count_bytes, rate, is_wanted=is_wanted)
    assert wait > 0
    later = bucket.filled(rate, 5.0 + wait + 1e-3)
    assert later.wait_seconds(count_bytes, rate, is_wanted=is_wanted) <= 1e-3


@given(rates, st.floats(0, 100))
def test_a_prefetch_leaves_no_debt(rate: int, seconds: float) -> None:
    """As long as GETs are no longer than they are to be, a reader that comes behind a prefetch goes at once."""
    count_bytes = longest_get_blocks(rate) * BLOCK_BYTES
    assert count_bytes <= burst_bytes(rate)
    bucket = Bucket(0.0, 0.0).filled(rate, seconds)
    if not bucket.wait_seconds(count_bytes, rate, is_wanted=False):
        assert bucket.without(count_bytes).wait_seconds(BLOCK_BYTES, rate, is_wanted=True) == 0


@given(rates, st.lists(st.floats(-1e9, 1e9), max_size=20))
def test_a_clock_that_jumps(rate: int, jumps: list[float]) -> None:
    """Each jump forward brings one filling at the most, one back nothing; then it fills as before."""
    bucket, now = Bucket().filled(rate, 0.0), 0.0
    for jump in jumps:
        now += jump
        before, bucket = bucket, bucket.filled(rate, now)
        assert before.level_bytes <= bucket.level_bytes <= burst_bytes(rate)
        assert jump > 0 or bucket.level_bytes == before.level_bytes
    bucket = bucket.without(bucket.level_bytes).filled(rate, now + 0.05)
    assert bucket.level_bytes == pytest.approx(min(rate * 0.05, burst_bytes(rate)), rel=1e-3)


def test_a_list_is_paid_for_within_two_seconds() -> None:
    """What came without being asked for by its length makes a debt of two seconds at the most, and none smaller."""
    assert Bucket(0.0, 1.0).charged(MIB // 2, MIB).level_bytes == -MIB // 2
    assert Bucket(0.0, 1.0).charged(100 * MIB, MIB).level_bytes == -2 * MIB
    assert Bucket(-5.0 * MIB, 1.0).charged(100 * MIB, MIB).level_bytes == -5 * MIB


def test_a_debt_of_a_higher_rate_is_no_longer_than_one_of_this_rate() -> None:
    """After the rate was lowered a reader waits for two seconds and a GET at the most, not for the old rate's GET."""
    bucket = Bucket(0.0, 5.0).without(64 * MIB).filled(16 << 10, 5.0)
    assert bucket.wait_seconds(BLOCK_BYTES, 16 << 10, is_wanted=True) == 2 + BLOCK_BYTES / (16 << 10)


@pytest.mark.parametrize(
    ("bucket", "is_possible"),
    [
        (Bucket(), True),
        (Bucket(-7.0, 5.0), True),
        (Bucket(math.nan, 5.0), False),
        (Bucket(5.0, math.nan), False),
        (Bucket(5.0, math.inf), False),
        (Bucket(-1e300, 5.0), False),
        (Bucket(math.inf, 5.0), False),
    ],
)
def test_damaged_figures(bucket: Bucket, is_possible: bool) -> None:
    """Figures that no bucket has are known for what they are: no reader waits for them."""
    assert bucket.is_possible is is_possible


@pytest.mark.parametrize(
    ("rate", "get_blocks", "burst", "ahead"),
    [
        (LEAST_RATE, 1, BLOCK_BYTES, 4 * MIB),
        (MIB, 1, BLOCK_BYTES, 10 * MIB),
        (10 * MIB, 2, 10 * MIB // 8, 100 * MIB),
        (100 * MIB, 25, 100 * MIB // 8, 1000 * MIB),
    ],
)
def test_how_long_gets_are(rate: int, get_blocks: int, burst: int, ahead: int) -> None:
    """A GET is a sixteenth of a second, and a block at least; readers have ten seconds ahead of them."""
    assert (longest_get_blocks(rate), burst_bytes(rate), ahead_bytes(rate)) == (get_blocks, burst, ahead)


def test_a_rate_in_words() -> None:
    """A rate is written in units of 1024."""
    assert [rate_text(rate) for rate in (OFF, None, 16 << 10, 3 << 19, 2 << 30)] == [
        *("off", "off", "16 KiB/s", "1.5 MiB/s", "2,048.0 MiB/s")
    ]

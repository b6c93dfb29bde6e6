"""What GETs show of a link: how far, how fast, how many at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbnfs.link import FIRST_GETS, Link, Width

MIB = 1 << 20
rates = st.lists(st.floats(0, 1e10), max_size=40)


def test_nothing_is_known_at_first() -> None:
    """No length is worthwhile then, and nothing comes in the time of a first byte."""
    assert (Link().worthwhile_bytes, Link().first_byte_bytes) == (0, 0)


def test_a_link_is_what_its_gets_were() -> None:
    """60 ms and 25 MB/s, again and again: 1.5 MB in the time of a first byte, and GETs of 18 MB are worthwhile."""
    link = Link()
    for _ in range(3):
        link = link.after_get(0.06, 25_000_000, 1.0)
    assert link.first_byte_bytes == pytest.approx(1_500_000, abs=1)
    assert link.worthwhile_bytes == pytest.approx(18_000_000, abs=12)


def test_a_short_body_says_nothing_about_the_rate() -> None:
    """Less than a MiB behind what came first, or all at once."""
    link = Link(0.06, 25e6)
    assert link.after_get(0.06, MIB - 1, 0.001).body_rate == 25e6
    assert link.after_get(0.06, 4 * MIB, 0.0).body_rate == 25e6


def test_a_single_get_changes_little() -> None:
    """An eighth of the way, as in TCP's smoothed round trip; but a first byte that came sooner counts at once."""
    link = Link(0.08, 8e6).after_get(0.16, 16_000_000, 1.0)
    assert (link.first_byte_seconds, link.body_rate) == pytest.approx((0.09, 9e6))
    assert link.after_get(0.05, 16_000_000, 1.0).first_byte_seconds == 0.05


def after(width: Width, *rates_of_seconds: float) -> Width:
    for number, rate in enumerate(rates_of_seconds):
        width = width.after(int(rate), 1.0, float(number))
    return width


def test_as_many_gets_as_bring_more() -> None:
    """24, 36, 54, 64 where each connection brings the same; no more than there may be."""
    width, seen = Width.at_first(64), []
    for second in range(6):
        seen.append(width.gets)
        width = width.after(width.gets * 1_000_000, 1.0, float(second))
    assert seen == [24, 36, 54, 64, 64, 64]


def test_more_gets_that_bring_no_more_are_given_up_for_a_minute() -> None:
    """36 bring what 24 brought: 24 again, and after a minute another try."""
    width = after(Width.at_first(64), 1e8, 1e8)
    assert width.gets == 24
    assert width.after(100_000_000, 1.0, 30.0).gets == 24
    assert width.after(100_000_000, 1.0, 62.0).gets == 36


def test_half_a_second_at_work_is_a_sample() -> None:
    """Not each piece is judged."""
    width = Width.at_first(64)
    for _ in range(4):
        width = width.after(1000, 0.1, 0.0)
    assert width.gets == FIRST_GETS
    assert width.after(1000, 0.1, 0.0).gets == 36


@given(st.integers(1, 256), rates)
def test_there_are_never_more_gets_than_allowed(most: int, samples: list[float]) -> None:
    """Nor fewer than at first, whatever they bring."""
    width = Width.at_first(most)
    for second, rate in enumerate(samples):
        width = width.after(int(rate), 1.0, float(second))
        assert min(most, FIRST_GETS) <= width.gets <= most

"""Disjoint ranges in order: what they have is what was added."""

from hypothesis import given
from hypothesis import strategies as st

from vbnfs.spans import Spans

PAIRS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=30)


@given(pairs=PAIRS, unit=st.integers(1, 9))
def test_they_are_a_set_of_bytes(pairs: list[tuple[int, int]], unit: int) -> None:
    """In whatever order ranges are added, overlapping, touching, empty: as few as can be, of just these bytes."""
    spans = Spans(pairs)
    wanted = {byte for start, stop in pairs for byte in range(start, stop)}
    assert {byte for start, stop in spans for byte in range(start, stop)} == wanted
    assert spans.count_bytes == len(wanted)
    flat = [edge for pair in spans for edge in pair]
    assert flat == sorted(set(flat))  # touching ones are one
    assert spans == Spans(reversed(pairs))
    rounded = {byte for start, stop in spans.rounded(unit, 60) for byte in range(start, stop)}
    assert rounded == {byte for byte in range(60) if any(one // unit == byte // unit for one in wanted)}

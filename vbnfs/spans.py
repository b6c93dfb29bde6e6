"""Parts of a file, as disjoint ranges in order (pure)."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


def rounded(start: int, stop: int, unit: int, end: int) -> tuple[int, int]:
    """The multiples of `unit` that a range touches, of a file that has its `end` there."""
    return start // unit * unit, min(-(-stop // unit) * unit, end)


class Spans:
    """Ranges of bytes `start` up to, not including, `stop`. Those that touch are one."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in pairs:
            self.add(start, stop)

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._stops, strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spans) and list(self) == list(other)

    def __hash__(self) -> int:
        raise TypeError("it changes")

    def __repr__(self) -> str:
        return f"Spans({list(self)})"

    def add(self, start: int, stop: int) -> None:
        """Add a range; an empty one adds nothing."""
        if start >= stop:
            return
        first = bisect_left(self._stops, start)  # the first one that reaches it
        behind = bisect_right(self._starts, stop)  # the first one that begins behind it
        if first < behind:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[behind - 1])
        self._starts[first:behind] = [start]
        self._stops[first:behind] = [stop]

    @property
    def count_bytes(self) -> int:
        """How many bytes there are in them."""
        return sum(self._stops) - sum(self._starts)

    def rounded(self, unit: int, end: int) -> "Spans":
        """The same of each of them."""
        return Spans(rounded(start, stop, unit, end) for start, stop in self)

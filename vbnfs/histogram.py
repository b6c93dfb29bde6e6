"""How long things took: a histogram with fixed buckets, as Prometheus has them (pure).

https://prometheus.io/docs/concepts/metric_types/#histogram
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

# Upper bounds; what took longer is in a last bucket without one.
BOUNDS_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Histogram:
    """How often something took so long: `counts` by bucket, each without those before it, and `sum_seconds`."""

    __slots__ = ("counts", "sum_seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_SECONDS) + 1)
        self.sum_seconds = 0.0

    def add(self, seconds: float) -> None:
        """Something took so long."""
        self.counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self.sum_seconds += seconds

    def add_none(self) -> None:
        """Something took no time. It is called for each read that is answered at once."""
        self.counts[0] += 1


def bound_of(share: float, counts: Sequence[int]) -> float | None:
    """In seconds, the bound within which this share of all is: the upper one of its bucket, infinite for the last.

    None if there are none.
    """
    wanted, seen = share * sum(counts), 0
    if not wanted:
        return None
    for bound, count in zip(BOUNDS_SECONDS, counts, strict=False):
        seen += count
        if seen >= wanted:
            return bound
    return float("inf")

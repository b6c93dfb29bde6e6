"""Times in buckets."""

import math

import pytest

from vbnfs.histogram import BOUNDS_SECONDS, Histogram, bound_of


def test_a_bucket_has_its_bound() -> None:
    """A time that is a bound is in the bucket of that bound; what is longer than all is in the last one."""
    histogram = Histogram()
    for seconds in (0.0, 0.001, 0.0011, 30.0, 31.0):
        histogram.add(seconds)
    histogram.add_none()
    assert histogram.counts[0] == 3
    assert histogram.counts[1] == histogram.counts[-2] == histogram.counts[-1] == 1
    assert sum(histogram.counts) == 6
    assert histogram.sum_seconds == pytest.approx(61.0021)
    assert len(histogram.counts) == len(BOUNDS_SECONDS) + 1


def test_the_bound_of_a_share() -> None:
    """It is the upper bound of the bucket in which the share is reached; there is none of nothing."""
    counts = [50, 0, 0, 49] + [0] * 10 + [1]
    assert bound_of(0.5, counts) == 0.001
    assert bound_of(0.99, counts) == 0.01
    assert bound_of(1.0, counts) == math.inf
    assert bound_of(0.5, [0] * len(counts)) is None

"""The traces by which the policy of eviction was chosen."""

from statistics import mean

import pytest

from benchmarks.eviction import POLICIES, TRACES, run

SCANS = [label for label in TRACES if label.startswith(("daily, ", "twice"))]


@pytest.mark.parametrize("label", SCANS)
def test_a_scan_does_not_flush_the_cache(label: str) -> None:
    """With a working set of 40 %, read daily, and scans of 200 %, 90 % of it is there from the third morning on."""
    assert min(run(POLICIES["vbnfs"](), TRACES[label]()).mornings[2:]) >= 0.9


def test_no_other_policy_does_better_at_work() -> None:
    """In weeks of work vbnfs's finds most bytes, and no other one's mornings are better on average."""
    found = {name: run(make(), TRACES["weeks of work"]()) for name, make in POLICIES.items()}
    best = found.pop("vbnfs")
    assert all(best.of_bytes >= other.of_bytes for other in found.values())
    assert all(mean(best.mornings) >= mean(other.mornings) for other in found.values())

"""Figures of a mount as JSON: what is taken, and what is refused."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from tests.figures_example import FAILURE, FILL, KERNEL, READER, figures
from vbnfs.figures import parse

WHOLE = figures(readers=[READER, KERNEL], failures=[FAILURE], fills=[FILL], server_problem="no answer")


def test_there_and_back() -> None:
    """Figures are the same after JSON; names that are not known are passed over."""
    answer = json.loads(json.dumps(asdict(WHOLE)))
    assert parse({**answer, "new": {"a": [1]}}) == WHOLE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("mountpoint", value) for value in (None, 5, ["/mnt"])),
        *(("pid", value) for value in (True, -1, 1.5, "1", 1 << 63, None)),
        *(("uptime_seconds", value) for value in (float("nan"), float("inf"), 10**400, -1.0, True, "1")),
        *(("is_offline", value) for value in (0, None, "no")),
        *(("dataset", value) for value in (1, [])),
        *(("metrics", value) for value in (None, [], {"read_bytes": -1}, {"read_bytes": "1"})),
        *(("waits", value) for value in (None, {}, {"counts": [1], "sum_seconds": 0.0}, [])),
        *(("readers", value) for value in (None, {}, [None], [{}], [asdict(READER)] * 1001)),
        ("readers", [{**asdict(READER), "reads": -1}]),
        ("failures", [{**asdict(FAILURE), "text": None}]),
    ],
)
def test_what_is_refused(name: str, value: Any) -> None:
    """Another type, a negative number, one that is none, too many rows: the error names the figure, or its part."""
    with pytest.raises(ValueError, match=r"^[a-z_]+$"):
        parse({**asdict(WHOLE), name: value})


def test_what_is_missing() -> None:
    """A figure that is not there is refused, unless it may be unknown."""
    answer = asdict(WHOLE)
    del answer["dataset"]
    assert parse(answer).dataset is None
    del answer["pid"]
    with pytest.raises(ValueError, match=r"^pid$"):
        parse(answer)

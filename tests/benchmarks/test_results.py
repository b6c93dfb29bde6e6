"""Medians, ratios and tables."""

import pytest

from benchmarks.speed.results import (
    Row,
    Sample,
    Work,
    as_json,
    cells,
    is_ours,
    is_peer,
    markdown,
    number,
    ratio,
    rows_of,
)

SPEED = Work("reading", "MB/s", True, "curl")
WAIT = Work("opening", "s", False)


def samples(work: Work, system: str, *values: float, **extra: float) -> list[Sample]:
    return [Sample("near", "https", work.name, system, value, extra) for value in values]


def row(rows: list[Row], system: str) -> Row:
    return next(one for one in rows if one.system == system)


def test_row_holds_median_and_range() -> None:
    """A row is the median of all runs, with the least and the most of them."""
    (one,) = rows_of(samples(SPEED, "vbnfs", 90, 10, 50), [SPEED])
    assert (one.value, one.least, one.most, one.runs) == (50, 10, 90, 3)


def test_ratios_compare_medians() -> None:
    """vbnfs is compared with the best of its peers, and it and its peers with the limit."""
    given = samples(SPEED, "vbnfs", 80) + samples(SPEED, "s3fs", 20) + samples(SPEED, "rclone", 40)
    rows = rows_of([*given, *samples(SPEED, "curl", 100)], [SPEED])
    assert row(rows, "vbnfs").to_best_peer == 2.0
    assert row(rows, "vbnfs").to_limit == 0.8
    assert row(rows, "rclone").to_best_peer is None
    assert row(rows, "rclone").to_limit == 0.4
    assert row(rows, "curl").to_limit is None


def test_limits_are_no_peers() -> None:
    """A limit or a floor that is faster than every peer does not count as one."""
    rows = rows_of(samples(WAIT, "vbnfs", 2) + samples(WAIT, "local", 0.1) + samples(WAIT, "s3fs", 4), [WAIT])
    assert row(rows, "vbnfs").to_best_peer == 2.0


def test_ratio_above_one_is_ahead_either_way() -> None:
    """Twice as fast, or half as long: 2."""
    assert ratio(SPEED, 200, 100) == 2
    assert ratio(WAIT, 1, 2) == 2


@pytest.mark.parametrize(("value", "other"), [(1.0, None), (1.0, 0.0), (0.0, 1.0)])
def test_no_ratio_without_two_figures(value: float, other: float | None) -> None:
    """Nothing is compared with nothing."""
    assert ratio(SPEED, value, other) is None
    assert ratio(WAIT, value, other) is None


def test_variants_of_vbnfs_are_no_peers_of_it() -> None:
    """vbnfs with other options is vbnfs; a peer is anything else that is no limit."""
    assert is_ours("vbnfs")
    assert is_ours("vbnfs --max-connections 32")
    assert not is_peer("vbnfs other")
    assert is_peer("rclone-tuned")
    assert not is_peer("zeros")


def test_what_was_counted_meanwhile_has_medians_of_its_own() -> None:
    """Counts are medians over the runs that have them."""
    given = samples(SPEED, "vbnfs", 1, requests=3) + samples(SPEED, "vbnfs", 2, requests=5, hits=1)
    (one,) = rows_of(given, [SPEED])
    assert one.extra == {"requests": 4, "hits": 1}


def test_rows_stand_in_the_order_of_works() -> None:
    """First by transport and profile, then as the works are listed, then as systems came."""
    given = samples(WAIT, "vbnfs", 1) + samples(SPEED, "s3fs", 1) + samples(SPEED, "curl", 1)
    rows = rows_of(given, [SPEED, WAIT])
    assert [(one.work.name, one.system) for one in rows] == [
        ("reading", "s3fs"),
        ("reading", "curl"),
        ("opening", "vbnfs"),
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(1234.6, "1,235"), (0.4567, "0.457"), (12.34, "12.3"), (3.0, "3"), (0.0, "0")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    """No more digits than mean something."""
    assert number(value) == text


def test_markdown_has_a_table_for_each_place() -> None:
    """A heading names profile and transport; a row shows value, range, ratios and counts."""
    rows = rows_of(samples(SPEED, "vbnfs", 80, 90, requests=7) + samples(SPEED, "curl", 100), [SPEED])
    text = markdown(rows)
    assert text.startswith("### near, https\n\n| work | system | median |")
    assert "| reading | vbnfs | 85 MB/s | 80-90 |  | 0.85 | 7 requests |" in text
    assert cells(row(rows, "curl"))[2] == "one run"


def test_json_has_everything() -> None:
    """A row as JSON names its work and unit, and keeps the ratios as numbers."""
    (row, _) = as_json(rows_of(samples(SPEED, "vbnfs", 80) + samples(SPEED, "curl", 100), [SPEED]))
    assert (row["work"], row["unit"], row["to_limit"], row["runs"]) == ("reading", "MB/s", 0.8, 1)

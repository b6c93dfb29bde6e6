"""Medians and paired ratios."""

import pytest

from benchmarks.speed.results import Row, Sample, Work, is_ours, is_peer, paired, ratio, rows_of

SPEED = Work("reading", "MB/s", True, ("curl", "curl-24"))
WAIT = Work("opening", "s", False)


def samples(work: Work, system: str, *values: float, **extra: float) -> list[Sample]:
    return [Sample("near", "https", work.name, system, value, extra) for value in values]


def runs(work: Work, system: str, *values: float) -> list[Sample]:
    """A value for each run."""
    return [Sample("near", "https", work.name, system, value, run=run) for run, value in enumerate(values)]


def row(rows: list[Row], system: str) -> Row:
    return next(one for one in rows if one.system == system)


def test_row_holds_median_and_range() -> None:
    """A row is the median of all runs, with the least and the most of them."""
    (one,) = rows_of(samples(SPEED, "vbnfs", 90, 10, 50), [SPEED])
    assert (one.value, one.least, one.most, one.runs) == (50, 10, 90, 3)


def test_vbnfs_is_compared_with_its_best_peer_and_all_with_the_limit() -> None:
    """And each other system with vbnfs: how far vbnfs is ahead of it."""
    given = samples(SPEED, "vbnfs", 80) + samples(SPEED, "s3fs", 20) + samples(SPEED, "rclone", 40)
    rows = rows_of([*given, *samples(SPEED, "curl", 100)], [SPEED])
    assert row(rows, "vbnfs").to_best_peer == 2.0
    assert row(rows, "vbnfs").to_limit == 0.8
    assert row(rows, "vbnfs").vbnfs_to_it is None
    assert row(rows, "rclone").to_best_peer is None
    assert row(rows, "rclone").to_limit == 0.4
    assert row(rows, "rclone").vbnfs_to_it == 2.0
    assert row(rows, "curl").to_limit is None
    assert row(rows, "curl").vbnfs_to_it == 0.8


def test_ratios_are_of_one_run() -> None:
    """A machine that is slow in one run is so for both: the median is that of the ratios, not a ratio of medians."""
    ours, limit = runs(SPEED, "vbnfs", 50, 10, 90), runs(SPEED, "curl", 100, 10, 100)
    assert paired(SPEED, ours, limit) == 0.9
    assert paired(SPEED, ours, [Sample("near", "https", "reading", "curl", 1, run=7)]) is None


def test_the_limit_is_the_better_one_in_the_same_run() -> None:
    """curl with 16 connections is faster in one run, with 24 in the other."""
    given = [*runs(SPEED, "vbnfs", 50, 50), *runs(SPEED, "curl", 100, 40), *runs(SPEED, "curl-24", 60, 200)]
    assert row(rows_of(given, [SPEED]), "vbnfs").to_limit == (0.5 + 0.25) / 2


def test_less_is_better_in_pairs_as_well() -> None:
    """The best of the others is the least."""
    others = [*runs(WAIT, "s3fs", 4, 1), *runs(WAIT, "rclone", 2, 8)]
    assert paired(WAIT, runs(WAIT, "vbnfs", 1, 1), others) == 1.5


def test_limits_are_no_peers() -> None:
    """A limit or a floor that is faster than every peer does not count as one."""
    rows = rows_of(samples(WAIT, "vbnfs", 2) + samples(WAIT, "local", 0.1) + samples(WAIT, "s3fs", 4), [WAIT])
    assert row(rows, "vbnfs").to_best_peer == 2.0


def test_ratio_above_one_is_ahead_either_way() -> None:
    """Twice as fast, or half as long: 2."""
    assert ratio(SPEED, 200, 100) == 2
    assert ratio(WAIT, 1, 2) == 2


@pytest.mark.parametrize(("value", "other"), [(1.0, 0.0), (0.0, 1.0)])
def test_no_ratio_without_two_figures(value: float, other: float) -> None:
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
    assert not is_peer("curl-24")


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


def test_each_shape_has_tables_of_its_own() -> None:
    """What is measured with other files is never compared; the usual ones come first."""
    other = Sample("near", "https", "reading", "curl", 5, shape="chunked")
    rows = rows_of([other, *samples(SPEED, "vbnfs", 80)], [SPEED])
    assert [one.place for one in rows] == [("session", "https", "near"), ("chunked", "https", "near")]
    assert row(rows, "vbnfs").to_limit is None

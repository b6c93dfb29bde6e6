"""Lines of a site cache's log, and what is counted by them."""

import pytest

from vbnfs.daemon.site_log import Line, SiteCounts, parse

HEAD = b"<190>Nov 30 12:00:00 vbnfs: "


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"7 2 1048990 0.061 0 206 MISS 1049100", Line(7, 2, 1048990, 0.061, False, 206, "MISS", 1049100)),
        (b"7 2 2097566 0.075 180 206 HIT -", Line(7, 2, 2097566, 0.075, True, 206, "HIT", 0)),
        (b"9 1 300 5.002 90 502 MISS 0, 12 : 5", Line(9, 1, 300, 5.002, True, 502, "MISS", 17)),
        (b"9 1 300 5.002 90 403 - -", Line(9, 1, 300, 5.002, True, 403, "-", 0)),
    ],
)
def test_lines(text: bytes, line: Line) -> None:
    """Of a slice within a request, of a request, of one that several addresses were asked for."""
    assert parse(HEAD + text) == line


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", HEAD, HEAD + b"7 2 x", b"other: 7 2 1 0.1 0 206 HIT -"])
def test_what_is_no_line(text: bytes) -> None:
    """Anybody on the machine can send datagrams: what is no line counts nothing."""
    assert parse(text) is None


def test_a_request_of_several_slices() -> None:
    """Bytes are counted as they grow; the last line's time is the whole request's, of which the others' are taken."""
    counts = SiteCounts()
    for connection in (1, 2):  # two at a time
        counts.add(Line(connection, 1, 1000, 0.7, False, 206, "HIT", 0))
    for connection in (1, 2):
        counts.add(Line(connection, 1, 2500, 0.71, True, 206, "MISS", 900))
    assert (counts.requests, counts.sent_bytes, counts.fetched_bytes) == (2, 5000, 1800)
    assert counts.slices["hit"].sum_seconds == pytest.approx(1.4)
    assert counts.slices["miss"].sum_seconds == pytest.approx(0.02)
    counts.add(Line(1, 2, 400, 0.1, True, 206, "HIT", 0))
    assert (counts.requests, counts.sent_bytes) == (3, 5400)


def test_failures() -> None:
    """What was refused or failed is counted by its status, and is no slice."""
    counts = SiteCounts()
    counts.add(Line(1, 1, 200, 0.1, True, 404, "MISS", 300))
    assert counts.failures == {404: 1}
    assert sum(sum(times.counts) for times in counts.slices.values()) == 0


def test_connections_that_end_in_a_request_are_forgotten() -> None:
    """A request's state of a connection that is not heard of again does not count for a later one of that number."""
    counts = SiteCounts()
    counts.add(Line(1, 5, 9000, 3.0, False, 206, "HIT", 0))
    counts.add(Line(1, 1, 100, 0.2, True, 206, "HIT", 0))
    assert counts.sent_bytes == 9100
    assert counts.slices["hit"].sum_seconds == pytest.approx(3.2)

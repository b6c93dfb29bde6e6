"""The lines of `vbnfs top`."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tests.figures_example import BUCKETS, FAILURE, FILL, KERNEL, READER, figures
from vbnfs.cli.top_text import Line, Sample, fetch_lines, mount_lines, silent_lines
from vbnfs.figures import Fetch

MIB = 1 << 20
READ = {"read_bytes": 10 * MIB, "read_requests": 100, "fetched_reads": 10, "received_bytes": MIB, "range_requests": 4}


def texts(lines: Iterable[Line]) -> list[str]:
    return ["".join(text for text, _ in line).rstrip() for line in lines]


def counts(**by_bucket: int) -> list[int]:
    return [by_bucket.get(f"at{index}", 0) for index in range(BUCKETS)]


def shown(sample: Sample, **limits: Any) -> list[str]:
    return texts(mount_lines(sample, **limits))


def test_the_first_sample() -> None:
    """Before the second one there are no rates: what was read and received since mounting."""
    assert shown(Sample(figures(metrics=READ))) == [
        "/home/me/vbn  vbn 0.5.0, mounted 1 day ago: S3 is reached",
        "  reads    10.0 MiB in all, 100; hit ratio 90.0 %",
        "  from S3  1.0 MiB in all, 4; first byte after 28 ms",
        "  cache    [##########..........] 50.0 GiB of 100.0 GiB (50 %); room for 50.0 GiB",
        "  no program has a file open",
    ]


def test_rates_are_differences() -> None:
    """Rates, hit ratio and waiting are of the time between two samples; a count that shrank is none."""
    before = figures(metrics=READ, counts=counts(at0=100), readers=[READER])
    later = {
        "read_bytes": 30 * MIB,
        "read_requests": 140,
        "fetched_reads": 12,
        "received_bytes": 0,
        "range_requests": 5,
    }
    reader = replace(READER, reads=30, read_bytes=30 * MIB, fetched_reads=7)
    now = figures(metrics={**later, "failed_requests": 2}, counts=counts(at0=120, at6=19, at14=1), readers=[reader])
    lines = shown(Sample(now, before, 2.0))
    assert lines[1:4] == [
        "  reads    10.0 MiB/s, 20 a second; hit ratio 95.0 %",
        "  waiting  half of them up to 1 ms, 99 % longer than 30 s",
        "  from S3  0 B/s, 0.5 a second; first byte after 28 ms; 2 failed since mounting",
    ]
    assert lines[-1] == "  python              4711 mount         10M       10  90.0%     30M ecephys_sessions/a.nwb"


def test_readers() -> None:
    """What the kernel reads itself is named so, and has no figures; a closed file says so; a program may be `?`."""
    closed = replace(READER, program=None, is_open=False, reads=0)
    lines = shown(Sample(figures(readers=[KERNEL, closed]), figures(), 1.0))
    assert lines[-2:] == [
        "  MATLAB              4712 kernel          -        -      -       - b.nwb",
        "  ?                   4711 mount         10M        0      -     10M ecephys_sessions/a.nwb  (closed)",
    ]


def test_what_goes_on_and_what_is_wrong() -> None:
    """Fetching has its progress, rate and time left; each problem and error stands with its remedy."""
    before = figures(fills=[replace(FILL, done_bytes=10 * MIB)])
    now = figures(
        fills=[FILL],
        failures=[FAILURE, replace(FAILURE, count=1, seconds_ago=0.0)],
        is_offline=True,
        server_problem="no answer; connect",
        cache_problem="the disk is full; free some",
        coming_blocks=96,
        prefetches=11,
    )
    lines = shown(Sample(now, before, 1.0))
    assert lines[0].endswith(": S3 is not reached")
    assert lines[4:-1] == [
        "  coming   96 blocks of 256 KiB, 11 requests ahead of readers",
        "  fetching 12 of 44 files, 20.0 MiB of 100.0 MiB, 10.0 MiB/s, 8 s left",
        "  problem  no answer; connect",
        "  not kept the disk is full; free some",
        "  error    12 minutes ago, 3 times: a.nwb: offline (no answer); connect to the network",
        "  error    just now: a.nwb: offline (no answer); connect to the network",
    ]


def test_a_screen_holds_it() -> None:
    """No line is wider than the screen; a long path keeps its end; readers that have no room are counted."""
    many = [replace(READER, pid=number, file="folder/" * 20 + "end.nwb") for number in range(9)]
    lines = shown(Sample(figures(readers=many, failures=[FAILURE])), width=100, most_rows=4)
    assert max(map(len, lines)) <= 100
    assert lines[-1] == "  and 5 more"
    assert lines[-2].endswith("folder/end.nwb")
    assert "..." in lines[-2]


def test_nothing_drives_the_terminal() -> None:
    """What comes from outside is escaped: names of programs, files, mounts, and messages."""
    evil = "\x1b[2J"
    now = figures(
        mountpoint=evil,
        dataset=evil,
        default_version=evil,
        server_problem=evil,
        readers=[replace(READER, program=evil, file=evil, read_by=evil)],
        failures=[replace(FAILURE, text=evil)],
    )
    fetch = Fetch(evil, 1, evil, evil, 0.0, FILL)
    lines = [*shown(Sample(now)), *texts(silent_lines(evil, evil)), *texts(fetch_lines(fetch))]
    assert "\x1b" not in "".join(lines)

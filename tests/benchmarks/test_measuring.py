"""A part from end to end: real files, nginx, a real mount, and curl."""

import socket
from pathlib import Path

import pytest

from benchmarks.speed import works
from benchmarks.speed.measuring import Options, measure
from benchmarks.speed.origin import TLS, free_ports
from benchmarks.speed.parts import Part
from benchmarks.speed.results import rows_of
from benchmarks.speed.systems.base import is_mounted
from benchmarks.speed.systems.registry import SYSTEMS, variants

PART = Part("one", "sixteen programs", ("many",), (("lan", TLS),), systems=("curl",), runs=2)


def measured_in(directory: Path, minutes: float) -> tuple[list[str], list[tuple[str, str]], int]:
    """What failed, whose bytes were right, and how many rows there are."""
    options = Options(directory, connections=4, scale=0.01, seed=0, much_bytes=1, minutes=minutes)
    made = measure(PART, {**variants(()), "curl": SYSTEMS["curl"].make}, options)
    rows = rows_of(made.samples, works.WORKS)
    assert {row.runs for row in rows} <= {PART.runs}
    assert {row.to_limit is not None for row in rows if row.system == "vbnfs" and row.work == works.MANY} <= {True}
    return made.failures, made.verified, len(rows)


@pytest.mark.slow
def test_a_part_is_measured_and_its_bytes_are_compared(tmp_path: Path) -> None:
    """Every system has its turn in every run, brings the right bytes, and leaves nothing but the files."""
    failures, verified, rows = measured_in(tmp_path, minutes=5)
    assert failures == []
    assert sorted(verified) == [("curl", "lan, https"), ("vbnfs", "lan, https")]
    assert rows == 4
    assert [path.name for path in tmp_path.iterdir()] == ["files-session-0.01-0"]


@pytest.mark.slow
def test_an_origin_that_does_not_start_fails_its_part_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has its ports: the part says so, and the parts that follow have their turn."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        free = free_ports(5)
        monkeypatch.setattr("benchmarks.speed.origin.free_ports", lambda count: [taken.getsockname()[1], *free])
        failures, _, rows = measured_in(tmp_path, minutes=5)
    assert rows == 0
    assert "Address already in use" in failures[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the signal may come in a finalizer
def test_a_part_whose_time_is_up_takes_its_mounts_away(tmp_path: Path) -> None:
    """It says that not everything was measured."""
    failures, _, rows = measured_in(tmp_path, minutes=0.01)
    assert "time was up" in failures[0]
    assert rows < 4
    assert not any(is_mounted(path) for path in tmp_path.rglob("*-mnt"))

"""What the page says of mounts and the cache."""

import dataclasses
import threading
from pathlib import Path

import pytest

from tests.figures_example import figures
from tests.web.conftest import Visit
from vbnfs.errors import MountError
from vbnfs.figures import Figures
from vbnfs.host.mountinfo import MountEntry
from vbnfs.web import machine_page
from vbnfs.web.machine_page import Looks, by_age, remedies

FIGURES = figures()
ENTRY = MountEntry(Path("/mnt/vbn"), "0:77", "fuse.vbnfs", "vbn", 0)


def grown(figures: Figures, **counters: int) -> Figures:
    """The same figures, with more in some counters."""
    metrics = dict(figures.metrics)
    for name, count in counters.items():
        metrics[name] = metrics.get(name, 0) + count
    return dataclasses.replace(figures, metrics=metrics)


def test_rates_are_those_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look at a mount has no rate; the second has what has grown, in the time between them."""
    now, later = [100.0], grown(FIGURES, read_bytes=4_000, received_bytes=1_000, range_requests=6)
    answers = iter([FIGURES, later])
    monkeypatch.setattr(machine_page, "_now", lambda: now[0])
    looks = Looks(lambda entry: next(answers))
    [first] = looks.at([ENTRY])
    assert (first.mountpoint, first.read_rate) == ("/mnt/vbn", None)
    now[0] += 2.0
    [second] = looks.at([ENTRY])
    assert (second.read_rate, second.fetched_rate, second.requests_rate) == (2_000, 500, 3)


def test_another_daemon_has_no_rate() -> None:
    """A mount that was made anew counts from nothing: its figures are not compared with those before."""
    answers = iter([FIGURES, dataclasses.replace(FIGURES, pid=FIGURES.pid + 1)])
    looks = Looks(lambda entry: next(answers))
    assert [looks.at([ENTRY])[0].read_rate for _ in range(2)] == [None, None]


def test_a_mount_that_does_not_answer_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is asked by a thread of its own; one that hangs, or is refused, is a row that says so."""
    monkeypatch.setattr(machine_page, "_SECONDS", 0.2)
    never = threading.Event()
    hangs, refuses = (dataclasses.replace(ENTRY, mountpoint=Path(f"/mnt/{name}")) for name in ("hangs", "refuses"))

    def ask(entry: MountEntry) -> Figures:
        if entry is hangs:
            never.wait(60)
        if entry is refuses:
            raise MountError("/mnt/refuses: its daemon is gone")
        return FIGURES

    rows = Looks(ask).at([hangs, refuses, ENTRY])
    never.set()
    assert [row.figures is None for row in rows] == [True, True, False]
    assert remedies(rows) == {"/mnt/hangs": "its daemon does not answer", "/mnt/refuses": "its daemon is gone"}


def test_the_cache_by_age() -> None:
    """Each file counts once, in the shortest time that has its last use."""
    rows = by_age([(10.0, 5), (86_401.0, 7), (9e9, 1), (20.0, 2)])
    assert [(row.files, row.size_bytes) for row in rows] == [(2, 7), (1, 7), (0, 0), (1, 1)]


def test_the_page_of_a_machine_without_mounts(visit: Visit) -> None:
    """It says what mounts, and has the cache and the pins."""
    visit.house.dataset.pin("figure", ["project_metadata/units.csv"], progress=False)
    answer = visit.browser.get("/machine")
    assert answer.status_code == 200
    assert str(visit.house.config.cache_dir) in answer.text
    assert ">figure</th>" in answer.text
    visit.house.dataset.unpin("figure")

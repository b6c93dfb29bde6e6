"""Watching mounts: rates of two samples, mounts that fail, and those that do not answer."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.figures_example import FILL, figures
from vbnfs.cli import top
from vbnfs.cli.main import cli
from vbnfs.cli.top import Watched, watch
from vbnfs.errors import MountError
from vbnfs.figures import Fetch, Figures, parse_fetch
from vbnfs.host.mountinfo import MountEntry

FETCH = Fetch("vbnfs", 4714, "vbn", "/home/me/.cache/vbnfs", 10.0, FILL)
ENTRY = MountEntry(Path("/mnt/vbn"), "0:99", "fuse.vbnfs", "s3:vbn", 0)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Figures | Exception]:
    """What the mount answers, one after the other, and then without end the last of them."""
    left: list[Figures | Exception] = []

    def ask(entry: MountEntry, *, seconds: float) -> Figures:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(top, "ask_figures", ask)
    return left


def test_once(answers: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Two samples make rates; as JSON it is the second one."""
    answers += [figures(), figures(metrics={"read_requests": 10})]
    watch([ENTRY], 0.1, is_once=True, as_json=False)
    first = capsys.readouterr().out
    assert first.startswith("/home/me/vbn  vbn 0.5.0, mounted 1 day ago: S3 is reached\n  reads    0 B/s, ")
    assert " a second; hit ratio 100.0 %" in first
    watch([ENTRY], 0.1, is_once=True, as_json=True)
    assert json.loads(capsys.readouterr().out)["metrics"]["read_requests"] == 10


def test_a_mount_that_fails(answers: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Its reason stands at its name, once; with `--once` it is the command's failure, too."""
    answers.append(MountError("/mnt/vbn: its daemon is gone"))
    with pytest.raises(MountError, match=r"^/mnt/vbn: its daemon is gone$"):
        watch([ENTRY], 0.1, is_once=True, as_json=False)
    assert capsys.readouterr().out == "/mnt/vbn\n  its daemon is gone\n"
    with pytest.raises(MountError):
        watch([ENTRY], 0.1, is_once=True, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"error": "its daemon is gone", "mountpoint": "/mnt/vbn"}


def test_a_mount_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the asking lasts, the mount is shown as one that does not answer."""
    monkeypatch.setattr(top, "_LATE_SECONDS", -1.0)
    gate = threading.Event()

    def ask(entry: MountEntry) -> Figures:
        gate.wait()
        return figures()

    one = Watched(ENTRY, 0.1, ask)
    until_late = iter(lambda: one.state[1], "its daemon does not answer, for 0 s now")
    assert all(reason is None for reason in until_late)
    gate.set()
    one.wait(1)
    assert one.state[1] is None or "does not answer" in str(one.state[1])


def test_a_mount_that_goes_on_failing(answers: list[Any]) -> None:
    """Where lines follow one another, one that fails is not asked more often than others."""
    answers.append(MountError("/mnt/vbn: its daemon is gone"))
    asked: list[MountEntry] = []

    def ask(entry: MountEntry) -> Figures:
        asked.append(entry)
        return top.ask_figures(entry, seconds=1.0)

    one = Watched(ENTRY, 0.01, ask)
    one.wait(1, is_patient=False)
    one.wait(3)
    assert len(asked) >= 3


def test_what_is_fetched_without_a_mount(capsys: pytest.CaptureFixture[str]) -> None:
    """It stands below the mounts, with how far it is, and its rate since it began; as JSON it has its own line."""
    watch([], 0.1, is_once=True, as_json=False, fetches=lambda: [FETCH])
    assert capsys.readouterr().out == (
        "/home/me/.cache/vbnfs  vbn, fetched by vbnfs (pid 4714) without a mount\n"
        "  fetching 12 of 44 files, 20.0 MiB of 100.0 MiB, 2.0 MiB/s, 40 s left\n"
    )
    watch([], 0.1, is_once=True, as_json=True, fetches=lambda: [FETCH])
    assert parse_fetch(json.loads(capsys.readouterr().out)["fetch"]) == FETCH
    watch([], 0.1, is_once=True, as_json=False, fetches=list)
    assert capsys.readouterr().out == "nothing is mounted, and nothing is fetched any more\n"


def test_no_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none, and nothing is fetched, the message says what to type."""
    monkeypatch.setattr("vbnfs.host.mountinfo.list_mounts", list)
    monkeypatch.setattr("vbnfs.access.running_fetches.running_fetches", list)
    error = CliRunner().invoke(cli, ["top", "--once"], prog_name="vbnfs").exception
    assert isinstance(error, MountError)
    assert "'vbnfs mount ~/vbn' mounts a dataset" in str(error)

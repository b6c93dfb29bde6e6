"""Watching mounts: rates of two samples, mounts that fail, and those that do not answer."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.figures_example import figures
from vbnfs.cli import top
from vbnfs.cli.main import cli
from vbnfs.cli.top import Watched, watch
from vbnfs.errors import MountError
from vbnfs.figures import Figures
from vbnfs.host.mountinfo import MountEntry

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


def test_no_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none, the message says what to type."""
    monkeypatch.setattr("vbnfs.host.mountinfo.list_mounts", list)
    error = CliRunner().invoke(cli, ["top", "--once"], prog_name="vbnfs").exception
    assert isinstance(error, MountError)
    assert "'vbnfs mount ~/vbn' mounts a dataset" in str(error)

"""Watching mounts: rates of two samples, mounts that fail, and those that do not answer."""

import io
import json
import re
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from tests.figures_example import FILL, figures
from vbnfs.cli import top
from vbnfs.cli.main import cli
from vbnfs.cli.top import Watched, watch
from vbnfs.cli.top_screen import text_of
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
    monkeypatch.setattr(top, "_LATE_SECONDS", 60.0)  # on a busy machine
    monkeypatch.setattr("vbnfs.host.mountinfo.list_mounts", lambda: [ENTRY])
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
    while (reason := one.state[1]) is None:
        pass
    assert re.fullmatch(r"its daemon does not answer, for \d+ s now", reason)
    one.wait(time.monotonic())  # no longer than until then
    gate.set()
    one.wait(time.monotonic() + 60.0)
    assert one.state[1] is None or "does not answer" in str(one.state[1])
    one.end()


class Reader(io.StringIO):
    """A standard output, perhaps a terminal, whose reader presses Ctrl-C after some lines."""

    def __init__(self, lines: int, *, is_terminal: bool = False) -> None:
        super().__init__()
        self._left, self._is_terminal = lines, is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> int:
        self._left -= text.count("\n")
        if self._left < 0:
            raise KeyboardInterrupt
        return super().write(text)


def test_a_mount_that_goes_and_returns(answers: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is gone there is a line for each time that it was asked, and no more; then it is watched on."""
    gone = MountError("/mnt/vbn: its daemon is gone")
    answers += [figures(), figures(), gone, gone, gone, figures(), figures()]
    asked: list[int] = []
    ask = top.ask_figures

    def counted(entry: MountEntry, *, seconds: float) -> Figures:
        asked.append(1)
        return ask(entry, seconds=seconds)

    monkeypatch.setattr(top, "ask_figures", counted)
    monkeypatch.setattr(sys, "stdout", out := Reader(6))
    watch([ENTRY], 0.01, is_once=False, as_json=True)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(lines) == 6 < len(asked)
    assert "error" not in lines[-1]


def test_another_mount_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that was made anew is asked by its new number; one on another folder with the old number is not."""
    asked: list[str] = []

    def ask(entry: MountEntry, *, seconds: float) -> Figures:
        asked.append(entry.device)
        return figures()

    monkeypatch.setattr(top, "ask_figures", ask)
    there = [replace(ENTRY, mountpoint=Path("/mnt/other"))]
    monkeypatch.setattr("vbnfs.host.mountinfo.list_mounts", lambda: there)
    with pytest.raises(MountError, match=r"^/mnt/vbn: not mounted any more; "):
        watch([ENTRY], 0.01, is_once=True, as_json=True)
    assert asked == []
    there.append(replace(ENTRY, device="0:100"))
    watch([ENTRY], 0.01, is_once=True, as_json=True)
    assert {*asked} == {"0:100"}


def test_a_terminal_without_a_screen(answers: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """On one that cannot place text (TERM=dumb, as in Emacs) lines follow one another."""
    answers.append(figures())
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stdout", out := Reader(3, is_terminal=True))
    watch([ENTRY], 0.01, is_once=False, as_json=False)
    assert out.getvalue().startswith("/home/me/vbn  vbn 0.5.0")


def test_wide_characters_stay_on_their_lines() -> None:
    """A line that is too wide in cells of the terminal is cut off, and moves no other line down."""
    lines = [[("データ" * 20, "bold")], [("q ends", "dim")]]
    shown = Console(width=20, file=io.StringIO()).render_lines(text_of(lines))
    assert ["".join(segment.text for segment in line).rstrip() for line in shown] == ["データ" * 3 + "デ", "q ends"]


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

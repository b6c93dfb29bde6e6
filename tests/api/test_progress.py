"""How far a fetch is, for people: a line that changes, on a terminal and in a notebook; nothing in a script."""

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from vbnfs.access.filling import Progress
from vbnfs.api.progress import Showing


class Terminal(io.StringIO):
    """Standard error of a person."""

    def isatty(self) -> bool:
        """It is one."""
        return True


def show(how: Any = None) -> Progress:
    """A fetch that shows how far it is twice, and then its end."""
    progress = Progress(files=2, count_bytes=2 << 20)
    with Showing(how) as showing:
        showing()  # before anything is known
        showing._progress = progress
        showing()
        progress.add(1 << 20)
        progress.done_files = 1
        showing()
        progress.add(1 << 20)
    return progress


def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, written over, and left behind."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    show()
    lines = terminal.getvalue().split("\r")
    assert [line.removesuffix("\x1b[K") for line in lines[1:3]] == [
        "0 of 2 files, 0 B of 2.0 MiB",
        "1 of 2 files, 1.0 MiB of 2.0 MiB",
    ]
    assert lines[-1].endswith("\n")
    show(False)
    assert len(terminal.getvalue().split("\r")) == len(lines)


def test_in_a_script(capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is written where no person sees it."""
    show()
    assert capfd.readouterr() == ("", "")


def test_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """One output of the cell, which is updated."""
    shown = list[str]()
    handle = SimpleNamespace(update=lambda data, raw: shown.append(data["text/plain"]))

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> object:
        shown.append(data["text/plain"])
        return handle

    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    show()
    assert shown[0] == "0 of 2 files, 0 B of 2.0 MiB"
    assert shown[-1] == "1 of 2 files, 2.0 MiB of 2.0 MiB"


def test_by_a_function() -> None:
    """A function gets the progress itself, also at the end."""
    heard = list[int]()
    show(lambda progress: heard.append(progress.done_bytes))
    assert heard == [0, 1 << 20, 2 << 20]

"""Keys of a terminal: one by one, and none where there is no terminal."""

import io
import os
import pty
import termios

import pytest

from vbnfs.host.terminal import keys


class Input(io.StringIO):
    """Standard input that is at a descriptor."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor


def test_keys_come_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is there without Enter and is not shown; without one it waits; the terminal is as before at the end."""
    ours, theirs = pty.openpty()
    monkeypatch.setattr("sys.stdin", Input(theirs))
    before = termios.tcgetattr(theirs)
    with keys() as pressed:
        assert pressed(0.0) is None
        os.write(ours, b"xq")
        assert [pressed(60.0), pressed(60.0), pressed(0.0)] == ["x", "q", None]
        assert not termios.tcgetattr(theirs)[3] & (termios.ECHO | termios.ICANON)
        assert termios.tcgetattr(theirs)[3] & termios.ISIG
    assert termios.tcgetattr(theirs) == before
    os.close(theirs)
    os.close(ours)


def test_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no keys, and waiting for one ends."""
    with open(os.devnull, encoding="utf-8") as null:
        monkeypatch.setattr("sys.stdin", null)
        with keys() as pressed:
            assert pressed(0.0) is None

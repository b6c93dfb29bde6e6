"""The process that walks, as the daemon sees it, at its end."""

import gc
import random
import socket
import subprocess
from typing import Any

import pytest

from vbnfs.host.message_link import Letter, Link
from vbnfs.reading import walker as module
from vbnfs.reading.walker import Walker


def test_closed_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that comes after its walker was closed is ended at once."""
    walker, started = Walker(), list[subprocess.Popen[Any]]()
    start = module._start

    def close_and_start(its: socket.socket) -> subprocess.Popen[Any]:
        walker.close()
        started.append(start(its))
        return started[0]

    monkeypatch.setattr(module, "_start", close_and_start)
    with pytest.raises(OSError, match="going away"):
        walker.start()
    assert walker.process is None
    assert started[0].returncode is not None


BLOCKS = [(0, random.Random(7).randbytes(1000))]  # of no HDF5 file: the walk is over after a step


def test_closed_once_it_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has started when its walker is closed, by another thread, is waited for."""
    walker, link = Walker(), Walker._link

    def link_and_close(self: Walker) -> Link:
        found = link(self)
        self.close()
        return found

    monkeypatch.setattr(Walker, "_link", link_and_close)
    walker.start()
    assert_nothing_is_left(walker)


def test_closed_while_an_answer_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that asks gets an answer that has come before the end, and sees to the process."""
    walker, receive = Walker(), Link.receive

    def receive_and_close(self: Link) -> Letter | None:
        answer = receive(self)
        walker.close()
        return answer

    monkeypatch.setattr(Link, "receive", receive_and_close)
    assert walker.go_on(1, 1000, BLOCKS).is_over
    assert_nothing_is_left(walker)


def test_closed_while_a_walk_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a process left where the last word was of a walk's end."""
    walker, send = Walker(), Link.send
    walker.go_on(1, 1000, BLOCKS)

    def send_and_close(self: Link, letter: Letter) -> None:
        send(self, letter)
        walker.close()

    monkeypatch.setattr(Link, "send", send_and_close)
    walker.end(1)
    assert_nothing_is_left(walker)


def assert_nothing_is_left(walker: Walker) -> None:
    """A process that has not been waited for would be a zombie, of which Python warns once it is collected."""
    assert walker.process is None
    gc.collect()

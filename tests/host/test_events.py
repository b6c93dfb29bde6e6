"""Waiting for descriptors: by epoll, and by `selectors` where a system has none, it is the same."""

import gc
import os
import socket
import sys
from collections.abc import Iterator

import pytest

from vbnfs.host import events
from vbnfs.host.events import READABLE, WRITABLE, Poller, Waker, new_poller


@pytest.fixture(params=[True, False])
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Poller]:
    """Of each kind."""
    monkeypatch.setattr(events, "_HAS_EPOLL", request.param)
    monkeypatch.setattr(events, "_HAS_EVENTFD", request.param)
    made = new_poller()
    yield made
    made.close()


def test_what_happens_is_reported(poller: Poller) -> None:
    """A descriptor is reported for what is waited for of it, as long as that lasts."""
    ours, its = socket.socketpair()
    with ours, its:
        assert poller.poll(0) == []
        poller.register(ours.fileno(), READABLE)
        assert poller.poll(0) == []
        its.send(b"x")
        assert poller.poll(5) == [(ours.fileno(), READABLE)]
        poller.modify(ours.fileno(), WRITABLE)
        assert poller.poll(5) == [(ours.fileno(), WRITABLE)]
        with pytest.raises(FileExistsError):
            poller.register(ours.fileno(), READABLE)
        poller.unregister(ours.fileno())
        assert poller.poll(0) == []
        for call in (lambda: poller.modify(ours.fileno(), READABLE), lambda: poller.unregister(ours.fileno())):
            with pytest.raises(FileNotFoundError):
                call()


def test_a_descriptor_that_was_closed_is_forgotten(poller: Poller) -> None:
    """The others are waited for as before."""
    (ours, its), (other, far) = socket.socketpair(), socket.socketpair()
    with other, far, its:
        for one in (ours, other):
            poller.register(one.fileno(), READABLE)
        ours.close()
        far.send(b"x")
        found = poller.poll(5) or poller.poll(5)  # the first may have found that one is closed
        assert (other.fileno(), READABLE) in found


def test_a_thread_is_woken(poller: Poller) -> None:
    """However often it is called, the waker is readable, and then it is not, once it was cleared."""
    waker = Waker()
    poller.register(waker.descriptor, READABLE)
    assert poller.poll(0) == []
    for _ in range(100_000):
        waker.wake()
    assert poller.poll(5) == [(waker.descriptor, READABLE)]
    waker.clear()
    assert poller.poll(0) == []
    poller.unregister(waker.descriptor)


def test_a_waker_in_a_cycle_is_closed_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector may come to its sockets first, which would warn that they are open."""
    monkeypatch.setattr(events, "_HAS_EVENTFD", False)
    cycle: list[object] = []
    waker = Waker()
    gc.collect()  # what is made from here on is looked at first
    cycle += [cycle, waker]
    descriptor, warned = waker.descriptor, list[object]()
    monkeypatch.setattr(sys, "unraisablehook", warned.append)
    del cycle, waker
    gc.collect()
    assert warned == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)

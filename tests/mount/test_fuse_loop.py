"""Answering waiting requests without a round of the event loop for each."""

import socket
from collections.abc import Iterator

import pyfuse3
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from vbnfs.mount import fuse_loop
from vbnfs.mount.fuse_loop import YIELD_SECONDS, EagerLock, Readiness


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets: what is sent to one makes the other readable."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


async def test_what_is_there_is_not_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    """With something to read, `wait` returns without letting other tasks run, but once every millisecond."""
    ours, theirs = pair
    theirs.send(b"request")
    rounds = 0
    seconds = 100.0
    done = False

    async def others() -> None:
        nonlocal rounds
        while not done:
            rounds += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        readiness = Readiness(clock=lambda: seconds)
        for _ in range(500):
            await readiness.wait(ours.fileno())
            seconds += YIELD_SECONDS / 25
        done = True
    assert 15 <= rounds <= 25


async def test_waits_until_there_is_something(pair: tuple[socket.socket, socket.socket]) -> None:
    """With nothing to read, `wait` waits, and other tasks run."""
    ours, theirs = pair
    returned = trio.Event()

    async def wait() -> None:
        await Readiness().wait(ours.fileno())
        returned.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked(0.01)
        assert not returned.is_set()
        theirs.send(b"request")
        await returned.wait()


async def test_lock_is_held_by_one() -> None:
    """However many want it, one has it at a time, and everybody gets it in the end."""
    lock = EagerLock()
    inside = 0
    entered = []

    async def enter(name: int) -> None:
        nonlocal inside
        for _ in range(3):
            async with lock:
                inside += 1
                assert inside == 1
                await trio.lowlevel.checkpoint()
                inside -= 1
            entered.append(name)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for name in range(5):
            nursery.start_soon(enter, name)
    assert sorted(entered) == sorted([*range(5)] * 3)


async def test_somebody_takes_over_from_a_leaver_that_waits() -> None:
    """Who leaves the lock and then waits for something else does not keep it from those who want it."""
    lock = EagerLock()
    taken_over = trio.Event()

    async def successor() -> None:
        async with lock:
            taken_over.set()

    async with trio.open_nursery() as nursery:
        async with lock:
            nursery.start_soon(successor)
            await wait_all_tasks_blocked()
        async with lock:  # taken again at once, before the one who was woken runs
            assert not taken_over.is_set()
        await taken_over.wait()


async def test_cancelled_waiter_leaves_the_lock_usable() -> None:
    """A waiter that gives up takes nothing with it."""
    lock = EagerLock()
    async with trio.open_nursery() as nursery, lock:
        nursery.start_soon(lock.__aenter__)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    async with lock:
        pass


def test_pyfuse3_gets_the_rest_of_trio() -> None:
    """What pyfuse3 uses of trio besides is trio's own."""
    before = vars(pyfuse3)["trio"]
    try:
        fuse_loop.install()
        given = vars(pyfuse3)["trio"]
        assert given.Lock is EagerLock
        assert given.open_nursery is trio.open_nursery
        assert given.lowlevel.notify_closing is trio.lowlevel.notify_closing
        assert given.ClosedResourceError is trio.ClosedResourceError
    finally:
        vars(pyfuse3)["trio"] = before

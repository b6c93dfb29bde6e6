"""Long work in steps: it goes on in threads, and what interrupts it leaves nothing half done."""

import threading
from collections.abc import Generator

import pytest
import trio

from vbnfs.cli.steps import take_steps


class Work:
    """Three steps, of which `waits` waits until `go_on`."""

    def __init__(self, *, waits: int = 0) -> None:
        self.threads: set[int] = set()
        self.is_closed = False
        self.is_waiting, self.go_on = trio.Event(), threading.Event()
        self._waits = waits

    def steps(self) -> Generator[int]:
        try:
            for number in (1, 2, 3):
                self.threads.add(threading.get_ident())
                if number == self._waits:
                    trio.from_thread.run_sync(self.is_waiting.set)
                    self.go_on.wait(60)
                yield number
        finally:
            self.is_closed = True


async def test_all_steps_are_taken() -> None:
    """What each gives is handed on, in order; no step is taken by the event loop."""
    work, done = Work(), list[int]()
    await take_steps(work.steps(), done.append)
    assert done == [1, 2, 3]
    assert work.is_closed
    assert threading.get_ident() not in work.threads


async def test_an_interrupted_step_is_waited_for() -> None:
    """The generator is closed when its last step has ended."""
    work, done = Work(waits=2), list[int]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_steps, work.steps(), done.append)
        await work.is_waiting.wait()
        nursery.cancel_scope.cancel()
        work.go_on.set()
    assert done == [1]
    assert work.is_closed


async def test_a_step_that_hangs_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the work ends all the same; the generator is left to the thread."""
    monkeypatch.setattr("vbnfs.cli.steps._LAST_STEP_SECONDS", 0.01)
    work = Work(waits=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_steps, work.steps(), print)
        await work.is_waiting.wait()
        nursery.cancel_scope.cancel()
    assert not work.is_closed
    work.go_on.set()


async def test_a_step_that_fails() -> None:
    """Its error is raised."""

    def steps() -> Generator[int]:
        yield 1
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        await take_steps(steps(), lambda done: None)

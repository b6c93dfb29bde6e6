"""Stored as it comes, by a thread of its own: events are in order, and a slow disk holds none of them back."""

import gc
import queue
import threading
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

import pytest
from structlog.testing import capture_logs

from vbnfs.objects import Piece, Stored
from vbnfs.s3 import storing
from vbnfs.s3.parts import Run
from vbnfs.s3.ranges import Done, Event
from vbnfs.s3.storing import PATIENCE_SECONDS, TURN_SECONDS, Outbox, StoringThread

SECONDS: Final = 10  # for what happens at once
LONG_SECONDS: Final = PATIENCE_SECONDS + 0.1


class Clock:
    """Gives the time that it is set to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Disk:
    """A sink that takes runs at once, or when it `goes_on`; `takes` is what it answers."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.begun: queue.Queue[int] = queue.Queue()
        self.takes = True

    def hang(self) -> None:
        self.goes_on.clear()

    def store(self, start: int, parts: Sequence[bytes]) -> bool:
        self.begun.put(start)
        assert self.goes_on.wait(SECONDS)
        return self.takes


class Posted:
    """The events that were posted."""

    def __init__(self) -> None:
        self._events: queue.Queue[Event] = queue.Queue()
        self.put = self._events.put

    def next(self, count: int) -> list[Event]:
        """The next ones, as soon as they are there."""
        return [self._events.get(timeout=SECONDS) for _ in range(count)]

    def now(self) -> list[Event]:
        """Those that are there."""
        return self.next(self._events.qsize())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def thread(clock: Clock, disk: Disk) -> Iterator[StoringThread]:
    made = StoringThread(clock=clock)
    yield made
    disk.goes_on.set()
    made.stop()


@pytest.fixture
def posted() -> Posted:
    return Posted()


@pytest.fixture
def outbox(posted: Posted, disk: Disk, thread: StoringThread) -> Outbox:
    return Outbox(posted.put, disk, thread)


def run(start: int) -> Run:
    return Run(start, [b"a", b"bc"])


def test_events_are_posted_in_their_order(outbox: Outbox, disk: Disk, posted: Posted) -> None:
    """What comes behind a run waits until that is stored; what comes when nothing waits is posted at once."""
    first, middle = Piece(0, b"first"), Piece(8, b"middle")
    outbox.put(first)
    assert posted.now() == [first]
    disk.hang()
    outbox.store(run(5))
    outbox.put(middle)
    outbox.store(run(14))
    outbox.put(Done())
    assert disk.begun.get(timeout=SECONDS) == 5
    assert (posted.now(), outbox.is_waiting) == ([], True)
    disk.goes_on.set()
    assert posted.next(4) == [Stored(5, 8), middle, Stored(14, 17), Done()]
    assert not outbox.is_waiting


def test_what_the_disk_refuses_is_posted_as_bytes(outbox: Outbox, disk: Disk, posted: Posted) -> None:
    """In its place, and the next run is offered again."""
    disk.takes = False
    outbox.store(run(0))
    outbox.put(Done())
    assert posted.next(2) == [Piece(0, b"abc"), Done()]
    disk.takes = True
    outbox.store(run(3))
    assert posted.next(1) == [Stored(3, 6)]


def test_without_a_sink_all_is_bytes(posted: Posted, thread: StoringThread) -> None:
    """Then nothing waits, and there is no thread."""
    outbox, before = Outbox(posted.put, None, thread), threading.enumerate()
    outbox.store(run(0))
    assert posted.now() == [Piece(0, b"abc")]
    assert set(threading.enumerate()) <= set(before)


def test_a_disk_that_does_not_answer_holds_nothing_back(
    outbox: Outbox, disk: Disk, posted: Posted, clock: Clock
) -> None:
    """What waits is posted as bytes, in its order, once it has waited too long, and what comes then at once.

    When the disk goes on, what it was busy with is not posted twice, and it gets the next run.
    """
    disk.hang()
    outbox.store(run(0))
    outbox.store(run(3))
    outbox.put(Done())
    assert disk.begun.get(timeout=SECONDS) == 0
    outbox.look()
    assert posted.now() == []
    clock.now += LONG_SECONDS
    outbox.look()
    assert posted.now() == [Piece(0, b"abc"), Piece(3, b"abc"), Done()]
    outbox.store(run(6))
    assert posted.now() == [Piece(6, b"abc")]
    clock.now += LONG_SECONDS
    disk.goes_on.set()
    stored_again = Outbox(posted.put, disk, outbox._thread)
    _until_not_slow(outbox._thread)
    stored_again.store(run(9))
    assert posted.next(1) == [Stored(9, 12)]
    assert [disk.begun.get(timeout=SECONDS), disk.begun.qsize()] == [9, 0]


def _until_not_slow(thread: StoringThread) -> None:
    """When it has done what was put."""
    done = threading.Event()
    thread.put(done.set)
    assert done.wait(SECONDS)
    idle = threading.Event()
    thread.put(idle.set)
    assert idle.wait(SECONDS)


def test_one_that_is_over_is_given_up_too(outbox: Outbox, disk: Disk, posted: Posted, clock: Clock) -> None:
    """Its last events wait behind a run: it is waiting until they are posted."""
    disk.hang()
    outbox.store(run(0))
    outbox.put(Done())
    assert disk.begun.get(timeout=SECONDS) == 0
    clock.now += LONG_SECONDS
    assert outbox.is_waiting
    outbox.look()
    assert (posted.now(), outbox.is_waiting) == ([Piece(0, b"abc"), Done()], False)


def test_waiting_for_a_turn_counts(disk: Disk, posted: Posted, thread: StoringThread, clock: Clock) -> None:
    """A disk that takes a little less than too long for each run is too slow for many connections."""
    one, other, ends = Outbox(posted.put, disk, thread), Outbox(posted.put, disk, thread), threading.Event()
    thread.put(partial(ends.wait, SECONDS))  # type: ignore[arg-type]
    disk.hang()
    one.store(run(0))
    other.store(run(100))
    clock.now += TURN_SECONDS - 0.1
    ends.set()
    assert disk.begun.get(timeout=SECONDS) == 0
    one.look()
    assert (thread.is_slow, posted.now()) == (False, [])
    clock.now += 0.2
    assert thread.is_slow
    one.look()
    other.look()
    assert posted.now() == [Piece(0, b"abc"), Piece(100, b"abc")]


def test_what_was_given_up_takes_no_memory(outbox: Outbox, disk: Disk, posted: Posted, clock: Clock) -> None:
    """Of all runs that were to be stored, the thread holds the one that the disk is busy with."""
    disk.hang()
    outbox.store(run(0))
    assert disk.begun.get(timeout=SECONDS) == 0
    view = memoryview(b"given up")
    part = weakref.ref(view)
    outbox.store(Run(3, [view]))  # type: ignore[list-item]
    del view
    clock.now += LONG_SECONDS
    outbox.look()
    assert posted.now() == [Piece(0, b"abc"), Piece(3, b"given up")]
    gc.collect()
    assert part() is None


def test_without_a_thread_all_is_bytes(outbox: Outbox, posted: Posted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that can have no more threads reads as ever; the next run asks for one again."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        outbox.store(run(0))
        outbox.put(Done())
        assert posted.now() == [Piece(0, b"abc"), Done()]
    outbox.store(run(3))
    assert posted.next(1) == [Stored(3, 6)]


def test_a_defect_does_not_end_the_thread(thread: StoringThread) -> None:
    """It is logged, and what was put behind it is done."""
    done = threading.Event()
    with capture_logs() as lines:
        thread.put(lambda: 1 // 0)  # type: ignore[arg-type,return-value]
        thread.put(done.set)
        assert done.wait(SECONDS)
    assert [line["event"] for line in lines] == ["unexpected failure while storing"]


def test_what_was_put_is_done_before_it_stops(outbox: Outbox, thread: StoringThread, posted: Posted) -> None:
    """Nothing that was received is lost in the end. One that was never needed ends, too."""
    for number in range(5):
        outbox.store(run(3 * number))
    thread.stop()
    assert posted.now() == [Stored(3 * number, 3 * number + 3) for number in range(5)]
    StoringThread().stop()


def test_stopping_does_not_wait_for_a_disk_that_hangs(
    outbox: Outbox, thread: StoringThread, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for some seconds, and leaves the thread to the end of the process."""
    monkeypatch.setattr(storing, "_JOIN_SECONDS", 0.01)
    disk.hang()
    outbox.store(run(0))
    assert disk.begun.get(timeout=SECONDS) == 0
    thread.stop()
    assert not disk.goes_on.is_set()

"""What libcurl's thread received is stored by a thread of its own: so a disk that is slow stops no connection.

    libcurl's thread     Outbox.put(), Outbox.store(): events and runs in the order in which they came
    the storing thread   Sink.store(), and the word of it
    event loop           gets the events in that order, by `Arrivals`

A disk that is slow is not waited for: where it takes longer than `PATIENCE_SECONDS` for a run, or `TURN_SECONDS` with
those before it, all that waits is handed on as bytes, and so is what comes as long as that lasts. The run that the
disk is busy with is handed on, too; once it is stored after all, it is stored twice, and with the same bytes.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Final

import structlog

from vbnfs.objects import Sink, Stored
from vbnfs.s3.parts import Run
from vbnfs.s3.ranges import Event

log = structlog.get_logger()

PATIENCE_SECONDS: Final = 0.5  # 4 MB/s
TURN_SECONDS: Final = 1.0  # 24 connections have 4 MiB each waiting at the most: 100 MB/s; a stall takes longer
_JOIN_SECONDS: Final = 5.0

Work = Callable[[], None]


class StoringThread:
    """Does one thing after the other, which may wait for a disk. It begins with the first one.

    `clock` gives seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._queue: SimpleQueue[tuple[float, Work] | None] = SimpleQueue()  # with the time when it was put
        self._thread: threading.Thread | None = None
        self._put_at: float | None = None  # what it does now
        self._began_at = 0.0  # with that

    @property
    def is_slow(self) -> bool:
        """Whether what it does now takes too long, or was put too long ago."""
        put_at, now = self._put_at, self._clock()
        return put_at is not None and (now - self._began_at > PATIENCE_SECONDS or now - put_at > TURN_SECONDS)

    def put(self, work: Work) -> None:
        """Have something done. Raises `RuntimeError` if no thread can be had."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="storing", daemon=True)
            thread.start()
            self._thread = thread
        self._queue.put((self._clock(), work))

    def stop(self) -> None:
        """End it, after what was put; a disk that hangs is not waited for longer than some seconds."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while (put := self._queue.get()) is not None:
            self._began_at = self._clock()
            self._put_at, work = put
            try:
                work()
            except Exception:  # a defect; without this thread nothing would be stored any more
                log.exception("unexpected failure while storing")
            self._put_at = None


class Outbox:
    """The events of one transfer in their order: those behind a run wait until it is stored.

    `post` hands an event on, and can be called in both threads.
    """

    def __init__(self, post: Callable[[Event], None], sink: Sink | None, thread: StoringThread) -> None:
        self._post = post
        self._sink = sink
        self._thread = thread
        self._lock = threading.Lock()
        self._waiting: deque[Run | Event] = deque()  # a run stands in front, if there is anything

    @property
    def is_waiting(self) -> bool:
        """Whether something waits to be stored, or behind that."""
        return bool(self._waiting)

    def put(self, event: Event) -> None:
        """Hand an event on, behind what is being stored."""
        with self._lock:
            if self._waiting:
                self._waiting.append(event)
            else:
                self._post(event)

    def store(self, run: Run) -> None:
        """Have a run stored; as bytes where that cannot be."""
        sink = self._sink
        if sink is None or self._thread.is_slow:
            self.put(run.as_piece())
            return
        with self._lock:
            self._waiting.append(run)
        try:
            self._thread.put(partial(self._store_next, sink))
        except RuntimeError:  # no thread to be had
            self.give_up()

    def look(self) -> None:
        """Called now and then: what waits is not held back by a disk that does not answer."""
        if self.is_waiting and self._thread.is_slow:
            self.give_up()

    def give_up(self) -> None:
        """Hand on what waits, as bytes."""
        with self._lock:
            while self._waiting:
                self._post(_as_bytes(self._waiting.popleft()))

    # In the storing thread

    def _store_next(self, sink: Sink) -> None:
        """Store the run in front. There is none if it was given up: then nothing holds its bytes any more."""
        run = self._first()
        if run is None:
            return
        is_stored = sink.store(run.start, run.parts)
        with self._lock:
            if not self._is_first(run):  # given up meanwhile
                return
            self._waiting.popleft()
            self._post(Stored(run.start, run.start + len(run)) if is_stored else run.as_piece())
            while self._waiting and not isinstance(event := self._waiting[0], Run):
                self._waiting.popleft()
                self._post(event)

    def _first(self) -> Run | None:
        with self._lock:
            first = self._waiting[0] if self._waiting else None
        return first if isinstance(first, Run) else None

    def _is_first(self, run: Run) -> bool:
        return bool(self._waiting) and self._waiting[0] is run


def _as_bytes(waiting: Run | Event) -> Event:
    return waiting.as_piece() if isinstance(waiting, Run) else waiting

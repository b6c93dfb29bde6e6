"""What libcurl's thread received is stored by a thread of its own: so a disk that is slow stops no connection.

    libcurl's thread     Outbox.put(), Outbox.store(): events and runs in the order in which they came
    the storing thread   Sink.store(), and the word of it
    event loop           gets the events in that order, by `Arrivals`

A disk that takes longer than `PATIENCE_SECONDS` for a run is not waited for: what waits is handed on as bytes, and so
is what comes as long as the disk does not answer. The run that it is busy with is handed on, too; once it is stored
after all, it is stored twice, and with the same bytes.
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

PATIENCE_SECONDS: Final = 0.5
_JOIN_SECONDS: Final = 5.0

Work = Callable[[], None]


class StoringThread:
    """Does one thing after the other, which may wait for a disk. It begins with the first one."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._began: float | None = None  # with what it does now

    @property
    def is_slow(self) -> bool:
        """Whether what it does now takes too long."""
        began = self._began
        return began is not None and time.monotonic() - began > PATIENCE_SECONDS

    def put(self, work: Work) -> None:
        """Have something done. Raises `RuntimeError` if no thread can be had."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="storing", daemon=True)
            thread.start()
            self._thread = thread
        self._queue.put(work)

    def stop(self) -> None:
        """End it, after what was put; a disk that hangs is not waited for longer than some seconds."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            self._began = time.monotonic()
            try:
                work()
            except Exception:  # a defect; without this thread nothing would be stored any more
                log.exception("unexpected failure while storing")
            self._began = None


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
            self._thread.put(partial(self._store, sink, run))
        except RuntimeError:  # no thread to be had
            self.give_up()

    def look(self) -> None:
        """Called now and then: what waits is not held back by a disk that does not answer."""
        if self._waiting and self._thread.is_slow:
            self.give_up()

    def give_up(self) -> None:
        """Hand on what waits, as bytes."""
        with self._lock:
            while self._waiting:
                self._post(_as_bytes(self._waiting.popleft()))

    # In the storing thread

    def _store(self, sink: Sink, run: Run) -> None:
        if not self._is_first(run):
            return
        is_stored = sink.store(run.start, run.parts)
        with self._lock:
            if not self._is_first(run):
                return
            self._waiting.popleft()
            self._post(Stored(run.start, run.start + len(run)) if is_stored else run.as_piece())
            while self._waiting and not isinstance(event := self._waiting[0], Run):
                self._waiting.popleft()
                self._post(event)

    def _is_first(self, run: Run) -> bool:
        """Whether it still waits: runs are stored in their order."""
        return bool(self._waiting) and self._waiting[0] is run


def _as_bytes(waiting: Run | Event) -> Event:
    return waiting.as_piece() if isinstance(waiting, Run) else waiting

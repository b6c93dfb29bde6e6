"""What the page has begun: fetching, pinning, verifying. Each job has a thread, and goes on when the page is closed.

A job is asked to end by the function that hears of its progress: it raises in the thread that waits, and that cancels
the work. What has come until then stays in the cache. A job that has failed, was ended, or ended with an earlier page
can be asked for again.
"""

import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final

from vbnfs.api.progress import Progress
from vbnfs.errors import VbnfsError, with_remedy
from vbnfs.web.orders import Order
from vbnfs.web.unfinished import Note, Unfinished

_MOST_ENDED: Final = 20  # that are shown
_STEP_SECONDS: Final = 5.0  # between two times at which files that a job has brought count as a change
_ENDED: Final = "ended by you; what had come stays"
_LEFT: Final = "the page ended before this did; what had come stays"

Report = Callable[[Progress], object]
Work = Callable[[Report], str]  # what it came to, in words


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is now. `outcome` is what it came to, or why it failed; None while it runs.

    `problem` is why the last of its `failed_files` failed; it goes on with the others.
    """

    number: int
    title: str
    done_files: int = 0
    files: int = 0
    done_bytes: int = 0
    count_bytes: int = 0
    failed_files: int = 0
    problem: str = ""
    outcome: str | None = None
    is_failed: bool = False
    may_be_again: bool = False
    seconds: float = 0.0

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.outcome is None

    @property
    def seconds_left(self) -> float | None:
        """By how fast it was until now; None while that says nothing."""
        if not self.done_bytes or not self.is_running:
            return None
        return self.seconds * (self.count_bytes - self.done_bytes) / self.done_bytes


class _EndedError(Exception):
    """The job was asked to end."""


class Jobs:
    """All jobs of this process. Thread-safe.

    `work_of` makes the work of an order. `unfinished` has orders on the disk while their jobs run.
    """

    def __init__(self, work_of: Callable[[Order], Work], unfinished: Unfinished | None = None) -> None:
        self._work_of = work_of
        self._unfinished = unfinished
        self._is_closing = False
        self._is_recalling = unfinished is not None
        self._orders: dict[int, Order] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._jobs: dict[int, Job] = {}
        self._ending: set[int] = set()
        self._threads: dict[int, threading.Thread] = {}
        self._changed = -math.inf

    def start(self, order: Order) -> int:
        """Begin in a thread what is ordered; the number of its job."""
        number = next(self._numbers)
        thread = threading.Thread(target=self._run, args=(number, order), name=f"job-{number}", daemon=True)
        with self._lock:
            self._jobs[number] = Job(number, order.title)
            self._orders[number] = order
            self._threads[number] = thread
        thread.start()
        return number

    def again(self, number: int) -> None:
        """Begin anew what has failed, or was ended, in its place. As with `end`, none is no error."""
        with self._lock:
            job = self._jobs.get(number)
            if job is None or not job.may_be_again:
                return
            del self._jobs[number]
            order = self._orders.pop(number)
        self.start(order)

    def recall(self) -> None:
        """Have the jobs be known that ended with earlier pages."""
        try:
            for order in () if self._unfinished is None else self._unfinished.take():
                number = next(self._numbers)
                with self._lock:
                    self._orders[number] = order
                    self._jobs[number] = Job(number, order.title, outcome=_LEFT, is_failed=True, may_be_again=True)
        finally:
            self._is_recalling = False

    @property
    def is_recalling(self) -> bool:
        """Whether jobs of earlier pages may still come to be known."""
        return self._is_recalling

    def all(self) -> Sequence[Job]:
        """The jobs, the last one first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda job: -job.number)

    def have_changed_since(self, seconds: float) -> bool:
        """Whether what pages show may be otherwise since a time (`time.monotonic`) by what a job did."""
        with self._lock:
            return self._changed >= seconds

    def end(self, number: int) -> None:
        """Have a job end soon. One that there is not is no error: it may have just gone."""
        with self._lock:
            if number in self._threads:
                self._ending.add(number)

    def close(self, seconds: float) -> None:
        """Have all end, and wait for that, some seconds at most."""
        with self._lock:
            self._is_closing = True
            self._ending |= self._threads.keys()
            threads = list(self._threads.values())
        until = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self, number: int, order: Order) -> None:
        noted = nullcontext(Note()) if self._unfinished is None else self._unfinished.noted(order)
        with noted as note:
            self._do(number, order, note)

    def _do(self, number: int, order: Order, note: Note) -> None:
        began = time.monotonic()

        def report(progress: Progress) -> None:
            with self._lock:
                if number in self._ending:
                    raise _EndedError
                before, now = self._jobs[number], time.monotonic()
                if progress.done_files != before.done_files and now - self._changed >= _STEP_SECONDS:
                    self._changed = now
                self._jobs[number] = replace(
                    before,
                    done_files=progress.done_files,
                    files=progress.files,
                    done_bytes=progress.done_bytes,
                    count_bytes=progress.count_bytes,
                    failed_files=progress.failed_files,
                    problem=progress.problem,
                    seconds=now - began,
                )

        is_ended = False
        try:
            outcome, is_failed = self._work_of(order)(report), False
        except _EndedError:
            outcome, is_failed, is_ended, note.is_left = _ENDED, False, True, self._is_closing
        except VbnfsError as error:
            outcome, is_failed = with_remedy(error), True
        except (OSError, ValueError) as error:
            outcome, is_failed = str(error), True
        except Exception as error:  # else it would seem to run as long as the page is served
            outcome, is_failed = f"a defect of vbnfs ({type(error).__name__}: {error}); please report it", True
        may_be_again, seconds = is_failed or is_ended, time.monotonic() - began
        now = {"outcome": outcome, "is_failed": is_failed, "may_be_again": may_be_again, "seconds": seconds}
        self._ended(number, now)

    def _ended(self, number: int, now: dict[str, Any]) -> None:
        with self._lock:
            job = self._jobs.pop(number)  # in the order in which they end: one that took long is not the first to go
            self._jobs[number] = replace(job, **now)
            self._changed = time.monotonic()
            self._ending.discard(number)
            self._threads.pop(number, None)
            ended = [one for one in self._jobs.values() if not one.is_running]
            for old in ended[:-_MOST_ENDED]:
                del self._jobs[old.number], self._orders[old.number]

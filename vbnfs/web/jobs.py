"""What the page has begun: fetching, pinning, verifying. Each job has a thread, and goes on when the page is closed.

A job is asked to end by the function that hears of its progress: it raises in the thread that waits, and that cancels
the work. What has come until then stays in the cache.
"""

import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from vbnfs.api.progress import Progress
from vbnfs.errors import VbnfsError, with_remedy

_MOST_ENDED: Final = 20  # that are shown
_STEP_SECONDS: Final = 5.0  # between two times at which files that a job has brought count as a change

Report = Callable[[Progress], object]
Work = Callable[[Report], str]  # what it came to, in words


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is now. `outcome` is what it came to, or why it failed; None while it runs."""

    number: int
    title: str
    done_files: int = 0
    files: int = 0
    done_bytes: int = 0
    count_bytes: int = 0
    outcome: str | None = None
    is_failed: bool = False
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
    """All jobs of this process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._jobs: dict[int, Job] = {}
        self._ending: set[int] = set()
        self._threads: dict[int, threading.Thread] = {}
        self._changed = -math.inf

    def start(self, title: str, work: Work) -> int:
        """Begin some work in a thread; the number of its job."""
        number = next(self._numbers)
        thread = threading.Thread(target=self._run, args=(number, work), name=f"job-{number}", daemon=True)
        with self._lock:
            self._jobs[number] = Job(number, title)
            self._threads[number] = thread
        thread.start()
        return number

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
            self._ending |= self._threads.keys()
            threads = list(self._threads.values())
        until = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self, number: int, work: Work) -> None:
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
                    seconds=now - began,
                )

        try:
            outcome, is_failed = work(report), False
        except _EndedError:
            outcome, is_failed = "ended by you; what had come stays", False
        except VbnfsError as error:
            outcome, is_failed = with_remedy(error), True
        except (OSError, ValueError) as error:
            outcome, is_failed = str(error), True
        except Exception as error:  # else it would seem to run as long as the page is served
            outcome, is_failed = f"a defect of vbnfs ({type(error).__name__}: {error}); please report it", True
        self._ended(number, outcome, time.monotonic() - began, is_failed=is_failed)

    def _ended(self, number: int, outcome: str, seconds: float, *, is_failed: bool) -> None:
        with self._lock:
            job = self._jobs.pop(number)  # in the order in which they end: one that took long is not the first to go
            self._jobs[number] = replace(job, outcome=outcome, is_failed=is_failed, seconds=seconds)
            self._changed = time.monotonic()
            self._ending.discard(number)
            self._threads.pop(number, None)
            ended = [one for one in self._jobs.values() if not one.is_running]
            for old in ended[:-_MOST_ENDED]:
                del self._jobs[old.number]

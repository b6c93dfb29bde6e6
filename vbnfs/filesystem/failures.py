"""The last failure of each file, until it is read well again: `user.vbnfs.last_error`. And that of the mount."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import trio
from cachetools import LRUCache

from vbnfs.errors import DeadlineError, VbnfsError, copy_error, with_remedy
from vbnfs.figures import Failure
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange
from vbnfs.reading.deadlines import MORE, Deadlines

_MOST_FILES: Final = 4096
_MOST_READS: Final = 256
_MOST_TEXTS: Final = 5
_LONG_SECONDS: Final = 1.0  # what fails sooner may as well be tried again
_AGAIN_SECONDS: Final = 0.5  # the kernel asks within a millisecond, if the machine lets it


@dataclass(frozen=True, slots=True)
class _FailedRead:
    """A request for a part of it before `until` gets the same failure."""

    inode: int
    part: ByteRange
    until: float
    error: VbnfsError

    def has(self, inode: int, part: ByteRange) -> bool:
        """Whether that is a part of it."""
        return self.inode == inode and self.part.start <= part.start and part.stop <= self.part.stop


@dataclass(frozen=True, slots=True)
class LastError:
    """The last failure that the kernel was answered; when, in seconds since 1970; what had been read by then."""

    text: str
    seconds: float
    read_bytes: int
    received_bytes: int

    @classmethod
    def of_now(cls, text: str, metrics: Metrics) -> "LastError":
        """One that has just happened."""
        return cls(text, time.time(), metrics.read_bytes, metrics.received_bytes)


class RecentFailures:
    """The last failures of a mount, each text once, with how often it came."""

    def __init__(self) -> None:
        self.last: LastError | None = None
        self._counts: dict[str, tuple[int, float]] = {}  # how often, and when last; the last one is last

    def add(self, text: str, metrics: Metrics) -> None:
        """One has just happened."""
        self.last = LastError.of_now(text, metrics)
        count, _ = self._counts.pop(text, (0, 0.0))
        self._counts[text] = (count + 1, time.monotonic())
        if len(self._counts) > _MOST_TEXTS:
            del self._counts[next(iter(self._counts))]

    def rows(self) -> list[Failure]:
        """They, the last one first."""
        now = time.monotonic()
        return [Failure(text, count, now - at) for text, (count, at) in reversed(self._counts.items())]


class Failures:
    """Failures of one mount by inode. What takes longer than `io_timeout_seconds` by `deadlines` is one, too."""

    def __init__(self, *, io_timeout_seconds: float, deadlines: Deadlines) -> None:
        self._io_timeout_seconds = io_timeout_seconds
        self._deadlines = deadlines
        self._by_inode: LRUCache[int, str] = LRUCache(_MOST_FILES)
        self._reads: deque[_FailedRead] = deque(maxlen=_MOST_READS)

    @contextmanager
    def guard_read(self, inode: int, part: ByteRange) -> Iterator[None]:
        """`guard`, for a part of a file.

        When reading ahead fails, the kernel asks at once again for what the program waits for. To the program that is
        one read, which must not take twice the time allowed; nor many times, where several wait for the same page.
        """
        began = trio.current_time()
        for read in self._reads:
            if began < read.until and read.has(inode, part):
                raise copy_error(read.error)
        try:
            with self.guard(inode):
                yield
        except VbnfsError as error:
            now = trio.current_time()
            if now - began >= _LONG_SECONDS:
                self._reads.append(_FailedRead(inode, part, now + _AGAIN_SECONDS, error))
            raise

    @contextmanager
    def guard(self, inode: int, *, is_read: bool = True, what: str = "", remedy: str | None = None) -> Iterator[None]:
        """For whatever can wait for the network: it has a deadline (`DeadlineError`), and a failure is noted.

        What is fetched meanwhile moves the deadline (reading/deadlines.py).

        Only with `is_read` does it end the failures before: looking at what happened does not mend it. `what` and
        `remedy` say what does not answer, and what helps, where it is not S3.
        """
        began, seconds = trio.current_time(), self._io_timeout_seconds
        try:
            with self._deadlines.fail_after(seconds):
                yield
        except trio.TooSlowError:
            is_slow = trio.current_time() - began >= MORE * seconds
            slow = f"not all of it within {MORE * seconds:g} s, {MORE} times --io-timeout, though bytes came"
            error = DeadlineError(
                f"{what}{slow if is_slow else f'no answer within {seconds:g} s (--io-timeout)'}", remedy=remedy
            )
            self._by_inode[inode] = with_remedy(error)
            raise error from None
        except VbnfsError as error:
            self._by_inode[inode] = with_remedy(error)
            raise
        if is_read:
            self.clear(inode)

    def forget_reads(self, inode: int) -> None:
        """What failed reads of a file failed with says nothing about the next ones."""
        self._reads = deque((read for read in self._reads if read.inode != inode), maxlen=_MOST_READS)

    def clear(self, inode: int) -> None:
        """It was read well."""
        if self._by_inode:
            self._by_inode.pop(inode, None)

    def of(self, inode: int) -> str | None:
        """What happened when it was read last, and what to do about it; None if it went well."""
        return self._by_inode.get(inode)

"""Time limits of what waits for S3: a read that gets on has more time, and `--limit-rate` takes none of it.

A reader waits for fetches. When `STEP_BYTES` of one of them have come, its time begins anew, up to `MORE` times as
much in all: a line that many share is slow, and a read that fails on it would have to begin again. A fetch of which
no byte has come yet waits for others: what comes of those is a step of its readers, too. Less than a step in all of
the time is no more than silence.

The time for which `--limit-rate` holds readers back does not count.

Either holds for what waits for fetches, while it does: a disk that hangs has no more time because of it.
"""

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

import trio

from vbnfs.blocks import BLOCK_BYTES

MORE: Final = 10
STEP_BYTES: Final = BLOCK_BYTES // 16  # at half of that a block takes longer than all of the time


@dataclass(eq=False, slots=True)
class _Limit:
    """Of `seconds`. It ends at `most`, however it gets on, and at `latest`, the kernel's own, whatever happens."""

    scope: trio.CancelScope
    seconds: float
    most: float
    latest: float

    def begin_anew(self) -> None:
        """What waits has got on."""
        deadline = min(trio.current_time() + self.seconds, self.most, self.latest)
        self.scope.deadline = max(self.scope.deadline, deadline)

    def extend(self, seconds: float) -> None:
        """See `Deadlines.extend`."""
        self.most += seconds
        self.scope.deadline = min(self.scope.deadline + seconds, self.latest)


_limit_here: Final[ContextVar[_Limit | None]] = ContextVar("limit", default=None)  # of the task


class Progress:
    """What has come of a fetch, for those who wait for it by `deadlines`."""

    def __init__(self, deadlines: "Deadlines") -> None:
        self.has_begun = False
        self._deadlines = deadlines
        self._bytes = 0  # of the step

    def note(self, count_bytes: int) -> None:
        """So many more bytes have come."""
        self.has_begun |= count_bytes > 0
        self._bytes += count_bytes
        if self._bytes >= STEP_BYTES:
            self._bytes = 0
            self._deadlines.note_step(self)


class Deadlines:
    """The time limits of one process. With what does not count, none is longer than `most_seconds`."""

    def __init__(self, *, most_seconds: float = math.inf) -> None:
        self._most_seconds = most_seconds
        self._waiting: dict[_Limit, Collection[Progress]] = {}  # for these fetches

    @contextmanager
    def fail_after(self, seconds: float) -> Iterator[None]:
        """See `trio.fail_after`, `extend` and `Progress`. Raises `trio.TooSlowError`."""
        now = trio.current_time()
        with trio.fail_after(seconds) as scope:
            latest = now + max(seconds, self._most_seconds)
            token = _limit_here.set(_Limit(scope, seconds, most=now + MORE * seconds, latest=latest))
            try:
                yield
            finally:
                _limit_here.reset(token)

    @contextmanager
    def waiting_for_fetches(self, fetches: Collection[Progress] = ()) -> Iterator[Callable[[], bool]]:
        """While entered, this task's limit is one that `extend` moves, and steps of these fetches do.

        Gives a function that says whether the task's time is over, by whichever limit.
        """
        limit, deadline = _limit_here.get(), trio.current_effective_deadline()
        if limit is None or limit in self._waiting:
            yield lambda: trio.current_time() >= deadline
            return
        before = limit.scope.deadline
        self._waiting[limit] = fetches
        try:
            yield lambda: trio.current_time() - (limit.scope.deadline - before) >= deadline
        finally:
            del self._waiting[limit]

    def note_step(self, fetch: Progress) -> None:
        """A step of a fetch has come: who waits for it, or for one that has not begun, has time anew."""
        for limit, fetches in self._waiting.items():
            if fetch in fetches or not all(other.has_begun for other in fetches):
                limit.begin_anew()

    def extend(self, seconds: float) -> None:
        """Readers will be held back for so long: the limits of what waits for fetches end so much later.

        Negative: they were held back for so much less.
        """
        for limit in self._waiting:
            limit.extend(seconds)

"""Time limits of what waits for S3. The time for which `--limit-rate` holds readers back does not count.

It does not count for what waits for fetches, while it does: a disk that hangs has no more time because of it.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import trio

# Of the task: its limit, and the last deadline that it may have.
_limit_here: Final[ContextVar[tuple[trio.CancelScope, float] | None]] = ContextVar("limit", default=None)


class Deadlines:
    """The time limits of one process. With what does not count, none is longer than `most_seconds`."""

    def __init__(self, *, most_seconds: float = math.inf) -> None:
        self.held_seconds = 0.0  # that did not count, from the beginning; a wait that has begun counts up to its end
        self._most_seconds = most_seconds
        self._waiting: dict[trio.CancelScope, float] = {}  # for fetches; the last deadline that each may have

    @contextmanager
    def fail_after(self, seconds: float) -> Iterator[None]:
        """See `trio.fail_after`, and `extend`. Raises `trio.TooSlowError`."""
        with trio.fail_after(seconds) as scope:
            token = _limit_here.set((scope, trio.current_time() + max(seconds, self._most_seconds)))
            try:
                yield
            finally:
                _limit_here.reset(token)

    @contextmanager
    def waiting_for_fetches(self) -> Iterator[None]:
        """While entered, this task's limit is one that `extend` moves."""
        here = _limit_here.get()
        if here is None or here[0] in self._waiting:
            yield
            return
        scope, latest = here
        self._waiting[scope] = latest
        try:
            yield
        finally:
            del self._waiting[scope]

    def extend(self, seconds: float) -> None:
        """Readers will be held back for so long: the limits of what waits for fetches end so much later.

        Negative: they were held back for so much less.
        """
        self.held_seconds += seconds
        for scope, latest in self._waiting.items():
            scope.deadline = min(scope.deadline + seconds, latest)

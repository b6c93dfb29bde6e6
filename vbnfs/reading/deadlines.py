"""Time limits of what waits for S3. The time for which `--limit-rate` holds readers back does not count."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Deadlines:
    """The time limits of one process. With what does not count, none is longer than `most_seconds`."""

    def __init__(self, *, most_seconds: float = math.inf) -> None:
        self.held_seconds = 0.0  # that did not count, from the beginning; a wait that has begun counts up to its end
        self._most_seconds = most_seconds
        self._latest: dict[trio.CancelScope, float] = {}  # the last deadline that each may have

    @contextmanager
    def fail_after(self, seconds: float) -> Iterator[None]:
        """See `trio.fail_after`, and `extend`. Raises `trio.TooSlowError`."""
        with trio.fail_after(seconds) as scope:
            self._latest[scope] = trio.current_time() + max(seconds, self._most_seconds)
            try:
                yield
            finally:
                del self._latest[scope]

    def extend(self, seconds: float) -> None:
        """Readers will be held back for so long: all limits end so much later."""
        self.held_seconds += seconds
        for scope, latest in self._latest.items():
            scope.deadline = min(scope.deadline + seconds, latest)

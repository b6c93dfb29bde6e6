"""What many use at the same time and share alike: a link's bytes, a machine's processors."""

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Final

import simpy

_ROUNDING: Final = 1e-9


class Shared:
    """A server of `capacity` units a second, of which each job has an even share, and `most` at the most.

    Egalitarian processor sharing (Kleinrock, "Time-shared Systems: A Theoretical Treatment", 1967), reckoned by
    virtual time: the work that each job present has had since the beginning. So a job costs two steps of the queue,
    however many are there. `served` is what all jobs that have ended asked for.
    """

    def __init__(self, env: simpy.Environment, capacity: float, *, most: float = math.inf) -> None:
        self.served = 0.0
        self._env = env
        self._capacity, self._most = capacity, most
        self._work = 0.0  # virtual time
        self._at = env.now  # when that was reckoned
        self._jobs: list[tuple[float, int, float, simpy.Event]] = []
        self._numbers = itertools.count()
        self._timer = 0  # which one counts: those before it are stale

    def serve(self, amount: float) -> simpy.Event:
        """An event that comes when so much has been served."""
        done = self._env.event()
        if amount <= 0:
            return done.succeed()
        self._reckon()
        heapq.heappush(self._jobs, (self._work + amount, next(self._numbers), amount, done))
        self._set_timer()
        return done

    @property
    def _rate(self) -> float:
        return min(self._most, self._capacity / len(self._jobs)) if self._jobs else 0.0

    def _reckon(self) -> None:
        self._work += (self._env.now - self._at) * self._rate
        self._at = self._env.now

    def _set_timer(self) -> None:
        self._timer += 1
        timeout = self._env.timeout(max(0.0, self._jobs[0][0] - self._work) / self._rate)
        timeout.callbacks.append(self._ends(self._timer))

    def _ends(self, timer: int) -> Callable[[simpy.Event], None]:
        def end(_timeout: simpy.Event) -> None:
            if timer != self._timer:
                return
            self._reckon()
            self._work = max(self._work, self._jobs[0][0])
            while self._jobs and self._jobs[0][0] <= self._work * (1 + _ROUNDING):
                _, _, amount, done = heapq.heappop(self._jobs)
                self.served += amount
                done.succeed()
            if self._jobs:
                self._set_timer()

        return end

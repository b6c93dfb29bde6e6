"""Which connections are used again: those of the present generation.

A connection that is dead without a word (the network changed, the laptop slept) looks like one that is idle. One
proof retires all that were opened before: a connection was silent, and a newer one has brought something. A suspend
needs no proof. The clocks show it: one goes on meanwhile (host/clocks.py), and CLOCK_MONOTONIC does not.

On Windows all clocks go on: there a connection that is dead is found by its silence alone.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from vbnfs.host.clocks import boot_time

_SUSPENDED_SECONDS: Final = 5.0  # the clocks are read one after the other, on a machine that may be busy in between
_SILENT_SECONDS: Final = 1.0  # less says nothing of a connection
_LATELY_SECONDS: Final = 5.0  # what was silent before that says nothing of the others

Clock = Callable[[], float]


class Generations:
    """The number of the present generation, for all that has connections to one server, in any thread.

    `awake` and `always` are clocks in seconds: the second one goes on while the machine is suspended.
    """

    def __init__(self, *, awake: Clock = time.monotonic, always: Clock = boot_time) -> None:
        self._awake = awake
        self._always = always
        self._asleep_seconds = always() - awake()
        self.number = 0
        self.suspends = 0

    def retire(self) -> None:
        """Connections that are open now are not used again."""
        self.number += 1

    def look_at_clocks(self) -> None:
        """Retire all connections if the machine was suspended since the last look."""
        asleep_seconds = self._always() - self._awake()
        if asleep_seconds - self._asleep_seconds > _SUSPENDED_SECONDS:
            self.suspends += 1
            self.retire()
        self._asleep_seconds = max(self._asleep_seconds, asleep_seconds)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks against the connections of a generation: some were silent lately, and a newer one answered.

    `answered_began` is when that one was asked. Times are of one clock, in seconds.
    """

    silent_since: float = math.inf
    silent_until: float = -math.inf
    answered_began: float = -math.inf

    def after_silence(self, since: float, until: float) -> "Evidence":
        """Nothing came by a connection for so long, though it was to bring something."""
        if until - since < _SILENT_SECONDS:
            return self
        first = min(self.silent_since, since) if since <= self.silent_until else since
        return replace(self, silent_since=first, silent_until=max(self.silent_until, until))

    def after_answer(self, began: float) -> "Evidence":
        """A connection that was opened at a moment has brought something."""
        return replace(self, answered_began=max(self.answered_began, began))

    @property
    def is_proof(self) -> bool:
        """Whether a connection is dead, and the network or the server is not."""
        return self.silent_since < self.answered_began <= self.silent_until + _LATELY_SECONDS

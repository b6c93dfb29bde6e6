"""When a GET is taken to be stalled, how many may be asked for twice, and what a silence of all GETs allows (pure).

The time that a step may take is what TCP waits before it sends a segment again (RFC 6298, 2): the smoothed time that
steps took lately, and four times its mean deviation. So it follows the server and the line, and an ordinary hiccup
stays within it. A GET of which not a single byte comes is not waited for as long as a slow one.

While GETs are asked for and nothing comes by any of them, there is a *silence*: the connections are dead, or the
server hangs. Then a new GET takes a new connection, and probes find out when the silence is over. A byte by a new
connection is the *proof*: what was asked for before it and has brought nothing since can be asked for again.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

STEP_BYTES: Final = 64 << 10  # progress is judged by the time that so many bytes take, or the rest of a body
_LEAST_SECONDS: Final = 2.0  # S3 answers nearly all requests within a second: below that a hiccup would be a stall
_FIRST_SECONDS: Final = 5.0  # before anything is known
_MOST_SECONDS: Final = 10.0
_MOST_SILENT_SECONDS: Final = 3.0  # without a byte
_PROBE_EVERY_SECONDS: Final = 0.5
_HEDGES_PER_REQUEST: Final = 0.1
_MOST_SAVED: Final = 4.0
_PARTS_OF_SILENCE: Final = 3  # after each but the last a silent GET is asked for once more, whatever was saved


@dataclass(frozen=True, slots=True)
class StallTimer:
    """How long a step may take. `smoothed_seconds` and `deviation_seconds` are RFC 6298's SRTT and RTTVAR."""

    smoothed_seconds: float | None = None
    deviation_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """After so long without a step a GET is stalled."""
        if self.smoothed_seconds is None:
            return _FIRST_SECONDS
        return min(max(_LEAST_SECONDS, self.unusual_seconds), _MOST_SECONDS)

    @property
    def silent_seconds(self) -> float:
        """The same, while no byte comes at all."""
        return self.seconds if self.smoothed_seconds is None else min(self.seconds, _MOST_SILENT_SECONDS)

    @property
    def unusual_seconds(self) -> float:
        """How long no step took lately, however slow the server is."""
        if self.smoothed_seconds is None:
            return _FIRST_SECONDS
        return self.smoothed_seconds + 4 * self.deviation_seconds

    def after(self, seconds: float) -> "StallTimer":
        """The timer once a step took so long. A single stall counts as no more than twice what was allowed."""
        seconds = min(seconds, 2 * self.seconds)
        if self.smoothed_seconds is None:
            return StallTimer(seconds, seconds / 2)
        deviation = abs(self.smoothed_seconds - seconds)
        return StallTimer(
            self.smoothed_seconds + (seconds - self.smoothed_seconds) / 8,
            self.deviation_seconds + (deviation - self.deviation_seconds) / 4,
        )


def next_chance(heard_at: float, judged_at: float, silence_seconds: float) -> float:
    """When a GET is asked for once more in any case, because it fails soon.

    No byte of it has come since `heard_at`, and it may be silent for `silence_seconds`. It was judged last at
    `judged_at`. Infinite where no time is left for another one.
    """
    chances = (heard_at + silence_seconds * part / _PARTS_OF_SILENCE for part in range(1, _PARTS_OF_SILENCE))
    return next((at for at in chances if judged_at < at), math.inf)


def slow_chance(step_began: float, judged_at: float, silence_seconds: float) -> float:
    """When a GET of which some bytes come, and no step, leaves its connection for a new one, whatever was saved.

    It brings no byte twice for that; on a full line another connection may do better.
    """
    at = step_began + silence_seconds
    return at if judged_at < at else math.inf


@dataclass(frozen=True, slots=True)
class HedgeBudget:
    """Requests earn the right to ask twice: one in ten, a few at a time: no slow server gets twice as many."""

    saved: float = _MOST_SAVED

    @property
    def has_one(self) -> bool:
        """Whether a request may be made twice now."""
        return self.saved >= 1.0

    def after_request(self) -> "HedgeBudget":
        """A request was made."""
        return HedgeBudget(min(_MOST_SAVED, self.saved + _HEDGES_PER_REQUEST))

    def after_hedge(self) -> "HedgeBudget":
        """A request was made twice."""
        return HedgeBudget(self.saved - 1.0)


@dataclass(frozen=True, slots=True)
class Silence:
    """Since when GETs have been asked for and nothing has come by any; when the last probe was sent.

    Times are of one clock, in seconds. Without a silence `began` is infinite.
    """

    began: float = math.inf
    probed_at: float = -math.inf

    def after_request(self, now: float) -> "Silence":
        """A GET is asked for."""
        return replace(self, began=min(self.began, now))

    def after_byte(self) -> "Silence":
        """Something has come."""
        return replace(self, began=math.inf)

    def after_probe(self, now: float) -> "Silence":
        """A probe is sent."""
        return replace(self, probed_at=now)

    def is_long(self, now: float) -> bool:
        """Whether connections from before are not to be relied on any more."""
        return now - self.began >= _LEAST_SECONDS

    def next_probe(self, timer: StallTimer) -> float:
        """When the next probe is due. A server that is usually slow is given its time."""
        begins = self.began + max(_LEAST_SECONDS, timer.unusual_seconds)
        return max(begins, self.probed_at + _PROBE_EVERY_SECONDS)


@dataclass(frozen=True, slots=True)
class Proof:
    """New connections have brought something, the last one asked at `began`.

    `after_silence` is when the last one was asked until which nothing had come at all.
    """

    began: float = -math.inf
    after_silence: float = -math.inf

    def after(self, began: float, *, ends_silence: bool) -> "Proof":
        """Another one has."""
        return Proof(max(self.began, began), began if ends_silence else self.after_silence)

    def allows(self, *, silent_since: float, is_stalled: bool) -> bool:
        """Whether a GET that has brought nothing since a moment may be asked for again, by this proof."""
        return silent_since < (self.began if is_stalled else self.after_silence)

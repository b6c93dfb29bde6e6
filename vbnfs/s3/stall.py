"""When a GET is taken to be stalled, and how many may be asked for twice (pure).

The time that a step may take is what TCP waits before it sends a segment again (RFC 6298, 2): the smoothed time that
steps took lately, and four times its mean deviation. So it follows the server and the line, and an ordinary hiccup
stays within it.
"""

from dataclasses import dataclass
from typing import Final

STEP_BYTES: Final = 64 << 10  # progress is judged by the time that so many bytes take, or the rest of a body
_LEAST_SECONDS: Final = 2.0  # S3 answers nearly all requests within a second: below that a hiccup would be a stall
_FIRST_SECONDS: Final = 5.0  # before anything is known
_MOST_SECONDS: Final = 10.0  # the client below gives up after 15 s without a byte
_HEDGES_PER_REQUEST: Final = 0.1
_MOST_SAVED: Final = 4.0


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
        return min(max(_LEAST_SECONDS, self.smoothed_seconds + 4 * self.deviation_seconds), _MOST_SECONDS)

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

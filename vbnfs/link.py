"""What GETs have shown of the way to a server (pure): how far it is, how fast, and how many GETs at a time fill it.

A GET is a round trip, and the server's work, before its first byte comes; then its body comes at the rate of its
connection. Three figures follow from that, and the planner goes by them: after how many bytes a GET is long enough,
how many bytes come in the time that a GET takes to begin, and how many GETs are worth having at a time.
"""

from dataclasses import dataclass, replace
from typing import Final

_LEAST_BODY_BYTES: Final = 1 << 20  # less says little about a rate: TCP starts slowly, and a piece comes at once
_SMOOTHING: Final = 1 / 8  # the part of a new figure, as in TCP's smoothed round trip (RFC 6298, 2)
_WORTHWHILE: Final = 12  # times as long as its first byte takes: then a connection is busy for 92 % of the time

FIRST_GETS: Final = 24
_STEP: Final = 1.5
_BETTER: Final = 1.05  # times as much a second: less may be chance
_LEAST_SECONDS: Final = 0.5  # of all connections at work: then their rate is known
_REST_SECONDS: Final = 60.0  # after more connections were of no use


@dataclass(frozen=True, slots=True)
class Link:
    """Seconds to a GET's first byte, and bytes a second of a body; 0 while they are not known.

    The rate is smoothed. The time follows the shortest ones: others have waited for this machine, too.
    """

    first_byte_seconds: float = 0.0
    body_rate: float = 0.0

    def after_get(self, first_byte_seconds: float, body_bytes: int, body_seconds: float) -> "Link":
        """The link after a GET: the time to its first byte, and how long the bytes behind that took.

        A body that is short, or came at once, says nothing about the rate.
        """
        rate = self.body_rate
        if body_bytes >= _LEAST_BODY_BYTES and body_seconds > 0:
            rate = _smoothed(rate, body_bytes / body_seconds)
        waited = max(0.0, first_byte_seconds)
        return Link(min(waited, _smoothed(self.first_byte_seconds, waited)), rate)

    @property
    def worthwhile_bytes(self) -> int:
        """How long a GET has to be, so that beginning it costs little."""
        return _WORTHWHILE * self.first_byte_bytes

    @property
    def first_byte_bytes(self) -> int:
        """How many bytes a connection brings in the time that a GET takes to its first byte."""
        return int(self.first_byte_seconds * self.body_rate)


@dataclass(frozen=True, slots=True)
class Width:
    """How many GETs at a time: 24, and by steps as many more as bring more together, up to `most`.

    `fewer` and their `fewer_rate` are what the last step was from; 0 if there was none. Times are of one clock, in
    seconds. `rests_until`: until then no step is tried.
    """

    most: int
    gets: int
    fewer: int = 0
    fewer_rate: float = 0.0
    count_bytes: int = 0
    seconds: float = 0.0
    rests_until: float = float("-inf")

    @classmethod
    def at_first(cls, most: int) -> "Width":
        """Before anything is known."""
        return cls(most, min(most, FIRST_GETS))

    def after(self, count_bytes: int, seconds: float, now: float) -> "Width":
        """So many bytes came by all connections together in so long a time in which all of them were at work."""
        sampled = replace(self, count_bytes=self.count_bytes + count_bytes, seconds=self.seconds + seconds)
        if sampled.seconds < _LEAST_SECONDS:
            return sampled
        return sampled._judged(sampled.count_bytes / sampled.seconds, now)

    def _judged(self, rate: float, now: float) -> "Width":
        if self.fewer and rate < self.fewer_rate * _BETTER:
            return Width(self.most, self.fewer, rests_until=now + _REST_SECONDS)
        if self.gets == self.most or now < self.rests_until:
            return Width(self.most, self.gets, rests_until=self.rests_until)
        return Width(self.most, min(self.most, int(self.gets * _STEP)), self.gets, rate)


def _smoothed(before: float, new: float) -> float:
    return before + (new - before) * _SMOOTHING if before else new

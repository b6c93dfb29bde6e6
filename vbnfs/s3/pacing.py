"""How many GETs may run at a time, and the client that keeps to it: fewer when the server says that it is too many.

TCP does so with its window (additive increase, multiplicative decrease: RFC 5681): every good answer allows a little
more, 503 SlowDown and 429 halve it. Prefetches get only a part, so that there is always room for a reader.
"""

from dataclasses import dataclass, replace
from typing import Final

import trio

from vbnfs.errors import BusyError
from vbnfs.objects import ObjectClient, RangeRequest, Receive
from vbnfs.s3.wrapper import WrapperClient

_FEWEST: Final = 2.0  # one for a reader, one for a prefetch
_ONE_SIGNAL_SECONDS: Final = 1.0  # GETs that run together are refused together: that counts once
_RESERVED: Final = 4  # while readers wait
_GETS_A_SPARE: Final = 16  # while none does


@dataclass(frozen=True, slots=True)
class Pace:
    """At most `limit` GETs at a time, never more than `most`. Immutable; times are of one clock, in seconds."""

    most: int
    limit: float
    slowed_at: float = float("-inf")

    @property
    def gets(self) -> int:
        """How many GETs there may be now."""
        return int(self.limit)

    def prefetches(self, *, demand_waits: bool) -> int:
        """How many of them may be prefetches. At least one, or prefetching would starve.

        The others are for readers, and for GETs that are made twice. `demand_waits`: lately, readers have
        waited for blocks that were not prefetched.
        """
        reserved = max(1, self.gets // _GETS_A_SPARE, min(_RESERVED, self.gets // 3) if demand_waits else 0)
        return max(1, self.gets - reserved)

    def after_answer(self) -> "Pace":
        """A GET was answered: after a round of such answers there may be one more."""
        return replace(self, limit=min(float(self.most), self.limit + 1 / self.limit))

    def after_busy(self, now: float) -> "Pace":
        """The server has refused: half as many. Refusals within a second count once."""
        if now - self.slowed_at < _ONE_SIGNAL_SECONDS:
            return self
        return replace(self, limit=max(min(_FEWEST, self.most), self.limit / 2), slowed_at=now)


class PacedClient(WrapperClient):
    """Lets only so many GETs of ranges run at a time, first come, first served; everything else is passed on."""

    def __init__(self, inner: ObjectClient, *, most: int) -> None:
        super().__init__(inner)
        self.pace = Pace(most, float(most))
        self._limiter = trio.CapacityLimiter(most)

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        """See `ObjectClient`."""
        async with self._limiter:
            try:
                await self._inner.get_range(request, receive)
            except BusyError:
                self._set(self.pace.after_busy(trio.current_time()))
                raise
            self._set(self.pace.after_answer())

    def prefetches(self, *, demand_waits: bool) -> int:
        """See `Pace.prefetches`, of the pace of now."""
        return self.pace.prefetches(demand_waits=demand_waits)

    def _set(self, pace: Pace) -> None:
        self.pace = pace
        self._limiter.total_tokens = pace.gets

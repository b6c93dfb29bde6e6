"""How many GETs may run at a time, and the client that keeps to it: as many as fill the link, as the server bears.

The link is measured by the GETs themselves (`link.py`): more run at a time as long as that brings more. When the
server says that it is too many there are fewer. TCP does so with its window (additive increase, multiplicative
decrease: RFC 5681): every good answer allows a little more, 503 SlowDown and 429 halve it, and so does a line on
which many GETs stall while others get on (hedging.py). No GET waits for those that stall. Prefetches get only a
part, so that there is always room for a reader. A short GET takes the line for a moment only: where all that fill the
link are running, it runs beside them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import trio

from vbnfs.errors import BusyError
from vbnfs.link import Link, Width
from vbnfs.objects import ObjectClient, RangeRequest, Receive, Received
from vbnfs.s3.wrapper import WrapperClient

_FEWEST: Final = 2.0  # one for a reader, one for a prefetch
_ONE_SIGNAL_SECONDS: Final = 1.0  # GETs that run together are refused together: that counts once
_SHORT_BYTES: Final = 2 << 20
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

    def after_answer(self) -> "Pace":
        """A GET was answered: after a round of such answers there may be one more."""
        return replace(self, limit=min(float(self.most), self.limit + 1 / self.limit))

    def after_busy(self, now: float) -> "Pace":
        """The server has refused: half as many. Refusals within a second count once."""
        if now - self.slowed_at < _ONE_SIGNAL_SECONDS:
            return self
        return replace(self, limit=max(min(_FEWEST, self.most), self.limit / 2), slowed_at=now)

    def after_stalls(self, now: float, stalled: int) -> "Pace":
        """So many GETs bring nothing, while others get on: half as many as well, and room for a few beside those."""
        slowed = self.after_busy(now)
        return replace(slowed, limit=min(float(self.most), max(slowed.limit, float(stalled + _RESERVED))))


def prefetches_of(gets: int, *, demand_waits: bool) -> int:
    """How many of so many GETs at a time may be prefetches. At least one, or prefetching would starve.

    The others are for readers, and for GETs that are made twice. `demand_waits`: lately, readers have waited for
    blocks that were not prefetched.
    """
    reserved = max(1, gets // _GETS_A_SPARE, min(_RESERVED, gets // 3) if demand_waits else 0)
    return max(1, gets - reserved)


class PacedClient(WrapperClient):
    """Lets only so many GETs of ranges run at a time, first come, first served; everything else is passed on."""

    def __init__(self, inner: ObjectClient, *, most: int) -> None:
        super().__init__(inner)
        self.pace = Pace(most, float(most))
        self.link = Link()
        self._width = Width.at_first(most)
        self._limiter = trio.CapacityLimiter(self.gets)
        self._beside = 0  # short GETs that run beside those of the limiter
        self._full_at: float | None = None  # when bytes came last, if all GETs that there may be were running then

    @property
    def gets(self) -> int:
        """How many GETs there may be now: at least one."""
        return min(self.pace.gets, self._width.gets)

    @property
    def short_gets(self) -> int:
        """How many there may be of GETs that are short: as many as there are connections, and the server bears."""
        return self.pace.gets

    def prefetches(self, *, demand_waits: bool) -> int:
        """See `prefetches_of`, of the GETs that there may be now."""
        return prefetches_of(self.gets, demand_waits=demand_waits)

    def note_stalls(self, stalled: int) -> None:
        """The line has more GETs than it can carry: see `Pace.after_stalls`."""
        self.pace = self.pace.after_stalls(trio.current_time(), stalled)
        self._set_limit()

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        """See `ObjectClient`."""
        async with self._turn(len(request.byte_range)):
            measured = _Measured()

            async def receive_measured(received: Received) -> None:
                measured.note(len(received))
                self._note_bytes(len(received))
                await receive(received)

            try:
                await self._inner.get_range(request, receive_measured)
            except BusyError:
                self.pace = self.pace.after_busy(trio.current_time())
                self._set_limit()
                raise
            self.link = measured.after(self.link)
            self.pace = self.pace.after_answer()
            self._set_limit()

    @asynccontextmanager
    async def _turn(self, count_bytes: int) -> AsyncIterator[None]:
        is_full = self._limiter.available_tokens <= 0
        if count_bytes > _SHORT_BYTES or not is_full or self._beside >= self.short_gets - self.gets:
            async with self._limiter:
                yield
            return
        self._beside += 1
        try:
            yield
        finally:
            self._beside -= 1

    def _note_bytes(self, count_bytes: int) -> None:
        now, is_full = trio.current_time(), self._limiter.available_tokens <= 0
        if is_full and self._full_at is not None:
            self._width = self._width.after(count_bytes, now - self._full_at, now)
            self._set_limit()
        self._full_at = now if is_full else None

    def _set_limit(self) -> None:
        self._limiter.total_tokens = self.gets


class _Measured:
    """When the bytes of one GET came, by the clock of the run."""

    def __init__(self) -> None:
        self._began = self._first_at = self._last_at = trio.current_time()
        self._first_bytes = self._later_bytes = 0

    def note(self, count_bytes: int) -> None:
        """So many bytes came."""
        self._last_at = trio.current_time()
        if self._first_bytes:
            self._later_bytes += count_bytes
        else:
            self._first_at, self._first_bytes = self._last_at, count_bytes

    def after(self, link: Link) -> Link:
        """The link after this GET. What came first did not come at once: its own time is taken off."""
        later = link.after_get(link.first_byte_seconds, self._later_bytes, self._last_at - self._first_at)
        first_seconds = self._first_bytes / later.body_rate if later.body_rate else 0.0
        waited = self._first_at - self._began - first_seconds
        return link.after_get(waited, self._later_bytes, self._last_at - self._first_at)

"""How long a server near this machine may bring nothing: a mirror, or a site cache.

All GETs of a server share its time: a proxy serves one after the other, so a byte for any of them is a sign of life.
A site cache that lacks what is asked for waits for S3, to which all of a site may be asking through the same line. So
one that has brought nothing for half of its time is asked whether it is there (`is_there`), and has all of its time
to answer: this machine may be busy itself. Where it is there, it has more time.

A GET of which bytes have come is to get on by itself: what trickles would keep its readers until their time is over.

Servers that are asked one after the other for the same bytes have the time of one together: S3 is to have the rest.
"""

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from vbnfs.reading.deadlines import STEP_BYTES

MORE: Final = 3  # times as long may a server bring nothing that answers
_PART: Final = 2  # after this part of its time it is asked


class Waiting:
    """A GET that waits for its server's bytes; `since` when something waits for them, also of servers before.

    `is_receiving`: its receiver has some, and takes time.

    `step_since` is when `STEP_BYTES` of it had come last, at first any; before that, infinite. `ended`: why it was.
    """

    def __init__(self, since: float) -> None:
        self.since = since
        self.step_since = math.inf
        self.is_receiving = False
        self.ended: str | None = None
        self._step_bytes = 0

    @contextmanager
    def receiving(self, count_bytes: int) -> Iterator[None]:
        """While entered, its receiver has so many bytes: that time is not the server's."""
        began = trio.current_time()
        self.is_receiving = True
        yield
        self.is_receiving = False
        self._step_bytes += count_bytes
        if self._step_bytes >= STEP_BYTES or math.isinf(self.step_since):
            self._step_bytes, self.step_since = 0, trio.current_time()
        else:
            self.step_since += trio.current_time() - began


class Patience:
    """With one server, for `seconds`. `is_there` asks it for a sign of life; None: only bytes are one."""

    def __init__(self, seconds: float, is_there: Callable[[], Awaitable[bool]] | None = None) -> None:
        self.seconds: Final = seconds
        self._is_there = is_there
        self._heard_at = -math.inf  # a byte came, for any GET
        self._answered_at = -math.inf
        self._asking = trio.Lock()

    def heard(self) -> None:
        """The server has brought something: all who wait for it have patience anew."""
        self._heard_at = trio.current_time()

    def has_time(self, since: float) -> bool:
        """Whether it can be asked for what something waits for since a moment."""
        return trio.current_time() < since + MORE * self.seconds

    async def end(self, waiting: Waiting, scope: trio.CancelScope) -> None:
        """Cancel the scope of a GET once its server has brought nothing to any for too long, or it trickles."""
        most = MORE * self.seconds
        while waiting.ended is None:
            silent_since, slow_at = max(waiting.since, self._heard_at), waiting.step_since + most
            now = trio.current_time()
            if waiting.is_receiving:
                await trio.sleep(self.seconds)
            elif slow_at <= now:
                waiting.ended = f"less than {STEP_BYTES:,} bytes in {most:.0f} s"
            elif (due := self._due(silent_since)) > now:
                await trio.sleep_until(min(due, slow_at))
            elif await self._has_more(silent_since):
                continue
            elif silent_since >= self._heard_at and not waiting.is_receiving:
                waiting.ended = f"no byte for {self.seconds:.0f} s"
        scope.cancel()

    def _due(self, silent_since: float) -> float:
        """When to do something, where a server is silent since a moment: to ask it, or to end."""
        if self._is_there is None:
            return silent_since + self.seconds
        last = silent_since + MORE * self.seconds
        return min(last, max(silent_since, self._answered_at) + self.seconds / _PART)

    async def _has_more(self, silent_since: float) -> bool:
        """Whether the server has time left: it is asked, once for all GETs that wait."""
        if self._is_there is None or not self.has_time(silent_since):
            return False
        async with self._asking:
            now = trio.current_time()
            if self._due(silent_since) > now:
                return True  # it was asked for another one
            with trio.move_on_at(min(now + self.seconds, silent_since + MORE * self.seconds)):
                if await self._is_there():
                    self._answered_at = trio.current_time()
                    return True
        return False

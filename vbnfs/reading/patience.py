"""How long a server near this machine may bring nothing: a mirror, or a site cache.

All GETs of a server share its time: a proxy serves one after the other, so a byte for any of them is a sign of life.
A site cache that lacks what is asked for waits for S3, to which all of a site may be asking through the same line. So
one that has brought nothing for half of its time is asked whether it is there (`is_there`), and has all of its time
to answer: this machine may be busy itself. Where it is there, it has more time.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Final

import trio

MORE: Final = 3  # times as long may a server bring nothing that answers
_PART: Final = 2  # after this part of its time it is asked


class Waiting:
    """A GET that waits for its server's bytes, from now on. `is_receiving`: its receiver has some, and takes time."""

    def __init__(self) -> None:
        self.since = trio.current_time()
        self.is_receiving = False
        self.is_over = False  # it was ended, since nothing came for too long


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

    async def end(self, waiting: Waiting, scope: trio.CancelScope) -> None:
        """Cancel the scope of a GET once its server has brought nothing to any for too long."""
        while True:
            silent_since = max(waiting.since, self._heard_at)
            now = trio.current_time()
            if waiting.is_receiving:
                await trio.sleep(self.seconds)
            elif (due := self._due(silent_since)) > now:
                await trio.sleep_until(due)
            elif await self._has_more(silent_since):
                continue
            elif silent_since >= self._heard_at and not waiting.is_receiving:
                break
        waiting.is_over = True
        scope.cancel()

    def _due(self, silent_since: float) -> float:
        """When to do something, where a server is silent since a moment: to ask it, or to end."""
        if self._is_there is None:
            return silent_since + self.seconds
        last = silent_since + MORE * self.seconds
        return min(last, max(silent_since, self._answered_at) + self.seconds / _PART)

    async def _has_more(self, silent_since: float) -> bool:
        """Whether the server has time left: it is asked, once for all GETs that wait."""
        if self._is_there is None or trio.current_time() >= silent_since + MORE * self.seconds:
            return False
        async with self._asking:
            if self._due(silent_since) > trio.current_time():
                return True  # it was asked for another one
            with trio.move_on_after(self.seconds):
                if await self._is_there():
                    self._answered_at = trio.current_time()
                    return True
        return False

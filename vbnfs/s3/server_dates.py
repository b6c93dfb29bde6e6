"""What a server says of the time, where its certificate is refused for its dates: asked once for all requests."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import trio

from vbnfs.s3.certificates import Dates

_REMEMBERED_SECONDS: Final = 300.0  # a clock that is set, or a certificate that is renewed, shows after that


class ServerDates:
    """What `ask` gives, remembered for some minutes, also that the server does not say."""

    def __init__(self, ask: Callable[[], Awaitable[Dates | None]]) -> None:
        self._ask = ask
        self._asking = trio.Lock()
        self._found: Dates | None = None
        self._asked_at: float | None = None

    async def get(self) -> Dates | None:
        """As `ask` gave them; the server's time goes on meanwhile. All that ask at the same time share one answer."""
        async with self._asking:
            if self._asked_at is None or trio.current_time() - self._asked_at > _REMEMBERED_SECONDS:
                self._found = await self._ask()
                self._asked_at = trio.current_time()
            passed = trio.current_time() - self._asked_at
        return self._found and replace(self._found, server_time=self._found.server_time + passed)

"""Let pyfuse3 answer requests that are waiting one after the other, without a round of the event loop for each.

pyfuse3 waits for /dev/fuse with `trio.lowlevel.wait_readable` under a `trio.Lock`: two or three rounds of the loop,
with system calls of their own, for every request, also if the next request is there already. That is most of what
answering from the tree costs: `ls -lR` of the whole dataset is 80,000 requests. pyfuse3 looks its `trio` up when it
uses it (its own asyncio support replaces it), so here it gets one whose lock and `wait_readable` return at once when
there is nothing to wait for. After a millisecond they yield all the same, for the other tasks.
"""

import select
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Final

import pyfuse3
import trio

YIELD_SECONDS: Final = 0.001  # other tasks wait no longer, but for the request that is being answered


def install() -> None:
    """Give pyfuse3 its `trio`, before `pyfuse3.main`."""
    vars(pyfuse3)["trio"] = SimpleNamespace(
        **{name: value for name, value in vars(trio).items() if name not in {"Lock", "lowlevel"}},
        Lock=EagerLock,
        lowlevel=SimpleNamespace(**{**vars(trio.lowlevel), "wait_readable": Readiness().wait}),
    )


class Readiness:
    """Waits for one descriptor; by poll(2) first, which takes a microsecond."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._poll: select.poll | None = None
        self._yielded = clock()

    async def wait(self, descriptor: int) -> None:
        """Return when `descriptor` can be read."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLIN)
        if not self._poll.poll(0):
            await trio.lowlevel.wait_readable(descriptor)
        elif self._clock() - self._yielded > YIELD_SECONDS:
            await trio.lowlevel.checkpoint()
        else:
            return
        self._yielded = self._clock()


class EagerLock:
    """A lock that is taken at once if it is free, also before those who wait.

    Whoever leaves it wakes one of them. That one runs when the leaver has to wait for something: then somebody
    else must look after the descriptor. Until then the leaver may take the lock again.
    """

    def __init__(self) -> None:
        self._is_held = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        while self._is_held:
            await self._waiting.park()
        self._is_held = True

    async def __aexit__(self, *_: object) -> None:
        self._is_held = False
        self._waiting.unpark()

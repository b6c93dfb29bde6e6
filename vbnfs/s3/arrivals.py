"""Events of a GET on their way to the task that waits for them, and how much of it is waiting.

Outlet      what a transfer in libcurl's thread needs of it
Flow        how much has come and was not taken; when a transfer that was paused for it goes on
Mailbox     on the event loop: events that came and were not taken yet
Arrivals    both, for a thread of this process
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import trio

from vbnfs.blocks import PIECE_BYTES
from vbnfs.objects import Piece, Stored
from vbnfs.s3.ranges import Event


class Outlet(Protocol):
    """Where the events of a transfer go. `received_bytes` is changed by libcurl's thread only."""

    received_bytes: int

    @property
    def waiting_bytes(self) -> int:
        """Received and not taken yet."""
        ...

    def post(self, event: Event) -> None:
        """Have an event received."""
        ...

    def post_pause(self) -> None:
        """The transfer is paused, until enough was taken."""
        ...


class Flow:
    """What of a transfer was received and taken. `resume` has it go on. For one thread, but for `received_bytes`."""

    def __init__(self, resume: Callable[[], None]) -> None:
        self._resume = resume
        self._is_paused = False
        self._taken_bytes = 0
        self.received_bytes = 0  # changed by libcurl's thread only

    @property
    def waiting_bytes(self) -> int:
        """Received and not taken yet."""
        return self.received_bytes - self._taken_bytes

    def take(self, count_bytes: int) -> None:
        """So much more was taken."""
        self._taken_bytes += count_bytes
        self._resume_soon()

    def pause(self) -> None:
        """The transfer is paused."""
        self._is_paused = True
        self._resume_soon()

    def _resume_soon(self) -> None:
        if self._is_paused and self.waiting_bytes < PIECE_BYTES:
            self._is_paused = False
            self._resume()


class Mailbox:
    """Events of a transfer in their order. Made and used on the event loop, but for `post`."""

    def __init__(self, take: Callable[[int], None]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._events: deque[Event] = deque()
        self._changed = trio.lowlevel.ParkingLot()
        self._take = take
        self._is_open = True

    async def next(self) -> Event:
        """See `Transfer` in ranges.py."""
        while not self._events:
            await self._changed.park()
        event = self._events.popleft()
        if isinstance(event, Piece | Stored):
            self._take(len(event))
        return event

    def close(self) -> None:
        """Nothing more is wanted."""
        self._is_open = False
        self._events.clear()

    def _receive(self, event: Event) -> None:
        if not self._is_open:
            return
        before = self._events[-1] if self._events else None
        if isinstance(event, Stored) and isinstance(before, Stored) and before.stop == event.start:
            self._events[-1] = Stored(before.start, event.stop)  # one event will do
        else:
            self._events.append(event)
            self._changed.unpark_all()

    # In other threads

    def post(self, event: Event) -> None:
        """Have the event loop receive an event."""
        self._post(self._receive, event)

    def _post(self, receive: Callable[..., None], *what: object) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(receive, *what)


class Arrivals(Flow, Mailbox):
    """The `Outlet` of a transfer in a thread of this process: it counts what is taken on the event loop."""

    def __init__(self, resume: Callable[[], None]) -> None:
        Flow.__init__(self, resume)
        Mailbox.__init__(self, self.take)

    def post_pause(self) -> None:
        """See `Outlet`."""
        self._post(self.pause)

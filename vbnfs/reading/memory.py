"""How much memory reading may take: one limit, in three parts.

    recent      the blocks that came last (recent.py)                                  an eighth, at most 32 MiB
    answers     what readers that wait for S3 assemble their replies from, and the replies    a quarter
    blocks      what fetches have in transit; blocks that wait for the disk                   the rest

A `Budget` grants no more than its limit. A lone holder may exceed it, so that a single block can always be fetched.

It cannot deadlock. A fetch that waits to begin holds nothing of `blocks`, and it gives back what it gets without
waiting for `answers`. A reader that waits for `answers` holds nothing at all. A fetch that goes on needs room for one
more block while another one is on its way to the disk: it waits for no more than that, and is served before fetches
that have not begun. A disk that does not answer keeps the room of what is being written, a quarter at the most: the
blocks behind it give theirs up (block_writer.py).
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from vbnfs.reading.recent import Recent

_MOST_RECENT_BYTES: Final = 32 << 20


@dataclass(eq=False, slots=True)
class _Waiting:
    count_bytes: int
    granted: trio.Event = field(default_factory=trio.Event)


class Budget:
    """Bytes that may be held at a time. Waiting tasks are served first come, first served; those that go on first.

    Invariant: `held_bytes` is at most `limit_bytes`, or there is one holder.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.most_bytes = 0  # that were ever held
        self._going_on: deque[_Waiting] = deque()
        self._beginning: deque[_Waiting] = deque()
        self._has_waiting = trio.lowlevel.ParkingLot()  # woken when one more task waits

    @property
    def is_lacking(self) -> bool:
        """Whether a task waits for room."""
        return bool(self._going_on or self._beginning)

    async def lacks(self) -> None:
        """Wait until one more task waits for room."""
        await self._has_waiting.park()

    def try_take(self, count_bytes: int, *, leave_bytes: int) -> bool:
        """Take at once, if that leaves `leave_bytes` free and no other task waits. Returns whether it was taken."""
        if self.is_lacking or not self.has_room(count_bytes + leave_bytes):
            return False
        self._grant(count_bytes)
        return True

    async def take(self, count_bytes: int, *, goes_on: bool = False) -> None:
        """Wait for a turn; a task that `goes_on` comes before those that begin. Being cancelled takes nothing."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if goes_on and not self._going_on and self.has_room(count_bytes):
            self._grant(count_bytes)
            return
        if self.try_take(count_bytes, leave_bytes=0):
            return
        waiting, place = self._going_on if goes_on else self._beginning, _Waiting(count_bytes)
        waiting.append(place)
        self._has_waiting.unpark_all()
        try:
            await place.granted.wait()
        except trio.Cancelled:
            if place.granted.is_set():
                self.give_back(count_bytes)
            else:
                waiting.remove(place)
                self._serve()
            raise

    def give_back(self, count_bytes: int) -> None:
        """Hold `count_bytes` less; waiting tasks that have room now are served."""
        self.held_bytes -= count_bytes
        self._serve()

    @asynccontextmanager
    async def holding(self, count_bytes: int) -> AsyncIterator[None]:
        """Hold `count_bytes` while entered."""
        await self.take(count_bytes)
        try:
            yield
        finally:
            self.give_back(count_bytes)

    def has_room(self, count_bytes: int) -> bool:
        """Whether so much may be held now, if no other task waits."""
        return self.held_bytes == 0 or self.held_bytes + count_bytes <= self.limit_bytes

    def _grant(self, count_bytes: int) -> None:
        self.held_bytes += count_bytes
        self.most_bytes = max(self.most_bytes, self.held_bytes)

    def _serve(self) -> None:
        while (waiting := self._going_on or self._beginning) and self.has_room(waiting[0].count_bytes):
            place = waiting.popleft()
            self._grant(place.count_bytes)
            place.granted.set()


class Memory:
    """The memory of one mount, within `limit_bytes`, which is at least 2 MiB: an eighth has to hold a block."""

    def __init__(self, limit_bytes: int) -> None:
        self.recent = Recent(min(_MOST_RECENT_BYTES, limit_bytes // 8))
        self.answers = Budget(limit_bytes // 4)
        self.blocks = Budget(limit_bytes - self.recent.limit_bytes - self.answers.limit_bytes)

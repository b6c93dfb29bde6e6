"""How much memory reading may take: one limit, divided among those who hold bytes.

    recent      the blocks that came last                                    an eighth, 32 MiB at the most
    answers     what readers that wait for S3 put their answers together from, and the answers    a quarter
    blocks      what a GET has received and not cut into blocks yet; blocks until they are on the disk    the rest

A `Budget` never grants more than its limit, but for one holder alone, however much he wants: so whoever needs one
block gets it. It cannot deadlock: who begins to wait for `blocks` holds nothing of `blocks`, and gives back what he
gets without waiting for `answers`; who waits for `answers` holds nothing at all. A GET that goes on needs room for
another block when one is on its way to the disk: it waits for no more than that, before those who have not begun.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio
from cachetools import FIFOCache

from vbnfs.objects import BlockKey

_MOST_RECENT_BYTES: Final = 32 << 20


@dataclass(eq=False, slots=True)
class _Waiting:
    count_bytes: int
    granted: trio.Event = field(default_factory=trio.Event)


class Budget:
    """Bytes that may be held at a time. Who waits is served in the order of coming, those who go on first.

    Invariant: `held_bytes` is at most `limit_bytes`, or there is one holder.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.most_bytes = 0  # that were ever held
        self._going_on: deque[_Waiting] = deque()
        self._beginning: deque[_Waiting] = deque()

    def try_take(self, count_bytes: int, *, leave_bytes: int) -> bool:
        """Take without waiting, if so much is left over for others, and none of them waits; whether it was taken."""
        if self._going_on or self._beginning or not self.has_room(count_bytes + leave_bytes):
            return False
        self._grant(count_bytes)
        return True

    async def take(self, count_bytes: int, *, goes_on: bool = False) -> None:
        """Wait for one's turn; who `goes_on` comes before those who begin. Being cancelled takes nothing."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if goes_on and not self._going_on and self.has_room(count_bytes):
            self._grant(count_bytes)
            return
        if self.try_take(count_bytes, leave_bytes=0):
            return
        waiting, place = self._going_on if goes_on else self._beginning, _Waiting(count_bytes)
        waiting.append(place)
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
        """Hold so much less."""
        self.held_bytes -= count_bytes
        self._serve()

    @asynccontextmanager
    async def holding(self, count_bytes: int) -> AsyncIterator[None]:
        """Take, and give back at the end."""
        await self.take(count_bytes)
        try:
            yield
        finally:
            self.give_back(count_bytes)

    def has_room(self, count_bytes: int) -> bool:
        """Whether so much may be held now, if nobody else waits."""
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
        self.recent_bytes = min(_MOST_RECENT_BYTES, limit_bytes // 8)
        # First in, first out: blocks that came in one piece share its memory, and leave it together.
        self.recent: FIFOCache[BlockKey, bytes | memoryview] = FIFOCache(self.recent_bytes, getsizeof=len)
        self.answers = Budget(limit_bytes // 4)
        self.blocks = Budget(limit_bytes - self.recent_bytes - self.answers.limit_bytes)

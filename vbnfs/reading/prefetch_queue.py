"""Which prefetch is next: one for a program that reads on, one for its structure, one for what it may read later.

Last comes what no program reads, and a person has asked for as a whole.
"""

from collections import deque
from collections.abc import Iterable
from enum import IntEnum

from vbnfs.objects import Content


class Rank(IntEnum):
    """What a prefetch is for; those of a smaller number go first."""

    READ_AHEAD = 0  # a program reads on
    STRUCTURE = 1  # a program goes through a file's structure
    LATER = 2  # a program may read it some time
    FILLING = 3  # a person wants all of it in the cache


class PrefetchQueue:
    """Blocks by which prefetches begin, in order: those of one rank in the order in which they came."""

    def __init__(self) -> None:
        self._queues: dict[Rank, deque[tuple[Content, int]]] = {rank: deque() for rank in Rank}

    def __bool__(self) -> bool:
        return any(self._queues.values())

    def extend(self, firsts: Iterable[tuple[Content, int]], rank: Rank) -> None:
        """More of them. One that is there already, with a lower rank, is there twice then: it is begun once."""
        self._queues[rank].extend(firsts)

    @property
    def rank(self) -> Rank:
        """That of the next one; the first where there is none."""
        return next((rank for rank, queue in self._queues.items() if queue), Rank.READ_AHEAD)

    @property
    def last_rank(self) -> Rank:
        """That of the last one; the first where there is none."""
        return max((rank for rank, queue in self._queues.items() if queue), default=Rank.READ_AHEAD)

    def first(self) -> tuple[Content, int]:
        """The next one."""
        return self._queues[self.rank][0]

    def drop_first(self) -> None:
        """It has begun, or need not."""
        self._queues[self.rank].popleft()

"""A reader, a link and the GETs between them, in simulated seconds: the planner's decisions, without a network.

Each connection waits for its first byte, and then brings bytes at its rate; all of them share the link's. The reader
reads a file in a row, 512 KiB at a time. What it decides with is the planner's, the pace's and the link's own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.link import Link, Width
from vbnfs.objects import ByteRange
from vbnfs.reading.planner import (
    AccessPattern,
    even_share,
    fresh_advice,
    lent_share,
    longest_get,
    step_blocks,
    window_bytes,
)
from vbnfs.s3.pacing import prefetches_of

_NOW = 1e-12  # seconds, within which two things happen at the same time
_REQUEST_BLOCKS = 2
_ROOM_BYTES = 25 << 30


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds to the first byte, bytes a second of a connection, and of all together."""

    first_byte_seconds: float
    rate: float
    total_rate: float = 1.2e9

    def ideal_seconds(self, size_bytes: int, connections: int) -> float:
        """What a file takes, if all connections bring an even part of it from the beginning."""
        return self.first_byte_seconds + size_bytes / min(self.total_rate, connections * self.rate)


@dataclass(eq=False, slots=True)
class _Get:
    indices: range
    began: float
    first_byte_at: float
    is_lent: bool
    count_bytes: float = 0.0
    done: int = 0

    @property
    def left_of_block(self) -> float:
        return (self.done + 1) * BLOCK_BYTES - self.count_bytes


class Simulation:
    """One file, read once by one reader, with at most `most` connections. The decisions stay for a next file."""

    def __init__(
        self,
        line: Line,
        size_bytes: int,
        *,
        most: int,
        link: Link | None = None,
        width: Width | None = None,
        reader_rate: float = 1.5e9,
    ) -> None:
        self.link, self.width = link or Link(), width or Width.at_first(most)
        self.requests = self.fetched_blocks = self.most_at_a_time = 0
        self._line, self._size_bytes, self._reader_rate = line, size_bytes, reader_rate
        self._now = self._ready_at = 0.0
        self._gets: list[_Get] = []
        self._here = set[int]()
        self._queue: list[int] = []  # of prefetches; those that `_queued` has not are begun already
        self._queued = set[int]()
        self._coming = 0  # blocks that are wanted and have not come
        self._window_blocks = 0
        self._pattern, self._advised = AccessPattern(), ByteRange(0, 0)

    def run(self) -> float:
        """How many seconds it takes to read the file."""
        indices = blocks_of(ByteRange(0, self._size_bytes))
        for first in indices[::_REQUEST_BLOCKS]:
            while self._now < self._ready_at - _NOW:
                self._go_on(self._ready_at - self._now)
            wanted = range(first, min(first + _REQUEST_BLOCKS, indices.stop))
            self._want(wanted)
            while not self._here.issuperset(wanted):
                self._go_on(math.inf)
            self._ready_at = self._now + len(wanted) * BLOCK_BYTES / self._reader_rate
        return self._ready_at

    # What the reader does

    def _want(self, wanted: Sequence[int]) -> None:
        start, stop = wanted[0] * BLOCK_BYTES, min((wanted[-1] + 1) * BLOCK_BYTES, self._size_bytes)
        self._pattern = self._pattern.after(ByteRange(start, stop))
        if self._pattern.is_sequential:
            self._advise()
        self._enqueue([index for index in wanted if index not in self._here])
        for index in wanted:
            if index in self._queued and len(self._gets) < self.width.gets:
                self._begin(index, is_lent=False)
        self._queue[:0] = [
            index for index in wanted if index in self._queued
        ]  # the first ones, when it is their turn

    def _advise(self) -> None:
        """As FileReader does."""
        window = window_bytes(self.link, connections=self.width.gets, longest=self._longest())
        ahead = self._pattern.readahead(self._size_bytes, room_bytes=_ROOM_BYTES, window_bytes=window)
        fresh = fresh_advice(ahead, max(self._advised.stop, ahead.start))
        goes_on = fresh.stop < self._size_bytes
        if fresh and not (goes_on and len(fresh) < step_blocks(len(ahead), readers=1) * BLOCK_BYTES):
            self._advised = ByteRange(0, fresh.stop)
            self._enqueue([index for index in blocks_of(fresh) if index not in self._here])
            self._window_blocks = len(ahead) // BLOCK_BYTES if goes_on else 0
            self._begin_prefetches()

    # What the block source does

    def _longest(self) -> int:
        return longest_get(self.link)

    def _enqueue(self, indices: Sequence[int]) -> None:
        under_way = {index for get in self._gets for index in get.indices}
        new = [index for index in indices if index not in self._queued and index not in under_way]
        self._queue += new
        self._queued |= set(new)
        self._coming += len(new)

    def _begin_prefetches(self) -> None:
        kept = prefetches_of(self.width.gets, demand_waits=False)
        while self._queue and len(self._gets) < self.width.gets:
            first = self._queue.pop(0)
            if first in self._queued:
                self._begin(first, is_lent=sum(not get.is_lent for get in self._gets) >= kept)

    def _begin(self, first: int, *, is_lent: bool) -> None:
        share = even_share(
            self._coming,
            connections=self.width.gets,
            window_blocks=self._window_blocks,
            longest=lent_share(self.link) if is_lent else self._longest(),
        )
        stop = first + 1
        while stop - first < share and stop in self._queued:
            stop += 1
        self._queued -= set(range(first, stop))
        self._gets.append(_Get(range(first, stop), self._now, self._now + self._line.first_byte_seconds, is_lent))
        self.requests += 1
        self.fetched_blocks += stop - first
        self.most_at_a_time = max(self.most_at_a_time, len(self._gets))

    # What the link does

    def _go_on(self, at_most: float) -> None:
        """Until the next thing happens: a first byte, or the end of a block."""
        receiving = [get for get in self._gets if get.first_byte_at <= self._now + _NOW]
        rate = min(self._line.rate, self._line.total_rate / max(1, len(receiving)))
        times = [get.left_of_block / rate for get in receiving]
        times += [get.first_byte_at - self._now for get in self._gets if get.first_byte_at > self._now + _NOW]
        seconds = min([at_most, *times])
        if len(self._gets) >= self.width.gets:
            came = int(rate * seconds * len(receiving))
            self.width = self.width.after(came, seconds, self._now + seconds)
        self._now += seconds
        for get in receiving:
            get.count_bytes += rate * seconds
            self._settle(get)

    def _settle(self, get: _Get) -> None:
        if get.left_of_block > 1e-3:
            return
        self._here.add(get.indices[get.done])
        self._coming -= 1
        get.done += 1
        if get.done == len(get.indices):
            self._gets.remove(get)
            waited = get.first_byte_at - get.began
            self.link = self.link.after_get(waited, int(get.count_bytes), self._now - get.first_byte_at)
            self._begin_prefetches()

"""A program: walks the structure of HDF5 files for a daemon, which is at the other end of its standard input.

    ["begin", WALK, SIZE]       a walk of a file of so many bytes
    ["block", WALK, BLOCK]      a block of it, which comes behind the message
    ["go", WALK]                go on with the blocks that have come; the answer is [BLOCKS to send next, IS_OVER,
                                EXTENTS of arrays of which more is known than before, IS_OF_INDEXES, HAS_ALL,
                                BLOCKS that are read along]
    ["end", WALK]               forget it

It ends with that socket. It is started with the least priority for the processor. Without memory
it ends, and its walks with it.
"""

import socket
import time
from itertools import islice
from typing import Any, Final

from vbnfs.hdf5.branches import Bounds, Wanted
from vbnfs.hdf5.structure import Extent
from vbnfs.hdf5.walk import Walk
from vbnfs.host.limits import take_little_memory
from vbnfs.host.message_link import Letter, Link, ignore_ends
from vbnfs.reading.walker_words import BOUNDED_BYTES, BOUNDED_SECONDS, CODEC, MOST_EXTENTS

_BOUNDS: Final = Bounds(fetched_bytes=BOUNDED_BYTES, block_bytes=BOUNDED_BYTES, seconds=BOUNDED_SECONDS)
# The process takes 18 MB, and a walk some more. A hostile file of 11 MiB makes its walk take 82 MiB.
_MOST_MEMORY_BYTES: Final = 512 << 20


class _OneWalk:
    """A walk, the blocks that came for it since it last went on, and what was said of its arrays."""

    def __init__(self, size_bytes: int) -> None:
        self.blocks: dict[int, bytes] = {}
        self._spent_seconds = 0.0
        self._began: float | None = None
        wanted = Wanted(places=True)
        self._walk = Walk(size_bytes, self.blocks.get, bounds=_BOUNDS, clock=self._seconds, wanted=wanted)
        self._said: dict[int, Extent] = {}  # by where they begin

    def go_on(self) -> list[object]:
        """One step. Returns the answer."""
        self._began = time.monotonic()
        wave = self._walk.advance()
        self.blocks.clear()  # the walk has what it wants of them
        walk, of_indexes = self._walk, bool(wave & self._walk.index_blocks)
        about = [of_indexes, walk.has_all_but_indexes, walk.beside]
        answer = [sorted(wave), not walk.outstanding, self._news(), *about]
        self._spent_seconds, self._began = self._seconds(), None
        return answer

    def _news(self) -> list[Extent]:
        known = {extent.start: extent for extent in islice(self._walk.extents(), MOST_EXTENTS)}
        news = [extent for start, extent in known.items() if self._said.get(start) != extent]
        self._said = known
        return news

    def _seconds(self) -> float:
        """For how long it has gone on, not counting the time between steps."""
        return self._spent_seconds + (0.0 if self._began is None else time.monotonic() - self._began)


class Walks:
    """Walks by their numbers."""

    def __init__(self) -> None:
        self._walks: dict[int, _OneWalk] = {}

    def follow(self, message: list[Any], data: bytes) -> object:
        """Do what a message says. Returns the answer, None if there is none."""
        match message:
            case ["begin", number, size_bytes]:
                self._walks[number] = _OneWalk(size_bytes)
            case ["block", number, index]:
                self._walks[number].blocks[index] = data
            case ["go", number]:
                return self._walks[number].go_on()
            case ["end", number]:
                self._walks.pop(number, None)
        return None


def main() -> None:
    """Walk until the daemon has ended."""
    ignore_ends()
    take_little_memory(_MOST_MEMORY_BYTES)
    walks = Walks()
    with socket.socket(fileno=0) as connection:
        link = Link(connection, CODEC)
        while (letter := link.receive()) is not None:
            answer = walks.follow(letter.message, letter.data)
            if answer is not None:
                link.send(Letter(answer))

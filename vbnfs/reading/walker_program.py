"""A program: walks the structure of HDF5 files for a daemon, which is at the other end of its standard input.

    ["begin", WALK, SIZE]       a walk of a file of so many bytes
    ["block", WALK, BLOCK]      a block of it, which comes behind the message
    ["go", WALK]                go on with the blocks that have come; the answer is [BLOCKS to send next, IS_OVER]
    ["end", WALK]               forget it

It ends with that socket. It is behind all others for the processor.
"""

import os
import signal
import socket
from typing import Any, Final

from vbnfs.hdf5.branches import Bounds
from vbnfs.hdf5.walk import Walk
from vbnfs.host.message_link import Letter, Link
from vbnfs.reading.walker import BOUNDED_BYTES, BOUNDED_SECONDS, CODEC

_BOUNDS: Final = Bounds(fetched_bytes=BOUNDED_BYTES, block_bytes=BOUNDED_BYTES, seconds=BOUNDED_SECONDS)
_LEAST_PRIORITY: Final = 19


class _Walks:
    """Walks by their numbers, and the blocks that came for each since it last went on."""

    def __init__(self) -> None:
        self._walks: dict[int, tuple[Walk, dict[int, bytes]]] = {}

    def follow(self, message: list[Any], data: bytes) -> object:
        """Do what a message says. Returns the answer, None if there is none."""
        match message:
            case ["begin", number, size_bytes]:
                blocks: dict[int, bytes] = {}
                self._walks[number] = Walk(size_bytes, blocks.get, bounds=_BOUNDS), blocks
            case ["block", number, index]:
                self._walks[number][1][index] = data
            case ["go", number]:
                walk, blocks = self._walks[number]
                wave = walk.advance()
                blocks.clear()  # the walk has what it wants of them
                return [sorted(wave), not walk.outstanding]
            case ["end", number]:
                self._walks.pop(number, None)
        return None


def main() -> None:
    """Walk until the daemon has ended."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(_LEAST_PRIORITY)
    walks = _Walks()
    with socket.socket(fileno=0) as connection:
        link = Link(connection, CODEC)
        while (letter := link.receive()) is not None:
            answer = walks.follow(letter.message, letter.data)
            if answer is not None:
                link.send(Letter(answer))


if __name__ == "__main__":
    main()

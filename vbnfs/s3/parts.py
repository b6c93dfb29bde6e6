"""Cutting a body into what is handed on (pure): pieces of bytes, and runs of whole blocks that are stored.

    without a sink    a piece of one block, for which a reader may wait; then pieces that end at each `PIECE_BYTES`
    with a sink       a run of one block; then runs of `PIECE_BYTES`, which begin and end where blocks do

What begins within a block is a piece, up to the end of that block: its beginning was handed on before. So is what is
there of a block when no more of it comes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vbnfs.blocks import BLOCK_BYTES, PIECE_BYTES
from vbnfs.objects import Piece, RangeRequest


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Adjacent whole blocks that have come: the bytes from `start` on, in parts."""

    start: int
    parts: list[bytes]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def as_piece(self) -> Piece:
        """The same bytes, to be handed on."""
        return Piece(self.start, b"".join(self.parts))


class Parts:
    """What has come of a body and was not handed on yet, in the parts in which it came."""

    def __init__(self, request: RangeRequest) -> None:
        self._start = self._begin = request.byte_range.start  # of what is held; of the body
        self._end = request.byte_range.stop
        self._size_bytes = request.size_bytes
        self._is_stored = request.sink is not None
        self._parts: list[bytes] = []
        self._room_bytes = self._length()

    def add(self, part: bytes) -> Iterable[Piece | Run]:
        """What a part completes. It is called 60,000 times a GB, and most of the time there is nothing."""
        if len(part) >= self._room_bytes:
            return self._complete(part)
        self._parts.append(part)
        self._room_bytes -= len(part)
        return ()

    def _complete(self, part: bytes) -> Iterator[Piece | Run]:
        while len(part) >= self._room_bytes > 0:
            self._parts.append(part[: self._room_bytes])
            part = part[self._room_bytes :]
            yield from self.take()
        if part:
            self._parts.append(part)
            self._room_bytes -= len(part)

    def take(self) -> Iterator[Piece | Run]:
        """What has come: of a block that has not come whole, as a piece."""
        held = Run(self._start, self._parts)
        length, whole = len(held), self._whole_bytes(len(held))
        self._start, self._parts = self._start + length, []
        self._room_bytes = self._length()
        if 0 < whole < length:
            piece = held.as_piece()
            yield Run(held.start, [piece.data[:whole]])
            yield piece.after(held.start + whole)
        elif length:
            yield held if whole else held.as_piece()

    def _whole_bytes(self, length: int) -> int:
        """How many of so many bytes that are held are whole blocks; 0 if they begin within one."""
        stop = self._start + length
        if not self._is_stored or self._start % BLOCK_BYTES:
            return 0
        return length if stop == self._size_bytes else length - stop % BLOCK_BYTES

    def _length(self) -> int:
        """How long what comes next is to be."""
        done = self._start - self._begin
        if self._is_stored and (within := self._start % BLOCK_BYTES):
            length = BLOCK_BYTES - within
        elif self._is_stored:
            length = PIECE_BYTES if done else BLOCK_BYTES
        else:
            length = BLOCK_BYTES - done if done < BLOCK_BYTES else PIECE_BYTES - done % PIECE_BYTES
        return min(length, self._end - self._start)

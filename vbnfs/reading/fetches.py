"""A GET under way: which blocks it will bring, who waits for them, the room that it holds, and cutting its body."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import trio

from vbnfs.cache.block_cache import block_range
from vbnfs.cache.segment import BLOCK_BYTES
from vbnfs.errors import BadReplyError, StorageError, VbnfsError, copy_error
from vbnfs.objects import Content
from vbnfs.s3.curl import MOST_WAITING_BYTES, PIECE_BYTES

Block = bytes | memoryview

# Received by libcurl and waiting for the event loop, and one piece that is being cut into blocks.
TRANSIT_BLOCKS: Final = (MOST_WAITING_BYTES + PIECE_BYTES) // BLOCK_BYTES
_BLOCKS_A_RUN: Final = PIECE_BYTES // BLOCK_BYTES  # are written together


@dataclass(eq=False, slots=True)
class Get:
    """A GET of neighbouring blocks, and who waits for them.

    `is_begun` once it has a task, or another one is to bring its blocks. `coming` of them have not come yet, and it
    holds room in memory for `held` blocks.
    """

    content: Content
    indices: range
    most_in_transit: int
    blocks: "list[PendingBlock]" = field(default_factory=list)
    is_begun: bool = False
    held: int = 0
    coming: int = field(init=False)

    def __post_init__(self) -> None:
        self.coming = len(self.indices)

    def absorb(self, behind: "Get") -> None:
        """Bring what `behind`, which begins where this ends, was to bring. Neither has begun; `behind` never will."""
        for block in behind.blocks:
            block.get = self
        self.indices = range(self.indices.start, behind.indices.stop)
        self.blocks += behind.blocks
        self.coming += behind.coming
        behind.blocks, behind.is_begun = [], True  # it may stay in a queue for long, and must not keep their bytes

    @property
    def lacking(self) -> list[int]:
        """The numbers of the blocks that have not come."""
        return [index for index, block in zip(self.indices, self.blocks, strict=True) if block.data is None]

    @property
    def needs(self) -> int:
        """For how many blocks it needs room now: those in transit, and one that is being put together."""
        return self.needs_for(self.coming)

    def needs_for(self, coming: int) -> int:
        """For how many it would need room if so many were to come."""
        return min(coming, self.most_in_transit) + 1 if coming else 0


@dataclass(slots=True)
class Coming:
    """Of a content: how many blocks are wanted and have not come, and how many its reader wants ahead of him in all.

    `window_blocks` is 0 where nothing is behind them: at the file's end, and for who reads here and there.
    """

    blocks: int = 0
    window_blocks: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring blocks that have come, from number `first` on."""

    content: Content
    first: int
    blocks: list[Block]

    @property
    def indices(self) -> range:
        """Their numbers."""
        return range(self.first, self.first + len(self.blocks))


@dataclass(eq=False, slots=True)
class PendingBlock:
    """A block on its way: `data` or `error` is set when `settled` is. `has_room`: in memory, apart from its GET."""

    get: Get
    settled: trio.Event = field(default_factory=trio.Event)
    data: Block | None = None
    error: VbnfsError | None = None
    has_room: bool = False

    async def arrived(self) -> Block:
        """Its bytes, as soon as they have come. Raises what they failed with."""
        await self.settled.wait()
        if self.data is None:
            raise copy_error(self.error or StorageError("block neither came nor failed"))  # to each waiter its own
        return self.data


class Assembly:
    """Cuts a run of blocks out of the pieces in which it arrives, without a copy where a block lies in one."""

    def __init__(self, content: Content, indices: range) -> None:
        self._content = content
        self._indices = indices
        self._index = indices[0]
        self._pieces: list[Block] = []
        self._length = 0

    def add(self, piece: bytes) -> Iterator[tuple[int, list[Block]]]:
        """The blocks that `piece` completes: some neighbours at a time, and the first one's number.

        Raises `BadReplyError` for bytes too many.
        """
        first, done, view = self._index, list[Block](), memoryview(piece)
        while view:
            if self._index not in self._indices:
                raise BadReplyError(f"{self._content.source}: more bytes than were asked for")
            wanted = len(block_range(self._content, self._index)) - self._length
            part, view = view[:wanted], view[wanted:]
            self._pieces.append(part if len(piece) <= PIECE_BYTES else bytes(part))
            self._length += len(part)
            if len(part) == wanted:
                done.append(self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces))
                self._index, self._pieces, self._length = self._index + 1, [], 0
            if len(done) == _BLOCKS_A_RUN:
                yield first, done
                first, done = self._index, []
        if done:
            yield first, done

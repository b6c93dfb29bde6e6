"""Fetches: the blocks that each brings, how long it is, the room that it needs, and cutting its body into blocks.

A fetch asks S3 for adjacent blocks of one content, mostly by one GET; by several, where other processes bring a part.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from vbnfs.blocks import BLOCK_BYTES, MOST_WAITING_BYTES, PIECE_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.stored_blocks import block_range
from vbnfs.errors import BadReplyError, VbnfsError
from vbnfs.flight import Flight
from vbnfs.objects import BlockKey, Content, Received, Stored
from vbnfs.reading.block_states import FIRST, BlockState, moved
from vbnfs.reading.deadlines import Progress
from vbnfs.reading.planner import even_share
from vbnfs.reading.rate_limit import Admission

Bytes = bytes | memoryview

# Received by libcurl and waiting for the event loop, and one piece that is being cut into blocks.
TRANSIT_BLOCKS: Final = (MOST_WAITING_BYTES + PIECE_BYTES) // BLOCK_BYTES
_BLOCKS_A_RUN: Final = PIECE_BYTES // BLOCK_BYTES  # are written together


class Block:
    """One life of a block; block_states.py has the table of its states.

    `planned` are the adjacent blocks with which it was queued: they leave the queue together. `fetch` is the one that
    it is in since then. Readers wait for
    `arrival`, and hold that alone: so the bytes stay for a reader that is slow, and the block can let go of them. An
    arrival without bytes is that of a block which was stored as it came: readers look for it in the cache.
    `kept_in` is where it is to be stored, if that is not where the writer stores blocks.
    """

    __slots__ = ("_state", "arrival", "content", "fetch", "kept_in", "key", "planned")

    def __init__(self, content: Content, number: int, planned: range) -> None:
        self.content = content
        self.key = BlockKey(content.content_id, number)  # a slot: it is asked for at each step of the way
        self.planned = planned
        self.fetch: Fetch | None = None
        self.kept_in: BlockCache | None = None
        self.arrival = Flight[Bytes | None]()
        self._state = FIRST

    @property
    def state(self) -> BlockState:
        """Where in its life it is."""
        return self._state

    @property
    def data(self) -> Bytes | None:
        """Its bytes, if they have come and it still has them."""
        return self.arrival.value

    def move(self, state: BlockState) -> None:
        """Go on to another state. Raises `TransitionError` where the table has no way there."""
        self._state = moved(self._state, state)

    def bring(self, state: BlockState, data: Bytes | None) -> None:
        """It has come; readers that wait for it get its bytes, or look for it in the cache."""
        self.move(state)
        self.arrival.land(data)

    def fail(self, error: VbnfsError) -> None:
        """It will not come; readers that wait for it get a copy of the error each."""
        self.move(BlockState.FAILED)
        self.arrival.fail(error)

    def leave_unstored(self) -> None:
        """The disk did not take it. It lets go of its bytes: readers that still wait for them hold the old flight."""
        self.move(BlockState.UNSTORED)
        self.arrival = Flight()


@dataclass(eq=False, slots=True)
class Fetch:
    """Adjacent blocks that are fetched together.

    `admission` is its wish to ask for them, `progress` what has come of them. `lacking` has those that have not come
    yet, by number, ascending. It holds room in memory for `held` blocks: those in transit, at most `transit_blocks`,
    and the one that is being put together.
    """

    content: Content
    indices: range
    lacking: dict[int, Block]
    transit_blocks: int
    admission: Admission
    progress: Progress
    held: int = 0

    @property
    def needs(self) -> int:
        """For how many blocks it needs room now."""
        return room_for(len(self.lacking), self.transit_blocks)


def bytes_of(content: Content, indices: range) -> int:
    """How many bytes adjacent blocks of a content have: at least one block."""
    return block_range(content, indices[-1]).stop - block_range(content, indices[0]).start


def room_for(lacking: int, transit_blocks: int) -> int:
    """For how many blocks a fetch needs room, if so many of its blocks have not come."""
    return min(lacking, transit_blocks) + 1 if lacking else 0


def longest_fetch(room_blocks: int, *, gets: int, transit_blocks: int, longest: int) -> int:
    """How many blocks a fetch may bring, at most `longest`, so that one on each connection has room.

    Where there is too little for what they have in transit, short ones bring more.
    """
    room_each = room_blocks // gets
    return longest if room_for(longest, transit_blocks) <= room_each else room_each - 1


@dataclass(slots=True)
class _Backlog:
    blocks: int = 0
    window_blocks: int = 0


class Backlogs:
    """By content: how many blocks are wanted and have not come, and how many its reader wants ahead in all.

    From these follows how long a fetch is when it begins.
    """

    def __init__(self) -> None:
        self._of: dict[str, _Backlog] = {}  # by content id; none is empty

    def __len__(self) -> int:
        return len(self._of)

    def lengthen(self, content: Content, blocks: int) -> None:
        """So many more blocks are wanted."""
        if blocks:
            self._of.setdefault(content.content_id, _Backlog()).blocks += blocks

    def shorten(self, content: Content, blocks: int) -> None:
        """So many blocks have come, or will not come."""
        if blocks:
            backlog = self._of[content.content_id]
            backlog.blocks -= blocks
            if not backlog.blocks:
                del self._of[content.content_id]

    def set_window(self, content: Content, window_blocks: int) -> None:
        """How many its reader wants ahead in all; 0 if nothing is behind: at a file's end, for random reads."""
        if backlog := self._of.get(content.content_id):
            backlog.window_blocks = window_blocks

    def share(self, content: Content, *, gets: int, longest: int) -> int:
        """How many blocks a fetch should bring: contents share `gets` connections evenly, and each its own."""
        backlog, connections = self._of[content.content_id], max(1, gets // len(self._of))
        return even_share(
            backlog.blocks, connections=connections, window_blocks=backlog.window_blocks, longest=longest
        )


@dataclass(frozen=True, slots=True)
class ArrivedBlocks:
    """A message to the writer: adjacent blocks that have come, and their bytes, from number `first` on.

    `done` is its reply: it is called with the message, in the event loop, once all of them are STORED or UNSTORED.
    """

    content: Content
    first: int
    blocks: list[Block]
    data: list[Bytes]
    done: "Callable[[ArrivedBlocks], None]" = field(repr=False)

    @property
    def kept_in(self) -> BlockCache | None:
        """See `Block`; the same for all of them."""
        return self.blocks[0].kept_in

    @property
    def indices(self) -> range:
        """Their numbers."""
        return range(self.first, self.first + len(self.blocks))


class BlockAssembler:
    """Cuts what is received into adjacent blocks, without a copy where a block lies in one piece."""

    def __init__(self, content: Content, indices: range) -> None:
        self._content = content
        self._indices = indices
        self._begin(indices[0])

    def add(self, received: Received) -> Iterator[tuple[range, list[Bytes] | None]]:
        """The blocks that it completes: some adjacent ones at a time, and their bytes.

        None instead of the bytes: the cache should have these blocks, as something said that has received them, or a
        part of them. Raises `BadReplyError` for bytes too many.
        """
        if isinstance(received, Stored):
            yield from self._skip(len(received))
            return
        view = memoryview(received.data)
        if self._is_stored:  # the end of a block whose beginning is not here
            end, view = view[: self._lacking_bytes()], view[self._lacking_bytes() :]
            yield from self._skip(len(end))
        yield from self._cut(view, is_kept=len(received) <= PIECE_BYTES)

    def _skip(self, count_bytes: int) -> Iterator[tuple[range, None]]:
        first = self._index
        while count_bytes:
            part_bytes = min(count_bytes, self._lacking_bytes())
            self._is_stored = True
            self._go_on(part_bytes)
            count_bytes -= part_bytes
        if first < self._index:
            yield range(first, self._index), None

    def _cut(self, view: memoryview, *, is_kept: bool) -> Iterator[tuple[range, list[Bytes]]]:
        """`is_kept`: blocks may be views of what was received, and keep its memory."""
        first, done = self._index, list[Bytes]()
        while view:
            wanted = self._lacking_bytes()
            part, view = view[:wanted], view[wanted:]
            self._pieces.append(part if is_kept else bytes(part))
            if len(part) == wanted:
                done.append(self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces))
            self._go_on(len(part))
            if len(done) == _BLOCKS_A_RUN:
                yield range(first, self._index), done
                first, done = self._index, []
        if done:
            yield range(first, self._index), done

    def _lacking_bytes(self) -> int:
        """How many bytes of the block are still to come."""
        if not self._left_bytes:
            raise BadReplyError(f"{self._content.source}: more bytes than were asked for")
        return self._left_bytes

    def _go_on(self, count_bytes: int) -> None:
        """So many bytes of the block have come."""
        self._left_bytes -= count_bytes
        if not self._left_bytes:
            self._begin(self._index + 1)

    def _begin(self, index: int) -> None:
        """A block comes next, if it was asked for."""
        self._index = index
        self._left_bytes = len(block_range(self._content, index)) if index in self._indices else 0
        self._pieces: list[Bytes] = []  # what of it is here
        self._is_stored = False  # a part of it came without its bytes

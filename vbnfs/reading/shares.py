"""How much a fetch brings: an even share of what is queued in a row when it begins, as far as there is room."""

from typing import Protocol

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.link import Link
from vbnfs.objects import Content
from vbnfs.reading.deadlines import Progress
from vbnfs.reading.fetches import TRANSIT_BLOCKS, Backlogs, Block, Fetch, bytes_of, longest_fetch, room_for
from vbnfs.reading.live_blocks import LiveBlocks
from vbnfs.reading.memory import Memory
from vbnfs.reading.planner import lent_share, longest_get, window_bytes
from vbnfs.reading.rate_limit import Admission, RateLimit


class Connections(Protocol):
    """How many GETs there may be at a time, and what they have shown of the link."""

    @property
    def gets(self) -> int:
        """How many of all kinds: at least one."""
        ...

    @property
    def short_gets(self) -> int:
        """How many there may be that are short: no fewer."""
        ...

    @property
    def link(self) -> Link:
        """How far away the server is, and how fast."""
        ...

    def prefetches(self, *, demand_waits: bool) -> int:
        """How many of them may be prefetches: at least one. `demand_waits`: readers wait for connections, too."""
        ...


class Shares:
    """Makes fetches of the blocks that are QUEUED in `live`. `backlogs` know how many are still to come."""

    def __init__(
        self, live: LiveBlocks, backlogs: Backlogs, connections: Connections, memory: Memory, limit: RateLimit
    ) -> None:
        self._live = live
        self._backlogs = backlogs
        self._connections = connections
        self._room = memory.blocks
        self._limit = limit
        self._transit_blocks = min(TRANSIT_BLOCKS, memory.blocks.limit_bytes // BLOCK_BYTES - 1)

    @property
    def window_bytes(self) -> int:
        """How much is worth having ahead of all readers together."""
        wanted = window_bytes(self._connections.link, connections=self._connections.gets, longest=self._longest())
        return self._limit.within_window(wanted)

    def of(self, first: Block, *, leave_bytes: int = 0, is_short: bool = False) -> range:
        """What a fetch brings that begins with `first`: of the blocks queued behind it, its share of the backlog.

        As far as there is room in memory, now and for one such on each connection. `is_short`: on a connection that
        is kept for readers, or on a line that readers use.
        """
        longest = min(self._longest(), lent_share(self._connections.link)) if is_short else self._longest()
        share = self._backlogs.share(first.content, gets=self._connections.gets, longest=longest)
        indices = first.planned
        while len(indices) < share:
            behind = self._live.queued(first.content, indices.stop)
            if behind is None or len(indices) + len(behind.planned) > longest:
                break
            longer = range(indices.start, behind.planned.stop)
            if not self._room.has_room(self.needs(longer) * BLOCK_BYTES + leave_bytes):
                break
            indices = longer
        return indices

    def planned(self, blocks: int) -> int:
        """How many adjacent blocks to plan together, at most, where that is so many without a limit."""
        return min(blocks, self._limit.most_blocks or blocks)

    def _longest(self) -> int:
        longest = longest_fetch(
            self._room.limit_bytes // BLOCK_BYTES,
            gets=self._connections.gets,
            transit_blocks=self._transit_blocks,
            longest=longest_get(self._connections.link),
        )
        return self.planned(longest)

    def needs(self, indices: range) -> int:
        """For how many blocks a fetch of these needs room."""
        return room_for(len(indices), self._transit_blocks)

    def begin(self, content: Content, indices: range, *, is_wanted: bool, held: int = 0) -> Fetch:
        """The fetch of these blocks, which are UNDER_WAY now; room for `held` blocks is taken already.

        `is_wanted`: a reader waits for it.
        """
        admission = Admission(content.content_id, bytes_of(content, indices), is_wanted=is_wanted)
        lacking, progress = self._live.begin(content, indices), Progress(self._limit.deadlines)
        fetch = Fetch(content, indices, lacking, self._transit_blocks, admission, progress, held)
        for block in fetch.lacking.values():
            block.fetch = fetch
        return fetch

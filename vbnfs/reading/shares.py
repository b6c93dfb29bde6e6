"""How much a fetch brings: an even share of what is queued in a row when it begins, as far as there is room."""

from typing import Protocol

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.objects import Content
from vbnfs.reading.fetches import TRANSIT_BLOCKS, Backlogs, Block, Fetch, longest_fetch, room_for
from vbnfs.reading.live_blocks import LiveBlocks
from vbnfs.reading.memory import Memory


class Connections(Protocol):
    """How many GETs there may be at a time."""

    def prefetches(self, *, demand_waits: bool) -> int:
        """How many of them may be prefetches: at least one. `demand_waits`: readers wait for connections, too."""
        ...


class Shares:
    """Makes fetches of the blocks that are QUEUED in `live`. `backlogs` know how many are still to come."""

    def __init__(self, live: LiveBlocks, backlogs: Backlogs, connections: Connections, memory: Memory) -> None:
        self._live = live
        self._backlogs = backlogs
        self._connections = connections
        self._room = memory.blocks
        self._transit_blocks = min(TRANSIT_BLOCKS, memory.blocks.limit_bytes // BLOCK_BYTES - 1)

    def of(self, first: Block, *, leave_bytes: int = 0) -> range:
        """What a fetch brings that begins with `first`: of the blocks queued behind it, its share of the backlog.

        As far as there is room in memory, now and for one such on each connection.
        """
        gets = self._connections.prefetches(demand_waits=False)
        room_blocks = self._room.limit_bytes // BLOCK_BYTES
        share = self._backlogs.share(first.content, gets=gets)
        longest = longest_fetch(room_blocks, gets=gets, transit_blocks=self._transit_blocks)
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

    def needs(self, indices: range) -> int:
        """For how many blocks a fetch of these needs room."""
        return room_for(len(indices), self._transit_blocks)

    def begin(self, content: Content, indices: range, *, held: int = 0) -> Fetch:
        """The fetch of these blocks, which are UNDER_WAY now; room for `held` blocks is taken already."""
        fetch = Fetch(content, indices, self._live.begin(content, indices), self._transit_blocks, held)
        for block in fetch.lacking.values():
            block.fetch = fetch
        return fetch

"""One block: from memory, from a fetch under way, or by a new fetch.

The tasks, and what they share:

    bring(), get()  a reader. Waits for blocks; being cancelled cancels no fetch. `get` reads from the cache what was
                    stored as it came, and asks for it again where the cache has lost it. A fetch for which
                    its time has run out is given up: no other reader joins it.
    fetch()         what a person has asked for as a whole: behind readers, and behind what is fetched ahead of them.
    _run()          a task for each fetch, in the mount's nursery. Leaves to another process what that fetches (see
                    other_processes.py). Gives blocks to readers and to the writer as soon as their bytes have come.
                    First it waits to be admitted (rate_limit.py): before it claims blocks, or others would wait.
    keep_blocks()   of block_writer.py: one task that writes them to the disk.

`_live` has the blocks that are on their way, and the bytes that came last (live_blocks.py). All tasks find them
there, and each block is fetched once.

A fetch begins when there is room in memory for what it may have in transit. A block that has arrived takes its part
of that room along, until it is on the disk, and the fetch goes on when it has room for another one. So a disk or a
memory that is busy holds connections back, however long the GETs are. A disk that does not answer does not: blocks
that wait for it give their room up (block_writer.py).
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Final

import structlog
import trio

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.errors import BadReplyError, NotKeptError, SilenceError, StorageError, VbnfsError
from vbnfs.objects import ByteRange, Content
from vbnfs.reading.block_states import BlockState
from vbnfs.reading.block_writer import BlockWriter
from vbnfs.reading.fetches import ArrivedBlocks, Backlogs, Block, Bytes, Fetch, bytes_of
from vbnfs.reading.live_blocks import LiveBlocks
from vbnfs.reading.memory import Budget, Memory
from vbnfs.reading.other_processes import SharedFetches
from vbnfs.reading.planner import LONG_GET_BLOCKS, SHORT_GET_BLOCKS, plan_wave
from vbnfs.reading.prefetch_queue import PrefetchQueue, Rank
from vbnfs.reading.rate_limit import RateLimit
from vbnfs.reading.shares import Connections, Shares
from vbnfs.reading.sources import Sources

log = structlog.get_logger()

_DEMAND_SECONDS: Final = 2.0  # for so long after a demand miss connections are left to readers
_READERS_SECONDS: Final = 2.0  # for so long after a reader has waited, what a person asked for as a whole takes ...
_BESIDE_READERS: Final = 4  # ... a quarter of the connections
_MOST_FETCHES: Final = 3  # of a block that is stored as it comes, and that the cache does not have then


class BlockSource:
    """Blocks that the disk does not have, from S3.

    `nursery` outlives all reads. `connections` limit how many fetches run that no reader waits for; the rest of the
    connections is left to readers. `writer` gets what comes. `limit` is that of bytes a second.
    """

    def __init__(
        self,
        sources: Sources,
        writer: BlockWriter,
        others: SharedFetches,
        *,
        nursery: trio.Nursery,
        connections: Connections,
        memory: Memory,
        limit: RateLimit | None = None,
    ) -> None:
        self.writer: Final = writer
        self._sources = sources
        self._others = others
        self._nursery = nursery
        self._connections = connections
        self._memory = memory
        self._limit = limit or RateLimit()
        self._live = LiveBlocks(memory)
        self._backlogs = Backlogs()
        self._shares = Shares(self._live, self._backlogs, connections, memory, self._limit)
        self._queue = PrefetchQueue()
        self._read_at = -math.inf  # when a reader wanted a block last
        self._prefetching = 0
        self._lent = 0  # of these, how many are on connections that are kept for readers
        self._demand_miss_at = -math.inf  # when a reader found nearly all connections busy, and its block not planned

    @property
    def room_bytes(self) -> int:
        """How far ahead of all readers to fetch, at most: what comes has to be there still when it is read."""
        return max(self._memory.recent.limit_bytes // 2, self.writer.room_bytes)

    @property
    def window_bytes(self) -> int:
        """How much is worth having ahead of all readers together."""
        return self._shares.window_bytes

    @property
    def answers(self) -> Budget:
        """The memory for readers that wait for blocks."""
        return self._memory.answers

    @property
    def is_busy(self) -> bool:
        """Whether blocks are on their way, from S3 or to the disk."""
        return len(self._live) > 0

    @property
    def coming_blocks(self) -> int:
        """How many blocks are on their way, from S3 or to the disk."""
        return len(self._live)

    @property
    def prefetches(self) -> int:
        """How many GETs run that no reader waits for."""
        return self._prefetching

    @property
    def most_gets(self) -> int:
        """How many GETs there may be now."""
        return self._connections.gets

    @property
    def first_byte_seconds(self) -> float:
        """How long a GET takes to its first byte, at best; 0 while that is not known."""
        return self._connections.link.first_byte_seconds

    def in_memory(self, content: Content, index: int) -> Bytes | None:
        """The bytes of a block, if they came just now."""
        return self._live.data(content, index)

    def note_read(self, content: Content, read: ByteRange) -> None:
        """A program that reads on has got this: memory needs it less than what is ahead of programs."""
        self._live.note_read(content, read)

    def is_coming(self, content: Content, index: int) -> bool:
        """Whether there is no need to ask the disk for a block: it is on its way, or came just now."""
        return self._live.has(content, index)

    async def get(self, content: Content, indices: Sequence[int], *, is_reader: bool = True) -> dict[int, Bytes]:
        """The bytes of blocks that the disk did not have, by number. Raises a `StorageError`.

        Without `is_reader` it is no program that waits for them: readers go first where the rate is limited.
        """
        found: dict[int, Bytes] = {}
        lacking = indices
        for _ in range(_MOST_FETCHES):
            came = await self.bring(content, lacking, is_reader=is_reader)
            found |= {index: data for index, data in came.items() if data is not None}
            if stored := [index for index, data in came.items() if data is None]:
                found |= await trio.to_thread.run_sync(self._others.stored, content, stored, abandon_on_cancel=True)
            lacking = [index for index in indices if index not in found]
            if not lacking:
                return found
        times = f"{_MOST_FETCHES} times in a row"
        raise NotKeptError(f"{content.source}: what came was stored and then not in the cache, {times}")

    async def bring(
        self, content: Content, indices: Sequence[int], *, is_again: bool = False, is_reader: bool = True
    ) -> dict[int, Bytes | None]:
        """Have blocks fetched that the disk did not have. Returns their bytes by number. Raises a `StorageError`.

        None for those that were stored as they came: the cache should have them. The caller has to look. A fetch that
        was silent from before this reader came is no failure of it. `is_again`: it has met one.
        """
        found, coming, new = self._live.want(content, indices, longest=self._shares.planned(LONG_GET_BLOCKS))
        if is_reader:
            self._read_at = trio.current_time()
        if new and self._prefetching >= self._connections.prefetches(demand_waits=True):
            self._demand_miss_at = trio.current_time()
        self._backlogs.lengthen(content, len(new))
        has_joined = bool(coming)
        coming |= new
        for block in coming.values():
            self._begin(block, is_reader=is_reader)
        try:
            return found | await self._outcomes(coming)
        except SilenceError:
            if is_again or not has_joined:
                raise
            return await self.bring(content, indices, is_again=True, is_reader=is_reader)

    async def _outcomes(self, coming: Mapping[int, Block]) -> dict[int, Bytes | None]:
        """What comes of blocks, by number. Where the reader's time runs out, their fetches are given up."""
        arrivals = {index: block.arrival for index, block in coming.items()}
        fetches = {block.fetch for block in coming.values() if block.fetch is not None}
        progress = [fetch.progress for fetch in fetches]
        with self._limit.deadlines.waiting_for_fetches(progress) as is_over:
            try:
                return {index: await arrival.outcome() for index, arrival in arrivals.items()}
            except trio.Cancelled:
                if is_over():  # else its program does not wait any more
                    self._live.give_up(block for fetch in fetches for block in fetch.lacking.values())
                raise

    def prefetch(
        self, content: Content, indices: Sequence[int], *, window_blocks: int = 0, rank: Rank = Rank.READ_AHEAD
    ) -> None:
        """Fetch blocks that the disk does not have, when readers leave room. Returns at once.

        `window_blocks`: how many are wanted ahead of the reader in all, if more will be wanted behind these.
        """
        _, coming, new = self._live.want(content, indices, longest=self._shares.planned(SHORT_GET_BLOCKS))
        self._backlogs.lengthen(content, len(new))
        self._queue.extend(((content, index) for index, block in new.items() if index == block.planned.start), rank)
        if rank < self._queue.last_rank:  # some of them may be there with another one
            waiting = {block.planned.start for block in coming.values() if block.state is BlockState.QUEUED}
            self._queue.extend(((content, index) for index in sorted(waiting)), rank)
        self._backlogs.set_window(content, window_blocks)
        self._begin_prefetches()

    def fetch_wave(self, content: Content, indices: Sequence[int], *, most_bridged: int, rank: Rank) -> list[int]:
        """Like `prefetch`, by GETs that are sent all at once: so some blocks come that lie between those.

        Returns the numbers of all.
        """
        others = max(1, self._connections.short_gets - 1)  # beside a reader's
        runs = plan_wave(indices, gets=others, most_bridged=most_bridged)
        for run in runs:
            _, _, new = self._live.want(content, run, longest=self._shares.planned(len(run)))
            self._backlogs.lengthen(content, len(new))
            firsts = [block for index, block in new.items() if index == block.planned.start]
            later = [first for first in firsts if not self._begin_beside(first, others)]
            self._queue.extend(((content, first.planned.start) for first in later), rank)
        self._begin_prefetches()
        return [index for run in runs for index in run]

    def _begin_beside(self, first: Block, most: int) -> bool:
        """Begin a short fetch beside those that fill the link; False if there are as many, or no room in memory."""
        return self._prefetching < most and self._begin_prefetch(first, is_lent=True, is_short=True)

    async def fetch(self, content: Content, indices: Sequence[int], *, on_came: Callable[[int], None]) -> None:
        """Have blocks brought to the disk that it does not have, when readers leave room: behind all prefetches.

        What is in memory of them is not taken for them: the disk may have lost it because it was wrong. Returns when
        all have come; `on_came` gets how many bytes have, as they do. Raises a `StorageError` when no fetch of these
        is under way any more. Being cancelled cancels no fetch that has begun.
        """
        self._live.forget(content.content_id)
        _, coming, new = self._live.want(content, indices, longest=self._shares.planned(SHORT_GET_BLOCKS))
        self._backlogs.lengthen(content, len(new))
        firsts = ((content, index) for index, block in new.items() if index == block.planned.start)
        self._queue.extend(firsts, Rank.FILLING)
        self._begin_prefetches()
        arrivals = deque((index, block.arrival) for index, block in (coming | new).items())
        failure: StorageError | None = None
        try:
            while arrivals:
                index, arrival = arrivals.popleft()  # and with it, the bytes
                try:
                    await arrival.outcome()
                    on_came(bytes_of(content, range(index, index + 1)))
                except StorageError as error:
                    failure = failure or error
                    self._drop_queued(content, new.values())
        except trio.Cancelled:
            self._drop_queued(content, new.values())
            raise
        if failure is not None:
            raise failure

    def _drop_queued(self, content: Content, blocks: Iterable[Block]) -> None:
        """Do not fetch what no fetch has begun to bring: what is in the queue is passed over then."""
        gone = [block for block in blocks if block.state is BlockState.QUEUED]
        self._backlogs.shorten(content, len(gone))
        for block in gone:
            block.move(BlockState.UNDER_WAY)
            self._live.let_go(block)
            block.fail(StorageError(f"{content.source}: it is not wanted any more"))

    async def settled(self, content: Content, index: int) -> None:
        """Wait until a block is not on its way any more, whether it has come or not."""
        block = self._live.coming(content, index)
        if block is not None:
            with suppress(VbnfsError):
                await block.arrival.outcome()

    def origin_of(self, content: Content, *, known: str) -> str:
        """The source from which the bytes of a content came last; the `known` one, if none came to this process."""
        return self._sources.origin(content, known=known)

    def forget(self, content_id: str) -> None:
        """Do not remember what came last of a content: it is wrong."""
        self._sources.forget(content_id)
        self._live.forget(content_id)

    # Deciding what to fetch

    def _begin(self, block: Block, *, is_reader: bool) -> None:
        """Begin the fetch of a block that is waited for, also if it is still in the queue of prefetches."""
        if block.state is BlockState.QUEUED:
            fetch = self._shares.begin(block.content, self._shares.of(block), is_wanted=is_reader)
            self._nursery.start_soon(self._run, fetch)
        elif block.fetch is not None and is_reader:
            block.fetch.admission.want()

    def _begin_prefetches(self) -> None:
        """As many as connections and memory allow: some of either are left to readers."""
        if not self._queue:
            return
        demand_waits = trio.current_time() - self._demand_miss_at < _DEMAND_SECONDS
        most = self._connections.prefetches(demand_waits=demand_waits)
        # The connections that are kept for readers are lent to short GETs, as long as no reader comes for them.
        most_lent = 0 if demand_waits else self._connections.gets - most
        has_readers = trio.current_time() - self._read_at < _READERS_SECONDS
        most_of = {Rank.LATER: most // 2, Rank.FILLING: most // _BESIDE_READERS if has_readers else most}
        while self._queue:
            rank, is_lent = self._queue.rank, self._prefetching - self._lent >= most
            if is_lent and self._lent >= most_lent:
                return
            if rank in most_of and self._prefetching >= max(1, most_of[rank]):
                return
            first = self._live.queued(*self._queue.first())
            is_short = is_lent or (rank is Rank.FILLING and has_readers)
            if first is not None and not self._begin_prefetch(first, is_lent=is_lent, is_short=is_short):
                return
            self._queue.drop_first()

    def _begin_prefetch(self, first: Block, *, is_lent: bool, is_short: bool) -> bool:
        """Begin the fetch that begins with this block; False if there is no room in memory."""
        room, leave_bytes = self._memory.blocks, self._memory.blocks.limit_bytes // 4
        indices = self._shares.of(first, leave_bytes=leave_bytes, is_short=is_short)
        needs = self._shares.needs(indices)
        if not room.try_take(needs * BLOCK_BYTES, leave_bytes=leave_bytes):
            return False
        self._prefetching += 1
        self._lent += is_lent
        fetch = self._shares.begin(first.content, indices, is_wanted=False, held=needs)
        self._nursery.start_soon(self._run_prefetch, fetch, is_lent)
        return True

    # Fetching

    async def _run_prefetch(self, fetch: Fetch, is_lent: bool) -> None:
        try:
            await self._run(fetch)
        finally:
            self._prefetching -= 1
            self._lent -= is_lent
            self._begin_prefetches()

    async def _run(self, fetch: Fetch) -> None:
        """Settle all blocks of `fetch`, one way or the other."""
        failure: VbnfsError = StorageError(f"{fetch.content.source}: the mount is going away")
        try:
            failure = await self._bring(fetch)
        finally:
            self._fail_rest(fetch, failure)
            self._memory.blocks.give_back(fetch.held * BLOCK_BYTES)
            fetch.held = 0
            self._begin_prefetches()

    async def _bring(self, fetch: Fetch) -> VbnfsError:
        """Fetch the blocks, or have others bring them. Returns why those that are then lacking are."""
        try:
            if not fetch.held:
                await self._memory.blocks.take(fetch.needs * BLOCK_BYTES)
                fetch.held = fetch.needs
            try:
                async with (
                    self._limit.admitted(fetch.admission),
                    aclosing(self._others.rounds(fetch.content, fetch.indices)) as rounds,
                ):
                    async for one in rounds:
                        self._settle_found(fetch, one.found)
                        fetch.progress.note(sum(map(len, one.found.values())))
                        for run in one.runs:
                            await self._receive(fetch, run)
            finally:
                # Before readers get the failure: they may ask anew, and then the claims are another fetch's.
                await self._others.drop_all(fetch.content, list(fetch.lacking))
        except VbnfsError as error:
            return error
        except Exception as error:
            log.exception("unexpected failure of a GET", object=str(fetch.content.source))
            return StorageError(f"{fetch.content.source}: {error!r}")
        return BadReplyError(f"{fetch.content.source}: fewer bytes than were asked for")

    async def _receive(self, fetch: Fetch, run: range) -> None:
        """One GET, if all goes well: adjacent blocks of `fetch`."""

        async def receive(indices: range, data: list[Bytes] | None, kept_in: BlockCache | None) -> None:
            if data is None:
                await self._settle_stored(fetch, indices)
            else:
                await self._arrive(fetch, indices, data, kept_in)

        await self._sources.get_blocks(fetch.content, run, receive, fetch.progress.note)

    async def _settle_stored(self, fetch: Fetch, indices: range) -> None:
        """What has received these blocks has brought them to the disk."""
        # Before readers look for them: where they are lost, the claims are another fetch's.
        await self._others.drop_all(fetch.content, indices)
        self._settle_found(fetch, dict.fromkeys(indices))
        fetch.admission.came_bytes += bytes_of(fetch.content, indices)
        self.writer.note_stored(fetch.content)

    def _settle_found(self, fetch: Fetch, found: Mapping[int, Bytes | None]) -> None:
        """Others have brought these blocks to the disk, where readers look for those without bytes."""
        for index, data in found.items():
            block = fetch.lacking.pop(index)
            self._live.let_go(block)
            block.bring(BlockState.STORED, data)
        self._backlogs.shorten(fetch.content, len(found))

    async def _arrive(self, fetch: Fetch, indices: range, data: list[Bytes], kept_in: BlockCache | None) -> None:
        """S3 has sent these blocks. Waits for room in memory for as many more as will come."""
        blocks = [fetch.lacking.pop(index) for index in indices]
        for block, part in zip(blocks, data, strict=True):
            block.kept_in = kept_in
            self._live.arrive(block, part)
        fetch.admission.came_bytes += sum(map(len, data))
        fetch.held -= len(blocks)
        self._backlogs.shorten(fetch.content, len(blocks))
        self.writer.put(ArrivedBlocks(fetch.content, indices.start, blocks, data, done=self._written))
        short = fetch.needs - fetch.held
        if short > 0:
            await self._memory.blocks.take(short * BLOCK_BYTES, goes_on=True)
            fetch.held += short

    def _written(self, arrived: ArrivedBlocks) -> None:
        """The disk has these blocks, or has refused them: they give their room back, and the source its hold."""
        for block in arrived.blocks:
            self._live.let_go(block)
        self._memory.blocks.give_back(len(arrived.blocks) * BLOCK_BYTES)
        self._begin_prefetches()

    def _fail_rest(self, fetch: Fetch, failure: VbnfsError) -> None:
        self._backlogs.shorten(fetch.content, len(fetch.lacking))
        for block in fetch.lacking.values():
            self._live.let_go(block)
            block.fail(failure)
        fetch.lacking.clear()

"""One block: from memory, from a GET in flight, or by a new GET; and into the cache.

Who the tasks are, and what they share:

    get()           a reader. Waits for blocks; being cancelled cancels no GET.
    _run_get()      a task for each GET, in the mount's nursery. Leaves what another process fetches to it (see
                    neighbours.py). Hands every block on as soon as its bytes have come, then queues it for the disk.
    keep_blocks()   one task that writes queued blocks in a thread, several at a time.

`_pending` has every block that is on its way, from the decision to fetch it until it is on the disk. Between
the look-up in it and the insertion there is no await: that makes a GET single-flight. `_recent` has what came
last, for readers that looked at the disk before the block was there, and for a disk that takes nothing.

A GET begins when there is room in memory for what it may have in transit; a block that has come takes its part of
that along, until it is on the disk, and the GET goes on when it has room for another one. So a disk or a memory that
is busy holds connections back, however long the GETs are.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence, Set
from contextlib import aclosing
from typing import Final

import structlog
import trio
from cachetools import FIFOCache, LRUCache

from vbnfs.cache.block_cache import BlockCache, block_range
from vbnfs.cache.eviction import Evictor
from vbnfs.cache.segment import BLOCK_BYTES
from vbnfs.errors import BadReplyError, StorageError, VbnfsError
from vbnfs.objects import BlockKey, ByteRange, Content, ObjectVersion
from vbnfs.reading.fetches import TRANSIT_BLOCKS, Assembly, Block, Coming, Get, PendingBlock, Run
from vbnfs.reading.memory import Budget, Memory
from vbnfs.reading.other_processes import SharedFetches
from vbnfs.reading.planner import MAX_GET_BLOCKS, SHORT_GET_BLOCKS, even_share, plan_gets
from vbnfs.reading.sources import Sources

log = structlog.get_logger()

_RUNS_A_WRITE: Final = 16
_UNKEPT_BLOCKS: Final = 4096
_SURPRISED_SECONDS: Final = 2.0


class BlockSource:
    """Blocks that the disk does not have, from S3.

    `nursery` outlives all reads. At most `prefetch_gets(is_shared)` GETs that nobody waits for run at a time, and the
    rest of the connections are left to readers; `is_shared`: some have come lately while nearly all were busy.
    `on_kept` is told the contents of which blocks were written, each time.
    """

    def __init__(
        self,
        sources: Sources,
        cache: BlockCache,
        evictor: Evictor,
        neighbours: SharedFetches,
        *,
        nursery: trio.Nursery,
        prefetch_gets: Callable[[bool], int],
        memory: Memory,
        on_kept: Callable[[Set[Content]], None] = lambda contents: None,
    ) -> None:
        self._on_kept = on_kept
        self._sources = sources
        self._cache = cache
        self._evictor = evictor
        self._neighbours = neighbours
        self._nursery = nursery
        self._pending: dict[BlockKey, PendingBlock] = {}
        self._memory = memory
        # First in, first out: blocks that came in one piece share its memory, and leave it together.
        self._recent: FIFOCache[BlockKey, Block] = FIFOCache(memory.recent_bytes, getsizeof=len)
        self._prefetch_gets = prefetch_gets
        self._prefetching = 0
        self._surprised_at = -math.inf
        self._waiting: deque[Get] = deque()
        self._coming: dict[str, Coming] = {}  # by content id
        self._is_kept = True  # whether the disk took the last block
        self._unkept: LRUCache[BlockKey, Content] = LRUCache(_UNKEPT_BLOCKS)  # what it did not take
        send, receive = trio.open_memory_channel[Run](math.inf)  # memory is what GETs wait for, and for the disk so
        self._to_disk, self._from_gets = send, receive
        self._written = trio.lowlevel.ParkingLot()  # woken after each write

    @property
    def room_bytes(self) -> int:
        """How far ahead of a reader to fetch, at most: what comes has to be there still when it is read."""
        on_disk = self._evictor.limit_bytes // 4 if self._is_kept else 0
        return max(self._memory.recent_bytes // 2, on_disk)

    @property
    def answers(self) -> Budget:
        """The memory for readers that wait for blocks."""
        return self._memory.answers

    @property
    def is_busy(self) -> bool:
        """Whether blocks are on their way, from S3 or to the disk."""
        return bool(self._pending)

    def at_hand(self, content: Content, index: int) -> Block | None:
        """The bytes of a block that came just now."""
        key = BlockKey(content.content_id, index)
        data: Block | None = self._recent.get(key)
        if data is None and (pending := self._pending.get(key)) is not None:
            return pending.data
        return data

    def is_coming(self, content: Content, index: int) -> bool:
        """Whether there is no need to look for a block on the disk: it is on its way, or came just now."""
        key = BlockKey(content.content_id, index)
        return key in self._pending or key in self._recent

    async def get(self, content: Content, indices: Sequence[int]) -> dict[int, Block]:
        """The bytes of blocks that the disk did not have, by number. Raises a `StorageError`."""
        found: dict[int, Block] = {}
        waited_for: dict[int, PendingBlock] = {}
        for index in indices:
            key = BlockKey(content.content_id, index)
            if (data := self._recent.get(key)) is not None:
                found[index] = data
            elif (pending := self._pending.get(key)) is not None:
                waited_for[index] = pending
        missing = [index for index in indices if index not in found and index not in waited_for]
        if missing and self._prefetching >= self._prefetch_gets(True):
            self._surprised_at = trio.current_time()
        for get in self._new_gets(content, missing):
            waited_for.update(zip(get.indices, get.blocks, strict=True))
        for pending in waited_for.values():
            self._begin(pending.get)
        for index, pending in waited_for.items():
            found[index] = await pending.arrived()
        return found

    def prefetch(self, content: Content, indices: Sequence[int], *, window_blocks: int = 0) -> None:
        """Fetch blocks that the disk does not have, when readers leave room. Returns at once.

        `window_blocks`: how many are wanted ahead of the reader in all, if more will be wanted behind these.
        """
        wanted = [index for index in indices if not self.is_coming(content, index)]
        self._waiting.extend(self._new_gets(content, wanted, SHORT_GET_BLOCKS))
        if coming := self._coming.get(content.content_id):
            coming.window_blocks = window_blocks
        self._begin_prefetches()

    def origin_of(self, content: Content) -> ObjectVersion:
        """The source from which the bytes of a content came last."""
        return self._sources.origin(content)

    def forget(self, content_id: str) -> None:
        """Do not remember what came last of a content: it is wrong."""
        self._sources.forget(content_id)
        for key in [key for key in self._recent if key.content_id == content_id]:
            del self._recent[key]

    def close(self) -> None:
        """No more blocks will come: `keep_blocks` returns when all that came are on the disk."""
        self._to_disk.close()

    async def written(self, content: Content) -> None:
        """Wait until the blocks of a content that have arrived by now are on the disk, or cannot be kept."""
        arrived = {
            key: pending
            for key, pending in self._pending.items()
            if key.content_id == content.content_id and pending.data is not None
        }
        while any(self._pending.get(key) is pending for key, pending in arrived.items()):
            await self._written.park()

    async def keep_blocks(self) -> None:
        """Write what GETs bring, until `close`; then the disk has all of it for good."""
        async for first in self._from_gets:
            batch = [first]
            while len(batch) < _RUNS_A_WRITE:
                try:
                    batch.append(self._from_gets.receive_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):  # that is all, for now or for good
                    break
            await self._keep(batch)
            for run in batch:
                for index in run.indices:
                    self._done_with(BlockKey(run.content.content_id, index))
            self._written.unpark_all()
            self._begin_prefetches()
            self._on_kept({run.content for run in batch})
        try:
            await trio.to_thread.run_sync(self._cache.flush)
        except RuntimeError as error:  # no thread to be had
            log.warning("what was written last is not safe from a power cut yet", reason=str(error))

    async def keep_again(self) -> None:
        """Offer the disk what it did not take (it was full, say), as far as it is remembered."""
        for key, content in list(self._unkept.items()):
            data = self._recent.get(key)
            if data is None:
                self._unkept.pop(key, None)
                continue
            await self._keep([Run(content, key.number, [data])])
            if key in self._unkept:  # it is still full
                return
            self._on_kept({content})

    def _new_gets(self, content: Content, missing: Sequence[int], longest: int = MAX_GET_BLOCKS) -> list[Get]:
        in_transit = min(TRANSIT_BLOCKS, self._memory.blocks.limit_bytes // BLOCK_BYTES - 1)
        gets = [Get(content, run, in_transit) for run in plan_gets(missing, longest=longest)]
        for get in gets:
            for index in get.indices:
                pending = self._pending[BlockKey(content.content_id, index)] = PendingBlock(get)
                get.blocks.append(pending)
        if missing:
            self._coming.setdefault(content.content_id, Coming()).blocks += len(missing)
        return gets

    def _lengthen(self, get: Get, *, leave_bytes: int = 0) -> None:
        """Have a GET that is about to begin bring what is queued behind it, too: its share of what is to come.

        As far as there is room in memory, now and for one such on each connection: else short ones bring more.
        """
        gets, coming = self._prefetch_gets(False), self._coming[get.content.content_id]
        connections = max(1, gets // len(self._coming))
        share = even_share(coming.blocks, connections=connections, window_blocks=coming.window_blocks)
        room_each = self._memory.blocks.limit_bytes // BLOCK_BYTES // gets
        longest = MAX_GET_BLOCKS if get.needs_for(MAX_GET_BLOCKS) <= room_each else room_each - 1
        while len(get.indices) < share:
            behind = self._pending.get(BlockKey(get.content.content_id, get.indices.stop))
            if behind is None or behind.get.is_begun or len(get.indices) + len(behind.get.indices) > longest:
                return
            needs = get.needs_for(get.coming + behind.get.coming)
            if not self._memory.blocks.has_room(needs * BLOCK_BYTES + leave_bytes):
                return
            get.absorb(behind.get)

    def _begin(self, get: Get) -> None:
        """Begin a GET that somebody waits for, also if it is still in the queue of prefetches."""
        if not get.is_begun:
            self._lengthen(get)
            get.is_begun = True
            self._nursery.start_soon(self._run_get, get)

    def _begin_prefetches(self) -> None:
        """As many as connections and memory allow: some of either are left to readers."""
        room, leave_bytes = self._memory.blocks, self._memory.blocks.limit_bytes // 4
        most = self._prefetch_gets(trio.current_time() - self._surprised_at < _SURPRISED_SECONDS)
        while self._waiting and self._prefetching < most:
            get = self._waiting[0]
            if not get.is_begun:
                self._lengthen(get, leave_bytes=leave_bytes)
                if not room.try_take(get.needs * BLOCK_BYTES, leave_bytes=leave_bytes):
                    return
                get.is_begun, get.held = True, get.needs
                self._prefetching += 1
                self._nursery.start_soon(self._run_prefetch, get)
            self._waiting.popleft()

    async def _run_prefetch(self, get: Get) -> None:
        try:
            await self._run_get(get)
        finally:
            self._prefetching -= 1
            self._begin_prefetches()

    async def _run_get(self, get: Get) -> None:
        """Settle all blocks of `get`, one way or the other."""
        failure: VbnfsError = StorageError(f"{get.content.source}: the mount is going away")
        try:
            failure = await self._bring(get)
        finally:
            self._fail_rest(get, failure)
            self._memory.blocks.give_back(get.held * BLOCK_BYTES)
            get.held = 0
            self._begin_prefetches()

    async def _bring(self, get: Get) -> VbnfsError:
        """Fetch the blocks of `get`, or have others bring them. Returns why those that are then lacking are."""
        try:
            if not get.held:
                await self._memory.blocks.take(get.needs * BLOCK_BYTES)
                get.held = get.needs
            try:
                async with aclosing(self._neighbours.rounds(get.content, get.indices)) as rounds:
                    async for one in rounds:
                        self._settle_found(get, one.found)
                        for run in one.runs:
                            await self._fetch(get, run)
            finally:
                # First of all: whoever is told may ask anew, and then the claims are another GET's.
                await self._neighbours.drop_all(get.content, get.lacking)
        except VbnfsError as error:
            return error
        except Exception as error:
            log.exception("unexpected failure of a GET", object=str(get.content.source))
            return StorageError(f"{get.content.source}: {error!r}")
        return BadReplyError(f"{get.content.source}: fewer bytes than were asked for")

    async def _fetch(self, get: Get, run: range) -> None:
        """Fetch neighbouring blocks of `get`."""
        arrived = Assembly(get.content, run)

        async def receive(piece: bytes) -> None:
            for index, blocks in arrived.add(piece):
                await self._arrive(get, Run(get.content, index, blocks))

        start, stop = block_range(get.content, run[0]), block_range(get.content, run[-1])
        whole = ByteRange(start.start, stop.stop)
        await self._sources.get_range(get.content, whole, receive)

    def _settle_found(self, get: Get, found: dict[int, bytes]) -> None:
        """Blocks that another process has brought to the disk."""
        for index, data in found.items():
            pending = get.blocks[index - get.indices[0]]
            pending.data = data
            pending.settled.set()
            self._came(get)
            self._done_with(BlockKey(get.content.content_id, index))
        self._written.unpark_all()

    async def _arrive(self, get: Get, run: Run) -> None:
        for index, data in zip(run.indices, run.blocks, strict=True):
            pending = get.blocks[index - get.indices[0]]
            pending.data = data
            self._recent[BlockKey(get.content.content_id, index)] = data
            pending.settled.set()
            pending.has_room = True
            get.held -= 1
            self._came(get)
        self._to_disk.send_nowait(run)
        lacking = get.needs - get.held
        if lacking > 0:
            await self._memory.blocks.take(lacking * BLOCK_BYTES, goes_on=True)
            get.held += lacking

    def _came(self, get: Get) -> None:
        get.coming -= 1
        self._no_more_coming(get.content, 1)

    def _no_more_coming(self, content: Content, blocks: int) -> None:
        coming = self._coming[content.content_id]
        coming.blocks -= blocks
        if not coming.blocks:
            del self._coming[content.content_id]

    def _fail_rest(self, get: Get, failure: VbnfsError) -> None:
        if get.coming:
            self._no_more_coming(get.content, get.coming)
        for index in get.lacking:
            pending = get.blocks[index - get.indices[0]]
            pending.error = failure
            pending.settled.set()
            self._done_with(BlockKey(get.content.content_id, index))

    def _done_with(self, key: BlockKey) -> None:
        """A block is on the disk, cannot be kept, or has failed: nobody else will wait for it here."""
        pending = self._pending.pop(key, None)
        if pending is not None:
            get = pending.get
            get.blocks[key.number - get.indices[0]] = PendingBlock(get, data=b"")  # lets go of the bytes
            if pending.has_room:
                self._memory.blocks.give_back(BLOCK_BYTES)

    async def _keep(self, batch: Sequence[Run]) -> None:
        try:
            kept = await trio.to_thread.run_sync(self._write, batch)
        except RuntimeError as error:  # no thread to be had
            log.warning("blocks cannot be kept; reads go on without", reason=str(error))
            kept = [False] * len(batch)
            for run in batch:
                self._neighbours.drop_without_thread(run.content, run.indices)
        for run, is_kept in zip(batch, kept, strict=True):
            for index in run.indices:
                key = BlockKey(run.content.content_id, index)
                if is_kept:
                    self._unkept.pop(key, None)
                else:
                    self._unkept[key] = run.content
        self._is_kept = kept[-1]

    def _write(self, batch: Sequence[Run]) -> list[bool]:
        return [self._write_run(run) for run in batch]

    def _write_run(self, run: Run) -> bool:
        count_bytes = sum(map(len, run.blocks))
        try:
            if self._evictor.make_room(count_bytes):
                self._cache.forget_deleted()
            lacking_bytes = count_bytes - self._cache.put(run.content, run.first, *run.blocks)
            self._evictor.not_written(lacking_bytes)
        except Exception:  # a defect; it must not end the task that keeps everybody's blocks
            log.exception("unexpected failure of a write", object=str(run.content.source))
            return False
        else:
            return not lacking_bytes
        finally:
            self._neighbours.drop(run.content, run.indices)

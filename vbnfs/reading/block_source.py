"""One block: from memory, from a GET in flight, or by a new GET; and into the cache.

Who the tasks are, and what they share:

    get()           a reader. Waits for blocks; being cancelled cancels no GET.
    _run_get()      a task for each GET, in the mount's nursery. Leaves what another process fetches to it (see
                    neighbours.py). Hands every block on as soon as its bytes have come, then queues it for the disk.
    keep_blocks()   one task that writes queued blocks in a thread, several at a time.

`_pending` has every block that is on its way, from the decision to fetch it until it is on the disk. Between
the look-up in it and the insertion there is no await: that makes a GET single-flight. `_recent` has what came
last, for readers that looked at the disk before the block was there, and for a disk that takes nothing.

A GET begins when there is room in memory for all of its blocks; a block's room is free again when it is on the disk.
"""

from collections import deque
from collections.abc import Callable, Sequence, Set
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import structlog
import trio
from cachetools import LRUCache

from vbnfs.errors import BadReplyError, StorageError, VbnfsError
from vbnfs.objects import BlockKey, ByteRange, Content, ObjectClient
from vbnfs.reading.memory import Budget, Memory
from vbnfs.reading.neighbours import Neighbours
from vbnfs.reading.planner import plan_gets
from vbnfs.storage.block_cache import BlockCache, block_range
from vbnfs.storage.eviction import Evictor
from vbnfs.storage.segment import BLOCK_BYTES

log = structlog.get_logger()

_QUEUED_BLOCKS: Final = 64  # 16 MiB on their way to the disk; then GETs wait for it
_BLOCKS_A_WRITE: Final = 32
_UNKEPT_BLOCKS: Final = 4096
_LAST_WRITE_SECONDS: Final = 5.0


@dataclass(eq=False, slots=True)
class _Get:
    """A GET of neighbouring blocks, and who waits for them. `is_begun` once it has a task, `has_room` in memory."""

    content: Content
    indices: range
    blocks: "list[_PendingBlock]" = field(default_factory=list)
    is_begun: bool = False
    has_room: bool = False

    @property
    def needs_bytes(self) -> int:
        """Room for its blocks, and for one that is being put together."""
        return (len(self.indices) + 1) * BLOCK_BYTES


@dataclass(eq=False, slots=True)
class _PendingBlock:
    """A block on its way: `data` or `error` is set when `settled` is."""

    get: _Get
    settled: trio.Event = field(default_factory=trio.Event)
    data: bytes | None = None
    error: VbnfsError | None = None


class BlockSource:
    """Blocks that the disk does not have, from `client`.

    `nursery` outlives all reads. At most `prefetch_gets()` GETs that nobody waits for run at a time; the rest of
    the connections are left to readers. `on_kept` is told the contents of which blocks were written, each time.
    """

    def __init__(
        self,
        client: ObjectClient,
        cache: BlockCache,
        evictor: Evictor,
        neighbours: Neighbours,
        *,
        nursery: trio.Nursery,
        prefetch_gets: Callable[[], int],
        memory: Memory,
        on_kept: Callable[[Set[Content]], None] = lambda contents: None,
    ) -> None:
        self._on_kept = on_kept
        self._client = client
        self._cache = cache
        self._evictor = evictor
        self._neighbours = neighbours
        self._nursery = nursery
        self._pending: dict[BlockKey, _PendingBlock] = {}
        self._memory = memory
        self._recent: LRUCache[BlockKey, bytes] = LRUCache(memory.recent_bytes, getsizeof=len)
        self._prefetch_gets = prefetch_gets
        self._prefetching = 0
        self._waiting: deque[_Get] = deque()
        self._is_kept = True  # whether the disk took the last block
        self._unkept: LRUCache[BlockKey, Content] = LRUCache(_UNKEPT_BLOCKS)  # what it did not take
        send, receive = trio.open_memory_channel[tuple[Content, int, bytes]](_QUEUED_BLOCKS)
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

    async def get(self, content: Content, indices: Sequence[int]) -> dict[int, bytes]:
        """The bytes of blocks that the disk did not have, by number. Raises a `StorageError`."""
        found: dict[int, bytes] = {}
        waited_for: dict[int, _PendingBlock] = {}
        for index in indices:
            key = BlockKey(content.content_id, index)
            if (data := self._recent.get(key)) is not None:
                found[index] = data
            elif (pending := self._pending.get(key)) is not None:
                waited_for[index] = pending
        missing = [index for index in indices if index not in found and index not in waited_for]
        for get in self._new_gets(content, missing):
            waited_for.update(zip(get.indices, get.blocks, strict=True))
        for pending in waited_for.values():
            self._begin(pending.get)
        for index, pending in waited_for.items():
            found[index] = await _settled(pending)
        return found

    def prefetch(self, content: Content, indices: Sequence[int]) -> None:
        """Fetch blocks that the disk does not have, when readers leave room. Returns at once."""
        wanted = [i for i in indices if not self._is_on_its_way(BlockKey(content.content_id, i))]
        self._waiting.extend(self._new_gets(content, wanted))
        self._begin_prefetches()

    def forget(self, content_id: str) -> None:
        """Do not remember what came last of a content: it is wrong."""
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
            while len(batch) < _BLOCKS_A_WRITE:
                try:
                    batch.append(self._from_gets.receive_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):  # that is all, for now or for good
                    break
            await self._keep(batch)
            for content, index, _ in batch:
                self._done_with(BlockKey(content.content_id, index))
            self._written.unpark_all()
            self._begin_prefetches()
            self._on_kept({content for content, _, _ in batch})
        await trio.to_thread.run_sync(self._cache.flush)

    async def keep_again(self) -> None:
        """Offer the disk what it did not take (it was full, say), as far as it is remembered."""
        for key, content in list(self._unkept.items()):
            data = self._recent.get(key)
            if data is None:
                self._unkept.pop(key, None)
                continue
            await self._keep([(content, key.index, data)])
            if key in self._unkept:  # it is still full
                return
            self._on_kept({content})

    def _is_on_its_way(self, key: BlockKey) -> bool:
        return key in self._pending or key in self._recent

    def _new_gets(self, content: Content, missing: Sequence[int]) -> list[_Get]:
        gets = [_Get(content, run) for run in plan_gets(missing)]
        for get in gets:
            for index in get.indices:
                pending = self._pending[BlockKey(content.content_id, index)] = _PendingBlock(get)
                get.blocks.append(pending)
        return gets

    def _begin(self, get: _Get) -> None:
        """Begin a GET that somebody waits for, also if it is still in the queue of prefetches."""
        if not get.is_begun:
            get.is_begun = True
            self._nursery.start_soon(self._run_get, get)

    def _begin_prefetches(self) -> None:
        """As many as connections and memory allow; a quarter of either is left to readers, or nearly so."""
        room = self._memory.blocks
        while self._waiting and self._prefetching < self._prefetch_gets():
            get = self._waiting[0]
            if not get.is_begun:
                get.has_room = room.try_take(get.needs_bytes, leave_bytes=room.limit_bytes // 4)
                if not get.has_room:
                    return
                get.is_begun = True
                self._prefetching += 1
                self._nursery.start_soon(self._run_prefetch, get)
            self._waiting.popleft()

    async def _run_prefetch(self, get: _Get) -> None:
        try:
            await self._run_get(get)
        finally:
            self._prefetching -= 1
            self._begin_prefetches()

    async def _run_get(self, get: _Get) -> None:
        """Settle all blocks of `get`, one way or the other."""
        failure: VbnfsError = StorageError(f"{get.content.source}: the mount is going away")
        try:
            if not get.has_room:
                await self._memory.blocks.take(get.needs_bytes)
                get.has_room = True
            async with aclosing(self._neighbours.rounds(get.content, get.indices)) as rounds:
                async for one in rounds:
                    self._settle_found(get, one.found)
                    for run in one.runs:
                        await self._fetch(get, run)
            failure = BadReplyError(f"{get.content.source}: fewer bytes than were asked for")
        except VbnfsError as error:
            failure = error
        except Exception as error:
            log.exception("unexpected failure of a GET", object=str(get.content.source))
            failure = StorageError(f"{get.content.source}: {error!r}")
        finally:
            failed = self._fail_rest(get, failure)
            if get.has_room:
                self._memory.blocks.give_back(BLOCK_BYTES)
            self._begin_prefetches()
        await self._neighbours.drop_all(get.content, failed)

    async def _fetch(self, get: _Get, run: range) -> None:
        """Fetch neighbouring blocks of `get`."""
        arrived = _Assembly(get.content, run)

        async def receive(piece: bytes) -> None:
            for index, data in arrived.add(piece):
                await self._arrive(get, index, data)

        start, stop = block_range(get.content, run[0]), block_range(get.content, run[-1])
        whole = ByteRange(start.start, stop.stop)
        await self._client.get_range(get.content.source, whole, size_bytes=get.content.size_bytes, receive=receive)

    def _settle_found(self, get: _Get, found: dict[int, bytes]) -> None:
        """Blocks that another process has brought to the disk."""
        for index, data in found.items():
            pending = get.blocks[index - get.indices[0]]
            pending.data = data
            pending.settled.set()
            self._done_with(BlockKey(get.content.content_id, index))
        self._written.unpark_all()

    async def _arrive(self, get: _Get, index: int, data: bytes) -> None:
        pending = get.blocks[index - get.indices[0]]
        pending.data = data
        self._recent[BlockKey(get.content.content_id, index)] = data
        pending.settled.set()
        try:
            await self._to_disk.send((get.content, index, data))
        except trio.Cancelled:  # the mount goes away; readers have the block, so it is kept if the disk takes it soon
            with trio.move_on_after(_LAST_WRITE_SECONDS, shield=True):
                await self._to_disk.send((get.content, index, data))
            raise

    def _fail_rest(self, get: _Get, failure: VbnfsError) -> list[int]:
        """Returns the numbers of the blocks that did not come."""
        failed: list[int] = []
        for index, pending in zip(get.indices, get.blocks, strict=True):
            if pending.data is None:
                pending.error = failure
                pending.settled.set()
                self._done_with(BlockKey(get.content.content_id, index))
                failed.append(index)
        return failed

    def _done_with(self, key: BlockKey) -> None:
        """A block is on the disk, cannot be kept, or has failed: nobody else will wait for it here."""
        pending = self._pending.pop(key, None)
        if pending is not None:
            get = pending.get
            get.blocks[key.index - get.indices[0]] = _PendingBlock(get, data=b"")  # lets go of the bytes
            if get.has_room:
                self._memory.blocks.give_back(BLOCK_BYTES)

    async def _keep(self, batch: Sequence[tuple[Content, int, bytes]]) -> None:
        kept = await trio.to_thread.run_sync(self._write, batch)
        for (content, index, _), is_kept in zip(batch, kept, strict=True):
            key = BlockKey(content.content_id, index)
            if is_kept:
                self._unkept.pop(key, None)
            else:
                self._unkept[key] = content
        self._is_kept = kept[-1]

    def _write(self, batch: Sequence[tuple[Content, int, bytes]]) -> list[bool]:
        kept: list[bool] = []
        for content, index, data in batch:
            if self._evictor.make_room(len(data)):
                self._cache.forget_deleted()
            kept.append(self._cache.put(content, index, data) > 0)
            self._neighbours.drop(content, index)
        return kept


async def _settled(pending: _PendingBlock) -> bytes:
    await pending.settled.wait()
    if pending.data is None:
        # A new exception for each waiter: one object raised in several tasks would mix their tracebacks.
        error = pending.error or StorageError("block neither came nor failed")
        raise type(error)(str(error)) from error
    return pending.data


class _Assembly:
    """Cuts a run of blocks out of the pieces in which it arrives."""

    def __init__(self, content: Content, indices: range) -> None:
        self._content = content
        self._indices = indices
        self._index = indices[0]
        self._pieces: list[bytes] = []
        self._length = 0

    def add(self, piece: bytes) -> list[tuple[int, bytes]]:
        """The blocks that `piece` completes, with their numbers. Raises `BadReplyError` for bytes too many."""
        done: list[tuple[int, bytes]] = []
        view = memoryview(piece)
        while view:
            if self._index not in self._indices:
                raise BadReplyError(f"{self._content.source}: more bytes than were asked for")
            wanted = len(block_range(self._content, self._index)) - self._length
            part, view = view[:wanted], view[wanted:]
            self._pieces.append(bytes(part) if len(part) != len(piece) else piece)
            self._length += len(part)
            if len(part) == wanted:
                done.append((self._index, b"".join(self._pieces)))
                self._index, self._pieces, self._length = self._index + 1, [], 0
        return done

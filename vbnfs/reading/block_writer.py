"""Blocks to the disk: what fetches bring is written in their order, several pieces in one call of a thread.

The writer gets `ArrivedBlocks` by `put`, which never waits: memory is what fetches wait for, and so for the disk. For
each block it decides whether it is STORED or UNSTORED (block_states.py), and replies. It offers the disk again what
that did not take (it was full, say), as far as memory remembers it.

A disk that does not answer must not hold the room of all fetches: where one write lasts for longer than
`PATIENCE_SECONDS`, what waits behind it gives its room to fetches that wait for some, the oldest first. What is being
written has at most a quarter of the room, and stays in memory until the disk answers.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence, Set
from itertools import islice
from typing import Final

import structlog
import trio

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.eviction import Evictor
from vbnfs.objects import BlockKey, Content
from vbnfs.reading.block_states import BlockState
from vbnfs.reading.fetches import ArrivedBlocks, Block, Bytes
from vbnfs.reading.memory import Memory
from vbnfs.reading.other_processes import SharedFetches

log = structlog.get_logger()

PATIENCE_SECONDS: Final = 1.0  # with a write, where fetches wait for room
_LAST_SECONDS: Final = 10.0  # for each of the last writes, and then for the disk to sync
_RUNS_A_WRITE: Final = 16
_MOST_BYTES: Final = 8 << 20  # in one write: a disk of 8 MB/s takes it in time
_MOST_UNSTORED: Final = 4096  # blocks


class BlockWriter:
    """Writes to `cache`, which `evictor` keeps within its size, and gives the claims on blocks back.

    UNSTORED blocks are offered again from `memory.recent`, the bytes that came last. `on_stored` is called in the
    event loop, after each write, with the contents of the blocks that were written; also by `note_stored`.
    """

    def __init__(
        self,
        cache: BlockCache,
        evictor: Evictor,
        others: SharedFetches,
        memory: Memory,
        *,
        on_stored: Callable[[Set[Content]], None] = lambda contents: None,
    ) -> None:
        self._cache = cache
        self._evictor = evictor
        self._others = others
        self._recent = memory.recent
        self._room = memory.blocks
        self._on_stored = on_stored
        self._queue: deque[ArrivedBlocks] = deque()  # first in, first out; what is being written stands in front
        self._writing = 0  # so many of them
        self._write = trio.CancelScope()  # what is being written
        self._gives_way = False  # that takes long
        self._is_closed = False
        self._has_more = trio.lowlevel.ParkingLot()  # woken when the queue has grown, and by `close`
        self._has_written = trio.lowlevel.ParkingLot()  # woken after each write
        self._takes_blocks = True  # whether the disk took the last block
        self._unstored: dict[BlockKey, Block] = {}  # the one to be offered next in front

    @property
    def room_bytes(self) -> int:
        """How much may be written ahead of readers, so that it is still there when it is read.

        Half of the room: so where that ends, what was fetched ahead is little, and memory has it.
        """
        return self._evictor.room_bytes // 2 if self._takes_blocks else 0

    def put(self, arrived: ArrivedBlocks) -> None:
        """Have blocks written. Returns at once."""
        self._queue.append(arrived)
        self._has_more.unpark_all()
        if self._gives_way:
            self._give_way()

    def note_stored(self, content: Content) -> None:
        """Blocks of a content came to the disk without this writer."""
        self._on_stored({content})

    def close(self) -> None:
        """No more blocks will come: `keep_blocks` returns when all that came have been offered to the disk.

        Or when that has not answered for some seconds.
        """
        self._is_closed = True
        self._write.deadline = trio.current_time() + _LAST_SECONDS
        self._has_more.unpark_all()

    async def keep_blocks(self) -> None:
        """Write what is put, until `close`; then have the disk sync it. One task runs this."""
        while self._queue or not self._is_closed:
            if self._queue:
                if not await self._write_next():
                    log.warning("the disk does not answer; what was fetched last is not kept")
                    return
                await trio.lowlevel.checkpoint()  # what fetches bring in this turn goes into one call of a thread
            else:
                await self._has_more.park()
        try:
            with trio.move_on_after(_LAST_SECONDS) as patience:
                await trio.to_thread.run_sync(self._cache.flush, abandon_on_cancel=True)
            reason = "the disk does not answer" if patience.cancelled_caught else ""
        except RuntimeError as error:  # no thread to be had
            reason = str(error)
        if reason:
            log.warning("what was written last is not safe from a power cut yet", reason=reason)

    async def written(self, content: Content) -> None:
        """Wait until the blocks of a content that have arrived by now are on the disk, or cannot be kept."""
        last = next((one for one in reversed(self._queue) if one.content.content_id == content.content_id), None)
        while last is not None and last.blocks[0].state is BlockState.ARRIVED:
            await self._has_written.park()

    async def keep_again(self) -> None:
        """Offer the disk again what it did not take, until it does not take a block of it, either."""
        for key, block in list(self._unstored.items()):
            if self._unstored.get(key) is not block:  # another life has come to its place meanwhile
                continue
            data = self._recent.get(key)
            if data is None:
                self._unstored.pop(key).move(BlockState.FORGOTTEN)
                continue
            again = ArrivedBlocks(block.content, key.number, [block], [data], done=self._stored_at_last)
            [is_taken] = await self._offer([again])
            if is_taken:
                again.done(again)
                continue
            if self._unstored.get(key) is block:
                self._unstored[key] = self._unstored.pop(key)  # to the end: the next time another one is tried first
            return

    def _stored_at_last(self, again: ArrivedBlocks) -> None:
        [block] = again.blocks
        if self._unstored.get(block.key) is block:
            self._unstored.pop(block.key).move(BlockState.STORED)
        self._on_stored({block.content})

    async def _write_next(self) -> bool:
        """Whether the disk answered, as it always does before `close`."""
        batch = self._next_batch()
        self._writing = len(batch)
        last = trio.current_time() + _LAST_SECONDS if self._is_closed else math.inf
        with trio.CancelScope(deadline=last) as self._write:
            async with trio.open_nursery() as beside:
                beside.start_soon(self._give_way_after_a_while)
                taken = await self._offer(batch)
                beside.cancel_scope.cancel()
        self._writing, self._gives_way = 0, False
        is_answering = not self._write.cancelled_caught
        if not is_answering:
            batch, taken = list(self._queue), [False] * len(self._queue)
        for _ in batch:
            self._queue.popleft()
        self._settle_all(batch, taken)
        return is_answering

    def _next_batch(self) -> list[ArrivedBlocks]:
        """What is written by one call: the first message, and more as long as that is no large part of the room.

        In the end one after the other, so that a disk that is slow has time for each.
        """
        batch: list[ArrivedBlocks] = []
        most_bytes, count_bytes = min(_MOST_BYTES, self._room.limit_bytes // 4), 0
        for arrived in islice(self._queue, 1 if self._is_closed else _RUNS_A_WRITE):
            count_bytes += len(arrived.blocks) * BLOCK_BYTES
            if batch and count_bytes > most_bytes:
                break
            batch.append(arrived)
        return batch

    async def _give_way_after_a_while(self) -> None:
        """Beside a write."""
        await trio.sleep(PATIENCE_SECONDS)
        self._gives_way, self._takes_blocks = True, False
        while True:
            self._give_way()
            await self._room.lacks()

    def _give_way(self) -> None:
        """Have what waits behind a write that takes long give its room to fetches that wait for some."""
        while self._room.is_lacking and len(self._queue) > self._writing:
            arrived = self._queue[self._writing]
            del self._queue[self._writing]
            self._others.drop_without_thread(arrived.content, arrived.indices)
            self._settle_all([arrived], [False])

    def _settle_all(self, batch: Sequence[ArrivedBlocks], taken: Sequence[bool]) -> None:
        for arrived, is_taken in zip(batch, taken, strict=True):
            for block in arrived.blocks:
                self._settle(block, is_taken=is_taken)
        self._has_written.unpark_all()
        for arrived in batch:
            arrived.done(arrived)
        self._on_stored({arrived.content for arrived in batch})

    def _settle(self, block: Block, *, is_taken: bool) -> None:
        key = block.key
        if (before := self._unstored.pop(key, None)) is not None:
            before.move(BlockState.FORGOTTEN)
        if is_taken:
            block.move(BlockState.STORED)
            return
        block.leave_unstored()
        self._unstored[key] = block
        if len(self._unstored) > _MOST_UNSTORED:
            self._unstored.pop(next(iter(self._unstored))).move(BlockState.FORGOTTEN)

    async def _offer(self, batch: Sequence[ArrivedBlocks]) -> list[bool]:
        """Write; whether the disk took all blocks of each message."""
        try:
            taken = await trio.to_thread.run_sync(self._write_all, batch, abandon_on_cancel=True)
        except RuntimeError as error:  # no thread to be had
            log.warning("blocks cannot be kept; reads go on without", reason=str(error))
            taken = [False] * len(batch)
            for arrived in batch:
                self._others.drop_without_thread(arrived.content, arrived.indices)
        self._takes_blocks = taken[-1]
        return taken

    def _write_all(self, batch: Sequence[ArrivedBlocks]) -> list[bool]:
        return [self._write_one(arrived) for arrived in batch]

    def _write_one(self, arrived: ArrivedBlocks) -> bool:
        try:
            return self._put(arrived.kept_in or self._cache, arrived.content, arrived.first, arrived.data)
        except Exception:  # a defect; it must not end the task that keeps all blocks
            log.exception("unexpected failure of a write", object=str(arrived.content.source))
            return False
        finally:
            self._others.drop(arrived.content, arrived.indices)

    def keep(self, content: Content, index: int, data: Bytes) -> bool:
        """Write a block that another scope has; whether the disk took it. To be called from a thread."""
        return self._put(self._cache, content, index, [data])

    def _put(self, cache: BlockCache, content: Content, first: int, data: Sequence[Bytes]) -> bool:
        count_bytes = sum(map(len, data))
        lacking_bytes = count_bytes
        if self._evictor.make_room(count_bytes):
            lacking_bytes -= cache.put(content, first, *data)
        self._evictor.not_written(lacking_bytes)
        return not lacking_bytes

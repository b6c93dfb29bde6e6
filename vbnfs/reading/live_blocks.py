"""The blocks that are on their way, and the bytes that came last: by these each block is fetched once.

A block is here from the decision to fetch it until the disk has it or has refused it: while it is QUEUED, UNDER_WAY
or ARRIVED (block_states.py). `want` looks blocks up and adds those that are lacking in one step, without an await:
that makes a fetch single-flight. The bytes that came last are there for readers that asked the disk before the block
was on it, and for a disk that takes nothing.
"""

from collections.abc import Iterable, Sequence

from vbnfs.blocks import blocks_of
from vbnfs.cache.stored_blocks import block_range
from vbnfs.objects import BlockKey, ByteRange, Content
from vbnfs.reading.block_states import BlockState
from vbnfs.reading.fetches import Block, Bytes
from vbnfs.reading.memory import Memory
from vbnfs.reading.planner import plan_gets


class LiveBlocks:
    """All blocks of one mount that are in memory or on their way."""

    def __init__(self, memory: Memory) -> None:
        self._recent = memory.recent
        self._blocks: dict[BlockKey, Block] = {}

    def __len__(self) -> int:
        """How many are on their way, from S3 or to the disk."""
        return len(self._blocks)

    def data(self, content: Content, index: int) -> Bytes | None:
        """The bytes of a block, if they are in memory."""
        key = BlockKey(content.content_id, index)
        data = self._recent.get(key)
        if data is None and (block := self._blocks.get(key)) is not None:
            return block.data
        return data

    def has(self, content: Content, index: int) -> bool:
        """Whether a block is in memory or on its way."""
        key = BlockKey(content.content_id, index)
        return key in self._blocks or key in self._recent

    def coming(self, content: Content, index: int) -> Block | None:
        """A block that is on its way."""
        return self._blocks.get(BlockKey(content.content_id, index))

    def note_read(self, content: Content, read: ByteRange) -> None:
        """A program has got this: where it goes on, it will not read the blocks again that end there."""
        for index in blocks_of(read):
            if block_range(content, index).stop <= read.stop:
                self._recent.note_read(BlockKey(content.content_id, index))

    def want(
        self, content: Content, indices: Sequence[int], *, longest: int
    ) -> tuple[dict[int, Bytes], dict[int, Block], dict[int, Block]]:
        """What is in memory, what was on its way before, and what is now: new blocks, QUEUED.

        New blocks are planned in runs of at most `longest` adjacent ones.
        """
        found: dict[int, Bytes] = {}
        coming: dict[int, Block] = {}
        missing: list[int] = []
        for index in indices:
            key = BlockKey(content.content_id, index)
            if (data := self._recent.get(key)) is not None:
                found[index] = data
            elif (block := self._blocks.get(key)) is not None:
                coming[index] = block
            else:
                missing.append(index)
        runs = plan_gets(missing, longest=longest)
        new = {index: Block(content, index, planned) for planned in runs for index in planned}
        self._blocks.update((block.key, block) for block in new.values())
        return found, coming, new

    def queued(self, content: Content, index: int) -> Block | None:
        """A block that has no fetch yet; None if it has one, or is not on its way."""
        block = self._blocks.get(BlockKey(content.content_id, index))
        return block if block is not None and block.state is BlockState.QUEUED else None

    def begin(self, content: Content, indices: range) -> dict[int, Block]:
        """Those that were queued are UNDER_WAY now. Returns them by number."""
        blocks = {index: self._blocks[BlockKey(content.content_id, index)] for index in indices}
        for block in blocks.values():
            block.move(BlockState.UNDER_WAY)
        return blocks

    def arrive(self, block: Block, data: Bytes) -> None:
        """Its bytes have come from S3: readers that wait get them, and others find them in memory."""
        self._recent.add(block.key, data)
        block.bring(BlockState.ARRIVED, data)

    def give_up(self, blocks: Iterable[Block]) -> None:
        """The time of a reader that waited for their fetch has run out: no other reader is to find them."""
        for block in blocks:
            if block.state is BlockState.UNDER_WAY:
                block.move(BlockState.GIVEN_UP)
                self.let_go(block)

    def let_go(self, block: Block) -> None:
        """It is past ARRIVED, or will not come, or was given up: another life of it may be here by now."""
        if self._blocks.get(block.key) is block:
            del self._blocks[block.key]

    def forget(self, content_id: str) -> None:
        """Do not remember what came last of a content."""
        self._recent.forget(content_id)

"""Small reads that go on in one block, as h5py's of one channel: 12,500 of 4 bytes. The block's bytes are in memory.

The second small read of a block in a row has all of the block read: 256 KiB, some 20 microseconds. Later ones are
copied from there, in a microsecond, where each would else be a system call and a look at what is known of the block.
Bytes of a content never change, and these were checked as all others.
"""

from dataclasses import dataclass
from typing import Final

from vbnfs.blocks import BLOCK_BYTES

MOST_BYTES: Final = 4096  # of a small read
_PAGE_BYTES: Final = 4096


@dataclass(slots=True)
class Window:
    """The bytes of a block, from `start` up to `stop`; from `first` up to `last` is what was read of them lately.

    Threads may use one at once: a note of a read may be lost then, and no byte.
    """

    start: int
    stop: int
    data: memoryview
    first: int
    last: int

    def copy(self, buffer: memoryview, offset: int) -> bool:
        """Fill a buffer with the bytes from `offset` on. False where they are not here, or far from the last ones."""
        stop = offset + len(buffer)
        if not (self.start <= offset and stop <= self.stop and self.first <= offset <= self.last + _PAGE_BYTES):
            return False
        buffer[:] = self.data[offset - self.start : stop - self.start]
        self.last = max(self.last, stop)
        return True


class SmallReads:
    """Whether the next small read goes on where the last one was."""

    def __init__(self) -> None:
        self._block = -1

    def goes_on(self, offset: int, size: int) -> bool:
        """Whether a read is small, within a block, and the last small one was in the same."""
        block = offset // BLOCK_BYTES
        is_next = size <= MOST_BYTES and block == self._block and (offset + size - 1) // BLOCK_BYTES == block
        self._block = block if size <= MOST_BYTES else -1
        return is_next

"""Which blocks are worth handing to the kernel whole: those that it asks for in small parts, again and again.

Each such read costs 50 µs, whatever its size, and a block of 256 KiB costs no more than five of them. One read says
nothing yet: a program that reads a large file at random may never come back. A second read of the same block, soon,
says that more will follow, unless it goes on where the first one ended: that is how the kernel begins to read ahead.
"""

import time
from collections import OrderedDict
from typing import Final

from vbnfs.blocks import BLOCK_BYTES

_SMALL_BYTES: Final = 32 << 10
_SOON_SECONDS: Final = 1.0
_MOST_BLOCKS: Final = 4096


class RepeatedSmallReads:
    """The small reads of late, block by block."""

    def __init__(self) -> None:
        self._last: OrderedDict[tuple[int, int], tuple[float, int]] = OrderedDict()  # when, and where it ended

    def is_again(self, inode: int, offset: int, size: int) -> bool:
        """Remember a read, and return whether its block is worth having whole."""
        if size > _SMALL_BYTES:
            return False
        block, now = (inode, offset // BLOCK_BYTES), time.monotonic()
        when, end = self._last.pop(block, (now - _SOON_SECONDS, 0))
        if now - when < _SOON_SECONDS and offset != end:
            return True
        if len(self._last) >= _MOST_BLOCKS:
            self._last.popitem(last=False)
        self._last[block] = now, offset + size
        return False

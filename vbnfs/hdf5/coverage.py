"""How much of any part of a file is cached, by the blocks that are (pure)."""

from collections.abc import Iterable, Set
from itertools import accumulate

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.objects import ByteRange


class Coverage:
    """Of a file of `size_bytes`. `blocks` are the numbers of those that are cached; None: all of the file is here."""

    def __init__(self, size_bytes: int, blocks: Set[int] | None) -> None:
        self._size_bytes = size_bytes
        self.blocks = blocks
        count = 0 if blocks is None else -(-size_bytes // BLOCK_BYTES)
        self._before = list(accumulate((number in (blocks or ()) for number in range(count)), initial=0))

    def bytes_of(self, places: Iterable[ByteRange]) -> int:
        """How many of these bytes are cached. What lies beyond the end of the file is not."""
        return sum(self._up_to(place.stop) - self._up_to(place.start) for place in places)

    @property
    def cached_bytes(self) -> int:
        """How many bytes of the file are."""
        return self._up_to(self._size_bytes)

    def _up_to(self, stop: int) -> int:
        stop = min(stop, self._size_bytes)
        if self.blocks is None:
            return stop
        block, rest = divmod(stop, BLOCK_BYTES)
        return self._before[block] * BLOCK_BYTES + (rest if block in self.blocks else 0)

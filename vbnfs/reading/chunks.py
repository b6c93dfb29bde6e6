"""What the chunks that a program has read of an array say about the next ones (pure).

A compressed chunk is read whole. A program that has read one chunk may want no other. So nothing is fetched beyond a
chunk before a third one was begun in an equal step. In the file, chunks of whole rows lie one behind the other; where
rows are divided among chunks, those of one column are in steps.
"""

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Final

from vbnfs.blocks import blocks_of
from vbnfs.hdf5.structure import Extent
from vbnfs.objects import ByteRange

_NEAR_BYTES: Final = 512 << 10  # the kernel's reads ahead of a program begin so far beyond what that reads
_PAGE_BYTES: Final = 4096  # the kernel reads whole ones: a read begins so much before a chunk at most
_LONGEST_BYTES: Final = 16 << 20  # of what is fetched at once
_CHUNK_CACHE_BYTES: Final = 1 << 20  # HDF5's, up to 1.14: of a chunk that is larger, and not filtered, it reads parts


def chunk_at(array: Extent, offset: int) -> int:
    """The number of the chunk that has a byte of an array with chunks: in the order in which they are in the file."""
    return max(0, bisect_right(array.chunks, offset) - 1)


def chunk_range(array: Extent, number: int) -> ByteRange:
    """The bytes of a chunk, up to where the next one begins."""
    chunks = array.chunks
    return ByteRange(chunks[number], chunks[number + 1] if number + 1 < len(chunks) else array.stop)


def chunk_read(array: Extent, offset: int) -> ByteRange | None:
    """The chunk that a read from a byte on is of, if all of that chunk will be read; also one on the byte's page."""
    if not array.chunks:
        return None
    chunk = chunk_range(array, chunk_at(array, offset + _PAGE_BYTES - 1))
    return chunk if len(chunk) <= (_LONGEST_BYTES if array.is_filtered else _CHUNK_CACHE_BYTES) else None


@dataclass(frozen=True, slots=True)
class ChunkWalk:
    """The chunks of an array that were begun in equal steps: the number of the last one, how many steps led to it.

    `stop` is where the last read ended.
    """

    last: int | None = None
    step: int = 0
    count: int = 0
    stop: int = 0

    def after(self, array: Extent, read: ByteRange) -> "ChunkWalk":
        """The walk after one more read. What the kernel reads beyond a chunk's end does not begin the next one."""
        if self.last is None:
            return ChunkWalk(chunk_at(array, read.start + _PAGE_BYTES - 1), stop=read.stop)
        if abs(read.start - self.stop) <= _NEAR_BYTES:
            number = max(self.last, chunk_at(array, read.start - _NEAR_BYTES))
        else:
            number = chunk_at(array, read.start + _PAGE_BYTES - 1)
        step, stop = number - self.last, read.stop
        if step <= 0:
            return ChunkWalk(number, stop=stop) if step else replace(self, stop=stop)
        return ChunkWalk(number, step, self.count + 1 if step == self.step else 1, stop)

    def end(self, array: Extent) -> int:
        """Where reading ahead in a row ends: with the last chunk, or so many more as were read after the second."""
        ahead = max(0, self.count - 1) if self.step == 1 else 0
        return chunk_range(array, min((self.last or 0) + ahead, len(array.chunks) - 1)).stop

    def strided_blocks(self, array: Extent) -> list[int]:
        """The blocks of the chunks that come next, where steps lead over chunks: up to 16 MiB of them."""
        found: dict[int, None] = {}
        room_bytes = _LONGEST_BYTES
        for number in range(1, self.count) if self.step > 1 and self.last is not None else ():
            place = (self.last or 0) + number * self.step
            if place >= len(array.chunks) or (room_bytes := room_bytes - len(chunk_range(array, place))) < 0:
                break
            found.update(dict.fromkeys(blocks_of(chunk_range(array, place))))
        return list(found)

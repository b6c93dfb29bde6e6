"""The records of a content's blocks, in its file `checksums`: a block's checksum, or zeros if it is not here.

They stand behind the 64 bytes that are for eviction (histories.py), 16 bytes a block, in order. Where little of a
content is here, the file is sparse, and only what is written of it is read where that suffices.

Where other hosts write records, too, the pages that this one has in memory may be of before. `refresh` has them read
again. What an NFS server says of holes is not believed there: it may be of before, too.
"""

import os
from collections.abc import Iterable, Iterator, Set
from typing import Final

from vbnfs.blocks import BLOCK_BYTES, CHECKSUM_BYTES, bytes_of_blocks
from vbnfs.cache.content_folder import CHECKSUMS, DATA, HEADER_BYTES, Shape
from vbnfs.host.folders import Folder
from vbnfs.host.mapping import forget_pages, read_in_memory
from vbnfs.host.places import for_looking, open_file, open_folder
from vbnfs.host.positioned import read_at, write_all
from vbnfs.host.sparse import next_data

_NO_RECORD: Final = bytes(CHECKSUM_BYTES)
_AT_ONCE: Final = 4096  # of a content of 1 GiB, 64 KiB


class Records:
    """Those of `count` blocks, in the open file `checksums`, which its owner closes. Methods raise `OSError`."""

    def __init__(self, checksums: int, count: int, *, are_shared: bool = False) -> None:
        self._checksums = checksums
        self._count = count
        self._are_shared = are_shared

    def refresh(self) -> None:
        """Where other hosts write records, too, have what is read from now on be as it is at the server now."""
        if self._are_shared:
            forget_pages(self._checksums)

    def of(self, index: int) -> bytes | None:
        """The checksum of a block; None if it is not here."""
        record = read_at(self._checksums, CHECKSUM_BYTES, _position(index)).ljust(CHECKSUM_BYTES, b"\0")
        return None if record == _NO_RECORD else record

    def is_known_missing(self, index: int) -> bool:
        """Whether a block is certainly not here, as far as pages in memory show."""
        return read_in_memory(self._checksums, CHECKSUM_BYTES, _position(index)) == _NO_RECORD

    def table(self, first: int, count: int) -> list[bytes | None]:
        """The checksums of adjacent blocks; None for those that are not here."""
        table = read_at(self._checksums, count * CHECKSUM_BYTES, _position(first))
        table = table.ljust(count * CHECKSUM_BYTES, b"\0")
        records = (table[at : at + CHECKSUM_BYTES] for at in range(0, len(table), CHECKSUM_BYTES))
        return [None if record == _NO_RECORD else record for record in records]

    def all(self) -> Iterator[bytes | None]:
        """The checksums of all blocks, read a part at a time."""
        self.refresh()
        for first in range(0, self._count, _AT_ONCE):
            yield from self.table(first, min(_AT_ONCE, self._count - first))

    def recorded(self) -> Iterator[int]:
        """The numbers of the blocks that are here. Costs as much as is here, however many blocks there are."""
        self.refresh()
        for first, count in self._written():
            yield from (index for index, record in enumerate(self.table(first, count), first) if record is not None)

    def lacking_runs(self, indices: range) -> Iterator[range]:
        """The runs of adjacent blocks, among some, that are not here."""
        first = indices.start
        for index, record in zip((*indices, indices.stop), (*self.table(first, len(indices)), b""), strict=True):
            if record is not None:
                if first < index:
                    yield range(first, index)
                first = index + 1

    def write(self, first: int, checksums: Iterable[bytes]) -> None:
        """Record adjacent blocks."""
        write_all(self._checksums, [b"".join(checksums)], _position(first))

    def erase(self, index: int) -> None:
        """Have a block not be here."""
        write_all(self._checksums, [_NO_RECORD], _position(index))

    def _written(self) -> Iterator[tuple[int, int]]:
        """The parts of the table that are no holes (lseek(2), SEEK_DATA): the first block, and how many."""
        position, end = HEADER_BYTES, _position(self._count)
        while position < end:
            data = range(position, end) if self._are_shared else next_data(self._checksums, position, end)
            if data is None:
                return
            first = (data.start - HEADER_BYTES) // CHECKSUM_BYTES
            end_of_part = min(data.stop, data.start + _AT_ONCE)
            stop = min(-(-(end_of_part - HEADER_BYTES) // CHECKSUM_BYTES), self._count)
            position = _position(stop)
            yield first, stop - first


def recorded_bytes(above: Folder, name: str, size_bytes: int, *, owners: Set[int] = frozenset()) -> int:
    """How many bytes are here of a content of this size, whose folder has a name in an open one.

    0 for a content of another size. Raises `OSError`.
    """
    folder, shape, count = open_folder(name, above, owners=owners), Shape(size_bytes), -(-size_bytes // BLOCK_BYTES)
    try:
        checksums = open_file(folder, CHECKSUMS, for_looking(folder), owners=owners)
        try:
            lengths = folder.stat(DATA).st_size, os.fstat(checksums).st_size
            if lengths != (shape.data_bytes, shape.checksums_bytes):
                return 0
            return bytes_of_blocks(size_bytes, set(Records(checksums, count, are_shared=folder.is_shared).recorded()))
        finally:
            os.close(checksums)
    finally:
        folder.close()


def _position(index: int) -> int:
    """Where a block's record begins."""
    return HEADER_BYTES + index * CHECKSUM_BYTES

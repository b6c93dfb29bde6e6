"""The two open files of a content, and how blocks are written to them (content_file.py has the layout).

It needs no path. So a process that receives blocks writes them here, too, with descriptors that it was sent.
"""

import os
from typing import Final

from vbnfs.blocks import BLOCK_BYTES, by_block, checksum
from vbnfs.cache.content_folder import OpenFiles, Shape
from vbnfs.cache.records import Records
from vbnfs.host.positioned import write_all
from vbnfs.host.syncing import push_data


class ContentBlocks:
    """The files `data` and `checksums`, closed with the last user of this. Any thread may use it."""

    def __init__(self, files: OpenFiles, *, identity: str, data_bytes: int) -> None:
        self.files: Final = files
        self.records: Final = Records(files.checksums, -(-data_bytes // BLOCK_BYTES), are_shared=files.are_shared)
        self._identity = identity
        self._shape = Shape(data_bytes)

    def __del__(self) -> None:
        os.close(self.files.data)
        os.close(self.files.checksums)

    @property
    def are_intact(self) -> bool:
        """False once they were deleted or cut short: what is left can be read, but no block may be added."""
        try:
            data, checksums = os.fstat(self.files.data), os.fstat(self.files.checksums)
        except OSError:  # ESTALE of a network file system, a disk that fails
            return False
        are_there = data.st_nlink > 0 and checksums.st_nlink > 0
        return (
            are_there and data.st_size >= self._shape.data_bytes and checksums.st_size >= self._shape.checksums_bytes
        )

    def write(self, index: int, *parts: bytes | memoryview) -> None:
        """Store adjacent blocks, from `index` on: their bytes, then their records. The files have to be intact.

        The bytes may be cut anywhere into parts. Blocks that are recorded already stay as they are. Raises `OSError`.
        """
        blocks = by_block(parts)
        for run in self.records.lacking_runs(range(index, index + len(blocks))):
            new = blocks[run.start - index : run.stop - index]
            write_all(self.files.data, [part for block in new for part in block], run.start * BLOCK_BYTES)
            if self.files.are_shared:  # so that no host finds a record without its block
                push_data(self.files.data, run.start * BLOCK_BYTES, len(run) * BLOCK_BYTES)
            checksums = (checksum(self._identity, number, *block) for number, block in zip(run, new, strict=True))
            self.records.write(run.start, checksums)

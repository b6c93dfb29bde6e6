"""What the file system of a folder can do, found out by a file that is made there and is gone at once."""

import os
from dataclasses import dataclass
from typing import Final

from vbnfs.host.atomic import temporary_file

_PREFIX: Final = ".probe-"
_LENGTH: Final = 8 << 20
_BLOCK_BYTES: Final = 512  # of st_blocks: stat(2)


@dataclass(frozen=True, slots=True)
class FileSystemTraits:
    """Whether what this process makes there is closed to other users, and whether holes take no room."""

    keeps_modes: bool
    has_sparse_files: bool


def probe(folder: int) -> FileSystemTraits:
    """The traits of the file system that holds the folder with this descriptor. Raises `OSError`."""
    with temporary_file(folder, prefix=_PREFIX) as (descriptor, name):
        os.unlink(name, dir_fd=folder)  # a process that is killed now leaves nothing
        os.ftruncate(descriptor, _LENGTH)
        status = os.fstat(descriptor)
    return FileSystemTraits(
        keeps_modes=not status.st_mode & 0o077, has_sparse_files=status.st_blocks * _BLOCK_BYTES < _LENGTH // 2
    )

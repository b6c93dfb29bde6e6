"""What the file system of a folder can do, found out by a file that is made there and is gone at once."""

import os
from dataclasses import dataclass
from typing import Final

from vbnfs.host.atomic import delete_at_once, temporary_file
from vbnfs.host.disk_space import has_holes
from vbnfs.host.folders import Folder
from vbnfs.host.identity import HAS_USERS

_PREFIX: Final = ".probe-"
_LENGTH: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class FileSystemTraits:
    """Whether what this process makes there is closed to other users, and whether holes take no room.

    Each is so where a system does not say it.
    """

    keeps_modes: bool
    has_sparse_files: bool


def probe(folder: Folder) -> FileSystemTraits:
    """The traits of the file system that holds an open folder. Raises `OSError`."""
    with temporary_file(folder, prefix=_PREFIX) as (descriptor, name):
        delete_at_once(folder, name)
        os.ftruncate(descriptor, _LENGTH)
        status = os.fstat(descriptor)
    is_closed = not HAS_USERS or not status.st_mode & 0o077
    return FileSystemTraits(keeps_modes=is_closed, has_sparse_files=has_holes(status) is not False)

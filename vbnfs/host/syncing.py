"""Having the disk take what was written to a file: fdatasync(2), or fsync(2) where a system lacks that."""

import errno
import os
from typing import Final

_HAS_FDATASYNC: Final = hasattr(os, "fdatasync")
_FOR_WRITERS_ALONE: Final = frozenset({errno.EBADF, errno.EACCES})  # what Windows says of a file that is only read
_HAS_FUTIMENS: Final = os.utime in os.supports_fd


def sync_data(descriptor: int) -> None:
    """Have the disk take the bytes of an open file, and its length. Raises `OSError`."""
    if _HAS_FDATASYNC:
        os.fdatasync(descriptor)
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _FOR_WRITERS_ALONE:
            raise


def touch(descriptor: int, path: "os.PathLike[str]") -> None:
    """Set the times of an open file to now: futimens(2), or by its path. Raises `OSError`."""
    if _HAS_FUTIMENS:
        os.utime(descriptor)
    else:
        os.utime(path)

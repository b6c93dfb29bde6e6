"""Files with holes: where they have data, and taking room for some. Not all systems say the one, or do the other."""

import errno
import os
from typing import Final

from vbnfs.host.positioned import write_all

_HAS_SEEK_DATA: Final = hasattr(os, "SEEK_DATA") and hasattr(os, "SEEK_HOLE")
_HAS_FALLOCATE: Final = hasattr(os, "posix_fallocate")


def next_data(descriptor: int, position: int, end: int) -> range | None:
    """The next bytes of an open file, from a position on, that are no hole; None if there are none before `end`.

    Where the system has no SEEK_DATA (lseek(2)), all are. Raises `OSError`.
    """
    if not _HAS_SEEK_DATA:
        return range(position, end) if position < end else None
    try:
        start = max(position, os.lseek(descriptor, position, os.SEEK_DATA))
        return range(start, min(end, os.lseek(descriptor, start, os.SEEK_HOLE))) if start < end else None
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole behind
            return None
        raise


def take_space(descriptor: int, count_bytes: int) -> None:
    """Have the disk give an empty file so much room: posix_fallocate(3), or by writing it. Raises `OSError`."""
    if _HAS_FALLOCATE:
        os.posix_fallocate(descriptor, 0, count_bytes)
    else:
        write_all(descriptor, [bytes(count_bytes)], 0)

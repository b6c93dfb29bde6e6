"""Reading files by way of the page cache: mapped, and only as far as they are in memory."""

import errno
import mmap
import os
from typing import Final

_CAN_POPULATE: Final = hasattr(mmap, "MAP_POPULATE")  # on Linux alone; madvise(2) of macOS has other advice
_POPULATE_READ: Final = 22  # MADV_POPULATE_READ, include/uapi/asm-generic/mman-common.h; Python has no name for it


def map_populated(descriptor: int, offset: int, length: int) -> memoryview:
    """A view of part of a file, mapped, with its pages in memory. The mapping lives as long as the view.

    Populating the pages first (madvise(2), Linux 5.14) turns a file that is too short, or a disk that fails, into an
    `OSError` or `ValueError`; a plain access would be a SIGBUS.
    """
    if not _CAN_POPULATE:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    lead = offset % mmap.ALLOCATIONGRANULARITY
    mapping = mmap.mmap(descriptor, lead + length, offset=offset - lead, access=mmap.ACCESS_READ)
    mapping.madvise(_POPULATE_READ)
    return memoryview(mapping)[lead:]


def forget_pages(descriptor: int, offset: int = 0, length: int = 0) -> None:
    """Have the next read of a file's bytes ask the file system, and not pages that are in memory: posix_fadvise(2).

    A length of 0: to the end. Only whole pages go, and none that was written and not synced. Raises `OSError`.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)


def read_in_memory(descriptor: int, length: int, offset: int) -> bytes | None:
    """A few bytes of a file; None if they are not in the page cache; b"" where that cannot be found out.

    preadv2(2) with RWF_NOWAIT does not wait for a disk.
    """
    data = bytearray(length)
    try:
        os.preadv(descriptor, [data], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return None
    except (OSError, AttributeError):  # a file system, or a system, that does not know the flag
        return b""
    return bytes(data)

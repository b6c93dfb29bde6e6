"""Having the disk take what was written to a file: fdatasync(2), or fsync(2) where a system lacks that."""

import errno
import os
from collections.abc import Callable
from functools import cache
from typing import Final

_HAS_FDATASYNC: Final = hasattr(os, "fdatasync")
_FOR_WRITERS_ALONE: Final = frozenset({errno.EBADF, errno.EACCES})  # what Windows says of a file that is only read
_HAS_FUTIMENS: Final = os.utime in os.supports_fd
_WRITE_AND_WAIT: Final = 7  # SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE and _WAIT_AFTER, <linux/fs.h>


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


def push_data(descriptor: int, offset: int, length: int) -> None:
    """Have part of an open file be where other hosts read it: at the server. Raises `OSError`.

    sync_file_range(2) writes dirty pages and waits for that, and asks for nothing more: the server may have them in
    memory alone, as NFS lets it (RFC 8881, section 18.32, UNSTABLE4). `sync_data` where there is no such call.
    """
    call = _sync_file_range()
    if call is None or call(descriptor, offset, length) != 0:
        sync_data(descriptor)


@cache
def _sync_file_range() -> Callable[[int, int, int], int] | None:
    """Called with a descriptor, where and how much; 0 if all went well. None where a system has no such call."""
    import ctypes  # noqa: PLC0415 - only for a cache that several hosts use

    try:
        call = ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError, TypeError):
        return None
    call.argtypes = ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint
    return lambda descriptor, offset, length: int(call(descriptor, offset, length, _WRITE_AND_WAIT))


def touch(descriptor: int, path: "os.PathLike[str]") -> None:
    """Set the times of an open file to now: futimens(2), or by its path. Raises `OSError`."""
    if _HAS_FUTIMENS:
        os.utime(descriptor)
    else:
        os.utime(path)

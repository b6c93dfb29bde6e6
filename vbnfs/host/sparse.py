"""Files with holes: making them, where they have data, and taking room for some. Not all systems do each of these."""

import errno
import os
from typing import Any, Final

from vbnfs.host.locks import MSVCRT
from vbnfs.host.positioned import write_all

_HAS_SEEK_DATA: Final = hasattr(os, "SEEK_DATA") and hasattr(os, "SEEK_HOLE")
_HAS_FALLOCATE: Final = hasattr(os, "posix_fallocate")
_SET_SPARSE: Final = 0x900C4  # FSCTL_SET_SPARSE, winioctl.h


def make_long(descriptor: int, length: int) -> None:
    """Give an empty file a length; all of it is a hole, where the file system has holes. Raises `OSError`."""
    if MSVCRT is not None:
        _let_have_holes(descriptor)
    os.ftruncate(descriptor, length)


def _let_have_holes(descriptor: int) -> None:
    """NTFS gives holes to those files that were made sparse: DeviceIoControl. One that cannot be takes its room."""
    import ctypes  # noqa: PLC0415 - Windows alone needs it

    windows: Any = getattr(ctypes, "windll", None)
    if windows is not None:
        handle, count = ctypes.c_void_p(MSVCRT.get_osfhandle(descriptor)), ctypes.c_ulong()
        windows.kernel32.DeviceIoControl(handle, _SET_SPARSE, None, 0, None, 0, ctypes.byref(count), None)


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

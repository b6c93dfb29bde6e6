"""Opening files without waiting for a disk: openat2(2) with RESOLVE_CACHED, Linux 5.12 (linux/openat2.h).

The kernel then opens what its memory says, and refuses where a disk, or another host, would have to be asked. glibc
had no function for the system call before 2.43.
"""

import errno
import os
from collections.abc import Callable
from functools import cache
from typing import Final

_OPENAT2: Final = 437  # on all architectures but one, asm-generic/unistd.h
_NO_SYMLINKS, _BENEATH, _CACHED = 0x04, 0x08, 0x20
_RESOLVE: Final = _NO_SYMLINKS | _BENEATH | _CACHED


def open_cached(path: str, folder: int, flags: int) -> int:
    """Give a descriptor of the file at a path below the folder with that descriptor; no link is followed.

    Raises `OSError`: `BlockingIOError` where that cannot be done at once.
    """
    descriptor, number = _function(flags)(os.fsencode(path), folder)
    if descriptor < 0:
        raise OSError(number, os.strerror(number), path)
    return descriptor


@cache
def _function(flags: int) -> Callable[[bytes, int], tuple[int, int]]:
    """What makes the call, and returns a descriptor or -1, and errno."""
    import ctypes  # noqa: PLC0415 - not before a mount is there

    if not hasattr(os, "uname") or os.uname().sysname != "Linux" or os.uname().machine == "alpha":
        return lambda path, folder: (-1, errno.EAGAIN)
    # PyDLL keeps the interpreter's lock: getting it back would take longer than the call, which waits for nothing.
    call = ctypes.PyDLL(None, use_errno=True).syscall
    how = (ctypes.c_uint64 * 3)(flags, 0, _RESOLVE)  # struct open_how: flags, mode, resolve
    size = ctypes.c_size_t(ctypes.sizeof(how))

    def function(path: bytes, folder: int) -> tuple[int, int]:
        descriptor = call(ctypes.c_long(_OPENAT2), ctypes.c_int(folder), path, how, size)
        return descriptor, ctypes.get_errno() if descriptor < 0 else 0

    return function

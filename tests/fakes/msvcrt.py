"""Windows' C library, as far as it is used: its locks, made of those of Linux, and handles of files."""

import errno
import fcntl
import os
from struct import Struct
from types import ModuleType
from typing import Final

_LONGEST: Final = (1 << 31) - 1  # its offsets are a `long`
_FLOCK: Final = Struct("hhqqi0q")  # of fcntl(2)


def msvcrt() -> ModuleType:
    """`msvcrt.locking`: bytes from the file's position on, for as long as the file is open."""
    module = ModuleType("msvcrt")

    def locking(descriptor: int, mode: int, count_bytes: int) -> None:
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        assert position + count_bytes <= _LONGEST
        kind = fcntl.F_WRLCK if mode else fcntl.F_UNLCK
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, position, count_bytes, 0))
        except BlockingIOError:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None

    module.get_osfhandle = lambda descriptor: descriptor + 1000  # type: ignore[attr-defined]
    module.locking, module.LK_UNLCK, module.LK_NBLCK = locking, 0, 2  # type: ignore[attr-defined]
    return module

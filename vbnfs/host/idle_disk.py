"""Reading the disk only when nobody else does: the idle I/O class of ioprio_set(2), for one thread.

An I/O scheduler that knows no classes (`none`, `mq-deadline` of old) reads as ever. glibc has no function for the
system call, which has a number of its own on each architecture (asm/unistd.h).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SET, _GET = 0, 1
_NUMBERS: Final = {"x86_64": (251, 252), "aarch64": (30, 31), "riscv64": (30, 31), "ppc64le": (273, 274)}
_THIS_THREAD: Final = (1, 0)  # IOPRIO_WHO_PROCESS, and no other's number
_IDLE: Final = 3 << 13  # IOPRIO_CLASS_IDLE


@contextmanager
def reading_idly() -> Iterator[None]:
    """While entered, this thread reads behind all others, as far as the system has that."""
    before = _call(_GET, *_THIS_THREAD)
    _call(_SET, *_THIS_THREAD, _IDLE)
    try:
        yield
    finally:
        if before >= 0:
            _call(_SET, *_THIS_THREAD, before)


def disk_priority() -> int:
    """The class and level of this thread, as ioprio_get(2) has them; -1 where there is none."""
    return _call(_GET, *_THIS_THREAD)


def _call(which: int, *arguments: int) -> int:
    import ctypes  # noqa: PLC0415 - not before a mount is there

    system = os.uname() if hasattr(os, "uname") else None
    if system is None or system.sysname != "Linux" or (machine := system.machine) not in _NUMBERS:
        return -1
    return int(ctypes.CDLL(None).syscall(_NUMBERS[machine][which], *arguments))

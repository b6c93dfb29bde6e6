"""Locks that the kernel takes back when their process ends, however it ends; nothing waits long for one.

flock(2) of whole files, and open file description locks of parts of a file (fcntl(2), F_OFD_SETLK), which NFS has,
too. Where there are none, on a file system or a whole system, these functions raise `OSError` (ENOLCK and others).

A lease is another lock: of a file that no process has open for writing.
"""

import errno
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import Struct
from typing import Final

try:
    import fcntl
except ImportError:  # another system than Linux
    _HAS_LOCKS = False
else:
    _HAS_LOCKS = True

SHARED: Final = 0  # F_RDLCK, F_WRLCK and F_UNLCK of fcntl(2) on Linux
EXCLUSIVE: Final = 1
UNLOCKED: Final = 2
# struct flock as fcntl(2) takes it, with 64-bit offsets: type, whence, start, length, pid.
_FLOCK: Final = Struct("hhqqi0q")
_AGAIN_SECONDS: Final = 0.02


def lock_file(descriptor: int) -> bool:
    """Lock an open file exclusively; False where another process has it locked. Raises `OSError`."""
    _check()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_patiently(descriptor: int, seconds: float) -> bool:
    """`lock_file`, tried until so much time is over. To be called from a thread."""
    end = time.monotonic() + seconds
    while not lock_file(descriptor):
        if time.monotonic() >= end:
            return False
        time.sleep(_AGAIN_SECONDS)
    return True


def lock_path(path: Path, seconds: float) -> int | None:
    """A descriptor of the locked file at a path, which is made; None where another process has it for so long.

    Who has it deletes the file, and then closes it. In a folder that others cannot enter, they cannot take it. Raises
    `OSError`. To be called from a thread.
    """
    end = time.monotonic() + seconds
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with suppress(FileNotFoundError):  # it was deleted meanwhile
            if lock_file(descriptor) and os.path.samestat(os.fstat(descriptor), path.lstat()):
                return descriptor
        os.close(descriptor)
        if time.monotonic() > end:
            return None
        time.sleep(_AGAIN_SECONDS)


def set_lock(descriptor: int, kind: int, start: int, length: int) -> None:
    """Lock bytes of an open file, or unlock them. Raises `OSError`: EAGAIN or EACCES where another one has a lock."""
    _check()
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))


def could_lock(descriptor: int, start: int, length: int) -> bool:
    """Whether no other process has a lock on bytes of an open file. Raises `OSError`."""
    _check()
    question = _FLOCK.pack(EXCLUSIVE, os.SEEK_SET, start, length, 0)
    held: int = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, question))[0]
    return held == UNLOCKED


@contextmanager
def kept_from_writers(descriptor: int) -> Iterator[bool | None]:
    """While entered, no process of this machine begins to write a file; False if one has it open for writing already.

    None where that cannot be had: where there are no leases (on NFS, and on what else the kernel has none for), and
    of files of other users for a process without CAP_LEASE, which root lacks in most containers.

    `descriptor` is open for reading only. A lease for reading (F_SETLEASE of fcntl(2)) is granted if there is no
    writer. A process that opens the file for writing then waits until the lease is given back, and this one gets a
    signal, which is one that does nothing.
    """
    try:
        _check()
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        yield False if isinstance(error, BlockingIOError) else None
        return
    try:
        yield True
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def _check() -> None:
    if not _HAS_LOCKS:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

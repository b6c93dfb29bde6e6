"""Locks that the kernel takes back when their process ends, however it ends; nothing waits long for one.

    whole files         flock(2); on Windows a byte of the file that is far behind its end
    parts of a file     open file description locks (F_OFD_SETLK of fcntl(2)), which NFS has, too; where a system has
                        none, record locks, which are the process's (macOS), or locks of single bytes (Windows)

A record lock is lost when its process closes the file, by whatever descriptor. On Windows a lock keeps others from
reading what is locked, so locks are of bytes that hold nothing. Where there are none, on a file system or a whole
system, these functions raise `OSError` (ENOLCK and others).

A lease is another lock: of a file that no process has open for writing.
"""

import errno
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import Struct
from typing import Any, Final

from vbnfs.host.positioned import at_position

try:
    import fcntl
except ImportError:  # Windows
    _HAS_FCNTL = _HAS_OFD = False
else:
    # Where kinds of locks have Linux's numbers, the request (struct flock) has Linux's layout.
    _HAS_FCNTL, _KINDS = True, (fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK)
    _HAS_OFD = hasattr(fcntl, "F_OFD_SETLK") and _KINDS == (0, 1, 2)

MSVCRT: Any = None  # Windows' C library, where there is that
try:
    import msvcrt
except ImportError:  # any other system
    pass
else:
    MSVCRT = msvcrt

SHARED: Final = 0  # F_RDLCK, F_WRLCK and F_UNLCK of fcntl(2) on Linux
EXCLUSIVE: Final = 1
UNLOCKED: Final = 2
# struct flock as fcntl(2) takes it on Linux, with 64-bit offsets: type, whence, start, length, pid.
_FLOCK: Final = Struct("hhqqi0q")
_AGAIN_SECONDS: Final = 0.02
_NO_LOCKS: Final = frozenset({errno.EBADF, errno.EINVAL})  # of msvcrt.locking(): any other error is of another's lock
_FILES_BYTE: Final = (1 << 31) - 2  # of Windows' locks of whole files; offsets of msvcrt.locking() are of 31 bits
_BYTES: Final = 1 << 30  # ... and of parts: two parts may share one


def lock_file(descriptor: int) -> bool:
    """Lock an open file exclusively; False where another process has it locked. Raises `OSError`."""
    if not _HAS_FCNTL:
        return _lock_byte(descriptor, _FILES_BYTE)
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
    """Lock bytes of an open file, or unlock them. Raises `OSError`: EAGAIN or EACCES where another one has a lock.

    The bytes are of no use for anything else. On Windows a shared lock is an exclusive one.
    """
    if _HAS_OFD:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))
    elif _HAS_FCNTL:
        command = {SHARED: fcntl.LOCK_SH, EXCLUSIVE: fcntl.LOCK_EX, UNLOCKED: fcntl.LOCK_UN}[kind]
        fcntl.lockf(descriptor, command | (fcntl.LOCK_NB if kind != UNLOCKED else 0), length, start, os.SEEK_SET)
    else:
        _lock_bytes(descriptor, kind, [place % _BYTES for place in range(start, start + length)])


def could_lock(descriptor: int, start: int, length: int) -> bool:
    """Whether no other process has a lock on bytes of an open file. Raises `OSError`, also where that is not said."""
    if not _HAS_OFD:
        raise _none()
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
    if not _HAS_OFD:  # Linux alone has leases, too
        yield None
        return
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        yield False if isinstance(error, BlockingIOError) else None
        return
    try:
        yield True
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def _lock_bytes(descriptor: int, kind: int, places: Sequence[int]) -> None:
    """Windows gives back only what was locked together: so each byte is locked by itself."""
    if kind == UNLOCKED:
        for place in places:
            with suppress(OSError):  # it is not locked
                _unlock_byte(descriptor, place)
        return
    for count, place in enumerate(places):
        if not _lock_byte(descriptor, place):
            _lock_bytes(descriptor, UNLOCKED, places[:count])
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def _lock_byte(descriptor: int, place: int) -> bool:
    """Lock a byte: LockFile. False where it is locked, by this process, too."""
    if MSVCRT is None:
        raise _none()
    try:
        with at_position(descriptor, place):
            MSVCRT.locking(descriptor, MSVCRT.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise
        return False
    return True


def _unlock_byte(descriptor: int, place: int) -> None:
    with at_position(descriptor, place):
        MSVCRT.locking(descriptor, MSVCRT.LK_UNLCK, 1)


def _none() -> OSError:
    return OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

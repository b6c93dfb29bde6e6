"""Reading and writing open files at a place, whatever place other threads read and write at: pread(2), pwritev(2).

Windows has neither: there a file's position is set, and a thread has it to itself meanwhile.
"""

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

_HAS_PREAD: Final = hasattr(os, "pread")
_HAS_PREADV: Final = hasattr(os, "preadv")
_HAS_PWRITE: Final = hasattr(os, "pwrite")
_HAS_PWRITEV: Final = hasattr(os, "pwritev")
_MOST_VIEWS: Final = 512  # in one pwritev(2), which takes 1,024
_LOCKS: Final = tuple(threading.Lock() for _ in range(64))  # of positions: a file has one of them, by its descriptor


def read_at(descriptor: int, count_bytes: int, offset: int) -> bytes:
    """Bytes of an open file from `offset` on; fewer only at its end. Raises `OSError`."""
    if _HAS_PREAD:
        return os.pread(descriptor, count_bytes, offset)
    with at_position(descriptor, offset):
        return os.read(descriptor, count_bytes)


def read_into(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fill a buffer from `offset` on; how many bytes there were. Other threads run meanwhile. Raises `OSError`."""
    if _HAS_PREADV:
        return os.preadv(descriptor, [buffer], offset)
    data = read_at(descriptor, len(buffer), offset)
    buffer[: len(data)] = data
    return len(data)


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """Write bytes to an open file from `offset` on; how many were taken. Raises `OSError`."""
    if _HAS_PWRITE:
        return os.pwrite(descriptor, data, offset)
    with at_position(descriptor, offset):
        return os.write(descriptor, data)


def write_all(descriptor: int, parts: Sequence[bytes | memoryview], offset: int) -> None:
    """Write adjacent parts to a file from `offset` on, not joined. Raises `OSError` where not all of it is taken.

    A disk that fills up may take a part of it without an error. pwritev(2) says how much it has written, and fails
    only where that is nothing.
    """
    views = [memoryview(part) for part in parts if part]
    while views:
        written = _write_some(descriptor, views, offset)
        if not written:  # and no error: it would be the same again
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        offset += written
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if views:
            views[0] = views[0][written:]


def _write_some(descriptor: int, views: Sequence[memoryview], offset: int) -> int:
    if _HAS_PWRITEV:
        return os.pwritev(descriptor, views[:_MOST_VIEWS], offset)
    return write_at(descriptor, views[0], offset)


@contextmanager
def at_position(descriptor: int, offset: int) -> Iterator[None]:
    """Set an open file's position, for as long as this is entered: lseek(2). Raises `OSError`.

    No other thread sets it meanwhile by this; then it is what it was before.
    """
    with _LOCKS[descriptor % len(_LOCKS)]:
        before = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, offset, os.SEEK_SET)
        try:
            yield
        finally:
            os.lseek(descriptor, before, os.SEEK_SET)

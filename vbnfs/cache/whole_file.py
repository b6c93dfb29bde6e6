"""The file of a whole content, opened to be read only; and the seal by which a file is known again unread."""

import os
import time
from typing import Final, NamedTuple

from vbnfs.cache.holdings import Held
from vbnfs.host.disk_space import allocated_bytes
from vbnfs.host.positioned import read_at

_SECOND_NS: Final = 10**9
_STEP_NS: Final = 200_000_000  # of times; the kernel's clock has steps of 10 ms at the most
_LONG_STEP_NS: Final = 2 * _SECOND_NS  # where only whole seconds are kept: ext3, ext4 with small inodes, some servers


class Seal(NamedTuple):
    """What stat(2) says of a file. A file that is written to, cut short or replaced has another one."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int  # st_ctime: no program can set it

    @classmethod
    def of(cls, descriptor: int) -> "Seal":
        """That of an open file. Raises `OSError`."""
        return cls.of_status(os.fstat(descriptor))

    @classmethod
    def of_status(cls, found: os.stat_result) -> "Seal":
        """That of a file that looks so."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    @property
    def text(self) -> str:
        """As it is stored."""
        return " ".join(map(str, self))

    @property
    def settles_in_seconds(self) -> float:
        """How long to wait until a change from then on would show, for times have steps; 0: it would show now."""
        step_ns = _STEP_NS if self.changed_ns % _SECOND_NS else _LONG_STEP_NS
        return max(0, step_ns - abs(time.time_ns() - self.changed_ns)) / _SECOND_NS


class WholeFile:
    """An open file, closed with its last user: a thread that is abandoned leaves none open."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)

    def seal(self) -> Seal:
        """Its seal now. Raises `OSError`."""
        return Seal.of(self.descriptor)

    def held(self, content_id: str) -> Held:
        """What an evictor has to know of it while the kernel reads it. Raises `OSError`."""
        found = os.fstat(self.descriptor)
        return Held(found.st_ino, allocated_bytes(found), content_id, is_read_by_kernel=True)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of it, fewer only at its end. Raises `OSError`."""
        return read_at(self.descriptor, length, offset)

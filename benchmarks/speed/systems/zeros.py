"""The kernel's own limit: a file system with one file, which answers every read with zeros.

python -m benchmarks.speed.systems.zeros MOUNTPOINT SIZE_BYTES
"""

import errno
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from benchmarks.speed.files import SESSION
from benchmarks.speed.systems.base import FuseSystem
from vbnfs.fuse.device import open_mount
from vbnfs.fuse.operations import Attr, DirEntry, Entry, ErrnoReply, FileSystemStatus, Listing, Opened
from vbnfs.fuse.server import Server

NAME: Final = b"zeros"
_ROOT, _FILE = 1, 2
_LONG: Final = 3600.0


def _entry(inode: int, mode: int, size_bytes: int) -> Entry:
    attr = Attr(
        inode=inode, mode=mode, size_bytes=size_bytes, blocks=0, links=1, uid=0, gid=0, modified_ns=0,
        preferred_read_bytes=1 << 20,
    )  # fmt: skip
    return Entry(attr, entry_seconds=_LONG, attr_seconds=_LONG)


class ZeroOperations:
    """A folder with one file of `size_bytes` zeros. What a read costs here, it costs every FUSE file system."""

    def __init__(self, size_bytes: int) -> None:
        self._root = _entry(_ROOT, stat.S_IFDIR | 0o555, 0)
        self._file = _entry(_FILE, stat.S_IFREG | 0o444, size_bytes)
        self._listing = Listing([DirEntry(NAME, _FILE, stat.S_IFREG, self._file)])
        self._size_bytes = size_bytes
        self._zeros = memoryview(bytes(1 << 20))

    def lookup(self, parent: int, name: bytes) -> Entry:
        """The file's name."""
        if parent != _ROOT or name != NAME:
            raise ErrnoReply(errno.ENOENT)
        return self._file

    def getattr(self, inode: int) -> Entry:
        """Attributes."""
        return self._root if inode == _ROOT else self._file

    def readlink(self, inode: int, uid: int, pid: int) -> bytes:
        """There are no links."""
        raise ErrnoReply(errno.EINVAL)

    def list(self, inode: int) -> Listing:
        """The file."""
        return self._listing

    def open(self, inode: int, flags: int, pid: int) -> Opened:
        """Any handle will do."""
        return Opened(1)

    def read(self, handle: int, offset: int, size: int) -> memoryview:
        """Zeros."""
        return self._zeros[: min(size, self._size_bytes - offset)]

    def release(self, handle: int) -> None:
        """Nothing is held."""

    def statfs(self) -> FileSystemStatus:
        """An empty file system."""
        return FileSystemStatus(
            block_bytes=4096, blocks=0, free_blocks=0, available_blocks=0, inodes=2, longest_name=255
        )

    def getxattr(self, inode: int, name: bytes) -> bytes:
        """None, and no need to ask again."""
        raise ErrnoReply(errno.EOPNOTSUPP)

    def listxattr(self, inode: int) -> Sequence[bytes]:
        """None."""
        return []

    def look_ahead(self) -> None:
        """There is nothing to make ready."""

    def errno_of(self, request: str, error: Exception) -> int:
        """Nothing is expected to fail."""
        return errno.EIO


class Zeros(FuseSystem):
    """Every file is the one file of zeros, as long as the session."""

    has_cache = False

    def command(self) -> list[str]:
        """The program that this module is."""
        size_bytes = self.site.files.size_bytes(SESSION)
        return [sys.executable, "-m", "benchmarks.speed.systems.zeros", str(self.mountpoint), str(size_bytes)]

    def location(self, name: str) -> str:
        """The one file."""
        return str(self.mountpoint / NAME.decode())

    def digest(self, name: str) -> None:
        """Its file is no file of the dataset."""


def main(mountpoint: Path, size_bytes: int) -> None:
    """Serve until it is unmounted."""
    device = open_mount(mountpoint, ["ro", "default_permissions", "subtype=zeros", "fsname=zeros"])
    trio.run(Server(device, ZeroOperations(size_bytes)).serve)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

"""The kernel's own limit: a file system with one file, which answers every read with zeros.

python -m benchmarks.speed.systems.zeros MOUNTPOINT SIZE_BYTES
"""

import errno
import stat
import sys
from pathlib import Path
from typing import Final

import trio

from benchmarks.speed.systems.base import FuseSystem
from vbnfs.fuse.device import open_mount
from vbnfs.fuse.protocol import (
    FOPEN_KEEP_CACHE,
    Attr,
    ErrnoReply,
    FileSystemStatus,
    attr_out,
    dirent,
    entry_out,
    open_out,
    statfs_out,
)
from vbnfs.fuse.server import Answer, Server

NAME: Final = b"zeros"
_ROOT, _FILE = 1, 2
_LONG: Final = 3600.0


class ZeroOperations:
    """A folder with one file of `size_bytes` zeros. What a read costs here, it costs every FUSE file system."""

    def __init__(self, size_bytes: int) -> None:
        common = {"links": 1, "uid": 0, "gid": 0, "modified_ns": 0}
        self._attrs = {
            _ROOT: Attr(
                inode=_ROOT, mode=stat.S_IFDIR | 0o555, size_bytes=0, blocks=0, preferred_read_bytes=4096, **common
            ),
            _FILE: Attr(
                inode=_FILE, mode=stat.S_IFREG | 0o444, size_bytes=size_bytes, blocks=0,
                preferred_read_bytes=1 << 20, **common,
            ),
        }  # fmt: skip
        self._size_bytes = size_bytes
        self._zeros = memoryview(bytes(1 << 20))

    def lookup(self, parent: int, name: bytes) -> Answer:
        """The file's name."""
        if parent != _ROOT or name != NAME:
            raise ErrnoReply(errno.ENOENT)
        return entry_out(self._attrs[_FILE], entry_seconds=_LONG, attr_seconds=_LONG)

    def getattr(self, inode: int) -> Answer:
        """Attributes."""
        return attr_out(self._attrs[inode], attr_seconds=_LONG)

    def readlink(self, inode: int, uid: int) -> Answer:
        """There are no links."""
        raise ErrnoReply(errno.EINVAL)

    def readdirplus(self, inode: int, offset: int, size: int) -> Answer:
        """The file."""
        if offset:
            return b""
        entry = entry_out(self._attrs[_FILE], entry_seconds=_LONG, attr_seconds=_LONG)
        return entry + dirent(inode=_FILE, mode=stat.S_IFREG, name=NAME, next_offset=1)

    def open(self, inode: int, flags: int) -> Answer:
        """Any handle will do."""
        return open_out(1, flags=FOPEN_KEEP_CACHE)

    def read(self, handle: int, offset: int, size: int) -> Answer:
        """Zeros."""
        return self._zeros[: min(size, self._size_bytes - offset)]

    def release(self, handle: int) -> None:
        """Nothing is held."""

    def statfs(self) -> Answer:
        """An empty file system."""
        return statfs_out(FileSystemStatus(block_bytes=4096, blocks=0, free_blocks=0, inodes=2, longest_name=255))

    def getxattr(self, inode: int, name: bytes, size: int) -> Answer:
        """None, and no need to ask again."""
        raise ErrnoReply(errno.EOPNOTSUPP)

    def listxattr(self, inode: int, size: int) -> Answer:
        """None."""
        return b"" if size else bytes(8)

    def look_ahead(self) -> None:
        """There is nothing to make ready."""

    def errno_of(self, request: str, error: Exception) -> int:
        """Nothing is expected to fail."""
        return errno.EIO


class Zeros(FuseSystem):
    """Every file is the one file of zeros, as long as the file that is asked for first."""

    has_cache = False
    size_bytes = 1_000_000_000

    def command(self) -> list[str]:
        """The program that this module is."""
        return [sys.executable, "-m", "benchmarks.speed.systems.zeros", str(self.mountpoint), str(self.size_bytes)]

    def location(self, name: str) -> str:
        """The one file."""
        return str(self.mountpoint / NAME.decode())


def main(mountpoint: Path, size_bytes: int) -> None:
    """Serve until it is unmounted."""
    device = open_mount(mountpoint, ["ro", "default_permissions", "subtype=zeros", "fsname=zeros"])
    trio.run(Server(device, ZeroOperations(size_bytes)).serve)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

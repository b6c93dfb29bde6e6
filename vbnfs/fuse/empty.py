"""A file system of one empty folder: to find out whether it can be mounted."""

import os
import stat
from collections.abc import Sequence
from errno import EIO, ENODATA, ENOENT

from vbnfs.fuse.operations import (
    Absent,
    Answer,
    Attr,
    Buffer,
    Entry,
    ErrnoReply,
    FileSystemStatus,
    Listing,
    Opened,
)

_ROOT = 1  # the inode, as the kernel has it


class EmptyFolder:
    """`Operations` of a folder of this process's user, with nothing in it."""

    def lookup(self, parent: int, name: bytes) -> Answer[Entry | Absent]:
        """No name is in it."""
        raise ErrnoReply(ENOENT)

    def getattr(self, inode: int) -> Answer[Entry]:
        """A folder that only its owner can enter."""
        attr = Attr(_ROOT, stat.S_IFDIR | 0o500, 0, 0, 2, os.geteuid(), os.getegid(), 0, 4096)
        return Entry(attr, entry_seconds=0.0, attr_seconds=0.0)

    def readlink(self, inode: int, uid: int, pid: int) -> Answer[bytes]:
        """There are no links."""
        raise ErrnoReply(ENOENT)

    def list(self, inode: int) -> Answer[Listing]:
        """No names."""
        return Listing(())

    def open(self, inode: int, flags: int, pid: int) -> Answer[Opened]:
        """There are no files."""
        raise ErrnoReply(ENOENT)

    def read(self, handle: int, offset: int, size: int) -> Answer[Buffer]:
        """Nothing is open."""
        raise ErrnoReply(EIO)

    def release(self, handle: int) -> None:
        """Nor is anything to be closed."""

    def statfs(self) -> Answer[FileSystemStatus]:
        """No room, and none used."""
        return FileSystemStatus(
            block_bytes=4096, blocks=0, free_blocks=0, available_blocks=0, inodes=1, longest_name=255
        )

    def getxattr(self, inode: int, name: bytes) -> Answer[bytes]:
        """It has no attributes."""
        raise ErrnoReply(ENODATA)

    def listxattr(self, inode: int) -> Answer[Sequence[bytes]]:
        """None."""
        return ()

    def look_ahead(self) -> Listing | None:
        """Nothing comes next."""
        return None

    def errno_of(self, request: str, error: Exception) -> int:
        """Nothing can fail."""
        return EIO

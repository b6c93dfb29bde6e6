"""A file system of one file, `image`, that delays each write: `python -m tests.fakes.slow_image IMAGE DELAY FOLDER`.

It shows the file IMAGE on FOLDER, and reads from the file DELAY before each write how many seconds that takes.
"""

import errno
import os
import stat
import sys
from pathlib import Path

import pyfuse3
import trio

NAME = b"image"
INODE = pyfuse3.InodeT(pyfuse3.ROOT_INODE + 1)


class SlowImage(pyfuse3.Operations):
    """Writes to `image`, which one loop device uses, wait first."""

    supports_dot_lookup = False

    def __init__(self, image: Path, delay: Path) -> None:
        super().__init__()
        self._file = os.open(image, os.O_RDWR)
        self._delay = delay

    async def getattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext | None = None
    ) -> pyfuse3.EntryAttributes:
        found = pyfuse3.EntryAttributes()
        found.st_ino = inode
        found.st_mode = pyfuse3.ModeT((stat.S_IFREG if inode == INODE else stat.S_IFDIR) | 0o700)
        found.st_size = os.fstat(self._file).st_size if inode == INODE else 0
        found.attr_timeout = found.entry_timeout = 3600
        return found

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if name != NAME:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(INODE)

    async def open(
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(1))

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        return os.pread(self._file, size, off)

    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        await trio.sleep(float(self._delay.read_text() or 0))
        return os.pwrite(self._file, buf, off)

    async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        pass

    async def flush(self, fh: pyfuse3.FileHandleT) -> None:
        pass

    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        pass


def main() -> None:
    image, delay, folder = sys.argv[1:]
    pyfuse3.init(SlowImage(Path(image), Path(delay)), folder, {"fsname=slow-image"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=False)


if __name__ == "__main__":
    main()

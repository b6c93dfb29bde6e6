"""A home on a disk of a user's own, which may not answer: `python -m tests.fakes.home FOLDER SWITCH HOME`.

It shows the files of FOLDER on HOME, to all users, and answers no request while the file SWITCH has any text. It
makes the file SWITCH.asked when a request waits for that.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pyfuse3
import trio

_T = TypeVar("_T")
_OPTIONS = pyfuse3.default_options | {"fsname=home", "allow_other", "default_permissions"}


class Home(pyfuse3.Operations):
    """The files of one folder, without folders in it. Each is held open, so that its inode stays its own."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, folder: Path, switch: Path) -> None:
        super().__init__()
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._held: dict[int, int] = {pyfuse3.ROOT_INODE: self._folder}
        self._switch = switch

    async def _answering(self) -> None:
        while self._switch.read_text():
            self._switch.with_suffix(".asked").touch()
            await trio.sleep(0.01)

    def _attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        status, found = os.fstat(self._held[inode]), pyfuse3.EntryAttributes()
        for name in ("mode", "nlink", "uid", "gid", "size", "mtime_ns", "ctime_ns", "atime_ns"):
            setattr(found, f"st_{name}", getattr(status, f"st_{name}"))
        found.st_ino = pyfuse3.InodeT(inode)
        found.attr_timeout = found.entry_timeout = 0
        return found

    def _path(self, inode: int) -> str:
        return f"/proc/self/fd/{self._held[inode]}"

    def _hold(self, name: bytes) -> int:
        held = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=self._folder)
        inode = os.fstat(held).st_ino
        if inode in self._held:
            os.close(held)
        else:
            self._held[inode] = held
        return inode

    async def getattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext | None = None
    ) -> pyfuse3.EntryAttributes:
        await self._answering()
        return self._attributes(inode)

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        await self._answering()
        return self._attributes(_as_fuse(self._hold, name))

    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        path = self._path(inode)
        if fields.update_uid or fields.update_gid:
            os.chown(path, attr.st_uid if fields.update_uid else -1, attr.st_gid if fields.update_gid else -1)
        if fields.update_mode:
            Path(path).chmod(attr.st_mode & 0o7777)
        if fields.update_size:
            os.truncate(path, attr.st_size)
        if fields.update_mtime:
            os.utime(path, ns=(attr.st_mtime_ns, attr.st_mtime_ns))
        return self._attributes(inode)

    async def create(
        self,
        parent_inode: pyfuse3.InodeT,
        name: bytes,
        mode: pyfuse3.ModeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        file = os.open(name, flags | os.O_CREAT, mode & 0o7777, dir_fd=self._folder)
        os.fchown(file, ctx.uid, ctx.gid)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(file)), self._attributes(self._hold(name))

    async def open(
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        flags = pyfuse3.FlagT(flags & ~(os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW))
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(os.open(self._path(inode), flags)))

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        return os.pread(fh, size, off)

    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        return os.pwrite(fh, buf, off)

    async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        os.fsync(fh)

    async def flush(self, fh: pyfuse3.FileHandleT) -> None:
        pass

    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        os.close(fh)

    async def unlink(self, parent_inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        _as_fuse(lambda name: os.unlink(name, dir_fd=self._folder), name)

    async def rename(
        self,
        parent_inode_old: pyfuse3.InodeT,
        name_old: bytes,
        parent_inode_new: pyfuse3.InodeT,
        name_new: bytes,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        os.replace(name_old, name_new, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    async def opendir(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:
        return pyfuse3.FileHandleT(inode)

    async def readdir(self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        for number, name in enumerate(sorted(os.listdir(self._folder)), 1):
            if number > start_id:
                entry = self._attributes(self._hold(os.fsencode(name)))
                if not pyfuse3.readdir_reply(token, os.fsencode(name), entry, number):
                    return


def _as_fuse(call: Callable[[bytes], _T], name: bytes) -> _T:
    try:
        return call(name)
    except OSError as error:
        raise pyfuse3.FUSEError(error.errno or 0) from error


def main() -> None:
    folder, switch, home = sys.argv[1:]
    os.umask(0)
    pyfuse3.init(Home(Path(folder), Path(switch)), home, _OPTIONS)
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=False)


if __name__ == "__main__":
    main()

"""pyfuse3 as an engine: libfuse between the kernel and the values of a file system.

It is what `server.py` is to the native engine. libfuse mounts, packs replies and reads /dev/fuse; pyfuse3 has one
session in a process. Each request is a coroutine in a worker task of pyfuse3. An exception that is no `FUSEError`
would end the mount, and a reply that the kernel does not take would leave its request without one. So every answer
passes one border, `_Adapter._reply`.
"""

import errno
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import pyfuse3
import trio

from vbnfs.fuse.mounting import WITHOUT_EFFECT, escaped, refused
from vbnfs.fuse.operations import (
    Absent,
    Answer,
    Attr,
    Backing,
    Buffer,
    DirEntry,
    Entry,
    ErrnoReply,
    FileSystemStatus,
    Opened,
    Operations,
    is_later,
)
from vbnfs.host import handed_over
from vbnfs.host.mountinfo import descriptor_in

_T = TypeVar("_T")
_V = TypeVar("_V")
_B = TypeVar("_B", bytes, Buffer)

MOST_REQUESTS: Final = 1000  # that wait at the same time
_LONGEST_LINK_BYTES: Final = 4095  # PATH_MAX, with its NUL
_GONE: Final = frozenset({errno.ENOENT, errno.ENODEV, errno.EPERM, errno.ECONNABORTED})


class _Adapter(pyfuse3.Operations):
    """Asks `operations`, and gives pyfuse3 its own values. Requests that change files are left to pyfuse3: ENOSYS."""

    supports_dot_lookup = True
    enable_writeback_cache = False

    def __init__(self, operations: Operations, agreed: trio.Event) -> None:
        super().__init__()
        self._operations = operations
        self._agreed = agreed

    async def _reply(self, request: str, ask: Callable[[], Answer[_T]], convert: Callable[[_T], _V]) -> _V:
        """The border: the converted answer, or a `FUSEError`, whatever is raised."""
        try:
            answer: Any = ask()
            return convert(await answer if is_later(answer) else answer)
        except ErrnoReply as reply:
            raise pyfuse3.FUSEError(reply.errno) from None
        except Exception as error:
            raise pyfuse3.FUSEError(self._operations.errno_of(request, error)) from error

    def init(self) -> None:
        self._agreed.set()

    async def lookup(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        ask: Any = lambda: self._operations.lookup(parent, name)  # noqa: E731 - of a union, mypy infers no type
        return await self._reply("lookup", ask, _found)

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return await self._reply("getattr", lambda: self._operations.getattr(inode), _entry)

    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileNameT:
        ask = lambda: self._operations.readlink(inode, ctx.uid, ctx.pid)  # noqa: E731
        return await self._reply("readlink", ask, lambda path: pyfuse3.FileNameT(_fitting(path, _LONGEST_LINK_BYTES)))

    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:
        return pyfuse3.FileHandleT(inode)  # `readdir` gets no inode

    async def releasedir(self, fh: int) -> None:
        pass

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        def fill(entries: Sequence[DirEntry | None]) -> None:
            for position in range(start_id, len(entries)):
                one = entries[position]
                if one is not None and not pyfuse3.readdir_reply(
                    token, pyfuse3.FileNameT(one.name), _in_listing(one), position + 1
                ):
                    break

        await self._reply("readdir", lambda: self._operations.list(fh), lambda listing: fill(listing.entries))

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return await self._reply("open", lambda: self._operations.open(inode, flags, ctx.pid), _opened)

    async def read(self, fh: int, off: int, size: int) -> Any:
        ask: Callable[[], Answer[Buffer]] = lambda: self._operations.read(fh, off, size)  # noqa: E731
        return await self._reply("read", ask, lambda data: _fitting(data, size))

    async def release(self, fh: int) -> None:
        await self._reply("release", lambda: self._operations.release(fh), lambda nothing: None)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        pass  # inodes are those of the tree, for as long as it is shown

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        return await self._reply("statfs", self._operations.statfs, _statfs)

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        return await self._reply("getxattr", lambda: self._operations.getxattr(inode, name), bytes)

    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[pyfuse3.XAttrNameT]:
        def convert(names: Sequence[bytes]) -> Sequence[pyfuse3.XAttrNameT]:
            return [pyfuse3.XAttrNameT(name) for name in names]

        return await self._reply("listxattr", lambda: self._operations.listxattr(inode), convert)


class _Session:
    """The `Connection` of the one mount that pyfuse3 has in this process."""

    def __init__(self, agreed: trio.Event) -> None:
        self.agreed = agreed
        self._is_closed = False
        self._notifying = threading.Lock()  # libfuse's session must outlast a notice

    async def serve(self) -> None:
        await pyfuse3.main(max_tasks=MOST_REQUESTS)

    def stop(self) -> None:
        if not self._is_closed:
            pyfuse3.terminate()

    def invalidate_attributes(self, inode: int) -> None:
        with self._notifying:
            try:
                if not self._is_closed:
                    pyfuse3.invalidate_inode(pyfuse3.InodeT(inode), attr_only=True)
            except OSError as error:
                if error.errno not in _GONE:
                    raise

    def open_backing(self, descriptor: int) -> Backing:
        raise OSError(errno.ENOTSUP, "pyfuse3 does not offer it")

    def close_backing(self, backing: Backing) -> None:
        pass  # there is none

    def close(self) -> None:
        with self._notifying:
            if not self._is_closed:
                self._is_closed = True
                pyfuse3.close(unmount=False)  # which would take away what is on top at the path


def mount(
    mountpoint: Path,
    options: Iterable[str],
    operations: Operations,
    *,
    is_busy: Callable[[], bool],
    stack_depth: int = 0,
) -> _Session:
    """Mount on a folder, with options as after `-o`. Raises `MountError` with libfuse's reason."""
    agreed, descriptor = trio.Event(), descriptor_in(mountpoint)
    wanted = {escaped(option) for option in options if option not in WITHOUT_EFFECT}
    if any(option.startswith("max_read=") for option in wanted):  # which pyfuse3 would have to give libfuse, too
        raise refused(mountpoint, "max_read= is not for --fuse pyfuse3: leave it out, or mount with --fuse native")
    if descriptor is not None:  # libfuse takes it over, too, and does not check it
        handed_over.check(descriptor)
    with tempfile.TemporaryFile() as text:
        try:
            with _stderr_to(text.fileno()):
                pyfuse3.init(_Adapter(operations, agreed), str(mountpoint), wanted)
        except (RuntimeError, UnicodeEncodeError) as error:
            text.seek(0)
            raise refused(mountpoint, text.read().decode(errors="replace").strip() or str(error)) from error
    return _Session(agreed)


@contextmanager
def _stderr_to(descriptor: int) -> Iterator[None]:
    """While entered, libfuse and fusermount3 write their reasons to a file: they know no other place than stderr."""
    before = os.dup(2)
    try:
        os.dup2(descriptor, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _found(found: Entry | Absent) -> pyfuse3.EntryAttributes:
    """Inode 0 lets the kernel remember that a name does not exist."""
    if isinstance(found, Entry):
        return _entry(found)
    return _attributes(inode=0, mode=0, entry_seconds=found.entry_seconds)


def _entry(entry: Entry) -> pyfuse3.EntryAttributes:
    return entry.packed(_pack)


def _pack(entry: Entry) -> pyfuse3.EntryAttributes:
    attr: Attr = entry.attr
    packed = _attributes(inode=attr.inode, mode=attr.mode, entry_seconds=entry.entry_seconds)
    packed.attr_timeout = entry.attr_seconds
    packed.st_size, packed.st_blocks, packed.st_blksize = attr.size_bytes, attr.blocks, attr.preferred_read_bytes
    packed.st_nlink, packed.st_uid, packed.st_gid = attr.links, attr.uid, attr.gid
    packed.st_atime_ns = packed.st_mtime_ns = packed.st_ctime_ns = attr.modified_ns
    return packed


def _in_listing(one: DirEntry) -> pyfuse3.EntryAttributes:
    """A name without attributes has some that the kernel may keep for no time: it asks when a program does."""
    return _attributes(inode=one.inode, mode=one.mode) if one.entry is None else _entry(one.entry)


def _attributes(*, inode: int, mode: int, entry_seconds: float = 0) -> pyfuse3.EntryAttributes:
    attributes = pyfuse3.EntryAttributes()
    attributes.st_ino = pyfuse3.InodeT(inode)
    attributes.st_mode = pyfuse3.ModeT(mode)
    attributes.entry_timeout, attributes.attr_timeout = entry_seconds, 0
    return attributes


def _opened(file: Opened) -> pyfuse3.FileInfo:
    keeps_pages = file.keeps_pages and not file.is_direct
    return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(file.handle), keep_cache=keeps_pages, direct_io=file.is_direct)


def _statfs(status: FileSystemStatus) -> pyfuse3.StatvfsData:
    packed = pyfuse3.StatvfsData()
    packed.f_bsize = packed.f_frsize = status.block_bytes
    packed.f_blocks, packed.f_bfree, packed.f_bavail = status.blocks, status.free_blocks, status.available_blocks
    packed.f_files, packed.f_ffree, packed.f_favail = status.inodes, 0, 0
    packed.f_namemax = status.longest_name
    return packed


def _fitting(data: _B, most_bytes: int) -> _B:
    """What has room in a reply: libfuse drops a longer one, and its request would never be answered."""
    if len(data) > most_bytes:
        raise OSError(errno.EINVAL, "the reply is longer than what was asked for")
    return data

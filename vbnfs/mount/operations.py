"""What the kernel asks, and the answers.

pyfuse3 replies to the kernel only for a `FUSEError`; any other exception would leave a request unanswered for ever
and end the mount. So every handler stands behind `_answered`, which turns whatever happens into an errno.

Folders, attributes and links are answered from the tree at once. Only two things can wait for the network, and
both have a deadline: reading a block that is not cached, and the size of an object whose bucket cannot be listed.
"""

import errno
import functools
import itertools
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import pyfuse3
import structlog
import trio
from cachetools import TTLCache

from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.tree import DataNode, Directory, Node, StaticNode, Symlink, Tree
from vbnfs.errors import DeadlineError, VbnfsError
from vbnfs.metrics import Metrics
from vbnfs.mount.attributes import Attributes, absent
from vbnfs.objects import Content
from vbnfs.reading.file_reader import FileReader
from vbnfs.storage.eviction import Evictor

log = structlog.get_logger()

P = ParamSpec("P")
R = TypeVar("R")

_STATFS_BLOCK_BYTES: Final = 4096
_MOST_TOLD: Final = 256
_TOLD_AGAIN_SECONDS: Final = 600.0


def _answered(
    handler: "Callable[Concatenate[FileSystem, P], Awaitable[R]]",
) -> "Callable[Concatenate[FileSystem, P], Coroutine[Any, Any, R]]":
    """The one border between vbnfs and the kernel: every failure becomes an errno."""

    @functools.wraps(handler)
    async def wrapper(self: "FileSystem", /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except Exception as error:
            raise pyfuse3.FUSEError(self.errno_of(handler.__name__, error)) from error

    return wrapper


@dataclass(slots=True)
class _OpenDirectory:
    """A folder as it was when it was opened: a tree that grows meanwhile does not shift its entries."""

    directory: Directory
    entries: Sequence[tuple[str, Node]]


class FileSystem(pyfuse3.Operations):
    """Answers for one mount."""

    supports_dot_lookup = True
    enable_writeback_cache = False

    def __init__(
        self,
        *,
        tree: Tree,
        catalog: Catalog,
        attributes: Attributes,
        open_reader: Callable[[Content], FileReader],
        own_file: Callable[[int], str],
        evictor: Evictor,
        metrics: Metrics,
        io_timeout_seconds: float,
    ) -> None:
        super().__init__()
        self.last_error: str | None = None
        self._tree = tree
        self._catalog = catalog
        self._attributes = attributes
        self._open_reader = open_reader
        self._own_file = own_file
        self._evictor = evictor
        self._metrics = metrics
        self._io_timeout_seconds = io_timeout_seconds
        self._told: TTLCache[tuple[str, str], None] = TTLCache(_MOST_TOLD, ttl=_TOLD_AGAIN_SECONDS)
        self._handles = itertools.count(1)
        self._open_directories: dict[int, _OpenDirectory] = {}
        self._readers: dict[int, FileReader | _StaticReader] = {}

    def show(self, tree: Tree) -> None:
        """Answer from another tree from now on: a dataset version has appeared."""
        self._tree = tree
        self._attributes.forget()

    @property
    def cache_usage_bytes(self) -> int:
        """What the cache takes on the disk, as far as it is known."""
        return self._evictor.usage_bytes

    # Failures

    def errno_of(self, request: str, error: Exception) -> int:
        """The errno that a failure becomes; logged, and remembered for `vbnfs status`."""
        self._metrics.failed_answers += 1
        while isinstance(error, ExceptionGroup):  # of a nursery: its first member tells
            error = error.exceptions[0]
        if isinstance(error, trio.TooSlowError):
            error = DeadlineError(f"no answer within {self._io_timeout_seconds:g} s (--io-timeout)")
        if isinstance(error, VbnfsError):
            self.last_error = str(error)
            if (request, self.last_error) not in self._told:  # a program that tries again and again says nothing new
                self._told[request, self.last_error] = None
                log.warning("request failed", request=request, reason=self.last_error)
            return error.errno
        self.last_error = f"{request}: {error!r}"
        log.error("defect: unexpected failure of a request", request=request, exc_info=error)
        return errno.EIO

    # Names and attributes

    @_answered
    async def lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """A name in a folder. A name that cannot appear while mounted is remembered as absent."""
        directory = self._directory(parent_inode)
        inode = self._inode_of(directory, os.fsdecode(name))
        if inode is None:
            if directory.is_growing:
                raise pyfuse3.FUSEError(errno.ENOENT)
            return absent()
        node = self._tree.nodes[inode]
        await self._learn_size(node)
        return self._attributes.entry(node, directory)

    @_answered
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """The attributes of an inode."""
        node = self._node(inode)
        await self._learn_size(node)
        return self._attributes.entry(node)

    @_answered
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        """Where a symbolic link leads; the kernel asks each time, for each user."""
        node = self._node(inode)
        if not isinstance(node, Symlink):
            raise pyfuse3.FUSEError(errno.EINVAL)
        if node.target is not None:
            return os.fsencode(node.target)
        with self._deadline():  # a home may be on a server that does not answer
            own = await trio.to_thread.run_sync(self._own_file, ctx.uid, abandon_on_cancel=True)
        return os.fsencode(own)

    @_answered
    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        """Whether `mode` (access(2)) is allowed. Reached only without the kernel's own check."""
        node = self._node(inode)
        if mode & os.W_OK:
            raise pyfuse3.FUSEError(errno.EROFS)
        return not mode & os.X_OK or isinstance(node, Directory | Symlink)

    @_answered
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        """Open a folder. Sizes that are still unknown are asked for, all of the folder's at once."""
        directory = self._directory(inode)
        children = list(self._tree.children(directory))
        files = [node for _, node in children if isinstance(node, DataNode)]
        if unknown := [file.source for file in files if self._catalog.attributes(file.source) is None]:
            with self._deadline():
                await self._catalog.need_attributes(unknown)
        handle = next(self._handles)
        entries = [(".", directory), ("..", self._tree.nodes[directory.parent]), *children]
        self._open_directories[handle] = _OpenDirectory(directory, entries)
        return handle

    @_answered
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """List a folder from entry number `start_id` on, with attributes."""
        opened = self._open_directories[fh]
        for number in range(start_id, len(opened.entries)):
            name, node = opened.entries[number]
            entry = self._attributes.entry(node, opened.directory)
            if not pyfuse3.readdir_reply(token, os.fsencode(name), entry, number + 1):
                break

    @_answered
    async def releasedir(self, fh: int) -> None:
        """Close a folder."""
        self._open_directories.pop(fh, None)

    @_answered
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """What df shows: the cache's limit as the size, what is cached as used; and the inodes."""
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = _STATFS_BLOCK_BYTES
        data.f_blocks = self._evictor.limit_bytes // _STATFS_BLOCK_BYTES
        free = max(0, self._evictor.limit_bytes - self._evictor.usage_bytes)
        data.f_bfree = data.f_bavail = free // _STATFS_BLOCK_BYTES
        data.f_files, data.f_ffree, data.f_favail = len(self._tree.nodes), 0, 0
        data.f_namemax = 255
        return data

    # Reading

    @_answered
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """Open a file for reading; the kernel may keep its pages for ever."""
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise pyfuse3.FUSEError(errno.EROFS)
        node = self._node(inode)
        handle = next(self._handles)
        if isinstance(node, DataNode):
            with self._deadline():
                content = await self._attributes.learn_content(node)
            self._readers[handle] = self._open_reader(content)
        elif isinstance(node, StaticNode):
            self._readers[handle] = _StaticReader(node.data)
        else:
            raise pyfuse3.FUSEError(errno.EISDIR)
        return pyfuse3.FileInfo(fh=handle, keep_cache=True)

    @_answered
    async def read(self, fh: int, off: int, size: int) -> Any:  # any contiguous buffer; pyfuse3 says bytes
        """Bytes of an open file, fewer than `size` only at its end."""
        self._metrics.read_requests += 1
        with self._deadline():
            data = await self._readers[fh].read(off, size)
        self._metrics.read_bytes += len(data)
        return data

    @_answered
    async def release(self, fh: int) -> None:
        """Close a file."""
        self._readers.pop(fh, None)

    # Provenance

    @_answered
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        """The names of an inode's attributes."""
        return [name.encode() for name in self._attributes.provenance(self._node(inode))]

    @_answered
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        """An attribute's value, as text."""
        if not name.startswith(b"user."):
            # Access lists and security labels. With ENODATA ls -l would ask for them again at every file.
            raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
        value = self._attributes.provenance(self._node(inode)).get(os.fsdecode(name))
        if value is None:
            raise pyfuse3.FUSEError(errno.ENODATA)
        with self._deadline():
            return (await value()).encode()

    # Nodes

    def _deadline(self) -> AbstractContextManager[object]:
        """For whatever can wait for the network. Costs a few microseconds: not for what is answered at once."""
        return trio.fail_after(self._io_timeout_seconds)

    async def _learn_size(self, node: Node) -> None:
        if isinstance(node, DataNode) and self._catalog.attributes(node.source) is None:
            with self._deadline():
                await self._catalog.attributes_of(node.source)

    def _node(self, inode: int) -> Node:
        try:
            return self._tree.nodes[inode]
        except KeyError:
            raise pyfuse3.FUSEError(errno.ESTALE) from None

    def _directory(self, inode: int) -> Directory:
        node = self._node(inode)
        if not isinstance(node, Directory):
            raise pyfuse3.FUSEError(errno.ENOTDIR)
        return node

    def _inode_of(self, directory: Directory, name: str) -> int | None:
        if name == ".":
            return directory.inode
        if name == "..":
            return directory.parent
        return directory.children.get(name)


class _StaticReader:
    """Reads bytes that are at hand."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """See `FileReader`."""
        return memoryview(self._data)[offset : offset + size]

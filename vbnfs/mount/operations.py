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
import stat
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import pyfuse3
import structlog
import trio

from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.tree import DataNode, Directory, Node, StaticNode, Symlink, Tree
from vbnfs.errors import VbnfsError
from vbnfs.metrics import Metrics
from vbnfs.objects import Content, ObjectAttributes, ObjectVersion
from vbnfs.reading.file_reader import FileReader
from vbnfs.storage.block_cache import BlockCache
from vbnfs.storage.eviction import Evictor

log = structlog.get_logger()

P = ParamSpec("P")
R = TypeVar("R")

_FOREVER_SECONDS: Final = 86400.0 * 365  # names, sizes and times never change
# st_blocks does: it tells how much is cached. Never 0: the kernel would ask for attributes at every read(2).
_CACHED_SHOWN_SECONDS: Final = 0.1
_GROWING_SECONDS: Final = 1.0  # where a dataset version can turn up
_SECTOR_BYTES: Final = 512  # the unit of st_blocks, stat(2)
_PREFERRED_READ_BYTES: Final = 1 << 20
_STATFS_BLOCK_BYTES: Final = 4096
_MODES: Final = {Directory: stat.S_IFDIR | 0o555, Symlink: stat.S_IFLNK | 0o777}
_FILE_MODE: Final = stat.S_IFREG | 0o444


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
        except trio.TooSlowError:
            self.tell(handler.__name__, f"no answer within {self.io_timeout_seconds:.0f} s")
            raise pyfuse3.FUSEError(errno.ETIMEDOUT) from None
        except Exception as error:
            raise pyfuse3.FUSEError(self.errno_of(handler.__name__, error)) from error

    return wrapper


@dataclass(slots=True)
class _OpenDirectory:
    """A folder as it was when it was opened: a tree that grows meanwhile does not shift its entries."""

    directory: Directory
    entries: Sequence[tuple[str, Node]]


class FileSystem(pyfuse3.Operations):
    """Answers for one mount. `tree` is replaced as a whole when a dataset version appears."""

    supports_dot_lookup = True
    enable_writeback_cache = False

    def __init__(
        self,
        *,
        tree: Tree,
        catalog: Catalog,
        cache: BlockCache,
        evictor: Evictor,
        open_reader: Callable[[Content], FileReader],
        metrics: Metrics,
        io_timeout_seconds: float,
        public_url: Callable[[ObjectVersion], str],
    ) -> None:
        super().__init__()
        self.tree = tree
        self.io_timeout_seconds = io_timeout_seconds
        self.last_error: str | None = None
        self._catalog = catalog
        self._cache = cache
        self._evictor = evictor
        self._open_reader = open_reader
        self._metrics = metrics
        self._public_url = public_url
        self._owner = (os.getuid(), os.getgid())
        self._handles = itertools.count(1)
        self._open_directories: dict[int, _OpenDirectory] = {}
        self._readers: dict[int, FileReader | _StaticReader] = {}

    @property
    def cache_usage_bytes(self) -> int:
        """What the cache takes on the disk, as far as it is known."""
        return self._evictor.usage_bytes

    # Failures

    def tell(self, request: str, reason: str) -> None:
        """Log a failure and remember it for `vbnfs status`."""
        self._metrics.failed_answers += 1
        log.warning("request failed", request=request, reason=reason)
        self.last_error = reason

    def errno_of(self, request: str, error: Exception) -> int:
        """The errno that a failure becomes; a nursery's group counts as its first member."""
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, VbnfsError):
            self.tell(request, str(error))
            return error.errno
        log.error("defect: unexpected failure of a request", request=request, exc_info=error)
        self._metrics.failed_answers += 1
        self.last_error = f"{request}: {error!r}"
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
            absent = pyfuse3.EntryAttributes()
            absent.st_ino, absent.entry_timeout = 0, _FOREVER_SECONDS
            return absent
        node = self.tree.nodes[inode]
        if isinstance(node, DataNode):
            await self._attributes(node)
        return self._entry(node, directory)

    @_answered
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """The attributes of an inode."""
        node = self._node(inode)
        if isinstance(node, DataNode):
            await self._attributes(node)
        return self._entry(node)

    @_answered
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        """Where a symbolic link leads."""
        node = self._node(inode)
        if not isinstance(node, Symlink):
            raise pyfuse3.FUSEError(errno.EINVAL)
        return os.fsencode(node.target)

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
        entries = tuple(self.tree.children(directory))
        sources = [node.source for _, node in entries if isinstance(node, DataNode)]
        if any(self._catalog.attributes(source) is None for source in sources):
            with self._deadline():
                await self._catalog.need_attributes(sources)
        handle = next(self._handles)
        parent = self.tree.nodes[directory.parent]
        dots = ((".", directory), ("..", parent))
        self._open_directories[handle] = _OpenDirectory(directory, (*dots, *entries))
        return handle

    @_answered
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """List a folder from entry number `start_id` on, with attributes."""
        opened = self._open_directories[fh]
        for number in range(start_id, len(opened.entries)):
            name, node = opened.entries[number]
            entry = self._entry(node, opened.directory)
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
        data.f_files, data.f_ffree, data.f_favail = len(self.tree.nodes), 0, 0
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
            content = self._content(node, await self._attributes(node))
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
        return [name.encode() for name in self._provenance(self._node(inode))]

    @_answered
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        """An attribute's value, as text."""
        if not name.startswith(b"user."):
            # Access lists and security labels. With ENODATA ls -l would ask for them again at every file.
            raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
        make = self._provenance(self._node(inode)).get(os.fsdecode(name))
        if make is None:
            raise pyfuse3.FUSEError(errno.ENODATA)
        value = make()
        return (value if isinstance(value, str) else await value).encode()

    def _provenance(self, node: Node) -> Mapping[str, "Callable[[], str | Awaitable[str]]"]:
        if not isinstance(node, DataNode):
            return {}
        table: dict[str, Callable[[], str | Awaitable[str]]] = {
            "user.vbnfs.url": lambda: self._public_url(node.source),
            "user.vbnfs.version_id": lambda: node.source.version_id or "",
            "user.vbnfs.dataset_versions": lambda: " ".join(node.dataset_versions),
            "user.vbnfs.cached": lambda: self._cached(node),
        }
        if node.file_hash is not None:
            table["user.vbnfs.file_hash"] = lambda: f"{node.file_hash}"
        return table

    async def _cached(self, node: DataNode) -> str:
        content = self._content(node, await self._attributes(node))
        return str(await trio.to_thread.run_sync(self._cache.cached_bytes, content))

    # Nodes

    def _deadline(self) -> AbstractContextManager[object]:
        """For whatever can wait for the network. Costs a few microseconds: not for what is answered at once."""
        return trio.fail_after(self.io_timeout_seconds)

    async def _attributes(self, node: DataNode) -> ObjectAttributes:
        attributes = self._catalog.attributes(node.source)
        if attributes is None:
            with self._deadline():
                attributes = await self._catalog.attributes_of(node.source)
        return attributes

    def _node(self, inode: int) -> Node:
        try:
            return self.tree.nodes[inode]
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

    def _content(self, node: DataNode, attributes: ObjectAttributes) -> Content:
        return Content(node.content_id, attributes.size_bytes, node.source)

    def _entry(self, node: Node, parent: Directory | None = None) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = node.inode
        entry.generation = 0
        entry.st_mode = _MODES.get(type(node), _FILE_MODE)
        entry.st_nlink = node.links
        entry.st_uid, entry.st_gid = self._owner
        entry.st_blksize = _PREFERRED_READ_BYTES
        entry.entry_timeout = entry.attr_timeout = _FOREVER_SECONDS
        if parent is not None and parent.is_growing:
            entry.entry_timeout = _GROWING_SECONDS
        self._set_size(entry, node)
        return entry

    def _set_size(self, entry: pyfuse3.EntryAttributes, node: Node) -> None:
        if isinstance(node, DataNode):
            attributes = self._catalog.attributes(node.source)
            if attributes is None:  # listed, but S3 would not tell its size: whoever looks at it learns why
                entry.entry_timeout = entry.attr_timeout = 0
                attributes = ObjectAttributes(0, 0)
            else:
                entry.attr_timeout = _CACHED_SHOWN_SECONDS
            size, modified_ns = attributes.size_bytes, attributes.modified_ns
            cached = self._cache.allocated_bytes(self._content(node, attributes))
            entry.st_blocks = _blocks(min(cached, size), size)
        else:
            size, modified_ns = _own_size(node), node.modified_ns
            entry.st_blocks = _blocks(size, size)
            if isinstance(node, Directory) and node.is_growing:
                entry.attr_timeout = _GROWING_SECONDS
        entry.st_size = size
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = modified_ns


def _own_size(node: StaticNode | Symlink | Directory) -> int:
    if isinstance(node, StaticNode):
        return len(node.data)
    return len(os.fsencode(node.target)) if isinstance(node, Symlink) else 0


def _blocks(cached_bytes: int, size_bytes: int) -> int:
    """st_blocks: what is cached, so that du tells it; never 0 for a file that has bytes.

    GNU tar --sparse, cp --sparse and rsync -S take a file without blocks for a hole and copy zeros.
    """
    return max(-(-cached_bytes // _SECTOR_BYTES), 1 if size_bytes else 0)


class _StaticReader:
    """Reads bytes that are at hand."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """See `FileReader`."""
        return memoryview(self._data)[offset : offset + size]

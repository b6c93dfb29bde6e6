"""What the kernel asks, and the answers.

Folders, attributes, links and cached blocks are answered at once, from the tree and the cache. Only two things can
wait for the network, and both have a deadline: reading a block that is not cached, and asking for an object whose
size is not known, in a bucket that cannot be listed.
"""

import errno
import itertools
import os
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar, cast

import structlog
import trio
from cachetools import LRUCache

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.cache_disk import CacheDisk
from vbnfs.dataset import names
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.tree import DataNode, Directory, Node, StaticNode, Symlink, Tree
from vbnfs.errors import ChangedError, VbnfsError, with_remedy
from vbnfs.filesystem import who_reads
from vbnfs.filesystem.attributes import FOREVER_SECONDS, Attributes, Value, constant
from vbnfs.filesystem.failures import Failures
from vbnfs.filesystem.listings import Listings
from vbnfs.filesystem.passthrough import Passthrough
from vbnfs.filesystem.small_reads import RepeatedSmallReads
from vbnfs.filesystem.who_reads import OpenFile
from vbnfs.fuse.operations import (
    Absent,
    Answer,
    Backing,
    Buffer,
    Entry,
    ErrnoReply,
    FileSystemStatus,
    Listing,
    Opened,
    is_later,
)
from vbnfs.logs import WARN_AGAIN_SECONDS, WarnOnce
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content
from vbnfs.reading.file_reader import FileReader
from vbnfs.reading.judged import check_possible

log = structlog.get_logger()

_T = TypeVar("_T")

_STATFS_BLOCK_BYTES: Final = 4096
_LONGEST_NAME: Final = 255
_AT_HOMES_AT_ONCE: Final = 4
_MOST_PATHS: Final = 1024
_LAST_ERROR: Final = "user.vbnfs.last_error"
_READ_BY: Final = "user.vbnfs.read_by"
_ABSENT: Final = Absent(FOREVER_SECONDS)


@dataclass(frozen=True, slots=True)
class KernelPages:
    """What the mount does about the pages that the kernel has of files."""

    are_stale: Callable[[int], bool] = lambda inode: False  # whether it may have some of wrong bytes
    fill: Callable[[str, ByteRange], None] = lambda path, block: None  # have it ask for a block of the file at a path


class FileSystem:
    """Answers for one mount: the `Operations` of `fuse.operations`.

    `open_reader` opens a content; with False its reads say nothing about the next ones.
    """

    def __init__(  # noqa: PLR0913 - one for each part
        self,
        *,
        tree: Tree,
        catalog: Catalog,
        attributes: Attributes,
        open_reader: Callable[[Content, bool], FileReader],
        passthrough: Passthrough,
        own_file: Callable[[int], str],
        disk: CacheDisk,
        metrics: Metrics,
        io_timeout_seconds: float,
        pages: KernelPages = KernelPages(),
    ) -> None:
        self.last_error: str | None = None
        self._pages = pages
        self._tree = tree
        self._catalog = catalog
        self._attributes = attributes
        self._listings = Listings(tree, attributes)
        self._open_reader = open_reader
        self.passthrough: Final = passthrough
        self._own_file = own_file
        self._at_homes = trio.CapacityLimiter(_AT_HOMES_AT_ONCE)  # one that hangs must not take the threads of all
        self.disk: Final = disk
        self._metrics = metrics
        self._failures = Failures(io_timeout_seconds=io_timeout_seconds)
        self._warn_once = WarnOnce(again_after_seconds=WARN_AGAIN_SECONDS)
        self._small_reads = RepeatedSmallReads()
        self._paths: LRUCache[int, str] = LRUCache(_MOST_PATHS)
        self._waiting: dict[int, set[trio.CancelScope]] = {}  # reads, by inode
        self._handles = itertools.count(1)
        self._opened: dict[int, OpenFile] = {}  # by handle

    def show(self, tree: Tree, changed: Iterable[int] = ()) -> None:
        """Answer from another tree from now on: a dataset version has appeared, and given `changed` inodes names."""
        self._tree = tree
        self._attributes.forget()
        self._listings = Listings(tree, self._attributes, before=self._listings)
        for inode in changed:
            self._attributes.change(inode)

    def inode_of(self, content_id: str) -> int | None:
        """The inode that has this content, if there is one. Goes through all of them."""
        nodes = self._tree.nodes.values()
        return next((n.inode for n in nodes if isinstance(n, DataNode) and self._has(n, content_id)), None)

    def _has(self, node: DataNode, content_id: str) -> bool:
        if node.content.content_id == content_id or node.source.is_immutable:
            return node.content.content_id == content_id
        content = self._attributes.content(node)  # whose name may depend on what HEAD has said of it
        return content is not None and content.content_id == content_id

    def path_of(self, inode: int) -> str:
        """Where an inode stands in the mount. Goes through all of them."""
        return self._tree.path_of(inode)

    # Failures

    def errno_of(self, request: str, error: Exception) -> int:
        """The errno that a failure becomes; logged, and remembered for `vbnfs status`."""
        self._metrics.failed_answers += 1
        while isinstance(error, ExceptionGroup):  # of a nursery: its first member counts
            error = error.exceptions[0]
        if isinstance(error, VbnfsError):
            self.last_error = with_remedy(error)
            self._warn_once("request failed", request=request, reason=self.last_error)
            return error.errno
        self.last_error = f"{request}: {error!r}"
        log.error("defect: unexpected failure of a request", request=request, exc_info=error)
        return errno.EIO

    # Names and attributes

    def lookup(self, parent: int, name: bytes) -> Answer[Entry | Absent]:
        """A name in a folder. The kernel may remember as absent a name that cannot appear while mounted."""
        if name == b".":  # of files, too: so the kernel finds an inode again of which only NFS still knows the number
            return self._entry(self._node(parent), in_growing=False)
        directory = self._directory(parent)
        if len(name) > _LONGEST_NAME:
            raise ErrnoReply(errno.ENAMETOOLONG)
        inode = directory.parent if name == b".." else directory.children.get(names.decode(name))
        if inode is not None:
            return self._entry(self._tree.nodes[inode], in_growing=directory.is_growing)
        if directory.is_growing:
            raise ErrnoReply(errno.ENOENT)
        return _ABSENT

    def _entry(self, node: Node, *, in_growing: bool) -> Answer[Entry | Absent]:
        def entry(node: Node) -> Entry | Absent:
            entry = self._attributes.entry(node, in_growing=in_growing)
            assert entry is not None  # its size is known
            return entry

        return self._with_size(node, entry)

    def getattr(self, inode: int) -> Answer[Entry]:
        """The attributes of an inode."""
        node = self._node(inode)
        return self._with_size(node, self._attributes.attributes)

    def readlink(self, inode: int, uid: int) -> Answer[bytes]:
        """Where a symbolic link leads; the kernel asks each time, for each user."""
        node = self._node(inode)
        if not isinstance(node, Symlink):
            raise ErrnoReply(errno.EINVAL)
        return self._own_target(inode, uid) if node.target is None else names.encode(node.target)

    async def _own_target(self, inode: int, uid: int) -> bytes:
        with self._failures.guard(inode):  # a home may be on a server that does not answer
            return os.fsencode(
                await trio.to_thread.run_sync(self._own_file, uid, abandon_on_cancel=True, limiter=self._at_homes)
            )

    def list(self, inode: int) -> Listing:
        """A folder's names.

        They wait for no sizes. Unknown sizes are asked for in the background, and when a program asks for attributes.
        """
        made = self._listings.of(self._directory(inode))
        if made.unknown:
            self._catalog.sizes.prefetch(file.content for file in made.unknown)
        return made.listing

    def look_ahead(self) -> Listing | None:
        """Make the listing that will probably be asked for next. Takes some microseconds."""
        return self._listings.look_ahead()

    def statfs(self) -> FileSystemStatus:
        """What df shows: the cache's limit as the size, what is cached as used, what can still be kept; inodes."""
        disk = self.disk
        return FileSystemStatus(
            block_bytes=_STATFS_BLOCK_BYTES,
            blocks=disk.limit_bytes // _STATFS_BLOCK_BYTES,
            free_blocks=max(0, disk.limit_bytes - disk.usage_bytes) // _STATFS_BLOCK_BYTES,
            available_blocks=disk.available_bytes // _STATFS_BLOCK_BYTES,
            inodes=len(self._tree.nodes),
            longest_name=_LONGEST_NAME,
        )

    # Reading

    def open(self, inode: int, flags: int, pid: int) -> Answer[Opened]:
        """Open a file for reading; the kernel may keep its pages, unless they are of wrong bytes."""
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise ErrnoReply(errno.EROFS)
        node = self._node(inode)
        if isinstance(node, StaticNode):
            return self._handle(OpenFile(inode, node.data, None, pid))
        if not isinstance(node, DataNode):
            raise ErrnoReply(errno.EISDIR)
        content = self._attributes.content(node)
        if content is None:
            return self._open_later(node, flags, pid)
        return self._open_data(node, content, flags, pid)

    async def _open_later(self, node: DataNode, flags: int, pid: int) -> Opened:
        with self._failures.guard(node.inode):
            content = await self._attributes.learn_content(node)
        opened = self._open_data(node, content, flags, pid)
        return await opened if is_later(opened) else cast(Opened, opened)

    def _open_data(self, node: DataNode, content: Content, flags: int, pid: int) -> Answer[Opened]:
        check_possible(content)
        advises = not flags & os.O_NONBLOCK  # with which page_filler_program.py opens files
        # A file that the kernel reads has a reader, too: readahead(2) of it asks the daemon, all the same.
        file = OpenFile(node.inode, self._open_reader(content, advises), content, pid)
        backing = self.passthrough.open(node.inode, content)
        if is_later(backing):
            return self._handle_later(file, backing)
        return self._handle(file, cast(Backing | None, backing))

    async def _handle_later(self, file: OpenFile, backing: Coroutine[Any, Any, Backing | None]) -> Opened:
        return self._handle(file, await backing)

    def _handle(self, file: OpenFile, backing: Backing | None = None) -> Opened:
        handle = next(self._handles)
        self._opened[handle] = file
        return Opened(handle, keeps_pages=not self._pages.are_stale(file.inode), backing=backing)

    def read(self, handle: int, offset: int, size: int) -> Answer[Buffer]:
        """Bytes of an open file, fewer than `size` only at its end."""
        inode, opened, _, _ = self._opened[handle]
        self._metrics.read_requests += 1
        if isinstance(opened, bytes):
            return self._counted(memoryview(opened)[offset : offset + size])
        try:
            data = opened.read_nowait(offset, size)
        except (trio.WouldBlock, VbnfsError):  # a failure happens once more there, and is noted
            return self._read_later(inode, opened, offset, size)
        self._failures.clear(inode)
        if opened.advises and self._small_reads.is_again(inode, offset, len(data)):
            self._fill_block(inode, offset // BLOCK_BYTES * BLOCK_BYTES)
        return self._counted(data)

    def _fill_block(self, inode: int, start: int) -> None:
        """Have the kernel ask for all of the block that begins at `start`."""
        if inode not in self._tree.nodes:
            return
        path = self._paths.get(inode)
        if path is None:
            path = self._paths[inode] = self._tree.path_of(inode)
        self._pages.fill(path, ByteRange(start, start + BLOCK_BYTES))

    async def _read_later(self, inode: int, reader: FileReader, offset: int, size: int) -> Buffer:
        is_size_new = False
        try:
            with self._failures.guard_read(inode, ByteRange(offset, offset + size)):
                try:
                    return self._counted(await self._read_anew(inode, reader, offset, size))
                except ChangedError:
                    is_size_new = await self._recheck_size(inode)
                    raise
        finally:
            if is_size_new:  # a program that opens it from now on reads another file
                self._failures.forget_reads(inode)

    async def _recheck_size(self, inode: int) -> bool:
        """A reply contradicted what was listed of a file: have its size asked for. Returns whether that was wrong."""
        node = self._tree.nodes.get(inode)
        if not isinstance(node, DataNode) or not await self._catalog.sizes.recheck(node.content):
            return False
        for other in await trio.to_thread.run_sync(_of_the_same_objects, self._tree, node):
            self._attributes.change(other)
        return True

    async def _read_anew(self, inode: int, reader: FileReader, offset: int, size: int) -> Buffer:
        """Read, and begin anew whenever the file is found wrong meanwhile."""
        while True:
            with trio.CancelScope() as waiting, self._known_as_waiting(inode, waiting):
                return await reader.read(offset, size)

    @contextmanager
    def _known_as_waiting(self, inode: int, scope: trio.CancelScope) -> Iterator[None]:
        self._waiting.setdefault(inode, set()).add(scope)
        try:
            yield
        finally:
            self._waiting[inode].discard(scope)
            if not self._waiting[inode]:
                del self._waiting[inode]

    def begin_reads_anew(self, inode: int) -> None:
        """Have reads that wait begin anew, because a file is refused now: then they fail at once."""
        for scope in self._waiting.get(inode, ()):
            scope.cancel()

    def _counted(self, data: Buffer) -> Buffer:
        self._metrics.read_bytes += len(data)
        return data

    def release(self, handle: int) -> None:
        """Close a file."""
        file = self._opened.pop(handle, None)
        if file is not None and file.content is not None:
            self.passthrough.release(file.inode)

    async def who_reads(self) -> dict[str, Any]:
        """Which open files the kernel reads by itself, for `vbnfs status`."""
        return await who_reads.report(self._opened.values(), self.passthrough, self._tree)

    # Provenance

    def listxattr(self, inode: int) -> Sequence[bytes]:
        """The names of an inode's attributes."""
        return [name.encode() for name in self._attribute_table(inode)]

    def getxattr(self, inode: int, name: bytes) -> Answer[bytes]:
        """An attribute's value, as text."""
        if not name.startswith(b"user."):
            # Access lists and security labels. With ENODATA ls -l would ask for them again at every file.
            raise ErrnoReply(errno.EOPNOTSUPP)
        value = self._attribute_table(inode).get(names.decode(name))
        if value is None:
            raise ErrnoReply(errno.ENODATA)
        return self._value(inode, value)

    def _attribute_table(self, inode: int) -> Mapping[str, Value]:
        table, node = self._attributes.provenance(self._node(inode)), self._node(inode)
        if isinstance(node, DataNode):
            table = {**table, _READ_BY: partial(self._read_by, node)}
        failure = self._failures.of(inode)
        return table if failure is None else {**table, _LAST_ERROR: constant(failure)}

    async def _read_by(self, node: DataNode) -> str:
        content = await self._attributes.learn_content(node)
        await self.passthrough.find_out(content)
        return who_reads.describe(node.inode, content, self._opened.values, self.passthrough)

    async def _value(self, inode: int, value: Value) -> bytes:
        with self._failures.guard(inode, is_read=False):
            return names.encode(await value())

    # Nodes

    def _with_size(self, node: Node, answer: Callable[[Node], _T]) -> Answer[_T]:
        """`answer` of a node, at once or when its size is known."""
        if not isinstance(node, DataNode) or self._attributes.are_known(node):
            return answer(node)

        async def later() -> _T:
            with self._failures.guard(node.inode):
                await self._catalog.sizes.fetch(node.content)
            return answer(self._node(node.inode))  # another tree may be shown by now

        return later()

    def _node(self, inode: int) -> Node:
        try:
            return self._tree.nodes[inode]
        except KeyError:
            raise ErrnoReply(errno.ESTALE) from None

    def _directory(self, inode: int) -> Directory:
        node = self._node(inode)
        if not isinstance(node, Directory):
            raise ErrnoReply(errno.ENOTDIR)
        return node


def _of_the_same_objects(tree: Tree, node: DataNode) -> list[int]:
    """The inodes of files that come from an object of which that file may come: itself, and those that dispute it."""
    sources = set(node.content.sources)
    files = (one for one in tree.nodes.values() if isinstance(one, DataNode))
    return [file.inode for file in files if not sources.isdisjoint(file.content.sources)]

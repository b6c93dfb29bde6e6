"""What the kernel asks, and the answers.

Folders, attributes, links and cached blocks are answered at once, from the tree and the cache. Only two things can
wait for the network, and both have a deadline: reading a block that is not cached (open_files.py), and asking for an
object whose size is not known, in a bucket that cannot be listed.
"""

import errno
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from vbnfs.cache.cache_disk import CacheDisk
from vbnfs.dataset import names
from vbnfs.dataset.browsing import BY
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.tree import ROOT_INODE, DataNode, Directory, Node, StaticNode, Symlink, Tree
from vbnfs.errors import VbnfsError, with_remedy
from vbnfs.filesystem.attributes import FOREVER_SECONDS, Attributes, Value, constant
from vbnfs.filesystem.failures import Failures, LastError, RecentFailures
from vbnfs.filesystem.listings import Listings
from vbnfs.filesystem.nodes import Nodes
from vbnfs.filesystem.open_files import KernelPages, OpenFiles
from vbnfs.filesystem.passthrough import Passthrough
from vbnfs.filesystem.recording import Recording
from vbnfs.fuse.operations import (
    Absent,
    Answer,
    Buffer,
    Entry,
    ErrnoReply,
    FileSystemStatus,
    Listing,
    Opened,
)
from vbnfs.logs import WARN_AGAIN_SECONDS, WarnOnce
from vbnfs.metrics import Metrics
from vbnfs.objects import Content
from vbnfs.reading.deadlines import Deadlines
from vbnfs.reading.file_reader import FileReader

log = structlog.get_logger()

_T = TypeVar("_T")

_STATFS_BLOCK_BYTES: Final = 4096
_LONGEST_NAME: Final = 255
STATUS: Final = "user.vbnfs.status"  # of the top folder
_LAST_ERROR: Final = "user.vbnfs.last_error"
_READ_BY: Final = "user.vbnfs.read_by"
_NO_HOME: Final = "the folders in allensdk/static need no file there"
_ABSENT: Final = Absent(FOREVER_SECONDS)


class FileSystem:
    """Answers for one mount: the `Operations` of `fuse.operations`.

    `open_reader` opens a content; with False its reads say nothing about the next ones. `own_file` gives a path of a
    user's own file to one of their threads. `fetch` has a file fetched that may be read later. `status` is what every
    reader may know of the mount. `browse` is called when a program looks into the folder `by`, of which the rest is
    made then. `recording` takes note of what is read, if that is wanted.
    """

    def __init__(  # noqa: PLR0913 - one for each part
        self,
        *,
        tree: Tree,
        catalog: Catalog,
        attributes: Attributes,
        open_reader: Callable[[Content, bool], FileReader],
        passthrough: Passthrough,
        own_file: Callable[[int, int], Awaitable[str]],
        disk: CacheDisk,
        metrics: Metrics,
        io_timeout_seconds: float,
        deadlines: Deadlines,
        pages: KernelPages,
        fetch: Callable[[DataNode, int], None] = lambda node, most_bytes: None,
        status: Callable[["FileSystem"], Mapping[str, Any]] = lambda file_system: {},
        browse: Callable[[], None] = lambda: None,
        recording: Recording | None = None,
    ) -> None:
        self._status = status
        self._browse = browse
        self._by = _folder_at_the_top(tree, BY)
        self.recent_failures: Final = RecentFailures()
        self.nodes: Final = Nodes(tree, attributes)
        self._catalog = catalog
        self._attributes = attributes
        self._listings = Listings(tree, attributes)
        self._own_file = own_file
        self.disk: Final = disk
        self._metrics = metrics
        self._failures = Failures(io_timeout_seconds=io_timeout_seconds, deadlines=deadlines)
        self._warn_once = WarnOnce(again_after_seconds=WARN_AGAIN_SECONDS)
        self.files: Final = OpenFiles(
            self.nodes,
            attributes,
            catalog,
            open_reader=open_reader,
            passthrough=passthrough,
            failures=self._failures,
            metrics=metrics,
            pages=pages,
            fetch=fetch,
            recording=recording,
        )

    def show(self, tree: Tree, changed: Iterable[int] = ()) -> None:
        """Answer from another tree from now on: a dataset version has appeared, and `changed` inodes' attributes."""
        self.nodes.tree = tree
        self._attributes.forget()
        self._listings = Listings(tree, self._attributes, before=self._listings)
        for inode in changed:
            self._attributes.change(inode)

    # Failures

    @property
    def last_error(self) -> LastError | None:
        """The last failure that the kernel was answered."""
        return self.recent_failures.last

    def errno_of(self, request: str, error: Exception) -> int:
        """The errno that a failure becomes; logged, and remembered for `vbnfs status`."""
        self._metrics.failed_answers += 1
        while isinstance(error, ExceptionGroup):  # of a nursery: its first member counts
            error = error.exceptions[0]
        if isinstance(error, VbnfsError):
            reason = with_remedy(error)
            self.recent_failures.add(reason, self._metrics)
            self._warn_once("request failed", request=request, reason=reason)
            return error.errno
        self.recent_failures.add(f"{request}: {error!r}", self._metrics)
        log.error("defect: unexpected failure of a request", request=request, exc_info=error)
        return errno.EIO

    # Names and attributes

    def lookup(self, parent: int, name: bytes) -> Answer[Entry | Absent]:
        """A name in a folder. The kernel may remember as absent a name that cannot appear while mounted."""
        if name == b".":  # of files, too: so the kernel finds an inode again of which only NFS still knows the number
            return self._entry(self.nodes.node(parent), in_growing=False)
        directory = self.nodes.directory(parent)
        if parent == self._by:
            self._browse()
        if len(name) > _LONGEST_NAME:
            raise ErrnoReply(errno.ENAMETOOLONG)
        inode = directory.parent if name == b".." else directory.children.get(names.decode(name))
        if inode is not None:
            return self._entry(self.nodes.tree.nodes[inode], in_growing=directory.is_growing)
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
        node = self.nodes.node(inode)
        return self._with_size(node, self._attributes.attributes)

    def readlink(self, inode: int, uid: int, pid: int) -> Answer[bytes]:
        """Where a symbolic link leads; the kernel asks each time, for each thread that follows it."""
        node = self.nodes.node(inode)
        if not isinstance(node, Symlink):
            raise ErrnoReply(errno.EINVAL)
        return self._own_target(inode, uid, pid) if node.target is None else names.encode(node.target)

    async def _own_target(self, inode: int, uid: int, pid: int) -> bytes:
        what = f"the disk that has the home of user {uid}, for what AllenSDK writes: "
        with self._failures.guard(inode, what=what, remedy=_NO_HOME):
            return os.fsencode(await self._own_file(uid, pid))

    def list(self, inode: int) -> Listing:
        """A folder's names.

        They wait for no sizes. Unknown sizes are asked for in the background, and when a program asks for attributes.
        """
        if inode == self._by:
            self._browse()
        made = self._listings.of(self.nodes.directory(inode))
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
            inodes=len(self.nodes.tree.nodes),
            longest_name=_LONGEST_NAME,
        )

    # Reading

    def open(self, inode: int, flags: int, pid: int) -> Answer[Opened]:
        """Open a file for reading: see `OpenFiles`."""
        return self.files.open(inode, flags, pid)

    def read(self, handle: int, offset: int, size: int) -> Answer[Buffer]:
        """Bytes of an open file, fewer than `size` only at its end."""
        return self.files.read(handle, offset, size)

    def release(self, handle: int) -> None:
        """Close a file."""
        self.files.release(handle)

    # Provenance

    def listxattr(self, inode: int) -> Sequence[bytes]:
        """The names of the attributes that do not change: programs copy what is listed, so it is true of a copy."""
        return [name.encode() for name in self._attributes.provenance(self.nodes.node(inode))]

    def getxattr(self, inode: int, name: bytes) -> Answer[bytes]:
        """An attribute's value, as text."""
        if not name.startswith(b"user."):
            # Access lists and security labels. With ENODATA ls -l would ask for them again at every file.
            raise ErrnoReply(errno.EOPNOTSUPP)
        if (inode, name) == (ROOT_INODE, STATUS.encode()):  # listed nowhere: copies of the folder are not to have it
            return json.dumps(self._status(self)).encode()
        value = self._attribute(inode, names.decode(name))
        if value is None:
            raise ErrnoReply(errno.ENODATA)
        return self._value(inode, value)

    def _attribute(self, inode: int, name: str) -> Value | None:
        node = self.nodes.node(inode)
        if name == _LAST_ERROR:
            failure = self._failures.of(inode)
            return None if failure is None else constant(failure)
        if name == _READ_BY:
            return partial(self.files.read_by, node) if isinstance(node, DataNode) else None
        return {**self._attributes.provenance(node), **self._attributes.state(node)}.get(name)

    async def _value(self, inode: int, value: Value) -> bytes:
        with self._failures.guard(inode, is_read=False):
            return names.encode(await value())

    async def origin(self, node: DataNode | StaticNode) -> dict[str, Any]:
        """Where a file of the dataset comes from, and how this mount has it. Asks the disk, and no server."""
        with self._failures.guard(node.inode, is_read=False):
            found = await self._attributes.origin(node)
            if isinstance(node, DataNode):
                is_known = self._attributes.are_known(node)
                found["read_by"] = await self.files.read_by(node) if is_known else None
                found["last_error"] = self._failures.of(node.inode)
            return found

    def status(self) -> dict[str, Any]:
        """What every reader may know of the mount."""
        return dict(self._status(self))

    # Sizes

    def _with_size(self, node: Node, answer: Callable[[Node], _T]) -> Answer[_T]:
        """`answer` of a node, at once or when its size is known."""
        if not isinstance(node, DataNode) or self._attributes.are_known(node):
            return answer(node)

        async def later() -> _T:
            with self._failures.guard(node.inode):
                await self._catalog.sizes.fetch(node.content)
            return answer(self.nodes.node(node.inode))  # another tree may be shown by now

        return later()


def _folder_at_the_top(tree: Tree, name: str) -> int | None:
    """The inode of a folder at the top; None if there is none of this name."""
    root = tree.nodes[ROOT_INODE]
    assert isinstance(root, Directory)
    return root.children.get(name)

"""A file system with the folder `.vbnfs` at its top: it answers what is asked of that, and the mount all else."""

import errno
import json
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, cast

from vbnfs.dataset.tree import ROOT_INODE, DataNode, Node, StaticNode
from vbnfs.filesystem.about import NAME, About, Text
from vbnfs.filesystem.operations import FileSystem
from vbnfs.filesystem.ownership import Ownership
from vbnfs.fuse.operations import (
    Absent,
    Answer,
    Buffer,
    DirEntry,
    Entry,
    ErrnoReply,
    FileSystemStatus,
    Listing,
    Opened,
    is_later,
)

_NAME = NAME.encode()


class WithAbout:
    """Answers for one mount, of which `inner` has all but that folder: the `Operations` of `fuse.operations`.

    `for_owner` are texts for the user whose daemon it is, by their names. With `is_listed` the top folder lists it.
    """

    def __init__(
        self, inner: FileSystem, ownership: Ownership, for_owner: Mapping[str, Text], *, is_listed: bool = False
    ) -> None:
        self._inner = inner
        self._about = About(
            inner.nodes,
            ownership,
            for_all={"status.json": lambda: as_text(inner.status())},
            for_owner=for_owner,
            provenance=self._provenance,
        )
        self._is_listed = is_listed
        self._top: tuple[Listing, Listing] | None = None  # the top folder's names, and those with one more

    async def _provenance(self, node: Node, path: str) -> bytes:
        assert isinstance(node, DataNode | StaticNode)
        return as_text({"path": path, **await self._inner.origin(node)})

    def lookup(self, parent: int, name: bytes) -> Answer[Entry | Absent]:
        """See `Operations`."""
        if parent == ROOT_INODE and name == _NAME:
            return self._about.entry_of_top()
        if parent not in self._about:
            return self._inner.lookup(parent, name)
        if name == b".." and parent == self._about.top.inode:
            return self._inner.lookup(ROOT_INODE, b".")
        return self._about.lookup(parent, name)

    def getattr(self, inode: int) -> Answer[Entry]:
        """See `Operations`."""
        return self._about.getattr(inode) if inode in self._about else self._inner.getattr(inode)

    def readlink(self, inode: int, uid: int, pid: int) -> Answer[bytes]:
        """See `Operations`."""
        if inode in self._about:
            raise ErrnoReply(errno.EINVAL)
        return self._inner.readlink(inode, uid, pid)

    def list(self, inode: int) -> Answer[Listing]:
        """See `Operations`."""
        if inode in self._about:
            return self._about.list(inode)
        listing = self._inner.list(inode)
        return self._with_name(listing) if self._is_listed and inode == ROOT_INODE else listing

    def _with_name(self, listing: Listing) -> Listing:
        if self._top is None or self._top[0] is not listing:
            entry = self._about.entry_of_top()
            more = DirEntry(_NAME, entry.attr.inode, entry.attr.mode, entry)
            self._top = (listing, Listing([*listing.entries, more]))
        return self._top[1]

    def open(self, inode: int, flags: int, pid: int) -> Answer[Opened]:
        """See `Operations`."""
        if inode not in self._about:
            return self._inner.open(inode, flags, pid)
        text = self._about.text(inode, flags)
        return self._open_later(text) if is_later(text) else self._inner.files.open_text(cast(bytes, text))

    async def _open_later(self, text: Coroutine[Any, Any, bytes]) -> Opened:
        return self._inner.files.open_text(await text)

    def read(self, handle: int, offset: int, size: int) -> Answer[Buffer]:
        """See `Operations`."""
        return self._inner.read(handle, offset, size)

    def release(self, handle: int) -> None:
        """See `Operations`."""
        self._inner.release(handle)

    def statfs(self) -> FileSystemStatus:
        """See `Operations`."""
        return self._inner.statfs()

    def getxattr(self, inode: int, name: bytes) -> Answer[bytes]:
        """See `Operations`."""
        if inode in self._about:
            raise ErrnoReply(errno.ENODATA if name.startswith(b"user.") else errno.EOPNOTSUPP)
        return self._inner.getxattr(inode, name)

    def listxattr(self, inode: int) -> Sequence[bytes]:
        """See `Operations`."""
        return [] if inode in self._about else self._inner.listxattr(inode)

    def look_ahead(self) -> Listing | None:
        """See `Operations`."""
        return self._inner.look_ahead()

    def errno_of(self, request: str, error: Exception) -> int:
        """See `Operations`."""
        return self._inner.errno_of(request, error)


def as_text(value: Mapping[str, Any]) -> bytes:
    """JSON for people and programs."""
    return (json.dumps(value, indent=2) + "\n").encode()

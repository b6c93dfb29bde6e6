"""What stat(2) and getxattr(2) tell of a node.

Nearly all of it never changes, and the kernel is told so. What does change is `st_blocks`, which tells how much of a
file is cached, and what stands in folders where a dataset version can turn up.
"""

import hashlib
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import pyfuse3
import trio

from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.tree import DataNode, Directory, Node, StaticNode, Symlink
from vbnfs.objects import Content, ObjectAttributes, ObjectVersion
from vbnfs.storage.block_cache import BlockCache

Value = Callable[[], Awaitable[str]]

_FOREVER_SECONDS: Final = 86400.0 * 365  # names, sizes and times never change
# Never 0 for what is read: the kernel would ask for attributes at every read(2).
_CACHED_SHOWN_SECONDS: Final = 0.1
_GROWING_SECONDS: Final = 1.0
_SECTOR_BYTES: Final = 512  # the unit of st_blocks, stat(2)
_PREFERRED_READ_BYTES: Final = 1 << 20
_MODES: Final = {Directory: stat.S_IFDIR | 0o555, Symlink: stat.S_IFLNK | 0o777}
_FILE_MODE: Final = stat.S_IFREG | 0o444


class Attributes:
    """Attributes of the nodes of one mount, owned by the user whose process this is."""

    def __init__(
        self,
        catalog: Catalog,
        cache: BlockCache,
        *,
        written: Callable[[Content], Awaitable[None]],
        public_url: Callable[[ObjectVersion], str],
    ) -> None:
        self._catalog = catalog
        self._cache = cache
        self._written = written
        self._public_url = public_url
        self._owner = (os.getuid(), os.getgid())
        self._entries: dict[tuple[int, bool], pyfuse3.EntryAttributes] = {}  # made once, for ls -lR

    def forget(self) -> None:
        """The tree has been replaced: numbers of links and of subfolders may have changed."""
        self._entries.clear()

    def content(self, node: DataNode) -> Content | None:
        """What a file consists of; None while its size is not known."""
        attributes = self._catalog.attributes(node.source)
        return None if attributes is None else Content(node.content_id, attributes.size_bytes, node.source)

    async def learn_content(self, node: DataNode) -> Content:
        """Like `content`; asks S3 for the size if need be. Raises a `StorageError`."""
        attributes = await self._catalog.attributes_of(node.source)
        return Content(node.content_id, attributes.size_bytes, node.source)

    def entry(self, node: Node, parent: Directory | None = None) -> pyfuse3.EntryAttributes:
        """The reply for `node`, met under a name in `parent`."""
        is_growing = parent is not None and parent.is_growing
        entry = self._entries.get((node.inode, is_growing))
        if entry is None:
            entry = self._new_entry(node, is_growing=is_growing)
            if entry.attr_timeout > 0:
                self._entries[node.inode, is_growing] = entry
        if isinstance(node, DataNode) and (content := self.content(node)) is not None:
            cached_bytes = min(self._cache.allocated_bytes(content), content.size_bytes)
            entry.st_blocks = _blocks(cached_bytes, content.size_bytes)
        return entry

    def provenance(self, node: Node) -> Mapping[str, Value]:
        """The extended attributes of a node, and how to get their values."""
        if isinstance(node, Directory | Symlink) or node.source is None:
            return {}
        told = {
            "url": self._public_url(node.source),
            "version_id": node.source.version_id,
            "dataset_versions": " ".join(node.dataset_versions),
        }
        table = {f"user.vbnfs.{name}": _constant(text) for name, text in told.items() if text is not None}
        table["user.vbnfs.cached"] = partial(self._cached_bytes, node)
        if isinstance(node, StaticNode):
            table["user.vbnfs.file_hash"] = partial(trio.to_thread.run_sync, _blake2b, node.data)
        elif node.file_hash is not None:
            table["user.vbnfs.file_hash"] = _constant(node.file_hash)
        return table

    async def _cached_bytes(self, node: DataNode | StaticNode) -> str:
        if isinstance(node, StaticNode):
            return str(len(node.data))
        content = await self.learn_content(node)
        await self._written(content)  # what was read just now counts
        return str(await trio.to_thread.run_sync(self._cache.cached_bytes, content))

    def _new_entry(self, node: Node, *, is_growing: bool) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = node.inode
        entry.generation = 0
        entry.st_mode = _MODES.get(type(node), _FILE_MODE)
        entry.st_nlink = node.links
        entry.st_uid, entry.st_gid = self._owner
        entry.st_blksize = _PREFERRED_READ_BYTES
        entry.entry_timeout = _GROWING_SECONDS if is_growing else _FOREVER_SECONDS
        entry.attr_timeout = _FOREVER_SECONDS
        if isinstance(node, Directory) and node.is_growing:
            entry.attr_timeout = _GROWING_SECONDS
        elif isinstance(node, DataNode):
            entry.attr_timeout = _CACHED_SHOWN_SECONDS
        told = self._told(node)
        if told is None:  # listed, but S3 would not tell its size: whoever looks at it learns why
            entry.entry_timeout = entry.attr_timeout = 0
            told = ObjectAttributes(0, 0)
        entry.st_size = told.size_bytes
        entry.st_blocks = _blocks(told.size_bytes, told.size_bytes)
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = told.modified_ns
        return entry

    def _told(self, node: Node) -> ObjectAttributes | None:
        """Size and time; None while they are not known."""
        if isinstance(node, DataNode):
            return self._catalog.attributes(node.source)
        if isinstance(node, StaticNode):
            return ObjectAttributes(len(node.data), node.modified_ns)
        if isinstance(node, Symlink):
            return ObjectAttributes(len(os.fsencode(node.target or "")), node.modified_ns)
        return ObjectAttributes(0, node.modified_ns)


def absent() -> pyfuse3.EntryAttributes:
    """The reply that lets the kernel remember that a name does not exist."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino, entry.entry_timeout = 0, _FOREVER_SECONDS
    return entry


def _blake2b(data: bytes) -> str:
    return hashlib.blake2b(data).hexdigest()


def _constant(text: str) -> Value:
    async def value() -> str:
        return text

    return value


def _blocks(cached_bytes: int, size_bytes: int) -> int:
    """st_blocks: what is cached, so that du tells it; never 0 for a file that has bytes.

    GNU tar --sparse, cp --sparse and rsync -S take a file without blocks for a hole and copy zeros.
    """
    return max(-(-cached_bytes // _SECTOR_BYTES), 1 if size_bytes else 0)

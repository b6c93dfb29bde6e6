"""What stat(2) and getxattr(2) say of a node.

Nearly all of it never changes, and the kernel keeps it without a limit. What does change is `st_blocks`, which says
how much of a file is cached: then the kernel is asked to drop it (`Attributes.refresh`). In folders where a dataset
version can appear the kernel asks again by itself.
"""

import hashlib
import stat
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

import trio

from vbnfs.cache.block_cache import BlockCache
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.names import encode
from vbnfs.dataset.tree import DataNode, Directory, Node, StaticNode, Symlink
from vbnfs.filesystem.ownership import Ownership
from vbnfs.fuse.operations import Attr, Entry
from vbnfs.objects import Content, ObjectAttributes, ObjectVersion

_T = TypeVar("_T")
Value = Callable[[], Awaitable[str]]

FOREVER_SECONDS: Final = 86400.0 * 365  # names, sizes and times never change
_GROWING_SECONDS: Final = 1.0
_SECTOR_BYTES: Final = 512  # the unit of st_blocks, stat(2)
_PREFERRED_READ_BYTES: Final = 1 << 20  # for cp and cat
_PAGE_BYTES: Final = 4096  # of folders: readdir(3) would ask for 1 MiB each time, and the kernel make room for it
_MODES: Final = {Directory: stat.S_IFDIR | 0o555, Symlink: stat.S_IFLNK | 0o777}
_FILE_MODE: Final = stat.S_IFREG | 0o444
_COUNTED_AT_ONCE: Final = 2
_TEXTS: Final = {name: f"user.vbnfs.{name}" for name in ("url", "version_id", "file_hash")}


def mode_of(node: Node) -> int:
    """st_mode."""
    return _MODES.get(type(node), _FILE_MODE)


class Attributes:
    """Attributes of the nodes of one mount; without an `ownership` they belong to the user whose process this is.

    `on_change` gets each inode of which the kernel may have attributes that are not right any more.
    """

    def __init__(
        self,
        catalog: Catalog,
        cache: BlockCache,
        *,
        written: Callable[[Content], Awaitable[None]],
        url: Callable[[ObjectVersion], str],
        verified: Callable[[Content], str],
        on_change: Callable[[int], None] = lambda inode: None,
        ownership: Ownership | None = None,
    ) -> None:
        self._catalog = catalog
        self._cache = cache
        self._written = written
        self._url = url
        self._verified = verified
        self._on_change = on_change
        self._counting = trio.CapacityLimiter(_COUNTED_AT_ONCE)  # of these questions: reads need threads, too
        self._ownership = ownership or Ownership.of_this_process()
        self.changes = 0  # counts up when attributes that were given of a node are no longer true
        self._entries: dict[tuple[int, bool], Entry] = {}  # not of folders: each is one more for gc to scan
        self._inodes: dict[str, int] = {}  # of the contents whose st_blocks the kernel may have

    def forget(self) -> None:
        """The tree has been replaced: numbers of links and of subfolders may have changed."""
        self._entries.clear()
        self.changes += 1

    def change(self, inode: int) -> None:
        """The kernel, and this, may have attributes of a node that are not right any more."""
        self._entries.pop((inode, False), None)
        self._entries.pop((inode, True), None)
        self.changes += 1
        self._on_change(inode)

    def refresh(self) -> None:
        """Drop each st_blocks that has changed since the last call, where the kernel may have the old one."""
        inodes = [
            inode for name in self._cache.stock.take_changed() if (inode := self._inodes.pop(name, None)) is not None
        ]
        for inode in inodes:
            self.change(inode)

    def content(self, node: DataNode) -> Content | None:
        """What a file consists of; None while its size is not known."""
        attributes = self._catalog.sizes.get(node.content)
        return None if attributes is None else node.content.with_attributes(attributes)

    def are_known(self, node: DataNode) -> bool:
        """Whether the size and time of a file are known."""
        return self._catalog.sizes.get(node.content) is not None

    async def learn_content(self, node: DataNode) -> Content:
        """Like `content`; asks S3 for the size if need be. Raises a `StorageError`."""
        return node.content.with_attributes(await self._catalog.sizes.fetch(node.content))

    def entry(self, node: Node, *, in_growing: bool) -> Entry | None:
        """Attributes of `node`, met under a name; `in_growing` in a folder where names can appear.

        None while its size is not known: in a listing the kernel takes the name alone then, and asks for the
        attributes when a program does (fs/fuse/readdir.c, fuse_direntplus_link).
        """
        entry = self._entries.get((node.inode, in_growing))
        if entry is None and (known := self._known(node)) is not None:
            entry = self._entry(node, known, is_growing=in_growing)
            if not isinstance(node, Directory):  # a folder has one name only, so it is met once
                self._entries[node.inode, in_growing] = entry
        return entry

    def attributes(self, node: Node) -> Entry:
        """Attributes of `node`, whose size is known, when it is not met under a name."""
        known = self._known(node)
        assert known is not None
        return self._entry(node, known, is_growing=True)

    def provenance(self, node: Node) -> Mapping[str, Value]:
        """The extended attributes that say where a node comes from, also of a copy, and how to get their values."""
        if isinstance(node, Directory | Symlink) or node.source is None:
            return {}
        texts = {
            "url": self._url(node.source),
            "version_id": node.source.version_id,
            "dataset_versions": " ".join(node.dataset_versions),
        }
        table = {f"user.vbnfs.{name}": constant(text) for name, text in texts.items() if text is not None}
        if isinstance(node, StaticNode):
            table["user.vbnfs.file_hash"] = partial(trio.to_thread.run_sync, _blake2b, node.data)
        elif node.content.file_hash is not None:
            table["user.vbnfs.file_hash"] = constant(node.content.file_hash)
        return table

    async def origin(self, node: DataNode | StaticNode) -> dict[str, Any]:
        """Where a file of the dataset comes from, and how the cache has it. Asks the disk, and no server.

        What no listing has of its size and time is None.
        """
        assert node.source is not None
        known, provenance = self._known(node), self.provenance(node)
        found: dict[str, Any] = {
            "size_bytes": None if known is None else known.size_bytes,
            "modified": None if known is None else _time(known.modified_ns),
            **{name: await provenance[attribute]() for name, attribute in _TEXTS.items() if attribute in provenance},
            "dataset_versions": list(node.dataset_versions),
            "key": node.source.key,
            "cached_bytes": len(node.data) if isinstance(node, StaticNode) else None,
        }
        if isinstance(node, DataNode) and (content := self.content(node)) is not None:
            found["cached_bytes"] = await self._ask_cache(self._cache.cached_bytes, content)
            found["verified"] = await self._ask_cache(self._verified, content)
        return found

    def state(self, node: Node) -> Mapping[str, Value]:
        """The extended attributes that say how this mount and its cache have a node now: untrue of a copy."""
        if isinstance(node, DataNode):
            cached, verified = partial(self._cached_bytes, node), partial(self._verified_text, node)
            return {"user.vbnfs.cached": cached, "user.vbnfs.verified": verified}
        if isinstance(node, StaticNode) and node.source is not None:
            return {"user.vbnfs.cached": constant(str(len(node.data)))}
        return {}

    async def _cached_bytes(self, node: DataNode) -> str:
        content = await self.learn_content(node)
        await self._written(content)  # what was read just now counts
        return str(await self._ask_cache(self._cache.cached_bytes, content))

    async def _verified_text(self, node: DataNode) -> str:
        content = await self.learn_content(node)
        await self._written(content)
        return await self._ask_cache(self._verified, content)

    async def _ask_cache(self, question: Callable[[Content], _T], content: Content) -> _T:
        """What the disk says of a content."""
        return await trio.to_thread.run_sync(question, content, abandon_on_cancel=True, limiter=self._counting)

    def _entry(self, node: Node, known: ObjectAttributes, *, is_growing: bool) -> Entry:
        return Entry(
            self._attr(node, known),
            entry_seconds=_kept_seconds(is_growing=is_growing),
            attr_seconds=_kept_seconds(is_growing=isinstance(node, Directory) and node.is_growing),
        )

    def _attr(self, node: Node, known: ObjectAttributes) -> Attr:
        return Attr(
            inode=node.inode,
            mode=self._ownership.masked(mode_of(node)),
            size_bytes=known.size_bytes,
            blocks=self._blocks(node, known),
            links=node.links,
            uid=self._ownership.uid,
            gid=self._ownership.gid,
            modified_ns=known.modified_ns,
            preferred_read_bytes=_PAGE_BYTES if isinstance(node, Directory) else _PREFERRED_READ_BYTES,
        )

    def _blocks(self, node: Node, known: ObjectAttributes) -> int:
        if not isinstance(node, DataNode):
            return _blocks(known.size_bytes, known.size_bytes)
        content = node.content.with_attributes(known)
        self._inodes[content.content_id] = node.inode
        allocated_bytes = self._cache.stock.allocated_bytes(content)
        return _blocks(min(allocated_bytes, known.size_bytes), known.size_bytes)

    def _known(self, node: Node) -> ObjectAttributes | None:
        """Size and time; None while they are not known."""
        if isinstance(node, DataNode):
            return self._catalog.sizes.get(node.content)
        if isinstance(node, StaticNode):
            return ObjectAttributes(len(node.data), node.modified_ns)
        if isinstance(node, Symlink):
            return ObjectAttributes(len(encode(node.target or "")), node.modified_ns)
        return ObjectAttributes(0, node.modified_ns)


def _kept_seconds(*, is_growing: bool) -> float:
    """How long the kernel may keep an answer."""
    return _GROWING_SECONDS if is_growing else FOREVER_SECONDS


def _time(modified_ns: int) -> str:
    return datetime.fromtimestamp(modified_ns / 1e9, UTC).isoformat(timespec="seconds")


def _blake2b(data: bytes) -> str:
    return hashlib.blake2b(data).hexdigest()


def constant(text: str) -> Value:
    """An extended attribute's value that is known."""

    async def value() -> str:
        return text

    return value


def _blocks(cached_bytes: int, size_bytes: int) -> int:
    """st_blocks: what is cached, for du; never 0 for a file that has bytes.

    GNU tar --sparse, cp --sparse and rsync -S take a file without blocks for a hole and copy zeros.
    """
    return max(-(-cached_bytes // _SECTOR_BYTES), 1 if size_bytes else 0)

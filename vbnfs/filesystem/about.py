"""The folder `.vbnfs` at the top of a mount: what the mount says of itself and of its files, for all programs.

    .vbnfs/status.json               what every reader may know of the mount
    .vbnfs/figures.json, .vbnfs/log  what it does, and the end of its log: for the user whose daemon it is, and root
    .vbnfs/provenance/<path>.json    where the file at that path comes from, and how the cache has it

A program meets it only by its name, unless a setting has it listed: find, du, rsync and copies go without it.

A text is made when it is looked up, and is the same for a second, so that stat, open and fstat agree on its size. An
open file has the text that it was opened with, to its end: its pages are not kept (FOPEN_DIRECT_IO), so no other text
of the same inode cuts it short. No text waits for the network.
"""

import hashlib
import os
import stat
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from errno import EISDIR, ENOENT, ENOTDIR, EROFS
from typing import Final, TypeGuard

import trio
from cachetools import LRUCache

from vbnfs.dataset.names import decode, encode
from vbnfs.dataset.tree import ROOT_INODE, DataNode, Directory, Node, StaticNode, Tree
from vbnfs.filesystem.nodes import Nodes
from vbnfs.filesystem.ownership import Ownership
from vbnfs.fuse.operations import Absent, Answer, Attr, DirEntry, Entry, ErrnoReply, Listing

NAME: Final = ".vbnfs"
_PROVENANCE, _SUFFIX = "provenance", ".json"
_SAME_SECONDS: Final = 1.0
_MOST_TEXTS: Final = 256
_MOST_LISTINGS: Final = 16
_MOST_AT_ONCE: Final = 256  # names of a folder, on the event loop's time
_INODE_BITS: Final = 53  # as in dataset/tree_builder.py
_FOLDER_MODE: Final = stat.S_IFDIR | 0o555
_FILE_MODE: Final = stat.S_IFREG | 0o444
_OWNERS_MODE: Final = stat.S_IFREG | 0o400
_READ_BYTES: Final = 64 << 10  # st_blksize

Text = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Place:
    """A folder or a file of it. `path` is from `.vbnfs` on; `mirrors` is the inode whose provenance it is or has."""

    inode: int
    parent: int
    path: str
    is_folder: bool
    mirrors: int = 0


@dataclass(frozen=True, slots=True)
class _Made:
    """A text, and when it was made: by the clock of the run, and for people."""

    text: bytes
    made_at: float
    modified_ns: int


class About:
    """Of one mount, whose files are those of `nodes`.

    `provenance` gives the text about a file, which it is given with a path. Those `for_all` and those `for_owner`, by
    their names, give theirs at once.
    """

    def __init__(
        self,
        nodes: Nodes,
        ownership: Ownership,
        *,
        for_all: Mapping[str, Text],
        for_owner: Mapping[str, Text],
        provenance: Callable[[Node, str], Awaitable[bytes]],
    ) -> None:
        self._nodes = nodes
        self._ownership = ownership
        self._texts = {**for_all, **for_owner}
        self._of_owner = frozenset(f"{NAME}/{name}" for name in for_owner)
        self._provenance = provenance
        self._made: LRUCache[int, _Made] = LRUCache(_MOST_TEXTS)
        self._listings: LRUCache[int, tuple[Tree, Listing]] = LRUCache(_MOST_LISTINGS)
        self._began_ns = time.time_ns()
        self._places: dict[int, Place] = {}  # those that were met
        self.top: Final = self._place(ROOT_INODE, NAME, is_folder=True)

    def __contains__(self, inode: int) -> bool:
        return inode in self._places

    def lookup(self, parent: int, name: bytes) -> Answer[Entry | Absent]:
        """A name in one of its folders; names appear with dataset versions, so the kernel is to ask again."""
        folder, text = self._places[parent], decode(name)
        if text == ".":
            return self._entry(folder)
        if not folder.is_folder:
            raise ErrnoReply(ENOTDIR)
        found = self._places[folder.parent] if text == ".." else self._child(folder, text)
        if found is None:
            raise ErrnoReply(ENOENT)
        return self._entry(found)

    def entry_of_top(self) -> Entry:
        """That of the folder itself."""
        return self._folder_entry(self.top)

    def getattr(self, inode: int) -> Answer[Entry]:
        """The attributes of one of its inodes."""
        return self._entry(self._places[inode])

    def list(self, inode: int) -> Answer[Listing]:
        """The names in one of its folders. The sizes of files are not in it: each would have to be made."""
        folder = self._places[inode]
        if not folder.is_folder:
            raise ErrnoReply(ENOTDIR)
        tree, known = self._nodes.tree, self._listings.get(inode)
        if known is not None and known[0] is tree:
            return known[1]
        is_long = folder.mirrors and len(self._directory(folder).children) > _MOST_AT_ONCE
        return self._list_later(folder, tree) if is_long else self._keep_listing(folder, tree)

    async def _list_later(self, folder: Place, tree: Tree) -> Listing:
        return await trio.to_thread.run_sync(self._keep_listing, folder, tree)

    def _keep_listing(self, folder: Place, tree: Tree) -> Listing:
        listing = self._listing(folder)
        self._listings[folder.inode] = (tree, listing)
        return listing

    def _listing(self, folder: Place) -> Listing:
        children = [DirEntry(encode(name), one.inode, self._mode(one), None) for name, one in self._children(folder)]
        return Listing(
            [
                DirEntry(b".", folder.inode, _FOLDER_MODE, None),
                DirEntry(b"..", folder.parent, _FOLDER_MODE, None),
                *children,
            ]
        )

    def text(self, inode: int, flags: int) -> Answer[bytes]:
        """The text of a file that is opened. Raises `ErrnoReply` for what cannot be opened so."""
        place = self._places[inode]
        if place.is_folder:
            raise ErrnoReply(EISDIR)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise ErrnoReply(EROFS)
        made = self._current(place)
        return made.text if isinstance(made, _Made) else self._text_later(made)

    async def _text_later(self, made: Awaitable[_Made]) -> bytes:
        return (await made).text

    # Places

    def _place(self, parent: int, path: str, *, is_folder: bool, mirrors: int = 0) -> Place:
        """The place at a path, always with the same inode. A collision with a file's is given another one."""
        for attempt in range(1 << 16):
            digest = hashlib.blake2b(f"about\0{path}\0{attempt}".encode(errors="surrogateescape"), digest_size=8)
            inode = int.from_bytes(digest.digest(), "big") >> 64 - _INODE_BITS
            known = self._places.get(inode)
            if inode > ROOT_INODE and inode not in self._nodes.tree.nodes and (known is None or known.path == path):
                break
        self._places[inode] = place = Place(inode, parent, path, is_folder, mirrors)
        return place

    def _children(self, folder: Place) -> Iterator[tuple[str, Place]]:
        if folder.inode == self.top.inode:
            names = [*self._texts, _PROVENANCE]
        else:
            directory = self._directory(folder)
            children = self._nodes.tree.children(directory)
            names = [name if isinstance(node, Directory) else f"{name}{_SUFFIX}" for name, node in children]
        for name in names:
            if (child := self._child(folder, name)) is not None:
                yield name, child

    def _child(self, folder: Place, name: str) -> Place | None:
        path = f"{folder.path}/{name}"
        if folder.inode == self.top.inode:
            if name == _PROVENANCE:
                return self._place(folder.inode, path, is_folder=True, mirrors=ROOT_INODE)
            return self._place(folder.inode, path, is_folder=False) if name in self._texts else None
        children = self._directory(folder).children
        node = self._nodes.tree.nodes.get(children.get(name, 0))
        if isinstance(node, Directory):
            return self._place(folder.inode, path, is_folder=True, mirrors=node.inode)
        node = self._nodes.tree.nodes.get(children.get(name.removesuffix(_SUFFIX), 0))
        if name.endswith(_SUFFIX) and _comes_from_somewhere(node):
            return self._place(folder.inode, path, is_folder=False, mirrors=node.inode)
        return None

    def _directory(self, folder: Place) -> Directory:
        """The folder of files whose provenance a folder has; in another tree it may be gone."""
        node = self._nodes.tree.nodes.get(folder.mirrors)
        if not isinstance(node, Directory):
            raise ErrnoReply(ENOENT)
        return node

    # Texts

    def _current(self, place: Place) -> "_Made | Awaitable[_Made]":
        """The text of a file: the last one, if that was made just now."""
        made: _Made | None = self._made.get(place.inode)
        if made is not None and time.monotonic() - made.made_at < _SAME_SECONDS:
            return made
        if place.mirrors:
            return self._make_later(place)
        return self._keep(place, self._texts[place.path.rpartition("/")[2]]())

    async def _make_later(self, place: Place) -> _Made:
        node = self._nodes.tree.nodes.get(place.mirrors)
        if node is None:
            raise ErrnoReply(ENOENT)
        path = place.path.removeprefix(f"{NAME}/{_PROVENANCE}/").removesuffix(_SUFFIX)
        return self._keep(place, await self._provenance(node, path))

    def _keep(self, place: Place, text: bytes) -> _Made:
        made = self._made[place.inode] = _Made(text, time.monotonic(), time.time_ns())
        return made

    # Attributes

    def _entry(self, place: Place) -> Answer[Entry]:
        if place.is_folder:
            return self._folder_entry(place)
        made = self._current(place)
        return self._file_entry(place, made) if isinstance(made, _Made) else self._entry_later(place, made)

    async def _entry_later(self, place: Place, made: Awaitable[_Made]) -> Entry:
        return self._file_entry(place, await made)

    def _folder_entry(self, place: Place) -> Entry:
        return Entry(self._attr(place, 0, self._began_ns), entry_seconds=_SAME_SECONDS, attr_seconds=_SAME_SECONDS)

    def _file_entry(self, place: Place, made: _Made) -> Entry:
        return Entry(self._attr(place, len(made.text), made.modified_ns), entry_seconds=0.0, attr_seconds=0.0)

    def _mode(self, place: Place) -> int:
        """st_mode."""
        if place.is_folder:
            return _FOLDER_MODE
        return _OWNERS_MODE if place.path in self._of_owner else _FILE_MODE

    def _attr(self, place: Place, size_bytes: int, modified_ns: int) -> Attr:
        mode, ownership = self._mode(place), self._ownership
        is_owners = mode == _OWNERS_MODE
        return Attr(
            inode=place.inode,
            mode=mode if is_owners else ownership.masked(mode),
            size_bytes=size_bytes,
            blocks=0,  # du: it takes no room anywhere
            links=2 if place.is_folder else 1,
            uid=os.geteuid() if is_owners else ownership.uid,
            gid=os.getegid() if is_owners else ownership.gid,
            modified_ns=modified_ns,
            preferred_read_bytes=_READ_BYTES,
        )


def _comes_from_somewhere(node: Node | None) -> TypeGuard[DataNode | StaticNode]:
    """Whether it is a file of the dataset: none of vbnfs's own."""
    return isinstance(node, DataNode) or (isinstance(node, StaticNode) and node.source is not None)

"""What is in a folder, as READDIRPLUS asks for it.

A program that walks the whole tree asks for 20,000 folders, one after the other, and waits for each. So a folder's
names are collected once, however many requests it takes to list them, and the folder that comes next in such a walk
is made ready while the program is busy with the one before.

A listing goes on at the number of a name. Where names can turn up while a folder is being listed, each keeps its
number for as long as the mount, and new ones get numbers behind all others: so no name is listed twice, or left out.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from vbnfs.dataset.names import encode
from vbnfs.dataset.tree import DataNode, Directory, Node, Tree
from vbnfs.filesystem.attributes import Attributes, mode_of
from vbnfs.fuse.protocol import NO_ENTRY, dirent

_KEPT_FOLDERS: Final = 16  # that are being listed at the same time; the names of others are collected again
_SMALL: Final = 64  # names; making a folder ready holds up the next request if that comes at once
_BEYOND_ANY: Final = 1 << 30  # bytes; of a buffer

Name = tuple[Node | None, bytes]  # what it names, None for `.` and `..`; the `dirent`, empty for a name that is gone


class Listings:
    """The folders of one tree, which has taken the place of the one that `before` lists, if there is one."""

    def __init__(self, tree: Tree, attributes: Attributes, *, before: "Listings | None" = None) -> None:
        self._tree = tree
        self._attributes = attributes
        self._orders: dict[int, list[str]] = {} if before is None else before._orders  # of folders that can grow
        self._names: dict[int, list[Name]] = {}
        self._next: Iterator[Directory] = iter(())
        self._ready: tuple[Directory, int, bytes] | None = None

    def ready(self, directory: Directory, size: int) -> bytes | None:
        """The whole folder, if it was made ready, is still true, and has room in `size` bytes."""
        ready, self._ready = self._ready, None
        if ready is None or ready[0] is not directory:
            self._go_past(directory)
            return None
        _, changes, listing = ready
        if changes != self._attributes.changes or len(listing) > size:
            return None
        self._go_into(directory)
        return listing

    def unknown(self, directory: Directory) -> list[DataNode]:
        """The folder's files of which the size is not known yet."""
        files = (node for node, _ in self._names_of(directory) if isinstance(node, DataNode))
        return [file for file in files if not self._attributes.are_known(file)]

    def part(self, directory: Directory, offset: int, size: int) -> bytes:
        """As many of the names as `size` bytes have room for, from number `offset` on; none at the end."""
        names = self._names_of(directory)
        if offset >= len(names):
            del self._names[directory.inode]
            return b""
        if offset == 0:
            self._go_into(directory)
        return self._told(directory, names[offset:], size)

    def look_ahead(self) -> None:
        """Make ready what will probably be asked for next: after a folder, the one beside it."""
        if self._ready is not None or (directory := next(self._next, None)) is None:
            return
        if len(directory.children) <= _SMALL and not self.unknown(directory):
            listing = self._told(directory, self._names_of(directory), _BEYOND_ANY)
            self._ready = directory, self._attributes.changes, listing

    def _go_past(self, directory: Directory) -> None:
        """The walk was faster than what was made ready for it, or goes another way, which is then not known."""
        for passed in self._next:
            if passed is directory:
                return

    def _go_into(self, directory: Directory) -> None:
        if directory.subdirectories:
            self._next = (node for node, _ in self._names_of(directory) if isinstance(node, Directory))

    def _told(self, directory: Directory, names: list[Name], size: int) -> bytes:
        listing: list[bytes] = []
        for node, name in names:
            if not name:
                continue
            entry = NO_ENTRY if node is None else self._attributes.entry(node, in_growing=directory.is_growing)
            size -= len(entry) + len(name)
            if size < 0:
                break
            listing += (entry, name)
        return b"".join(listing)

    def _names_of(self, directory: Directory) -> list[Name]:
        names = self._names.get(directory.inode)
        if names is None:
            if len(self._names) >= _KEPT_FOLDERS:
                self._names.clear()
            names = self._names[directory.inode] = self._collect(directory)
        return names

    def _collect(self, directory: Directory) -> list[Name]:
        dots = ((b".", directory), (b"..", self._tree.nodes[directory.parent]))
        names: list[Name] = [
            (None, dirent(inode=node.inode, mode=mode_of(node), name=name, next_offset=number))
            for number, (name, node) in enumerate(dots, 1)
        ]
        children = dict(self._tree.children(directory))
        for number, text in enumerate(self._order(directory, children), len(names) + 1):
            node, name = children.get(text), encode(text)
            if node is None:
                names.append((None, b""))
            else:
                names.append((node, dirent(inode=node.inode, mode=mode_of(node), name=name, next_offset=number)))
        return names

    def _order(self, directory: Directory, children: Mapping[str, Node]) -> Iterable[str]:
        """The names of a folder by number; among them may be some that were there before."""
        if not directory.is_growing:
            return children
        known = dict.fromkeys(self._orders.get(directory.inode, ()))
        order = self._orders[directory.inode] = list({**known, **dict.fromkeys(children)})
        return order

"""What is in a folder.

A program that walks the whole tree asks for 20,000 folders, one after the other, and waits for each. So a folder's
listing is made once, however many requests it takes to list it, and the listing of the folder that comes next in such
a walk is made while the program is busy with the one before.

A listing goes on at the position of a name. Where names can appear while a folder is being listed, each keeps its
position for as long as the mount, and new ones get positions behind all others: so no name is listed twice, or left
out.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from vbnfs.dataset.names import encode
from vbnfs.dataset.tree import DataNode, Directory, Node, Tree
from vbnfs.filesystem.attributes import Attributes, mode_of
from vbnfs.fuse.operations import DirEntry, Listing

_KEPT_FOLDERS: Final = 16  # that are being listed at the same time; the listings of others are made again
_SMALL: Final = 64  # names; making a listing ahead delays a request that comes meanwhile


@dataclass(frozen=True, slots=True)
class Made:
    """A folder's listing, and its files of which the size is not known yet.

    It is true as long as the attributes count as many `changes` and no `unknown` size is known.
    """

    listing: Listing
    unknown: Sequence[DataNode]
    changes: int


class Listings:
    """The folders of one tree, which has taken the place of the one that `before` lists, if there is one."""

    def __init__(self, tree: Tree, attributes: Attributes, *, before: "Listings | None" = None) -> None:
        self._tree = tree
        self._attributes = attributes
        self._orders: dict[int, list[str]] = {} if before is None else before._orders  # of folders that can grow
        self._made: dict[int, Made] = {}
        self._listed: Directory | None = None  # the last one
        self._ahead: Directory | None = None  # whose listing was made before it was asked for
        self._next: Iterator[Directory] = iter(())

    def of(self, directory: Directory) -> Made:
        """A folder's listing: the same object for as long as nothing of it has changed."""
        if directory is not self._listed:
            self._follow(directory)
        return self._current(directory)

    def look_ahead(self) -> Listing | None:
        """Make the listing that will probably be asked for next: after a folder, of the one beside it.

        None if that is made already, is not known, or would take long.
        """
        if self._ahead is not None or (directory := next(self._next, None)) is None:
            return None
        if len(directory.children) > _SMALL or (made := self._current(directory)).unknown:
            return None
        self._ahead = directory
        return made.listing

    def _follow(self, directory: Directory) -> None:
        """Keep up with a walk. One that goes another way ends what was expected."""
        if directory is not self._ahead:
            for passed in self._next:
                if passed is directory:
                    break
        self._listed, self._ahead = directory, None
        if directory.subdirectories:
            children = (node for _, node in self._tree.children(directory))
            self._next = (node for node in children if isinstance(node, Directory))

    def _current(self, directory: Directory) -> Made:
        made = self._made.get(directory.inode)
        if made is not None and self._is_true(made):
            return made
        made = self._make(directory)
        if len(self._made) >= _KEPT_FOLDERS:
            del self._made[next(iter(self._made))]
        self._made[directory.inode] = made
        return made

    def _is_true(self, made: Made) -> bool:
        return made.changes == self._attributes.changes and not any(map(self._attributes.are_known, made.unknown))

    def _make(self, directory: Directory) -> Made:
        parent = self._tree.nodes[directory.parent]
        entries: list[DirEntry | None] = [
            DirEntry(b".", directory.inode, mode_of(directory), None),
            DirEntry(b"..", parent.inode, mode_of(parent), None),
        ]
        unknown: list[DataNode] = []
        for name, node in self._by_position(directory):
            if node is None:
                entries.append(None)
                continue
            entry = self._attributes.entry(node, in_growing=directory.is_growing)
            entries.append(DirEntry(encode(name), node.inode, mode_of(node), entry))
            if entry is None and isinstance(node, DataNode):
                unknown.append(node)
        return Made(Listing(entries), unknown, self._attributes.changes)

    def _by_position(self, directory: Directory) -> Iterable[tuple[str, Node | None]]:
        """A folder's names and nodes in the order of their positions; None for a name that is gone."""
        if not directory.is_growing:
            return self._tree.children(directory)
        children = dict(self._tree.children(directory))
        known = dict.fromkeys(self._orders.get(directory.inode, ()))
        order = self._orders[directory.inode] = list({**known, **dict.fromkeys(children)})
        return ((name, children.get(name)) for name in order)

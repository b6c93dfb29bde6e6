"""The tree that a mount shows, as a value: its folders and files by inode number, and the names in folders (pure).

A tree is built once (tree_builder.py) and never changes. When a dataset version appears, a new tree replaces it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vbnfs.dataset.contents import NamedContent
from vbnfs.dataset.manifest import DatasetVersion
from vbnfs.objects import ObjectVersion

ROOT_INODE: Final = 1  # FUSE_ROOT_ID, include/uapi/linux/fuse.h


@dataclass(frozen=True, slots=True)
class Directory:
    """A folder. `children` maps names to inode numbers, in the order of a listing.

    `unlisted` names are found by programs that ask for them, and met by none that lists the folder.
    """

    inode: int
    parent: int
    children: Mapping[str, int]
    subdirectories: int
    modified_ns: int
    is_growing: bool  # names can appear while it is mounted, so the kernel must not cache "no such name"
    unlisted: frozenset[str] = frozenset()

    @property
    def links(self) -> int:
        """st_nlink: its own entry, its `.`, and a `..` in each folder below it."""
        return 2 + self.subdirectories


@dataclass(frozen=True, slots=True)
class DataNode:
    """A file of the dataset. Its size and time are not part of the tree: S3 has them (object_sizes.py)."""

    inode: int
    content: NamedContent
    dataset_versions: tuple[str, ...]
    links: int

    @property
    def source(self) -> ObjectVersion:
        """The object version that its attributes show as its origin."""
        return self.content.sources[0]


@dataclass(frozen=True, slots=True)
class StaticNode:
    """A file whose bytes are in memory: a manifest, or one of vbnfs's own, such as the README.

    In a later tree one of vbnfs's own may have other bytes, and then has another time.
    """

    inode: int
    data: bytes
    modified_ns: int
    links: int = 1
    source: ObjectVersion | None = None
    dataset_versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Symlink:
    """A relative symbolic link. Without a `target` it leads each user to a file of their own, which may not exist."""

    inode: int
    target: str | None
    modified_ns: int
    links: int = 1


Node = Directory | DataNode | StaticNode | Symlink


@dataclass(frozen=True, slots=True)
class Tree:
    """All inodes by number, and the version whose folders are at the top.

    `tables` has the inodes of each version's tables, those of the newest version first.
    """

    nodes: Mapping[int, Node]
    default_version: DatasetVersion
    tables: tuple[frozenset[int], ...] = ()

    def is_table(self, inode: int) -> bool:
        """Whether it is one of the tables of some version."""
        return any(inode in tables for tables in self.tables)

    def tables_beside(self, *inodes: int) -> frozenset[int]:
        """The other tables of the newest version that has all of these; none if no version has."""
        return next((tables.difference(inodes) for tables in self.tables if tables.issuperset(inodes)), frozenset())

    def children(self, directory: Directory) -> Iterator[tuple[str, Node]]:
        """The listed names and nodes of a folder of this tree, in order."""
        for name, inode in directory.children.items():
            if name not in directory.unlisted:
                yield name, self.nodes[inode]

    def path_of(self, inode: int) -> str:
        """A path of an inode other than the root. Scans all folders."""
        node = self.nodes[inode]
        if isinstance(node, Directory):
            folder = self.nodes[node.parent]
        else:
            folder = next(n for n in self.nodes.values() if isinstance(n, Directory) and inode in n.children.values())
        assert isinstance(folder, Directory)
        name = next(name for name, child in folder.children.items() if child == inode)
        return name if folder.inode == ROOT_INODE else f"{self.path_of(folder.inode)}/{name}"


def names_in(tree: Tree, name: str) -> Sequence[str]:
    """What is listed in a folder at the top; nothing if there is no such folder."""
    root = tree.nodes[ROOT_INODE]
    assert isinstance(root, Directory)
    folder = tree.nodes.get(root.children.get(name, 0))
    return [child for child, _ in tree.children(folder)] if isinstance(folder, Directory) else []


def changed_attributes(old: Tree, new: Tree) -> list[int]:
    """The inodes of both trees that have another number of names, or are files in memory with another time."""
    both = ((inode, node, new.nodes.get(inode)) for inode, node in old.nodes.items())
    return [inode for inode, before, after in both if after is not None and _differ(before, after)]


def _differ(before: Node, after: Node) -> bool:
    if isinstance(before, StaticNode) and isinstance(after, StaticNode) and before.modified_ns != after.modified_ns:
        return True
    return before.links != after.links

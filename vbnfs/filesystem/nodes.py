"""The nodes of the tree that a mount shows now: it may show another one later, with the same inodes and more."""

import errno

from vbnfs.dataset.tree import DataNode, Directory, Node, Tree
from vbnfs.filesystem.attributes import Attributes
from vbnfs.fuse.operations import ErrnoReply


class Nodes:
    """Of one mount."""

    def __init__(self, tree: Tree, attributes: Attributes) -> None:
        self.tree = tree
        self._attributes = attributes

    def node(self, inode: int) -> Node:
        """The node that has an inode. ESTALE where there is none."""
        try:
            return self.tree.nodes[inode]
        except KeyError:
            raise ErrnoReply(errno.ESTALE) from None

    def directory(self, inode: int) -> Directory:
        """The folder that has an inode. ENOTDIR for what is none."""
        node = self.node(inode)
        if not isinstance(node, Directory):
            raise ErrnoReply(errno.ENOTDIR)
        return node

    def inode_of(self, content_id: str) -> int | None:
        """The inode that has this content, if there is one. Goes through all of them."""
        nodes = self.tree.nodes.values()
        return next((n.inode for n in nodes if isinstance(n, DataNode) and self._has(n, content_id)), None)

    def _has(self, node: DataNode, content_id: str) -> bool:
        if node.content.content_id == content_id or node.source.is_immutable:
            return node.content.content_id == content_id
        content = self._attributes.content(node)  # whose name may depend on what HEAD has said of it
        return content is not None and content.content_id == content_id

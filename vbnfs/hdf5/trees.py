"""B-trees of version 1 (specification, III.A.1) and version 2 (III.A.2): nodes, their records and their children."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from vbnfs.hdf5.branches import Branch, File, Need

GROUPS, CHUNKS = 0, 1  # the types of B-trees of version 1
ABOVE_ROOT: Final = 256  # levels are numbers of one byte
_NODE_BYTES: Final = 10  # of a node of version 2, besides records and pointers
_DEEPEST: Final = 32


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a B-tree of version 1: its level, 0 for a leaf, and its entries: a key, and the address behind it."""

    level: int
    entries: list[tuple[bytes, int]]


def read_node(file: File, address: int, kind: int, key_bytes: int, width: int, above: int) -> Branch[Node]:
    """A node of version 1 with room for twice `width` entries, below one of level `above`."""
    address_bytes = file.sizes.address_bytes
    head_bytes, entry_bytes = 8 + 2 * address_bytes, key_bytes + address_bytes
    data = yield Need(address, head_bytes + 2 * width * entry_bytes + key_bytes)
    fields = file.fields(data, "B-tree 1")
    fields.expect(b"TREE")
    if fields.number(1) != kind:
        raise fields.error()
    level, count = fields.number(1), fields.number(2)
    if level >= above:
        raise fields.error()
    if len(data) < head_bytes + count * entry_bytes:
        data = yield Need(address, head_bytes + count * entry_bytes)
    fields = file.fields(data, "B-tree 1", head_bytes)
    return Node(level, [(fields.take(key_bytes), fields.required()) for _ in range(count)])


@dataclass(frozen=True, slots=True)
class Tree:
    """A B-tree of version 2: how large its nodes and records are, and how many bytes counts of records take.

    `total_bytes`: by depth, of the number of records below a node of that depth, itself included.
    """

    node_bytes: int
    record_bytes: int
    count_bytes: int
    total_bytes: list[int]


@dataclass(frozen=True, slots=True)
class Branching:
    """A node of version 2: `depth` levels are below it, 0 of a leaf, and it has `count` records."""

    address: int
    depth: int
    count: int


def open_tree(file: File, address: int) -> Branch[tuple[Tree, Branching | None]]:
    """A B-tree of version 2 and its root; None if it is empty."""
    sizes = file.sizes
    data = yield Need(address, 22 + sizes.address_bytes + sizes.length_bytes)
    fields = file.fields(data, "B-tree 2")
    fields.expect(b"BTHD\0")
    fields.skip(1)
    node_bytes, record_bytes, depth = fields.number(4), fields.number(2), fields.number(2)
    fields.skip(2)
    root, count = fields.address(), fields.number(2)
    if depth > _DEEPEST or not record_bytes or node_bytes < _NODE_BYTES + record_bytes:
        raise fields.error()
    tree = _form(node_bytes, record_bytes, depth, sizes.address_bytes)
    return tree, Branching(root, depth, count) if root is not None and count else None


def _form(node_bytes: int, record_bytes: int, depth: int, address_bytes: int) -> Tree:
    most = (node_bytes - _NODE_BYTES) // record_bytes
    count_bytes, total, total_bytes = _bytes_of(most), most, [0]
    for _ in range(depth):
        pointer_bytes = address_bytes + count_bytes + total_bytes[-1]
        most = max(0, node_bytes - _NODE_BYTES - pointer_bytes) // (record_bytes + pointer_bytes)
        total = (most + 1) * total + most
        total_bytes.append(_bytes_of(total))
    return Tree(node_bytes, record_bytes, count_bytes, total_bytes)


def _bytes_of(most: int) -> int:
    """How many bytes numbers up to this take."""
    return max(1, (most.bit_length() + 7) // 8)


def read_branching(file: File, tree: Tree, node: Branching) -> Branch[tuple[list[bytes], list[Branching]]]:
    """The records of a node of version 2, and its children."""
    data = yield Need(node.address, tree.node_bytes)
    fields = file.fields(data, "B-tree 2")
    fields.expect(b"BTIN\0" if node.depth else b"BTLF\0")
    fields.skip(1)
    records = [fields.take(tree.record_bytes) for _ in range(node.count)]
    children = []
    for _ in range(node.count + 1 if node.depth else 0):
        child, count = fields.required(), fields.number(tree.count_bytes)
        fields.skip(tree.total_bytes[node.depth - 1])
        children.append(Branching(child, node.depth - 1, count))
    return records, children


def all_records(file: File, address: int) -> Branch[list[bytes]]:
    """The records of a B-tree of version 2, one node after the other: for trees that are small."""
    tree, root = yield from open_tree(file, address)
    found: list[bytes] = []
    nodes = {} if root is None else {root.address: root}
    while nodes:
        records, children = yield from read_branching(file, tree, nodes.pop(next(iter(nodes))))
        found += records
        nodes |= {child.address: child for child in children}
    return found


OnNode: TypeAlias = Callable[[list[bytes], int], None]


def spread(file: File, address: int, on_node: OnNode, *, is_index: bool = False) -> Branch[None]:
    """Read all nodes of a B-tree of version 2 side by side. `on_node` takes records and the number of children."""
    tree, root = yield from open_tree(file, address)
    if root is None:
        on_node([], 0)
    elif file.enters("B-tree 2", root.address):
        yield from _spread_below(file, tree, root, on_node, is_index)


def _spread_below(file: File, tree: Tree, node: Branching, on_node: OnNode, is_index: bool) -> Branch[None]:
    records, children = yield from read_branching(file, tree, node)
    on_node(records, len(children))
    for child in children:
        if file.enters("B-tree 2", child.address):
            file.spawn(_spread_below(file, tree, child, on_node, is_index), is_index=is_index)

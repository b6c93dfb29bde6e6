"""The links of groups: old ones in symbol tables, new ones in fractal heaps where their headers have no room.

Objects are visited before their names are known: those are elsewhere.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from vbnfs.hdf5.branches import Branch, File, Need
from vbnfs.hdf5.drafts import Draft
from vbnfs.hdf5.heaps import open_dense, read_object, read_segment, touch_segment
from vbnfs.hdf5.messages import Dense, read_link
from vbnfs.hdf5.structure import ExternalLink, Link, SoftLink
from vbnfs.hdf5.trees import ABOVE_ROOT, GROUPS, read_node

_CACHED_GROUP, _CACHED_LINK = 1, 2
_SCRATCH_BYTES: Final = 16
_HASH_BYTES: Final = 4  # of a name, before the heap id in the records of the B-tree by names


@dataclass(frozen=True, slots=True)
class SymbolTable:
    """Where an old group's links are: a B-tree of version 1, and the local heap that has their names."""

    tree: int
    heap: int


def open_symbols(file: File, draft: Draft, table: SymbolTable) -> None:
    """Have the links of an old group read (specification, III.A.1, III.B)."""
    draft.is_group = True
    if file.enters("symbol table", table.tree):
        file.spawn(_walk_symbols(file, draft, table, table.tree, ABOVE_ROOT))
        file.spawn(touch_segment(file, table.heap))


def _walk_symbols(file: File, draft: Draft, table: SymbolTable, address: int, above: int) -> Branch[None]:
    node = yield from read_node(file, address, GROUPS, file.sizes.length_bytes, file.widths.groups, above)
    for _, child in node.entries:
        if file.enters("symbols", child):
            below = _walk_symbols(file, draft, table, child, node.level)
            file.spawn(below if node.level else _read_symbols(file, draft, table, child))


@dataclass(frozen=True, slots=True)
class Symbol:
    """An entry of a symbol table (III.C): where its name is, and the header it leads to, or a link's path."""

    name: int
    header: int | None
    path: int | None
    table: SymbolTable | None


def read_symbols(file: File, data: bytes, position: int, count: int) -> list[Symbol]:
    """So many entries from a byte on. Raises `UnparsableError`."""
    fields = file.fields(data, "symbol table", position)
    found = []
    for _ in range(count):
        # Where its name is takes as much as a length: the library writes that, and not what the specification says.
        name, header, cached = fields.length(), fields.address(), fields.number(4)
        fields.skip(4)
        after = fields.position + _SCRATCH_BYTES
        table = SymbolTable(fields.required(), fields.required()) if cached == _CACHED_GROUP else None
        path = fields.number(4) if cached == _CACHED_LINK else None
        fields.skip(after - fields.position)
        found.append(Symbol(name, header, path, table))
    return found


def symbol_bytes(file: File) -> int:
    """How long an entry is."""
    return file.sizes.length_bytes + file.sizes.address_bytes + 8 + _SCRATCH_BYTES


def _read_symbols(file: File, draft: Draft, table: SymbolTable, address: int) -> Branch[None]:
    entry_bytes = symbol_bytes(file)
    data = yield Need(address, 8 + 2 * file.widths.symbols * entry_bytes)
    fields = file.fields(data, "symbol table")
    fields.expect(b"SNOD\1")
    fields.skip(1)
    count = fields.number(2)
    if len(data) < 8 + count * entry_bytes:
        data = yield Need(address, 8 + count * entry_bytes)
    symbols = read_symbols(file, data, 8, count)
    are_visited = file.follows_all(draft.depth)
    for symbol in symbols if are_visited else ():
        visit_symbol(file, symbol, draft.depth + 1)
    segment = yield from read_segment(file, table.heap)
    for symbol in symbols:
        name = _text_at(file, segment, symbol.name)
        if symbol.path is not None:
            _keep_link(file, draft, name, SoftLink(_text_at(file, segment, symbol.path)))
        elif symbol.header is not None:
            _keep_link(file, draft, name, symbol.header)
            if not are_visited:
                _open_table(file, file.follow(draft, name, symbol.header), symbol)


def visit_symbol(file: File, symbol: Symbol, depth: int) -> None:
    """Have the object read that an entry leads to, and its links at once where the entry says where they are."""
    if symbol.path is None and symbol.header is not None:
        _open_table(file, file.visit(symbol.header, depth), symbol)


def _open_table(file: File, draft: Draft | None, symbol: Symbol) -> None:
    if draft is not None and symbol.table is not None:
        open_symbols(file, draft, symbol.table)


def _text_at(file: File, segment: bytes, position: int) -> str:
    return file.fields(segment, "local heap", position).name()


def open_dense_links(file: File, draft: Draft, dense: Dense) -> None:
    """Have the links read that a new group has no room for in its header (specification, III.A.2, III.G)."""
    open_dense(file, dense, partial(_read_dense_link, file, draft))


def _read_dense_link(file: File, draft: Draft, heap: int, record: bytes) -> Branch[None]:
    add_link(file, draft, (yield from read_object(file, heap, record[_HASH_BYTES:])))


def add_link(file: File, draft: Draft, body: bytes) -> None:
    """Add the link that a message describes, and have the object read that it leads to. Raises `UnparsableError`."""
    name, link = read_link(file.fields(body, "link"))
    draft.is_group = True
    _keep_link(file, draft, name, link)
    if isinstance(link, int):
        file.follow(draft, name, link)


def _keep_link(file: File, draft: Draft, name: str, link: int | Link) -> None:
    file.keep(len(name) + (len(link.path) if isinstance(link, SoftLink | ExternalLink) else 0))
    draft.links[name] = link

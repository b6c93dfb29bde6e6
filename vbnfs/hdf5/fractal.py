"""Fractal heaps: their headers, the ids of objects, and in which block an object is (specification, III.G; pure).

The objects of a heap share one space of offsets. The blocks that this space consists of stand in rows of `width`.
Those of the first two rows have `start_bytes`, those of each further row twice as many. A block of the rows from
`direct_rows` on is *indirect*: it holds the addresses of blocks, in rows as these.
"""

from dataclasses import dataclass
from typing import Final

from vbnfs.hdf5.fields import Fields

HEAP: Final = "fractal heap"
_LONG_TINY_ID_BYTES: Final = 19  # from so many bytes of an id on, the length of a tiny object takes two


@dataclass(frozen=True, slots=True)
class Place:
    """Where an offset is in an indirect block: the number of an entry, and how far from the start of its block.

    That block has `block_bytes`, and `rows` of entries, 0 if it is a direct one.
    """

    row: int
    entry: int
    within: int
    block_bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class FractalHeap:
    """The header of a heap. `root_rows`: of its root block, 0 if that is a direct one."""

    id_bytes: int
    offset_bytes: int
    length_bytes: int
    width: int
    start_bytes: int
    direct_rows: int
    root: int | None
    root_rows: int
    huge_tree: int | None
    free_space: int | None

    def place(self, offset: int) -> Place:
        """Where in an indirect block an offset from its start is."""
        first_bytes = self.width * self.start_bytes
        row = (offset // first_bytes).bit_length()
        block_bytes = self.start_bytes << max(0, row - 1)
        column, within = divmod(offset - (first_bytes << row >> 1 if row else 0), block_bytes)
        rows = 0 if row < self.direct_rows else (block_bytes // first_bytes).bit_length()
        return Place(row, row * self.width + column, within, block_bytes, rows)


def read_heap(fields: Fields) -> FractalHeap:
    """The header of a heap. Raises `UnparsableError`, also for a heap whose blocks are filtered."""
    fields.expect(b"FRHP\0")
    id_bytes, filter_bytes = fields.number(2), fields.number(2)
    fields.skip(1)
    most_managed_bytes = fields.number(4)
    fields.length()
    huge_tree = fields.address()
    fields.length()
    free_space = fields.address()
    for _ in range(8):
        fields.length()  # sizes and numbers of objects
    width, start_bytes, most_direct_bytes = fields.number(2), fields.length(), fields.length()
    offset_bits = fields.number(2)
    fields.skip(2)
    root, root_rows = fields.address(), fields.number(2)
    if filter_bytes or not all(map(_is_power_of_two, (width, start_bytes, most_direct_bytes))):
        raise fields.error()
    return FractalHeap(
        id_bytes=id_bytes,
        offset_bytes=(offset_bits + 7) // 8,
        length_bytes=min((most_direct_bytes.bit_length() + 6) // 8, (most_managed_bytes.bit_length() + 7) // 8),
        width=width,
        start_bytes=start_bytes,
        direct_rows=most_direct_bytes.bit_length() - start_bytes.bit_length() + 2,
        root=root,
        root_rows=root_rows,
        huge_tree=huge_tree,
        free_space=free_space,
    )


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


@dataclass(frozen=True, slots=True)
class Managed:
    """An object at an offset of the heap's space."""

    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Huge:
    """An object that the B-tree of huge objects has, by a number of its own."""

    number: int


@dataclass(frozen=True, slots=True)
class Apart:
    """A huge object at an address of the file."""

    address: int
    size_bytes: int


def read_id(fields: Fields, heap: FractalHeap, pointer_bytes: int) -> Managed | Huge | Apart | bytes:
    """Where an object is by its id, or a tiny one's bytes. An address and a length take `pointer_bytes`."""
    head = fields.number(1)
    kind, low = head >> 4 & 3, head & 15
    if kind == 0:
        return Managed(fields.number(heap.offset_bytes), fields.number(heap.length_bytes))
    if kind == 1:
        is_apart = heap.id_bytes - 1 >= pointer_bytes
        return Apart(fields.required(), fields.length()) if is_apart else Huge(fields.number(min(fields.left, 8)))
    if kind == 2:
        is_long = heap.id_bytes >= _LONG_TINY_ID_BYTES
        return fields.take(1 + (low << 8 | fields.number(1) if is_long else low))
    raise fields.error()

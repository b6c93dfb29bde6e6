"""Indexes of chunks, of every kind: how many chunks are stored, and how much they take.

Specification, III.A and VII. What that leaves open of extensible arrays: super block u has 2^(u // 2) data blocks of
2^((u + 1) // 2) times the least number of elements. Where chunks are is kept if that is wanted. The parts of an index
are read side by side.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from vbnfs.hdf5.branches import BEYOND, Branch, File, Need
from vbnfs.hdf5.drafts import IndexProgress
from vbnfs.hdf5.fields import Fields, UnparsableError
from vbnfs.hdf5.layouts import ChunkedLayout
from vbnfs.hdf5.trees import ABOVE_ROOT, CHUNKS, read_node, spread

_CHECKSUM_BYTES: Final = 4
_MASK_BYTES: Final = 4
_KEY_BYTES: Final = 8  # of a chunk in a B-tree of version 1, before its offsets
_OFFSET_BYTES: Final = 8
_PLACE_BYTES: Final = 16  # of a chunk, in memory


@dataclass(frozen=True, slots=True)
class Index:
    """An index that is being read: in which file, of which layout, and what was found so far."""

    file: File
    layout: ChunkedLayout
    progress: IndexProgress

    def open(self) -> None:
        """Have it read."""
        address = self.layout.address
        if address is None or self.layout.index == "implicit":
            return
        match self.layout.index:
            case "single":
                filtered_bytes = self.layout.filtered_bytes
                size_bytes = self.layout.chunk_bytes if filtered_bytes is None else filtered_bytes
                self.progress.known += 1
                self.place([(address, size_bytes)])
                self.progress.add(1, size_bytes)
            case "B-tree 1":
                self.spawn(_walk_tree(self, address, ABOVE_ROOT))
            case "B-tree 2":
                self.spawn(_walk_second_tree(self, address))
            case "fixed array":
                self.spawn(_walk_fixed(self, address))
            case "extensible array":
                self.spawn(_walk_extensible(self, address))

    def spawn(self, branch: Branch[None]) -> None:
        """Have one more part of it read."""
        self.progress.known += 1
        self.file.spawn(branch, is_index=True)

    def add(self, elements: bytes, element_bytes: int) -> None:
        """One part was read, with these elements: an address, and of a filtered chunk its size and a mask (VII.C)."""
        address_bytes = self.file.sizes.address_bytes
        size_bytes = element_bytes - address_bytes - _MASK_BYTES
        undefined = b"\xff" * address_bytes
        starts = range(0, len(elements), element_bytes)
        stored = [start + address_bytes for start in starts if elements[start : start + address_bytes] != undefined]
        sizes = [self.layout.chunk_bytes] * len(stored)
        if size_bytes > 0:
            sizes = [_number(elements, start, size_bytes) for start in stored]
        if self.progress.places is not None:
            addresses = [_number(elements, start - address_bytes, address_bytes) for start in stored]
            self.place(zip(addresses, sizes, strict=True))
        self.progress.add(len(stored), sum(sizes))

    def place(self, chunks: Iterable[tuple[int, int]]) -> None:
        """Chunks are at these addresses, and take so many bytes as the file has there. Raises `UnparsableError`."""
        places, most = self.progress.places, self.file.size_bytes - self.file.base
        if places is None:
            return
        for address, size_bytes in chunks:
            self.file.keep(_PLACE_BYTES)
            start = min(address, most)
            places.extend((start, min(size_bytes, most - start)))


def _number(data: bytes, start: int, size_bytes: int) -> int:
    return int.from_bytes(data[start : start + size_bytes], "little")


def _walk_tree(index: Index, address: int, above: int) -> Branch[None]:
    key_bytes = _KEY_BYTES + _OFFSET_BYTES * (len(index.layout.shape) + 1)
    node = yield from read_node(index.file, address, CHUNKS, key_bytes, index.file.widths.chunks, above)
    for _, child in node.entries if node.level else ():
        if index.file.enters("chunks", child):
            index.spawn(_walk_tree(index, child, node.level))
    chunks = [] if node.level else [(child, int.from_bytes(key[:4], "little")) for key, child in node.entries]
    index.place(chunks)
    index.progress.add(len(chunks), sum(size_bytes for _, size_bytes in chunks))


def _walk_second_tree(index: Index, address: int) -> Branch[None]:
    rest_bytes = _OFFSET_BYTES * len(index.layout.shape)

    def on_node(records: list[bytes], children: int) -> None:
        index.progress.known += children
        element_bytes = max(1, len(records[0]) - rest_bytes) if records else 1
        index.add(b"".join(record[:element_bytes] for record in records), element_bytes)

    yield from spread(index.file, address, on_node, is_index=True)


def _walk_fixed(index: Index, address: int) -> Branch[None]:
    file, sizes = index.file, index.file.sizes
    fields = file.fields((yield Need(address, 12 + sizes.length_bytes + sizes.address_bytes)), "fixed array")
    fields.expect(b"FAHD\0")
    fields.skip(1)
    element_bytes, page_elements, count = fields.number(1), 1 << fields.number(1), fields.length()
    block = fields.address()
    _check_fits(index, fields, element_bytes, count)
    if block is None:
        index.progress.add(0, 0)
        return
    head_bytes = 6 + sizes.address_bytes
    if count <= page_elements:
        yield from _read_elements(index, block + head_bytes, count, element_bytes)
        return
    pages = -(-count // page_elements)
    bitmap_bytes = (pages + 7) // 8
    bitmap = file.fields((yield Need(block, head_bytes + bitmap_bytes)), "fixed array", head_bytes).take(bitmap_bytes)
    start = block + head_bytes + bitmap_bytes + _CHECKSUM_BYTES
    for page in _ones(bitmap, pages):
        rest = min(page_elements, count - page * page_elements)
        place = start + page * (page_elements * element_bytes + _CHECKSUM_BYTES)
        index.spawn(_read_elements(index, place, rest, element_bytes))
    index.progress.add(0, 0)


def _check_fits(index: Index, fields: Fields, element_bytes: int, count: int) -> None:
    if element_bytes < index.file.sizes.address_bytes:
        raise fields.error()
    if count * element_bytes > index.file.bounds.index_bytes:
        raise UnparsableError(BEYOND)


def _ones(bitmap: bytes, count: int, first: int = 0) -> Iterator[int]:
    """Which of so many bits from the `first` on are set, the highest bit of a byte being its first."""
    return (bit for bit in range(count) if bitmap[(first + bit) // 8] & 0x80 >> (first + bit) % 8)


def _read_elements(index: Index, address: int, count: int, element_bytes: int) -> Branch[None]:
    size_bytes = count * element_bytes
    data = yield Need(address, size_bytes)
    index.add(index.file.fields(data, "elements of an index").take(size_bytes), element_bytes)


@dataclass(frozen=True, slots=True)
class ExtensibleArray:
    """The header of an extensible array: `least` elements in a data block, `pointers` to them in a super block.

    `first` super blocks are left out: the index block has the addresses of their data blocks.
    """

    element_bytes: int
    offset_bytes: int
    in_index: int
    least: int
    pointers: int
    page_elements: int
    blocks: int

    @property
    def first(self) -> int:
        """How many super blocks are left out."""
        return 2 * (self.pointers.bit_length() - 1)

    def data_blocks(self, block: int) -> int:
        """How many data blocks a super block has."""
        return 1 << block // 2

    def elements(self, block: int) -> int:
        """How many elements each of these has."""
        return self.least << (block + 1) // 2


def _walk_extensible(index: Index, address: int) -> Branch[None]:
    file, sizes = index.file, index.file.sizes
    fields = file.fields((yield Need(address, 16 + 6 * sizes.length_bytes + sizes.address_bytes)), "extensible array")
    fields.expect(b"EAHD\0")
    fields.skip(1)
    element_bytes, bits, in_index = fields.number(1), fields.number(1), fields.number(1)
    least, pointers, page_bits = fields.number(1), fields.number(1), fields.number(1)
    fields.skip(6 * sizes.length_bytes)
    block = fields.address()
    if not least or not pointers or element_bytes < sizes.address_bytes:
        raise fields.error()
    blocks = bits - least.bit_length() + 2
    array = ExtensibleArray(element_bytes, (bits + 7) // 8, in_index, least, pointers, 1 << page_bits, blocks)
    if block is not None:
        yield from _read_index_block(index, array, block)
    else:
        index.progress.add(0, 0)


def _read_index_block(index: Index, array: ExtensibleArray, address: int) -> Branch[None]:
    file, sizes = index.file, index.file.sizes
    head_bytes, elements_bytes = 6 + sizes.address_bytes, array.in_index * array.element_bytes
    direct = [block for block in range(array.first) for _ in range(array.data_blocks(block))]
    others = range(array.first, array.blocks)
    rest_bytes = (len(direct) + len(others)) * sizes.address_bytes
    data = yield Need(address, head_bytes + elements_bytes + rest_bytes + _CHECKSUM_BYTES)
    fields = file.fields(data, "extensible array")
    fields.expect(b"EAIB\0")
    fields.position = head_bytes
    elements = fields.take(elements_bytes)
    for block in direct:
        place = fields.address()
        if place is not None:
            index.spawn(_read_data_block(index, array, place, array.elements(block)))
    for block in others:
        place = fields.address()
        if place is not None:
            index.spawn(_read_super_block(index, array, place, block))
    index.add(elements, array.element_bytes)


def _read_data_block(index: Index, array: ExtensibleArray, address: int, count: int) -> Branch[None]:
    yield from _read_elements(index, address + _data_head_bytes(index, array), count, array.element_bytes)


def _data_head_bytes(index: Index, array: ExtensibleArray) -> int:
    return 6 + index.file.sizes.address_bytes + array.offset_bytes


def _read_super_block(index: Index, array: ExtensibleArray, address: int, block: int) -> Branch[None]:
    head_bytes, address_bytes = _data_head_bytes(index, array), index.file.sizes.address_bytes
    blocks, count = array.data_blocks(block), array.elements(block)
    pages = count // array.page_elements if count > array.page_elements else 0
    bitmap_bytes = blocks * ((pages + 7) // 8)
    fields = index.file.fields(b"", "extensible array")
    _check_fits(index, fields, array.element_bytes, blocks + bitmap_bytes)
    data = yield Need(address, head_bytes + bitmap_bytes + blocks * address_bytes + _CHECKSUM_BYTES)
    fields = index.file.fields(data, "extensible array")
    fields.expect(b"EASB\0")
    fields.position = head_bytes
    bitmap = fields.take(bitmap_bytes)
    for number in range(blocks):
        place = fields.address()
        if place is None:
            continue
        if not pages:
            index.spawn(_read_data_block(index, array, place, count))
            continue
        place += head_bytes + _CHECKSUM_BYTES
        for page in _ones(bitmap, pages, number * pages):
            start = place + page * (array.page_elements * array.element_bytes + _CHECKSUM_BYTES)
            index.spawn(_read_elements(index, start, array.page_elements, array.element_bytes))
    index.progress.add(0, 0)

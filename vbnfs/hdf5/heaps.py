"""Heaps: local ones, which hold the names of old groups; collections of the global one; fractal ones.

The global heap holds what is of variable length (specification, III.D, III.E, III.G).
"""

from collections.abc import Callable
from typing import Final

from vbnfs.hdf5.branches import SPECULATIVE_BYTES, Branch, File, Need
from vbnfs.hdf5.fields import Fields, UnparsableError
from vbnfs.hdf5.fractal import HEAP, Apart, FractalHeap, Huge, Managed, read_heap, read_id
from vbnfs.hdf5.messages import Dense
from vbnfs.hdf5.trees import all_records, spread

_LEAST_COLLECTION_BYTES: Final = 4096
_LEAST_OBJECT_BYTES: Final = 16  # of the global heap: its head
_DEEPEST: Final = 64


def read_segment(file: File, address: int) -> Branch[bytes]:
    """The data segment of the local heap at `address`."""
    if address not in file.segments:
        fields = file.fields((yield Need(address, SPECULATIVE_BYTES)), "local heap")
        fields.expect(b"HEAP")
        fields.skip(4)
        size_bytes = fields.length()
        fields.length()  # where its free space begins
        segment = yield Need(fields.required(), size_bytes)
        file.keep(len(segment))
        file.segments[address] = segment
    return file.segments[address]


def touch_segment(file: File, address: int) -> Branch[None]:
    """Have a local heap fetched that another branch will read."""
    yield from read_segment(file, address)


def touch_collection(file: File, address: int | None) -> None:
    """Have a collection of the global heap fetched, once: the HDF5 library reads it as a whole."""
    if address is not None and file.enters("global heap", address):
        file.spawn(_touch_collection(file, address))


def _touch_collection(file: File, address: int) -> Branch[None]:
    fields = file.fields((yield Need(address, _LEAST_COLLECTION_BYTES)), "global heap")
    fields.expect(b"GCOL")
    fields.skip(4)
    size_bytes = fields.length()
    if size_bytes > _LEAST_COLLECTION_BYTES:
        yield Need(address, size_bytes)


def read_collected(file: File, address: int, number: int) -> Branch[bytes]:
    """The object with a number in the collection of the global heap at `address` (III.E)."""
    if address not in file.collections:
        fields = file.fields((yield Need(address, _LEAST_COLLECTION_BYTES)), "global heap")
        fields.expect(b"GCOL\1")
        fields.skip(3)
        size_bytes = fields.length()
        fields = file.fields((yield Need(address, size_bytes)), "global heap", fields.position)
        file.keep(fields.left)
        file.collections[address] = _collected(fields)
    found = file.collections[address].get(number)
    if found is None:
        raise UnparsableError("global heap")
    return found


def _collected(fields: Fields) -> dict[int, bytes]:
    """The objects of a collection by their numbers. Number 0 is free space, up to the end.

    Its head, and that of each object, is filled up to a multiple of 8 bytes, as objects are: the library does that,
    and the specification leaves it open.
    """
    found: dict[int, bytes] = {}
    _fill_up(fields)
    while fields.left >= _LEAST_OBJECT_BYTES and (number := fields.number(2)):
        fields.skip(6)
        size_bytes = fields.length()
        _fill_up(fields)
        found[number] = fields.take(size_bytes)
        _fill_up(fields)
    return found


def _fill_up(fields: Fields) -> None:
    fields.skip(min(fields.left, -fields.position % 8))


def open_dense(file: File, dense: Dense, read: Callable[[int, bytes], Branch[None]]) -> None:
    """Have links or attributes read that have no room in a header.

    `read` is for a record of the B-tree by name, with the heap's address. The tree by order is fetched, too.
    """
    if dense.heap is None or dense.names is None:
        return
    file.spawn(_walk_dense(file, dense.heap, dense.names, read))
    file.spawn(_touch_heap(file, dense.heap))
    if dense.orders is not None:
        file.spawn(spread(file, dense.orders, lambda records, children: None))


def _walk_dense(file: File, heap: int, names: int, read: Callable[[int, bytes], Branch[None]]) -> Branch[None]:
    def on_node(records: list[bytes], children: int) -> None:
        for record in records:
            file.spawn(read(heap, record))

    yield from spread(file, names, on_node)


def _touch_heap(file: File, address: int) -> Branch[None]:
    """Have the header of a fractal heap fetched that another branch will read."""
    yield from _open_heap(file, address)


def _open_heap(file: File, address: int) -> Branch[FractalHeap]:
    """The fractal heap at `address`."""
    if address not in file.heaps:
        sizes = file.sizes
        data = yield Need(address, 26 + 3 * sizes.address_bytes + 12 * sizes.length_bytes)
        heap = file.heaps[address] = read_heap(file.fields(data, HEAP))
        # The HDF5 library reads the header of the free-space manager, too (III.H).
        file.touch("free space", heap.free_space, 18 + 7 * sizes.length_bytes + sizes.address_bytes)
    return file.heaps[address]


def read_object(file: File, address: int, heap_id: bytes) -> Branch[bytes]:
    """The object that an id names of the fractal heap at `address`."""
    heap = yield from _open_heap(file, address)
    match read_id(file.fields(heap_id, HEAP), heap, file.sizes.address_bytes + file.sizes.length_bytes):
        case Managed(offset, size_bytes):
            return (yield Need((yield from _locate(file, heap, offset)), size_bytes))
        case Apart(place, size_bytes):
            return (yield Need(place, size_bytes))
        case Huge(number):
            return (yield (yield from _locate_huge(file, heap, number)))
        case bytes(tiny):
            return tiny


def _locate(file: File, heap: FractalHeap, offset: int) -> Branch[int]:
    """The address of what is at an offset of a heap's space."""
    block, rows, block_bytes = heap.root, heap.root_rows, heap.start_bytes
    head_bytes, address_bytes = 5 + file.sizes.address_bytes + heap.offset_bytes, file.sizes.address_bytes
    for _ in range(_DEEPEST):
        if block is not None and not rows:
            file.touch(HEAP, block, block_bytes)  # which the HDF5 library reads as a whole
            return block + offset
        place = heap.place(offset)
        if block is None or place.row >= rows:
            break
        data = yield Need(block, head_bytes + rows * heap.width * address_bytes + 4)
        block = file.fields(data, HEAP, head_bytes + place.entry * address_bytes).address()
        offset, rows, block_bytes = place.within, place.rows, place.block_bytes
    raise UnparsableError(HEAP)


def _locate_huge(file: File, heap: FractalHeap, number: int) -> Branch[Need]:
    records = [] if heap.huge_tree is None else (yield from all_records(file, heap.huge_tree))
    for each in records:
        fields = file.fields(each, HEAP)
        need = Need(fields.required(), fields.length())
        if fields.length() == number:
            return need
    raise UnparsableError(HEAP)

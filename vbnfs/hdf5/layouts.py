"""How a dataset's data are stored: the message that says so, in all its versions (specification, IV.A.2.i; pure)."""

from dataclasses import dataclass
from math import prod

from vbnfs.hdf5.fields import Fields
from vbnfs.hdf5.structure import Index, Shape


@dataclass(frozen=True, slots=True)
class ChunkedLayout:
    """Chunks of `shape` elements of `element_bytes`, and where their index is, relative to the file's base.

    A single chunk that is filtered takes `filtered_bytes`.
    """

    shape: Shape
    element_bytes: int
    index: Index
    address: int | None
    filtered_bytes: int | None = None

    @property
    def chunk_bytes(self) -> int:
        """How many bytes a chunk takes that no filter has changed."""
        return prod(self.shape) * self.element_bytes


@dataclass(frozen=True, slots=True)
class ContiguousLayout:
    """Where the data are, relative to the file's base. Before version 3 their size is the dataspace's."""

    address: int | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class CompactLayout:
    """The data."""

    data: bytes


@dataclass(frozen=True, slots=True)
class VirtualLayout:
    """Where the mappings are: in the collection of the global heap at this address."""

    address: int | None


AnyLayout = ChunkedLayout | ContiguousLayout | CompactLayout | VirtualLayout


def read_layout(fields: Fields) -> AnyLayout:
    """The layout that a message describes; version 5 is HDF5 2.0's (specification, version 4.0)."""
    version = fields.number(1)
    if version in {1, 2}:
        return _first_layout(fields)
    if version not in {3, 4, 5}:
        raise fields.error()
    match fields.number(1):
        case 0:
            return CompactLayout(fields.take(fields.number(2)))
        case 1:
            return ContiguousLayout(fields.address(), fields.length())
        case 2 if version == 3:
            rank = fields.number(1)
            address = fields.address()
            return _chunked(fields, rank, 4, "B-tree 1", address)
        case 2:
            return _indexed_layout(fields)
        case 3 if version > 3:
            return VirtualLayout(fields.address())
    raise fields.error()


def _chunked(fields: Fields, rank: int, size_bytes: int, index: Index, address: int | None) -> ChunkedLayout:
    # The last dimension is the element's size.
    *shape, element_bytes = [fields.number(size_bytes) for _ in range(rank)] or [0]
    return ChunkedLayout(tuple(shape), element_bytes, index, address)


def _first_layout(fields: Fields) -> AnyLayout:
    rank, kind = fields.number(1), fields.number(1)
    fields.skip(5)
    address = None if kind == 0 else fields.address()
    if kind == 2:
        return _chunked(fields, rank, 4, "B-tree 1", address)
    fields.skip(4 * rank)
    if kind == 0:
        return CompactLayout(fields.take(fields.number(4)))
    if kind != 1:
        raise fields.error()
    return ContiguousLayout(address, None)


def _indexed_layout(fields: Fields) -> ChunkedLayout:
    flags, rank, size_bytes = fields.number(1), fields.number(1), fields.number(1)
    chunked = _chunked(fields, rank, size_bytes, "single", None)
    filtered_bytes: int | None = None
    index: Index
    match fields.number(1):
        case 1:
            index = "single"
            if flags & 2:
                filtered_bytes = fields.length()
                fields.skip(4)
        case 2:
            index = "implicit"
        case 3:
            index = "fixed array"
            fields.skip(1)
        case 4:
            index = "extensible array"
            fields.skip(5)
        case 5:
            index = "B-tree 2"
            fields.skip(6)
        case _:
            raise fields.error()
    return ChunkedLayout(chunked.shape, chunked.element_bytes, index, fields.address(), filtered_bytes)

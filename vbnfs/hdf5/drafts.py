"""What is known of an object while its parts come in, and the value that is made of it at the end."""

from array import array
from dataclasses import dataclass, field
from math import prod

from vbnfs.hdf5.layouts import AnyLayout, ChunkedLayout, CompactLayout, ContiguousLayout
from vbnfs.hdf5.messages import Dataspace
from vbnfs.hdf5.structure import (
    Attribute,
    Chunked,
    CommittedType,
    Compact,
    Contiguous,
    Dataset,
    Datatype,
    Elsewhere,
    Filter,
    Group,
    HardLink,
    Layout,
    Link,
    Object,
)
from vbnfs.objects import ByteRange


@dataclass(slots=True)
class IndexProgress:
    """What was found of an index of chunks. It is complete when as many parts were read as are known of.

    `places` has an address and a length for each chunk, relative to the file's base; None where they are not wanted.
    """

    known: int = 0
    read: int = 0
    chunks: int = 0
    storage_bytes: int = 0
    places: "array[int] | None" = None

    def add(self, chunks: int, storage_bytes: int) -> None:
        """One part was read, and has so many chunks."""
        self.read += 1
        self.chunks += chunks
        self.storage_bytes += storage_bytes

    def starts(self, base: int) -> list[int]:
        """Where chunks begin in the file, in order; none where that is not wanted."""
        return sorted(base + start for start in self.places[::2]) if self.places is not None else []

    def joined(self, base: int) -> tuple[ByteRange, ...] | None:
        """The bytes of the file that chunks take, in order, adjacent ones joined."""
        if self.places is None:
            return None
        joined: list[list[int]] = []
        for start, size_bytes in sorted(zip(self.places[::2], self.places[1::2], strict=True)):
            if joined and start <= joined[-1][1]:
                joined[-1][1] = max(joined[-1][1], start + size_bytes)
            else:
                joined.append([start, start + size_bytes])
        return tuple(ByteRange(base + start, base + stop) for start, stop in joined)


@dataclass(slots=True)
class Draft:
    """An object whose header is at `address`, `depth` links away from the root.

    `pending` parts of its header are still to be read. Links lead to addresses relative to the file's base.
    """

    address: int
    depth: int
    pending: int = 0
    is_group: bool = False
    is_external: bool = False
    links: dict[str, int | Link] = field(default_factory=dict)
    attributes: set[str] = field(default_factory=set)
    values: dict[str, Attribute] = field(default_factory=dict)
    dataspace: Dataspace | None = None
    datatype: Datatype | None = None
    layout: AnyLayout | None = None
    filters: tuple[Filter, ...] = ()
    index: IndexProgress = field(default_factory=IndexProgress)

    def hard_links(self) -> list[tuple[str, int]]:
        """The links to objects, by name: the addresses of their headers."""
        return [(name, to) for name, to in self.links.items() if isinstance(to, int)]

    def build(self, base: int) -> Object | None:
        """The object's value; None if too little is known to say what it is. `base` is the file's."""
        attributes = frozenset(self.attributes)
        if self.is_group:
            links = {name: HardLink(base + to) if isinstance(to, int) else to for name, to in self.links.items()}
            return Group(links, attributes, self.values)
        if self.layout is not None or self.dataspace is not None:
            space = self.dataspace or Dataspace(None, None)
            layout = self._layout(base)
            return Dataset(space.shape, space.most, self.datatype, layout, self.filters, attributes, self.values)
        return None if self.datatype is None else CommittedType(self.datatype, attributes, self.values)

    def _layout(self, base: int) -> Layout | None:
        match self.layout:
            case CompactLayout(data):
                return Compact(len(data))
            case ContiguousLayout() if self.is_external:
                return Elsewhere("external")
            case ContiguousLayout(address, _):
                return Contiguous(_start(base, address), 0 if address is None else self._contiguous_bytes())
            case ChunkedLayout():
                return self._chunked(self.layout, base)
            case None:
                return None
        return Elsewhere("virtual")

    def _chunked(self, layout: ChunkedLayout, base: int) -> Chunked:
        start, index = _start(base, layout.address), self.index
        if layout.index == "implicit" and start is not None:
            chunks, storage_bytes = self._implicit(layout)
            places = None if index.places is None else (ByteRange(start, start + storage_bytes),)
            return Chunked(layout.shape, layout.index, start, chunks, storage_bytes, places)
        if index.read == index.known:
            return Chunked(layout.shape, layout.index, start, index.chunks, index.storage_bytes, index.joined(base))
        return Chunked(layout.shape, layout.index, start, None, None)

    def _implicit(self, layout: ChunkedLayout) -> tuple[int, int]:
        """All chunks that there may be are stored, one behind the other (VII.B)."""
        most = self.dataspace.most if self.dataspace is not None and self.dataspace.most is not None else ()
        chunks = prod(-(-(length or 0) // max(1, size)) for length, size in zip(most, layout.shape, strict=False))
        return chunks, chunks * layout.chunk_bytes

    def _contiguous_bytes(self) -> int:
        assert isinstance(self.layout, ContiguousLayout)
        if self.layout.size_bytes is not None:
            return self.layout.size_bytes
        elements = 0 if self.dataspace is None else self.dataspace.elements
        return elements * (self.datatype.size_bytes if self.datatype is not None else 0)


def _start(base: int, address: int | None) -> int | None:
    return None if address is None else base + address

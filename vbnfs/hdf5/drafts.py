"""What is known of an object while its parts come in, and the value that is made of it at the end."""

from dataclasses import dataclass, field
from math import prod

from vbnfs.hdf5.layouts import AnyLayout, ChunkedLayout, CompactLayout, ContiguousLayout
from vbnfs.hdf5.messages import Dataspace
from vbnfs.hdf5.structure import (
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


@dataclass(slots=True)
class IndexProgress:
    """What was found of an index of chunks. It is complete when as many parts were read as are known of."""

    known: int = 0
    read: int = 0
    chunks: int = 0
    storage_bytes: int = 0

    def add(self, chunks: int, storage_bytes: int) -> None:
        """One part was read, and has so many chunks."""
        self.read += 1
        self.chunks += chunks
        self.storage_bytes += storage_bytes


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
    dataspace: Dataspace | None = None
    datatype: Datatype | None = None
    layout: AnyLayout | None = None
    filters: tuple[Filter, ...] = ()
    index: IndexProgress = field(default_factory=IndexProgress)

    def build(self, base: int) -> Object | None:
        """The object's value; None if too little is known to say what it is. `base` is the file's."""
        attributes = frozenset(self.attributes)
        if self.is_group:
            links = {name: HardLink(base + to) if isinstance(to, int) else to for name, to in self.links.items()}
            return Group(links, attributes)
        if self.layout is not None or self.dataspace is not None:
            space = self.dataspace or Dataspace(None, None)
            return Dataset(space.shape, space.most, self.datatype, self._layout(base), self.filters, attributes)
        return CommittedType(self.datatype, attributes) if self.datatype is not None else None

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
        found: tuple[int | None, int | None] = (None, None)
        if layout.index == "implicit" and layout.address is not None:
            found = self._implicit(layout)
        elif self.index.read == self.index.known:
            found = (self.index.chunks, self.index.storage_bytes)
        return Chunked(layout.shape, layout.index, _start(base, layout.address), *found)

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

"""What a file consists of, as values: objects by address, links between them, where their data lie.

The words are those of the HDF5 File Format Specification, version 3.0. It is what "specification" means everywhere in
this package, and its sections are named by their numbers.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from vbnfs.objects import ByteRange

Shape: TypeAlias = tuple[int, ...]
Kind: TypeAlias = Literal[
    "integer",
    "float",
    "time",
    "string",
    "bitfield",
    "opaque",
    "compound",
    "object reference",
    "region reference",
    "reference",
    "enum",
    "sequence",
    "text",
    "array",
    "complex",
]
Index: TypeAlias = Literal["B-tree 1", "single", "implicit", "fixed array", "extensible array", "B-tree 2"]


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a compound type: it begins `offset_bytes` behind the start of an element."""

    name: str
    offset_bytes: int
    datatype: "Datatype"


@dataclass(frozen=True, slots=True)
class Datatype:
    """The type of an element, which takes `size_bytes` in the file (specification, IV.A.2.d).

    A `sequence` and a `text` have variable length: their bytes are in the global heap. `base` is the type of what an
    enum, a sequence, an array or a complex number consists of; `shape` an array's. `mantissa_bits` are a float's, and
    `tag` is what an opaque type is marked with.
    """

    kind: Kind
    size_bytes: int
    is_big_endian: bool = False
    is_signed: bool = False
    base: "Datatype | None" = None
    members: tuple[Member, ...] = ()
    values: tuple[tuple[str, int], ...] = ()  # of an enum, by name
    shape: Shape = ()
    mantissa_bits: int = 0
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """One step of a filter pipeline: its registered number, and the values that it is set by (IV.A.2.l)."""

    number: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Contiguous:
    """Data in one piece, from byte `start` of the file on; None: nothing is stored yet."""

    start: int | None
    storage_bytes: int


@dataclass(frozen=True, slots=True)
class Compact:
    """Data within the object's header."""

    storage_bytes: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """Data in chunks of `shape` elements, found by an index at byte `start` (of a single chunk: its own); None: none.

    `chunks` of them are stored, which take `storage_bytes`; None where not all of the index was read. `places` are
    the bytes of the file that they take, in order, adjacent ones joined; None where they were not wanted, too.
    """

    shape: Shape
    index: Index
    start: int | None
    chunks: int | None
    storage_bytes: int | None
    places: tuple[ByteRange, ...] | None = None


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Data in other files: raw (`external`), or as parts of other datasets (`virtual`)."""

    kind: Literal["external", "virtual"]


Layout: TypeAlias = Contiguous | Compact | Chunked | Elsewhere


@dataclass(frozen=True, slots=True)
class HardLink:
    """A link to the object whose header is at byte `start` of the file."""

    start: int


@dataclass(frozen=True, slots=True)
class SoftLink:
    """A link to whatever has this path in the file."""

    path: str


@dataclass(frozen=True, slots=True)
class ExternalLink:
    """A link to what has this path in another file."""

    file: str
    path: str


Link: TypeAlias = HardLink | SoftLink | ExternalLink


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to the object whose header is at byte `start` of the file; None: to nothing.

    `is_region`: to some of its elements.
    """

    start: int | None
    is_region: bool = False


# An element, or a list of them for each dimension. Bytes are those of an opaque element, or of a type without a form
# here; an enum is its member's name, a bool if it is one of h5py's; a compound is by the names of its members.
Value: TypeAlias = "int | float | complex | bool | str | bytes | Reference | list[Value] | dict[str, Value] | None"


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute's type, shape and value. Its shape is None, as its value, without any element.

    The value is None, too, where it could not be parsed or the bytes it refers to did not come. `is_cut`: it has more
    elements than the value, which then is the list of the first ones.
    """

    datatype: Datatype
    shape: Shape | None
    value: Value
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """A group: its links by name, and the names of its attributes. `values`: of these, where they were wanted."""

    links: Mapping[str, Link]
    attributes: frozenset[str]
    values: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset. Its `shape` is () for a scalar, and None without any element; None in `most`: unlimited.

    What could not be parsed is None, and no filter.
    """

    shape: Shape | None
    most: tuple[int | None, ...] | None
    datatype: Datatype | None
    layout: Layout | None
    filters: tuple[Filter, ...]
    attributes: frozenset[str]
    values: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CommittedType:
    """A datatype that has a name of its own."""

    datatype: Datatype | None
    attributes: frozenset[str]
    values: Mapping[str, Attribute] = field(default_factory=dict)


Object: TypeAlias = Group | Dataset | CommittedType


class RowEnds(NamedTuple):
    """The index of a ragged array: `rows` unsigned integers of `width` bytes, from byte `start` of the file on."""

    start: int
    rows: int
    width: int
    is_big_endian: bool


class Extent(NamedTuple):
    """Bytes `start` to `stop` of the file, which have the elements of an array.

    `row_bytes` belong to one number of its first dimension; 0 where that is no range of bytes. `chunks` are the bytes
    at which its chunks begin, where they are large enough to matter. `is_filtered`: they are compressed, or the like,
    so that a program has to read them whole.
    """

    start: int
    stop: int
    row_bytes: int
    rows: RowEnds | None = None
    chunks: tuple[int, ...] = ()
    is_filtered: bool = False


@dataclass(frozen=True, slots=True)
class Structure:
    """What was found of a file.

    `objects` are by the byte of the file at which their headers begin; `root` is that of the root group, None if
    there is no superblock. `end` is where the file ends by its superblock. `blocks` were read. `unparsed` counts what
    was left out, by kind. `is_complete`: nothing was left out, for whatever reason, of what was wanted.
    """

    root: int | None = None
    end: int | None = None
    objects: Mapping[int, Object] = field(default_factory=dict)
    blocks: frozenset[int] = frozenset()
    unparsed: Mapping[str, int] = field(default_factory=dict)
    is_complete: bool = False

    def walk(self) -> Iterator[tuple[str, Object]]:
        """Each object that hard links lead to, once, by a shortest path: '/' first."""
        for path, start in self.paths():
            yield path, self.objects[start]

    def paths(self, start: int | None = None, at: str = "/") -> Iterator[tuple[str, int]]:
        """The same objects by the byte at which their headers begin; or those below the one at `start`, first itself.

        `at` is the path of that one. Of the shortest paths the first one in the order of names counts.
        """
        start = self.root if start is None else start
        if start is None or start not in self.objects:
            return
        seen = {start}
        found = deque([(at, start)])
        while found:
            path, start = found.popleft()
            yield path, start
            each = self.objects[start]
            for name, link in sorted(each.links.items()) if isinstance(each, Group) else ():
                if isinstance(link, HardLink) and link.start in self.objects and link.start not in seen:
                    seen.add(link.start)
                    found.append((f"{path.rstrip('/')}/{name}", link.start))

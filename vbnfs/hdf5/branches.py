"""What branches of a walk are, and what those of one file share.

A *branch* reads one structure: a header, a node of a B-tree, an object of a heap. It is a generator that yields what
it needs, an address and a length, and is sent the bytes. So it can stand still until their blocks are there, while
others go on, and no thread waits. Where a structure leads to several others, it *spawns* a branch for each of them.
"""

from collections import Counter, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias, TypeVar

from vbnfs.hdf5.datatypes import read_datatype
from vbnfs.hdf5.drafts import Draft
from vbnfs.hdf5.fields import Fields, Sizes, UnparsableError
from vbnfs.hdf5.fractal import FractalHeap
from vbnfs.hdf5.structure import Datatype

_T = TypeVar("_T")
# The HDF5 library reads so much at once where it does not know how long a structure is.
SPECULATIVE_BYTES: Final = 512
_BYTES_KEPT_OF_A_TYPE: Final = 20  # for each byte of its message
BEYOND: Final = "beyond the bounds"


class Need(NamedTuple):
    """Bytes from an address on, which is relative to the file's base. Fewer are sent where the file ends before."""

    address: int
    size_bytes: int


Branch: TypeAlias = Generator[Need, bytes, _T]


@dataclass(frozen=True, slots=True)
class NodeWidths:
    """Half of how many entries nodes have room for: of symbols, of B-trees of groups and of chunks (II.A, II.C)."""

    symbols: int = 4
    groups: int = 16
    chunks: int = 32


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a walk may take at most.

    `fetched_bytes`: of blocks that are asked for, `index_bytes` of them for indexes of chunks. `objects` are opened,
    `depth` links away from the root at most. `reads` of structures are made. After `seconds` it ends. Its memory:
    `block_bytes` of blocks, also of those that are there without being asked for; `branches` at a time; and about
    `kept_bytes` of names, types and heaps.
    """

    fetched_bytes: int = 8 << 20
    index_bytes: int = 4 << 20
    objects: int = 100_000
    depth: int = 100
    reads: int = 1_000_000
    seconds: float = 10.0
    block_bytes: int = 64 << 20
    branches: int = 100_000
    kept_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be found of a file.

    `path` are names of links, from the root on: only what they lead to is read, and what is below it. `places`: where
    chunks are stored. `values`: what the values of attributes are.
    """

    path: tuple[str, ...] = ()
    places: bool = False
    values: bool = False


_ALL: Final = Wanted()


class File:
    """What the branches of one file share: its form, the objects found, and what is to be read only once.

    `open_object` makes the branch that reads the header of an object.
    """

    def __init__(
        self,
        size_bytes: int,
        bounds: Bounds,
        open_object: "Callable[[File, Draft], Branch[None]]",
        wanted: Wanted = _ALL,
    ) -> None:
        self.size_bytes = size_bytes
        self.bounds = bounds
        self.wanted = wanted
        self.sizes = Sizes()
        self.widths = NodeWidths()
        self.base = 0
        self.root: int | None = None
        self.end: int | None = None
        self.extension: int | None = None
        self.drafts: dict[int, Draft] = {}
        self.unparsed: Counter[str] = Counter()
        self.spawned: deque[tuple[Branch[None], bool]] = deque()
        self.branches = 0  # that were spawned and have not ended
        self.kept_bytes = 0
        self.segments: dict[int, bytes] = {}  # of local heaps
        self.heaps: dict[int, FractalHeap] = {}
        self.collections: dict[int, dict[int, bytes]] = {}  # of the global heap, if values are wanted
        self.datatypes: dict[bytes, Datatype] = {}  # most attributes of a file have one of few types
        self._entered: set[tuple[str, int]] = set()
        self._open_object = open_object

    def fields(self, data: bytes, what: str, position: int = 0) -> Fields:
        """The fields of a structure in this file."""
        return Fields(data, self.sizes, what, position)

    def spawn(self, branch: Branch[None], *, is_index: bool = False) -> None:
        """Have a branch walked. Blocks for indexes of chunks come after all others."""
        if self.branches < self.bounds.branches:
            self.branches += 1
            self.spawned.append((branch, is_index))
        else:
            self.unparsed[BEYOND] += 1

    def keep(self, size_bytes: int) -> None:
        """Count what is kept until the end. Raises `UnparsableError` where that is more than the bound."""
        self.kept_bytes += size_bytes
        if self.kept_bytes > self.bounds.kept_bytes:
            raise UnparsableError(BEYOND)

    def enters(self, what: str, address: int) -> bool:
        """Whether a structure is read for the first time. So nothing that refers to itself is read without end."""
        key = (what, address)
        if key in self._entered or len(self._entered) >= self.bounds.reads:
            return False
        self._entered.add(key)
        return True

    def touch(self, what: str, address: int | None, size_bytes: int) -> None:
        """Have bytes fetched that the reader will want, or a later branch."""
        if address is not None and self.enters(what, address):
            self.spawn(_touch(address, size_bytes))

    def follows_all(self, depth: int) -> bool:
        """Whether all links are followed of an object so many links away from the root, whatever their names are."""
        return depth >= len(self.wanted.path)

    def follow(self, draft: Draft, name: str, address: int) -> Draft | None:
        """Have the object read that a link leads to, if that is wanted. None: it is not, or is beyond the bounds."""
        if self.follows_all(draft.depth) or self.wanted.path[draft.depth] == name:
            return self.visit(address, draft.depth + 1)
        return None

    def visit(self, address: int, depth: int) -> Draft | None:
        """Have an object read, unless it was found before. None: it is beyond the bounds."""
        if address in self.drafts:
            return self._find_again(self.drafts[address], depth)
        if depth > self.bounds.depth or len(self.drafts) >= self.bounds.objects:
            self.unparsed[BEYOND] += 1
            return None
        draft = self.drafts[address] = Draft(address, depth)
        self.spawn(self._open_object(self, draft))
        return draft

    def _find_again(self, draft: Draft, depth: int) -> Draft:
        """An object that another link leads to. If it was on the path, and now is below that, all its links count."""
        if not self.follows_all(draft.depth) and self.follows_all(depth):
            draft.depth = depth
            for name, address in draft.hard_links():
                self.follow(draft, name, address)
        return draft

    def datatype(self, body: bytes) -> Datatype:
        """The type that a message describes. Raises `UnparsableError`."""
        found = self.datatypes.get(body)
        if found is None:
            self.keep(_BYTES_KEPT_OF_A_TYPE * len(body))
            found = self.datatypes[body] = read_datatype(self.fields(body, "datatype"))
        return found


def _touch(address: int, size_bytes: int) -> Branch[None]:
    yield Need(address, size_bytes)

"""Walking the structure of an HDF5 file, wave by wave: which blocks are to be fetched next, and what was found.

    walk = Walk(size_bytes, source)
    while wave := walk.advance():
        fetch(wave)  # until `source` has them
    structure = walk.result()

All branches go on as far as the blocks go that are there. What they lack together is one *wave*. The walk itself does
no input and output, waits for nothing, and raises nothing whatever the bytes are.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.hdf5.branches import BEYOND, Bounds, Branch, File, Need, Wanted
from vbnfs.hdf5.extents import extents_of
from vbnfs.hdf5.fields import UnparsableError
from vbnfs.hdf5.objects import open_file, open_object
from vbnfs.hdf5.structure import Extent, Structure
from vbnfs.objects import ByteRange

# The bytes of the block with a number, all of them; None: they are not there yet.
Source: TypeAlias = Callable[[int], bytes | memoryview | None]

_BOUNDS: Final = Bounds()
_READ_ALONG_BYTES: Final = 64 << 10  # by the kernel behind what a program reads, in the same request
_ALL: Final = Wanted()
_OUTSIDE: Final = "outside the file"
_ABSENT: Final = "blocks that did not come"


@dataclass(slots=True, eq=False)
class _Paused:
    """A branch that stands still: the bytes it needs, and which of their blocks are not there."""

    branch: Branch[None]
    is_index: bool
    needed: ByteRange
    missing: set[int] = field(default_factory=set)


class Walk:
    """The walk of one file of `size_bytes`. `source` has its blocks of `block_bytes`, as far as they are there.

    `clock` counts seconds; by it, a walk ends `bounds.seconds` after its first step. `wanted`: what of the file is to
    be found, by default all objects.
    """

    def __init__(
        self,
        size_bytes: int,
        source: Source,
        *,
        bounds: Bounds = _BOUNDS,
        wanted: Wanted = _ALL,
        clock: Callable[[], float] = time.monotonic,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self._size_bytes = size_bytes
        self._source = source
        self._bounds = bounds
        self._clock = clock
        self._block_bytes = block_bytes
        self._ends: float | None = None
        self._is_over = False
        self._reads = 0
        self._file = File(size_bytes, bounds, open_object, wanted)
        self._file.spawn(open_file(self._file))
        self._blocks: dict[int, bytes | memoryview] = {}
        self._paused: dict[int, list[_Paused]] = {}  # by each block that they lack
        self._asked: set[int] = set()
        self._index_blocks: set[int] = set()
        self._beside: dict[int, int] = {}  # how far behind structure each begins
        self._has_all = False

    @property
    def outstanding(self) -> frozenset[int]:
        """The blocks that were asked for and have not come. None left: the walk is over."""
        return frozenset() if self._is_over else frozenset(self._asked & self._paused.keys())

    @property
    def index_blocks(self) -> frozenset[int]:
        """Those of the blocks that it asked for that only indexes of chunks are in: they come last."""
        return frozenset(self._index_blocks)

    @property
    def has_all_but_indexes(self) -> bool:
        """Whether the structure was read to its end, and nothing left out, but for indexes of chunks."""
        return self._has_all

    @property
    def beside(self) -> tuple[int, ...]:
        """Blocks without structure that the kernel reads along for a program that reads the structure before them.

        The more of it a program has read in a row, the more that is. Those that are nearest to structure come first.
        """
        blocks = self._blocks.keys()
        behind = (number for number in self._beside if number not in blocks)
        found = (n for n in behind if self._beside[n] < _READ_ALONG_BYTES or {n - 1, n - 2} <= blocks)
        return tuple(sorted(found, key=lambda number: self._beside[number]))

    def advance(self) -> frozenset[int]:
        """Go on with the blocks that are there. Returns those to fetch now; none of them was returned before.

        It can be called whenever blocks have come, also before all of a wave have. A block that never comes holds up
        nothing but the branches that lack it.
        """
        if self._ends is None:
            self._ends = self._clock() + self._bounds.seconds
        for number in [number for number in self._paused if self._block(number) is not None]:
            self._resume(number)
        self._run_spawned()
        return self._next_wave()

    def result(self) -> Structure:
        """What was found so far."""
        file = self._file
        unparsed = file.unparsed + self._left()
        built = ((draft.address, draft.build(file.base)) for draft in file.drafts.values())
        return Structure(
            root=None if file.root is None else file.base + file.root,
            end=file.end,
            objects={file.base + address: each for address, each in built if each is not None},
            blocks=frozenset(self._blocks),
            unparsed=dict(unparsed),
            is_complete=not unparsed and file.root is not None,
        )

    def extents(self) -> Iterator[Extent]:
        """Where the larger arrays lie that were found so far; see extents.py."""
        return extents_of(self._file)

    def _left(self) -> Counter[str]:
        """How many branches have not come to their ends, by the reason."""
        paused = {id(each): each for waiting in self._paused.values() for each in waiting}.values()
        absent = sum(not self._is_over and bool(each.missing & self._asked) for each in paused)
        return Counter({_ABSENT: absent, BEYOND: len(paused) - absent + len(self._file.spawned)})

    def _run_spawned(self) -> None:
        spawned = self._file.spawned
        while spawned and not self._is_over:
            branch, is_index = spawned.popleft()
            self._run(branch, is_index, None)

    def _resume(self, number: int) -> None:
        for paused in self._paused.pop(number):
            paused.missing.discard(number)
            if not paused.missing:
                self._run(paused.branch, paused.is_index, paused.needed)

    def _run(self, branch: Branch[None], is_index: bool, needed: ByteRange | None) -> None:
        """Walk a branch until it ends or lacks a block. `needed`: what it stood still for."""
        try:
            while self._may_read():
                data = None if needed is None else self._bytes(needed)
                if needed and not is_index:
                    self._note_end(needed.stop)
                need = next(branch) if data is None else branch.send(data)
                needed = self._range_of(need)
                missing = {number for number in self._numbers(needed) if self._block(number) is None}
                if missing:
                    self._pause(_Paused(branch, is_index, needed, missing))
                    return
        except StopIteration:
            pass
        except UnparsableError as error:
            self._file.unparsed[str(error)] += 1
        self._file.branches -= 1

    def _note_end(self, stop: int) -> None:
        following = -(-stop // self._block_bytes)
        distance = following * self._block_bytes - stop
        if following * self._block_bytes < self._size_bytes:
            self._beside[following] = min(distance, self._beside.get(following, distance))

    def _may_read(self) -> bool:
        self._reads += 1
        is_late = self._ends is not None and self._clock() > self._ends
        if not self._is_over and (is_late or self._reads > self._bounds.reads):
            self._is_over = True
            self._file.unparsed[BEYOND] += 1
        return not self._is_over

    def _range_of(self, need: Need) -> ByteRange:
        """What of the file a branch needs. Raises `UnparsableError`."""
        start = self._file.base + need.address
        if start >= self._size_bytes:
            raise UnparsableError(_OUTSIDE)
        if need.size_bytes > self._bounds.fetched_bytes:
            raise UnparsableError(BEYOND)
        return ByteRange(start, start + need.size_bytes).clip(self._size_bytes)

    def _pause(self, paused: _Paused) -> None:
        for number in paused.missing:
            self._paused.setdefault(number, []).append(paused)

    def _block(self, number: int) -> bytes | memoryview | None:
        found = self._blocks.get(number)
        if found is None and len(self._blocks) < self._bounds.block_bytes // self._block_bytes:
            found = self._source(number)
            if found is None or len(found) != min(self._block_bytes, self._size_bytes - number * self._block_bytes):
                return None
            self._blocks[number] = found
        return found

    def _numbers(self, needed: ByteRange) -> range:
        return range(needed.start // self._block_bytes, -(-needed.stop // self._block_bytes) if needed else 0)

    def _bytes(self, needed: ByteRange) -> bytes:
        parts = []
        for number in self._numbers(needed):
            first = number * self._block_bytes
            parts.append(self._blocks[number][max(0, needed.start - first) : needed.stop - first])
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def _next_wave(self) -> frozenset[int]:
        """What is lacking and was not asked for, as far as the bounds go: first what most branches wait for.

        Indexes of chunks come when nothing else is lacking.
        """
        if self._is_over:
            return frozenset()
        lacking = self._paused.keys() - self._asked
        structure = [number for number in lacking if not all(paused.is_index for paused in self._paused[number])]
        room = min(
            self._bounds.fetched_bytes // self._block_bytes - len(self._asked),
            self._bounds.block_bytes // self._block_bytes - len(self._asked | self._blocks.keys()),
        )
        if structure or self.outstanding:
            wave = self._first(structure, room)
        else:
            self._has_all |= self._file.root is not None and not self._file.unparsed
            room_of_indexes = self._bounds.index_bytes // self._block_bytes - len(self._index_blocks)
            wave = self._first(lacking, min(room, room_of_indexes))
            self._index_blocks.update(wave)
        self._asked.update(wave)
        return frozenset(wave)

    def _first(self, numbers: Iterable[int], count: int) -> list[int]:
        return sorted(numbers, key=lambda number: (-len(self._paused[number]), number))[: max(0, count)]

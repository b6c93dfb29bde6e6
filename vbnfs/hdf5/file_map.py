"""Where in an HDF5 file its arrays lie, as values: the parts of the file, and cells of equal length to draw (pure).

docs/outline.md describes the JSON.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, Literal

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.hdf5.found_file import Hdf5File
from vbnfs.hdf5.outline import places_of
from vbnfs.hdf5.structure import Dataset
from vbnfs.objects import ByteRange

Kind = Literal["arrays", "structure", "other"]
_MOST_NAMED: Final = 6  # groups with a colour of their own
_LEAST_CELL_BYTES: Final = 512


@dataclass(frozen=True, slots=True)
class Part:
    """What is drawn in one colour: the arrays of a group, the structure, or the rest of the file."""

    name: str
    kind: Kind
    size_bytes: int
    cached_bytes: int


@dataclass(frozen=True, slots=True)
class Array:
    """A dataset, where its data lie, and the number of the part that it belongs to."""

    path: str
    places: tuple[ByteRange, ...]
    size_bytes: int
    cached_bytes: int
    part: int


@dataclass(frozen=True, slots=True)
class Cell:
    """Some bytes of the file: the number of the part that most of them belong to, and which share is cached."""

    part: int
    share: float


@dataclass(frozen=True, slots=True)
class _Segment:
    start: int
    stop: int
    part: int


@dataclass(frozen=True)
class FileMap:
    """The map of a file: parts by number, first the groups from the largest on, then the structure and the rest."""

    file: Hdf5File

    @cached_property
    def arrays(self) -> Sequence[Array]:
        """All datasets that have data in the file, in the order of their places."""
        found, coverage = [], self.file.coverage
        for path, places in self._placed:
            size_bytes = sum(map(len, places))
            found.append(Array(path, places, size_bytes, coverage.bytes_of(places), self._part_of(path)))
        return sorted(found, key=lambda one: one.places[0].start)

    @cached_property
    def parts(self) -> Sequence[Part]:
        """What has a colour."""
        counts, cached = Counter[int](), Counter[int]()
        for one in self._segments:
            counts[one.part] += one.stop - one.start
            cached[one.part] += self.file.coverage.bytes_of([ByteRange(one.start, one.stop)])
        return [Part(name, kind, counts[at], cached[at]) for at, (name, kind) in enumerate(self._names)]

    def cell_bytes(self, most: int) -> int:
        """How long cells are if there are to be `most` of them: whole blocks; in a short file, parts of a block."""
        size_bytes = self.file.size_bytes
        if size_bytes > most * BLOCK_BYTES:
            return -(-size_bytes // (most * BLOCK_BYTES)) * BLOCK_BYTES
        length = BLOCK_BYTES
        while length > _LEAST_CELL_BYTES and -(-size_bytes // (length // 2)) <= most:
            length //= 2
        return length

    def cells(self, cell_bytes: int) -> list[Cell]:
        """The whole file, as cells of this length; the last one may be shorter."""
        count = -(-self.file.size_bytes // cell_bytes)
        amounts: list[Counter[int]] = [Counter() for _ in range(count)]
        for one in self._segments:
            for at in range(one.start // cell_bytes, -(-one.stop // cell_bytes)):
                amounts[at][one.part] += min(one.stop, (at + 1) * cell_bytes) - max(one.start, at * cell_bytes)
        return [
            Cell(max(amount, key=lambda part: (amount[part], -part)), self._share(at * cell_bytes, cell_bytes))
            for at, amount in enumerate(amounts)
        ]

    def _share(self, start: int, length: int) -> float:
        place = ByteRange(start, start + length).clip(self.file.size_bytes)
        return self.file.coverage.bytes_of([place]) / len(place)

    # Names

    @cached_property
    def _top(self) -> str:
        return f"/{'/'.join(self.file.object_path)}".rstrip("/")

    @cached_property
    def _placed(self) -> Sequence[tuple[str, tuple[ByteRange, ...]]]:
        """Datasets by path, with the places of their data as far as the file goes."""
        structure, size_bytes = self.file.structure, self.file.size_bytes
        found = []
        for path, start in structure.paths(self.file.start, self._top or "/"):
            each = structure.objects[start]
            places = (places_of(each) or ()) if isinstance(each, Dataset) else ()
            clipped = tuple(place for each in places if (place := each.clip(size_bytes)))
            if clipped:
                found.append((path, clipped))
        return found

    def _label(self, path: str) -> str:
        """The member of the top group that a dataset is, or is in."""
        name, slash, _ = path.removeprefix(self._top).lstrip("/").partition("/")
        return f"{name}{slash}" or path.rpartition("/")[2]

    @cached_property
    def _labels(self) -> Sequence[str]:
        """The members of the top group that have a colour of their own, from the largest on."""
        sizes: defaultdict[str, int] = defaultdict(int)
        for path, places in self._placed:
            sizes[self._label(path)] += sum(map(len, places))
        ordered = sorted(sizes, key=lambda label: (-sizes[label], label))
        return ordered if len(ordered) <= _MOST_NAMED + 1 else ordered[:_MOST_NAMED]

    @cached_property
    def _names(self) -> Sequence[tuple[str, Kind]]:
        named: list[tuple[str, Kind]] = [(label, "arrays") for label in self._labels]
        others = {self._label(path) for path, _ in self._placed} - set(self._labels)
        if others:
            named.append((f"{len(others)} others", "arrays"))
        rest = "elsewhere in the file" if self._top else "other"
        return [*named, ("structure", "structure"), (rest, "other")]

    def _part_of(self, path: str) -> int:
        label = self._label(path)
        return self._labels.index(label) if label in self._labels else len(self._labels)

    # Places

    @cached_property
    def _segments(self) -> Sequence[_Segment]:
        """The whole file, cut where parts meet. Where arrays overlap, the one that begins first counts."""
        placed = sorted((place.start, place.stop, one.part) for one in self.arrays for place in one.places)
        found: list[_Segment] = []
        position = 0
        for start, stop, part in placed:
            found += self._gap(position, start)
            if stop > position:
                found.append(_Segment(max(start, position), stop, part))
                position = stop
        found += self._gap(position, self.file.size_bytes)
        return found

    def _gap(self, start: int, stop: int) -> Iterator[_Segment]:
        """What no array takes: structure in the blocks in which that was read, else the rest."""
        if stop <= start:
            return
        numbers = range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))
        blocks = self.file.structure.blocks
        changes = [number for number in numbers[1:] if (number in blocks) != (number - 1 in blocks)]
        for first, last in pairwise((start, *(number * BLOCK_BYTES for number in changes), stop)):
            is_structure = first // BLOCK_BYTES in blocks
            yield _Segment(first, last, len(self._names) - (2 if is_structure else 1))

    # JSON

    def as_json(self) -> dict[str, Any]:
        """All of it, as docs/outline.md describes it."""
        file, parts, is_known = self.file, self.parts, self.file.is_of_dataset
        return {
            "file": file.name,
            "object": self._top or "/",
            "size_bytes": file.size_bytes,
            "cached_bytes": file.coverage.cached_bytes if is_known else None,
            "is_of_dataset": is_known,
            "is_complete": file.structure.is_complete,
            "left_out": dict(file.structure.unparsed),
            "block_bytes": BLOCK_BYTES,
            "cached_blocks": _runs(sorted(file.coverage.blocks or ())) if is_known else None,
            "parts": [
                {
                    "name": part.name,
                    "kind": part.kind,
                    "size_bytes": part.size_bytes,
                    "cached_bytes": part.cached_bytes if is_known else None,
                }
                for part in parts
            ],
            "arrays": [
                {
                    "path": one.path,
                    "part": parts[one.part].name,
                    "places": [[place.start, place.stop] for place in one.places],
                    "size_bytes": one.size_bytes,
                    "cached_bytes": one.cached_bytes if is_known else None,
                }
                for one in self.arrays
            ],
        }


def _runs(numbers: Iterable[int]) -> list[list[int]]:
    """Adjacent numbers as the first one, and the one behind the last."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1][1] += 1
        else:
            runs.append([number, number + 1])
    return runs

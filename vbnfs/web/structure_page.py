"""What is in an HDF5 file, and where: its outline as rows, its map as shapes of a picture.

Only the blocks are fetched that have the structure. The structure of a file never changes: that of the last files is
kept; what is cached of them is looked up each time.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Final

import trio

from vbnfs.access.hdf5_objects import open_content
from vbnfs.access.structures import Found, find_in_content
from vbnfs.api.connection import Parts
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.dataset.manifest import DataFile
from vbnfs.hdf5.branches import Wanted
from vbnfs.hdf5.file_map import Cell, FileMap
from vbnfs.hdf5.found_file import Hdf5File
from vbnfs.hdf5.map_colours import colours_of
from vbnfs.hdf5.outline import Item, Outline
from vbnfs.hdf5.outline_words import how_text, typed_text, value_text
from vbnfs.hdf5.structure import ExternalLink, Group, SoftLink

_DEPTH: Final = 2  # levels that are shown below an object
_MOST: Final = 200  # names of a group
_MOST_KEPT: Final = 3  # files
_PER_ROW: Final = 80  # cells of the map
_MOST_ROWS: Final = 24
CELL_WIDTH: Final = 10
CELL_HEIGHT: Final = 14
_BAR: Final = 12  # of a cell's height; the rest parts it from the next row


@dataclass(frozen=True, slots=True)
class Look:
    """A file with what was found of it, and how many bytes came from S3 for that."""

    file: Hdf5File
    fetched_bytes: int


class Structures:
    """The structures of the last files. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, Found] = {}  # by content, the last one used last

    async def look(self, parts: Parts, entry: DataFile, name: str, inner: Sequence[str]) -> Look:
        """A file, and what it has below an object. Raises `Hdf5Error` and `StorageError`."""
        dataset = parts.versions.dataset
        content = await parts.files.content(entry)
        before = await trio.to_thread.run_sync(dataset.cache.recorded, content)

        async def find(wanted: Wanted) -> Found:
            found = self._used(content.content_id)
            if found is None:
                found = await find_in_content(dataset, content, replace(wanted, path=()))
                if found.structure.is_complete:
                    self._keep(content.content_id, found)
                elif wanted.path:
                    found = await find_in_content(dataset, content, wanted)
            return found

        file = await open_content(dataset, content, name, inner, Wanted(places=True, values=True), find)
        came = file.structure.blocks & ((file.coverage.blocks or frozenset()) - before)
        sizes = (min(BLOCK_BYTES, content.size_bytes - number * BLOCK_BYTES) for number in came)
        return Look(file, sum(sizes))

    def _used(self, content_id: str) -> Found | None:
        with self._lock:
            found = self._kept.pop(content_id, None)
            if found is not None:
                self._kept[content_id] = found
            return found

    def _keep(self, content_id: str, found: Found) -> None:
        with self._lock:
            self._kept[content_id] = found
            while len(self._kept) > _MOST_KEPT:
                del self._kept[next(iter(self._kept))]


@dataclass(frozen=True, slots=True)
class Row:
    """A name in the outline, `depth` levels below the top. `target`: where a link leads, or what is left out.

    `is_open`: it is a group whose names stand below it. Sizes are None where they are not known.
    """

    path: str
    name: str
    depth: int
    is_group: bool = False
    is_open: bool = False
    shape: str = ""
    dtype: str = ""
    how: str = ""
    size_bytes: int | None = 0
    cached_bytes: int = 0
    attributes: Sequence[tuple[str, str]] = ()
    target: str = ""


def rows_of(file: Hdf5File) -> list[Row]:
    """The outline of a file, two levels below the object that was asked for."""
    outline = Outline(file)
    return [_row(outline, item) for item in outline.items(depth=_DEPTH, most=_MOST)]


def _row(outline: Outline, item: Item) -> Row:
    named = partial(Row, item.path, item.name, len(item.lasts))
    match item:
        case Item(more=more) if more:
            return named(target=f"{more:,} more names")
        case Item(link=SoftLink(path)):
            return named(target=f"leads to {path}")
        case Item(link=ExternalLink(other, path)):
            return named(target=f"leads to {path} in the file {other}")
        case Item(same_as=str(path)):
            return named(target=f"the same object as {path}")
        case Item(found=None):
            return named(target="not read")
    found = item.found
    assert found is not None
    shape, dtype = typed_text(found)
    return named(
        is_group=isinstance(found, Group),
        is_open=len(item.lasts) < _DEPTH,
        shape=shape,
        dtype=dtype,
        how=how_text(found),
        size_bytes=item.stored.size_bytes if item.stored.is_whole else None,
        cached_bytes=item.stored.cached_bytes,
        attributes=[(name, value_text(outline, one)) for name, one in sorted(found.values.items())],
    )


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the map's picture, in its units. `is_pale`: it stands for what is not cached."""

    left: int
    top: float
    width: int
    height: float
    colour: str
    is_pale: bool


@dataclass(frozen=True, slots=True)
class MapPart:
    """What has a colour of the map: the arrays of a group, the structure, the rest."""

    name: str
    colour: str
    size_bytes: int
    cached_bytes: int


@dataclass(frozen=True, slots=True)
class Picture:
    """The map as shapes, and as the table that says the same in words."""

    width: int
    height: int
    cell_bytes: int
    boxes: Sequence[Box]
    parts: Sequence[MapPart]


def picture_of(file: Hdf5File) -> Picture:
    """Where a file's arrays lie: cells in rows, from its first byte on, filled as far as they are cached."""
    drawn = FileMap(file)
    cell_bytes = drawn.cell_bytes(_PER_ROW * _MOST_ROWS)
    cells, colours = drawn.cells(cell_bytes), colours_of(drawn.parts)
    rows = [cells[first : first + _PER_ROW] for first in range(0, len(cells), _PER_ROW)]
    boxes = [box for number, row in enumerate(rows) for box in _boxes(row, number * CELL_HEIGHT, colours)]
    named = zip(drawn.parts, colours, strict=True)
    parts = [MapPart(part.name, colour, part.size_bytes, part.cached_bytes) for part, colour in named]
    width, height = _PER_ROW * CELL_WIDTH, len(rows) * CELL_HEIGHT
    return Picture(width, height, cell_bytes, boxes, [part for part in parts if part.size_bytes])


def _boxes(row: Sequence[Cell], top: int, colours: Sequence[str]) -> Iterator[Box]:
    left = 0
    for cell, run in groupby(row):
        width, colour = CELL_WIDTH * sum(1 for _ in run), colours[cell.part]
        if cell.share < 1:
            yield Box(left, top, width, _BAR, colour, is_pale=True)
        if cell.share > 0:
            filled = max(2.0, round(_BAR * cell.share, 1))
            yield Box(left, top + _BAR - filled, width, filled, colour, is_pale=False)
        left += width

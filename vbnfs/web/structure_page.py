"""What is in an HDF5 file, and where: its outline as rows, its map as shapes of a picture.

Only the blocks are fetched that have the structure. The structure of a file never changes: that of the last files is
kept; what is cached of them is looked up each time. However large a file's structure is, what is read of it, and the
page, are bounded.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from heapq import nsmallest
from itertools import groupby, islice
from typing import Final

import trio

from vbnfs.access.dataset import Dataset
from vbnfs.access.hdf5_objects import open_content
from vbnfs.access.structures import Found, find_in_content
from vbnfs.api.connection import Parts
from vbnfs.blocks import bytes_of_blocks
from vbnfs.dataset.manifest import DataFile
from vbnfs.hdf5.branches import Bounds, Wanted
from vbnfs.hdf5.file_map import Cell, FileMap
from vbnfs.hdf5.found_file import Hdf5File
from vbnfs.hdf5.map_colours import colours_of
from vbnfs.hdf5.outline import Item, Outline
from vbnfs.hdf5.outline_words import how_text, typed_text, value_text
from vbnfs.hdf5.structure import ExternalLink, Group, Object, SoftLink
from vbnfs.objects import Content

_DEPTH: Final = 2  # levels that are shown below an object
_MOST: Final = 200  # names of a group on a page
_MOST_IN_ALL: Final = 1000  # more than a group's on one level
_MOST_ATTRIBUTES: Final = 50  # of an object
_MOST_LETTERS: Final = 200  # of a name, a type, a value
_MOST_LETTERS_OF_VALUES: Final = 200_000  # of all attributes of a page
_MOST_PATH: Final = 1000  # letters that an address can have
_MOST_KEPT: Final = 3  # files
# A session has some hundreds of objects. What has more than this is for `vbnfs tree`.
_BOUNDS: Final = Bounds(fetched_bytes=32 << 20, index_bytes=16 << 20, objects=20_000)
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
        self._kept: dict[tuple[str, tuple[str, ...]], Found] = {}  # by content and path, the last one used last

    async def look(self, parts: Parts, entry: DataFile, name: str, inner: Sequence[str]) -> Look:
        """A file, and what it has below an object. Raises `Hdf5Error` and `StorageError`."""
        dataset = parts.versions.dataset
        content = await parts.files.content(entry)
        before = await trio.to_thread.run_sync(dataset.cache.recorded, content)

        async def find(wanted: Wanted) -> Found:
            whole = await self._found(dataset, content, replace(wanted, path=()))
            is_enough = whole.structure.is_complete or not wanted.path
            return whole if is_enough else await self._found(dataset, content, wanted)

        file = await open_content(dataset, content, name, inner, Wanted(places=True, values=True), find)
        came = file.structure.blocks & ((file.coverage.blocks or frozenset()) - before)
        return Look(file, bytes_of_blocks(content.size_bytes, came))

    async def _found(self, dataset: Dataset, content: Content, wanted: Wanted) -> Found:
        """What was found before; or is now, and is kept unless a slow machine or server is why it is not all."""
        key, began = (content.content_id, wanted.path), trio.current_time()
        found = self._used(key)
        if found is None:
            found = await find_in_content(dataset, content, wanted, _BOUNDS)
            is_late = trio.current_time() - began > _BOUNDS.seconds
            if found.structure.is_complete or (found.failure is None and not is_late):
                self._keep(key, found)
        return found

    def _used(self, key: tuple[str, tuple[str, ...]]) -> Found | None:
        with self._lock:
            found = self._kept.pop(key, None)
            if found is not None:
                self._kept[key] = found
            return found

    def _keep(self, key: tuple[str, tuple[str, ...]], found: Found) -> None:
        with self._lock:
            self._kept[key] = found
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
    all_attributes: int = 0
    target: str = ""

    @property
    def is_linked(self) -> bool:
        """Whether its name leads to what is in it."""
        return self.is_group and not self.is_open and len(self.path) <= _MOST_PATH


@dataclass(frozen=True, slots=True)
class Rows:
    """A page of an outline: of the names in the object that was asked for, `pages` in all. `page` counts from 1."""

    rows: Sequence[Row]
    page: int
    pages: int


def rows_of(file: Hdf5File, page: int = 1) -> Rows:
    """A page of what is in a file, two levels below the object that was asked for, or one where that is too much."""
    outline, room = Outline(file), _Room(_MOST_LETTERS_OF_VALUES)
    top = file.structure.objects.get(file.start)
    pages = max(1, -(-len(top.links) // _MOST)) if isinstance(top, Group) else 1
    page = max(1, min(page, pages))
    for depth in range(_DEPTH, 0, -1):
        found = outline.items(depth=depth, most=_MOST, first=(page - 1) * _MOST)
        if len(items := list(islice(found, _MOST_IN_ALL + 1))) <= _MOST_IN_ALL:
            break
    return Rows([_row(outline, item, room, depth) for item in items], page, pages)


@dataclass(slots=True)
class _Room:
    """How many letters of attributes a page has room for still."""

    letters: int


def shortened(text: str, most: int = _MOST_LETTERS) -> str:
    """A text, or its beginning and how long it is."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} letters)"


def _attributes(outline: Outline, found: Object, room: _Room) -> list[tuple[str, str]]:
    """The first attributes by name, each with its value, as far as there is room; then how many more there are."""
    shown = list[tuple[str, str]]()
    for name in nsmallest(_MOST_ATTRIBUTES, found.values):
        if room.letters <= 0:
            break
        shown.append((shortened(name), shortened(value_text(outline, found.values[name]))))
        room.letters -= sum(map(len, shown[-1]))
    if more := len(found.values) - len(shown):
        shown.append((f"{more:,} more", "'vbnfs tree' shows all of an object"))
    return shown


def _row(outline: Outline, item: Item, room: _Room, depth: int) -> Row:
    named = partial(Row, item.path, shortened(item.name), len(item.lasts))
    match item:
        case Item(more=more) if more:
            return named(target=f"{more:,} more names")
        case Item(link=SoftLink(path)):
            return named(target=f"leads to {shortened(path)}")
        case Item(link=ExternalLink(other, path)):
            return named(target=f"leads to {shortened(path)} in the file {shortened(other)}")
        case Item(same_as=str(path)):
            return named(target=f"the same object as {shortened(path)}")
        case Item(found=None):
            return named(target="not read")
    found = item.found
    assert found is not None
    shape, dtype = typed_text(found)
    return named(
        is_group=isinstance(found, Group),
        is_open=len(item.lasts) < depth,
        shape=shape,
        dtype=shortened(dtype),
        how=how_text(found),
        size_bytes=item.stored.size_bytes if item.stored.is_whole else None,
        cached_bytes=item.stored.cached_bytes,
        attributes=_attributes(outline, found, room),
        all_attributes=len(found.values),
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
    parts = [MapPart(shortened(part.name), colour, part.size_bytes, part.cached_bytes) for part, colour in named]
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

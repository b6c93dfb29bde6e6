"""The map of an HDF5 file as a picture: which shapes and texts stand where (pure)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final, Literal

from vbnfs.cli.outline_text import cut, cut_path
from vbnfs.cli.render import escape, short_size, size
from vbnfs.hdf5.file_map import Array, Cell, FileMap, Part
from vbnfs.hdf5.map_colours import colours_of, pale
from vbnfs.hdf5.outline_words import percent

_WIDTH: Final = 960
_MARGIN: Final = 24
_LABELS: Final = 64  # left of the cells: where in the file a row begins
_PER_ROW: Final = 106
_CELL: Final = 8
_ROW: Final = 12
_MOST_ROWS: Final = 40
_LINE: Final = 20
_TEXT: Final = 13
_HEAD: Final = 17
INK: Final = "#202020"
_MOST_ARRAYS: Final = 10
_LONGEST_NAME: Final = 60

Anchor = Literal["start", "end"]


@dataclass(frozen=True, slots=True)
class Box:
    """A filled rectangle. Lengths are in CSS pixels, from the top left corner."""

    left: float
    top: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text; it begins (or ends) at `left`, and its baseline is at `baseline`."""

    left: float
    baseline: float
    text: str
    size: float = _TEXT
    anchor: Anchor = "start"
    is_bold: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """Shapes, the lower ones first; and what it shows, in words."""

    width: float
    height: float
    title: str
    description: str
    shapes: Sequence[Box | Text]


def draw(drawn: FileMap) -> Picture:
    """The picture of a map: cells in rows, a legend, and the largest arrays."""
    cell_bytes = drawn.cell_bytes(_PER_ROW * _MOST_ROWS)
    cells = drawn.cells(cell_bytes)
    rows = [cells[first : first + _PER_ROW] for first in range(0, len(cells), _PER_ROW)]
    top = _MARGIN + 3 * _LINE
    legend = top + len(rows) * _ROW + 2 * _LINE
    shown = [number for number, part in enumerate(drawn.parts) if part.size_bytes]
    arrays = sorted(drawn.arrays, key=lambda one: (-one.size_bytes, one.path))[:_MOST_ARRAYS]
    largest = legend + len(shown) * _LINE + 2 * _LINE
    shapes = [
        *_head(drawn, cell_bytes),
        *_grid(drawn, rows, cell_bytes, top),
        *_legend(drawn, shown, legend),
        *_largest(drawn, arrays, largest),
    ]
    height = largest + (len(arrays) + 1) * _LINE if arrays else largest - _LINE
    description = "; ".join(f"{part.name}: {_amounts(drawn, part)}" for part in drawn.parts if part.size_bytes)
    return Picture(_WIDTH, height, _title(drawn), escape(description), shapes)


def _title(drawn: FileMap) -> str:
    file = drawn.file
    return escape("  ".join((Path(file.name).name, *(["/" + "/".join(file.object_path)] * bool(file.object_path)))))


def _head(drawn: FileMap, cell_bytes: int) -> Iterator[Text]:
    file = drawn.file
    yield Text(_MARGIN, _MARGIN + _HEAD, cut(_title(drawn), _LONGEST_NAME + 30), _HEAD, is_bold=True)
    cached, cell = file.coverage.cached_bytes, size(cell_bytes)
    text = f"{size(file.size_bytes)}; a cell is {cell}"
    if file.is_of_dataset:
        share = f"{size(cached)} of it cached ({percent(cached, file.size_bytes)})"
        text = f"{size(file.size_bytes)}, {share}; a cell is {cell}, as high as it is cached (pale: not cached)"
    yield Text(_MARGIN, _MARGIN + _HEAD + _LINE, text)


def _grid(drawn: FileMap, rows: Sequence[Sequence[Cell]], cell_bytes: int, top: float) -> Iterator[Box | Text]:
    colours = colours_of(drawn.parts)
    for number, row in enumerate(rows):
        bottom = top + (number + 1) * _ROW - 2
        if number % 4 == 0:
            start = number * _PER_ROW * cell_bytes
            yield Text(_MARGIN + _LABELS - 8, bottom, short_size(start), anchor="end")
        left: float = _MARGIN + _LABELS
        for cell, run in groupby(row):
            width = _CELL * sum(1 for _ in run)
            yield from _bar(left, bottom, width, cell.share, colours[cell.part])
            left += width


def _bar(left: float, bottom: float, width: float, share: float, colour: str) -> Iterator[Box]:
    """Cells, filled from the bottom as far as they are cached."""
    height = _ROW - 2
    if share < 1:
        yield Box(left, bottom - height, width, height, pale(colour))
    if share > 0:
        filled = max(2.0, round(height * share, 1))
        yield Box(left, bottom - filled, width, filled, colour)


def _legend(drawn: FileMap, shown: Sequence[int], top: float) -> Iterator[Box | Text]:
    colours = colours_of(drawn.parts)
    for row, number in enumerate(shown):
        baseline = top + row * _LINE
        yield from _bar(_MARGIN, baseline + 1, 24, 1, colours[number])
        part = drawn.parts[number]
        yield Text(_MARGIN + 36, baseline, cut(escape(part.name), 40))
        yield from _columns(drawn, part, baseline)


def _largest(drawn: FileMap, arrays: Sequence[Array], top: float) -> Iterator[Box | Text]:
    colours = colours_of(drawn.parts)
    if arrays:
        more = f" of {len(drawn.arrays):,}" if len(drawn.arrays) > len(arrays) else ""
        yield Text(_MARGIN, top - _LINE, f"The largest arrays{more}", is_bold=True)
    for row, one in enumerate(arrays):
        baseline = top + row * _LINE
        yield from _bar(_MARGIN, baseline + 1, 24, 1, colours[one.part])
        yield Text(_MARGIN + 36, baseline, cut_path(escape(one.path), _LONGEST_NAME))
        yield from _columns(drawn, one, baseline)


def _columns(drawn: FileMap, one: Part | Array, baseline: float) -> Iterator[Text]:
    """Right of a name: how much it takes, which share of the file that is, how much of it is cached."""
    file = drawn.file
    yield Text(560, baseline, short_size(one.size_bytes), anchor="end")
    yield Text(680, baseline, f"{percent(one.size_bytes, file.size_bytes)} of the file", anchor="end")
    if file.is_of_dataset:
        yield Text(790, baseline, f"{short_size(one.cached_bytes)} cached", anchor="end")
        yield Text(850, baseline, percent(one.cached_bytes, one.size_bytes), anchor="end")


def _amounts(drawn: FileMap, part: Part) -> str:
    text = f"{size(part.size_bytes)}, {percent(part.size_bytes, drawn.file.size_bytes)} of the file"
    known = f", {percent(part.cached_bytes, part.size_bytes)} of it cached" if drawn.file.is_of_dataset else ""
    return text + known

"""The map of an HDF5 file on a terminal, as lines of text with their styles (pure)."""

from collections.abc import Iterator, Sequence
from typing import Final

from vbnfs.cli.outline_text import columns_of, cut, cut_path
from vbnfs.cli.render import Span, escape, short_size, size
from vbnfs.hdf5.file_map import Array, Cell, FileMap, Part
from vbnfs.hdf5.map_colours import colours_of
from vbnfs.hdf5.outline_words import percent

_ROWS: Final = 12
_LABEL: Final = 7  # columns, with a blank behind
_LEAST, _WIDEST, _PIPED = 20, 120, 80  # columns of a line
_HEIGHTS: Final = "▁▂▃▄▅▆▇█"  # of a cell: as much of it as is cached
_LETTERS: Final = "ABCDEFGHIJ"
_MOST_ARRAYS: Final = 10
_LONGEST_NAME: Final = 40
_SWATCH: Final = 3  # columns


def lines(drawn: FileMap, width: int | None, *, has_colours: bool) -> Iterator[list[Span]]:
    """The lines for a terminal of `width` columns; None: for a file or a pipe.

    Without colours letters stand for the parts: large ones where at least half of a cell is cached.
    """
    width = _PIPED if width is None else max(_LEAST, min(width, _WIDEST))
    swatches = _Coloured(drawn.parts) if has_colours else _Lettered(drawn.parts)
    yield [(_head(drawn), "bold")]
    yield []
    per_row = width - _LABEL
    cell_bytes = drawn.cell_bytes(per_row * _ROWS)
    cells = drawn.cells(cell_bytes)
    for first in range(0, len(cells), per_row):
        label = f"{short_size(first * cell_bytes):>{_LABEL - 1}} "
        yield [(label, ""), *_joined(swatches.cell(cell) for cell in cells[first : first + per_row])]
    yield []
    is_of_dataset = drawn.file.is_of_dataset
    yield [(f"a cell is {size(cell_bytes)}{swatches.explained if is_of_dataset else ''}", "")]
    yield []
    yield from _legend(drawn, swatches)
    yield from _largest(drawn, width)


def _head(drawn: FileMap) -> str:
    file = drawn.file
    name = escape("  ".join((file.name, *(["/" + "/".join(file.object_path)] if file.object_path else []))))
    cached = file.coverage.cached_bytes
    known = f", {size(cached)} of it cached ({percent(cached, file.size_bytes)})" if file.is_of_dataset else ""
    return f"{name}  {size(file.size_bytes)}{known}"


class _Coloured:
    """Cells in colours: as high as they are cached, and dim where nothing of them is."""

    explained: Final = "; as high as it is cached: █ all, ▁ nothing"

    def __init__(self, parts: Sequence[Part]) -> None:
        self._colours = colours_of(parts)

    def cell(self, cell: Cell) -> Span:
        colour = self._colours[cell.part]
        height = 0 if cell.share <= 0 else max(1, int(cell.share * (len(_HEIGHTS) - 1)))
        return _HEIGHTS[height], colour if height else f"dim {colour}"

    def swatch(self, number: int) -> Sequence[Span]:
        return [("██", self._colours[number]), (" ", "")]


class _Lettered:
    """Cells as letters."""

    explained: Final = "; in capitals (# for *, : for .) if at least half of it is cached"

    def __init__(self, parts: Sequence[Part]) -> None:
        arrays = iter(_LETTERS)
        of_kind = {"structure": "#*", "other": ":."}
        self._letters = [
            of_kind[part.kind] if part.kind in of_kind else (letter := next(arrays)) + letter.lower()
            for part in parts
        ]

    def cell(self, cell: Cell) -> Span:
        return self._letters[cell.part][cell.share < 1 / 2], ""

    def swatch(self, number: int) -> Sequence[Span]:
        return [(f"{self._letters[number]} ", "")]


def _joined(spans: Iterator[Span]) -> list[Span]:
    """Adjacent texts of one style as one."""
    joined: list[Span] = []
    for text, style in spans:
        if joined and joined[-1][1] == style:
            joined[-1] = joined[-1][0] + text, style
        else:
            joined.append((text, style))
    return joined


def _legend(drawn: FileMap, swatches: _Coloured | _Lettered) -> Iterator[list[Span]]:
    shown = [(number, part) for number, part in enumerate(drawn.parts) if part.size_bytes]
    names = [cut(escape(part.name), _LONGEST_NAME) for _, part in shown]
    widest = max(map(columns_of, names), default=0)
    yield [(" " * (_SWATCH + widest) + _titles(drawn), "")]
    for name, (number, part) in zip(names, shown, strict=True):
        text = name + " " * (widest - columns_of(name)) + _amounts(drawn, part)
        yield [*swatches.swatch(number), (text, "")]


def _titles(drawn: FileMap) -> str:
    return f"{'size':>7}  of file{'   cached' if drawn.file.is_of_dataset else ''}"


def _amounts(drawn: FileMap, one: Part | Array) -> str:
    """How much it takes, which share of the file that is, and how much of it is cached."""
    file = drawn.file
    text = f"{short_size(one.size_bytes):>7}  {percent(one.size_bytes, file.size_bytes):>7}"
    if not file.is_of_dataset:
        return text
    return f"{text}  {short_size(one.cached_bytes):>7}  {percent(one.cached_bytes, one.size_bytes):>5}"


def _largest(drawn: FileMap, width: int) -> Iterator[list[Span]]:
    arrays = sorted(drawn.arrays, key=lambda one: (-one.size_bytes, one.path))
    if not arrays:
        return
    more = f" of {len(arrays):,}" if len(arrays) > _MOST_ARRAYS else ""
    yield []
    yield [(f"the largest arrays{more}:", "")]
    yield [(cut(f"begins{_titles(drawn)}", width), "")]
    for one in arrays[:_MOST_ARRAYS]:
        before = f"{short_size(one.places[0].start):>6}{_amounts(drawn, one)}  "
        yield [(cut(before + cut_path(escape(one.path), max(_LEAST, width - len(before))), width), "")]

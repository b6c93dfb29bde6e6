"""An outline of an HDF5 file as lines for a person (pure)."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from vbnfs.cli.render import escape, short_size, size
from vbnfs.hdf5.outline import Item, Outline, Stored
from vbnfs.hdf5.outline_words import how_text, percent, typed_text, value_text
from vbnfs.hdf5.structure import (
    ExternalLink,
    Group,
    SoftLink,
)

_GAP: Final = "  "
_LEAST_NAME: Final = 24  # columns of a terminal
_LONGEST: Final = {1: 24, 2: 32}  # of the columns: shapes and types, which the JSON has whole
_DRAWN: Final = {True: "   ", False: "│  "}  # below a name that is the last of its group, or is not
_NUMBERS: Final = frozenset({3, 4, 5})  # which columns are flush right


@dataclass(frozen=True, slots=True)
class _Row:
    """A name behind what draws the tree, and the columns; without columns it is one text."""

    name: str
    columns: tuple[str, ...] = ()


def head(outline: Outline) -> str:
    """What was asked for, how large the file is, and how much of it is cached."""
    file = outline.file
    name = escape(file.name) + (escape(f"  {outline.top}") if file.object_path else "")
    if not file.is_of_dataset:
        return f"{name}  {size(file.size_bytes)}"
    cached = file.coverage.cached_bytes
    return f"{name}  {size(file.size_bytes)}, {size(cached)} of it cached ({percent(cached, file.size_bytes)})"


def lines(outline: Outline, *, depth: int | None, most: int, width: int | None) -> Iterator[str]:
    """A line for each name, and for each attribute whose value is known; columns stand one below the other.

    At most `most` names of a group are shown (0: all). On a terminal of `width` columns lines are cut to it.
    """
    rows = list(_rows(outline, depth, most))
    titles = _Row(
        "", ("", "shape", "type", "size", *(("cached", "") if outline.file.is_of_dataset else ()), "stored")
    )
    if any(row.columns for row in rows):
        rows.insert(0, titles)
    widths = _widths(rows, width)
    for row in rows:
        line = _line(row, widths) if row.columns else row.name
        yield line if width is None else cut(line, width)


def _widths(rows: Sequence[_Row], width: int | None) -> list[int]:
    """How wide each column is, the name's first. The last one is as wide as there is room."""
    table = [(row.name, *row.columns[1:]) for row in rows if row.columns]
    widths = [
        max((columns_of(row[at]) for row in table), default=0) for at in range(len(table[0]) - 1 if table else 0)
    ]
    widths = [min(one, _LONGEST.get(at, one)) for at, one in enumerate(widths)]
    if width is not None and widths:
        widths[0] = min(widths[0], max(_LEAST_NAME, width - sum(widths[1:]) - len(_GAP) * len(widths)))
    return widths


def _line(row: _Row, widths: Sequence[int]) -> str:
    *parts, last = (row.name, *row.columns[1:])
    filled = []
    for at, (part, width) in enumerate(zip(parts, widths, strict=True)):
        text = cut(part, width)
        blanks = " " * (width - columns_of(text))
        filled.append(blanks + text if at in _NUMBERS else text + blanks)
    return _GAP.join((*filled, last)).rstrip()


def _rows(outline: Outline, depth: int | None, most: int) -> Iterator[_Row]:
    for item in outline.items(depth=depth, most=most):
        above = "".join(_DRAWN[last] for last in item.lasts[:-1])
        before = above + ("└─ " if item.lasts[-1] else "├─ ") if item.lasts else ""
        if item.more:
            yield _Row(f"{before}... {item.more:,} more ('--most 0' shows all)")
            continue
        yield _row(outline, item, before)
        has_members = isinstance(item.found, Group) and bool(item.found.links) and len(item.lasts) != depth
        inner = "".join(_DRAWN[last] for last in item.lasts) + _DRAWN[not has_members]
        yield from _attribute_rows(outline, item, inner)


def _row(outline: Outline, item: Item, before: str) -> _Row:
    name = before + escape(item.name)
    match item.link:
        case SoftLink(path):
            return _Row(f"{name} -> {escape(path)}")
        case ExternalLink(file, path):
            return _Row(f"{name} -> {escape(path)} in the file {escape(file)}")
    if item.same_as is not None:
        return _Row(f"{name} = {escape(item.same_as)}")
    if item.found is None:
        return _Row(f"{name}  not read")
    slash = "/" if isinstance(item.found, Group) and not item.name.endswith("/") else ""
    stored = _stored_columns(item.stored, is_of_dataset=outline.file.is_of_dataset)
    return _Row(name + slash, ("", *map(escape, typed_text(item.found)), *stored, escape(how_text(item.found))))


def _stored_columns(stored: Stored, *, is_of_dataset: bool) -> tuple[str, ...]:
    if not stored.is_whole:
        return ("?", "?", "") if is_of_dataset else ("?",)
    if not stored.size_bytes:
        return ("-", "", "") if is_of_dataset else ("-",)
    shares = (short_size(stored.cached_bytes), percent(stored.cached_bytes, stored.size_bytes))
    return (short_size(stored.size_bytes), *(shares if is_of_dataset else ()))


def _attribute_rows(outline: Outline, item: Item, before: str) -> Iterator[_Row]:
    if item.found is not None:
        for name, one in sorted(item.found.values.items()):
            yield _Row(f"{before}@{escape(name)} = {escape(value_text(outline, one))}")


def columns_of(text: str) -> int:
    """How many columns of a terminal a text takes (UAX #11: wide characters take two, combining ones none)."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut_path(path: str, width: int) -> str:
    """The end of a path in so many columns at most, as `cut` does it with beginnings: its last name says most."""
    return cut(path[::-1], width)[::-1]


def cut(text: str, width: int) -> str:
    """A text in so many columns at most; "..." stands for what was cut off."""
    if columns_of(text) <= width:
        return text
    while text and columns_of(text) > width - 3:
        text = text[: -max(1, (columns_of(text) - width + 3) // 2)]
    return f"{text}..."

"""Rows as JSON and as Markdown, and Markdown as what the picture shows (pure)."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from benchmarks.speed.results import DEFAULT_SHAPE, LIMITS, Row, Work

HEADERS: Final = ("system", "median", "range", "to best peer", "to limit", "vbnfs to it", "meanwhile")
_TABLE: Final = re.compile(r"\|\s*work\s*\|\s*system\s*\|\s*median\s*\|")
_MEDIAN: Final = re.compile(r"([\d,.]+)\s*(.*)")


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows as JSON takes them."""
    names = ("system", "value", "least", "most", "runs", "to_best_peer", "to_limit", "vbnfs_to_it")
    return [
        {
            **dict(zip(("shape", "transport", "profile"), row.place, strict=True)),
            **{name: getattr(row, name) for name in names},
            "work": row.work.name,
            "unit": row.work.unit,
            "extra": dict(row.extra),
        }
        for row in rows
    ]


def title(place: tuple[str, str, str]) -> str:
    """A table's heading: `near, https`, and the shape, unless it is the usual one."""
    shape, transport, profile = place
    return f"{profile}, {transport}" + ("" if shape == DEFAULT_SHAPE else f", {shape}")


def cells(row: Row) -> list[str]:
    """A row's texts, in the order of `HEADERS`."""
    extra = ", ".join(f"{number(value)} {name}" for name, value in row.extra.items())
    value = f"{number(row.value)} {row.work.unit}"
    spread = f"{number(row.least)}-{number(row.most)}" if row.runs > 1 else "one run"
    ratios = [_ratio_text(one) for one in (row.to_best_peer, row.to_limit, row.vbnfs_to_it)]
    return [row.system, value, spread, *ratios, extra]


def number(value: float) -> str:
    """Three digits that mean something; whole numbers from 100 on, with separators."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _ratio_text(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if 0.1 <= value < 100 else number(value)


def markdown(rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """The rows as Markdown tables, one for each place, and notes as a list below."""
    lines: list[str] = []
    before: tuple[str, str, str] | None = None
    for row in rows:
        if row.place != before:
            before = row.place
            lines += ["", f"### {title(row.place)}", ""]
            lines += ["| " + " | ".join(("work", *HEADERS)) + " |", "|---" * (len(HEADERS) + 1) + "|"]
        lines.append("| " + " | ".join([row.work.name, *cells(row)]) + " |")
    lines += ["", *(f"- {note}" for note in notes)] if notes else []
    return "\n".join(lines[1:]) + "\n"


def pictured(text: str, works: Sequence[Work]) -> dict[str, Any]:
    """What the picture shows, from the tables of a document that are like those of `markdown`.

    A line is a heading and a work: its cells are texts by system, and `scores` how far each one is ahead of the best
    that is no limit (1 and more: none is better). Columns are the systems, vbnfs first and limits last.
    """
    less = {work.name for work in works if not work.more_is_better}
    found: dict[tuple[str, str], dict[str, tuple[float, str]]] = {}
    for heading, work, system, median in _medians(text):
        match = _MEDIAN.fullmatch(median)
        if match is not None:
            value = float(match[1].replace(",", ""))
            found.setdefault((heading, work), {})[system] = value, median
    systems = sorted(dict.fromkeys(name for row in found.values() for name in row), key=_column)
    lines = [
        {
            "title": f"{work} ({heading})",
            "cells": {name: cell[1] for name, cell in row.items()},
            "scores": _scores({name: cell[0] for name, cell in row.items()}, less_is_better=work in less),
        }
        for (heading, work), row in found.items()
    ]
    return {"systems": systems, "lines": lines}


def _column(system: str) -> tuple[int, str]:
    return (0 if system.startswith("vbnfs") else 2 if system in LIMITS else 1), system


def _scores(values: dict[str, float], *, less_is_better: bool) -> dict[str, float]:
    """By system that is no limit: to the best of the others, and 1 where it is alone (pure)."""
    scores = {}
    compared = {name: value for name, value in values.items() if name not in LIMITS and value}
    for name, value in compared.items():
        others = [other for system, other in compared.items() if system != name] or [value]
        scores[name] = min(others) / value if less_is_better else value / max(others)
    return scores


def _medians(text: str) -> Iterable[tuple[str, str, str, str]]:
    """Heading, work, system and median of each row of a document's tables of results."""
    heading, is_inside = "", False
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").replace("`", "")
        is_inside = line.startswith("|") and (is_inside or _TABLE.match(line) is not None)
        if is_inside and not line.startswith("|---") and not _TABLE.match(line):
            work, system, median = (cell.strip() for cell in line.split("|")[1:4])
            yield heading, work, system, median

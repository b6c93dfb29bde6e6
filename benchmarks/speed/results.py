"""From samples to a table (pure): medians, and ratios to the best peer and to the limit.

A ratio above 1 always means that the system is ahead, whether more or less of a figure is better.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Work:
    """A row: what is measured, in which unit, and which system is its limit."""

    name: str
    unit: str
    more_is_better: bool
    limit: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. `extra` holds what else was counted meanwhile: by unit, which is its name, too."""

    profile: str
    transport: str
    work: str
    system: str
    value: float
    extra: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """The medians of one system at one work; ratios are None where there is nothing to compare with."""

    profile: str
    transport: str
    work: Work
    system: str
    value: float
    least: float
    most: float
    runs: int
    to_best_peer: float | None
    to_limit: float | None
    extra: Mapping[str, float]


_NO_PEERS: Final = frozenset({"curl", "zeros", "local"})  # limits and floors


def is_ours(system: str) -> bool:
    """Whether a system is vbnfs, with whatever options."""
    return system.partition(" ")[0] == "vbnfs"


def is_peer(system: str) -> bool:
    """Whether a system is an alternative for users."""
    return not is_ours(system) and system not in _NO_PEERS


def median_extra(samples: Sequence[Sample]) -> dict[str, float]:
    """The medians of all that was counted."""
    names = dict.fromkeys(name for sample in samples for name in sample.extra)
    return {name: statistics.median(s.extra[name] for s in samples if name in s.extra) for name in names}


def rows_of(samples: Iterable[Sample], works: Sequence[Work]) -> list[Row]:
    """The rows in the order of `works`, with the systems in the order in which they came."""
    cells: dict[tuple[str, str, str], dict[str, list[Sample]]] = {}
    for sample in samples:
        cell = cells.setdefault((sample.transport, sample.profile, sample.work), {})
        cell.setdefault(sample.system, []).append(sample)
    order = {work.name: number for number, work in enumerate(works)}
    by_name = {work.name: work for work in works}
    ordered = sorted(cells, key=lambda cell: (cell[0], cell[1], order[cell[2]]))
    return [row for cell in ordered for row in _cell_rows(by_name[cell[2]], cells[cell])]


def _cell_rows(work: Work, by_system: Mapping[str, Sequence[Sample]]) -> list[Row]:
    medians = {name: statistics.median(s.value for s in samples) for name, samples in by_system.items()}
    peers = [value for name, value in medians.items() if is_peer(name)]
    best = None if not peers else max(peers) if work.more_is_better else min(peers)
    limit = None if work.limit is None else medians.get(work.limit)
    return [_row(work, samples, medians[name], best, limit) for name, samples in by_system.items()]


def _row(work: Work, samples: Sequence[Sample], median: float, best: float | None, limit: float | None) -> Row:
    values = [sample.value for sample in samples]
    first = samples[0]
    return Row(
        profile=first.profile,
        transport=first.transport,
        work=work,
        system=first.system,
        value=median,
        least=min(values),
        most=max(values),
        runs=len(values),
        to_best_peer=ratio(work, median, best) if is_ours(first.system) else None,
        to_limit=ratio(work, median, limit) if first.system not in _NO_PEERS else None,
        extra=median_extra(samples),
    )


def ratio(work: Work, value: float, other: float | None) -> float | None:
    """How far `value` is ahead of another one; None where there is none, or where it is 0."""
    above, below = (value, other) if work.more_is_better else (other, value)
    return None if not above or not below else above / below


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows as JSON takes them."""
    return [
        {
            **{
                name: getattr(row, name)
                for name in ("profile", "transport", "system", "value", "least", "most", "runs")
            },
            **{name: getattr(row, name) for name in ("to_best_peer", "to_limit")},
            "work": row.work.name,
            "unit": row.work.unit,
            "extra": dict(row.extra),
        }
        for row in rows
    ]


def cells(row: Row) -> list[str]:
    """A row's texts: system, median, range, ratio to the best peer, to the limit, and what else was counted."""
    extra = ", ".join(f"{number(value)} {name}" for name, value in row.extra.items())
    value = f"{number(row.value)} {row.work.unit}"
    spread = f"{number(row.least)}-{number(row.most)}" if row.runs > 1 else "one run"
    return [row.system, value, spread, _ratio_text(row.to_best_peer), _ratio_text(row.to_limit), extra]


HEADERS: Final = ("system", "median", "range", "to best peer", "to limit", "meanwhile")


def number(value: float) -> str:
    """Three digits that mean something; whole numbers from 100 on, with separators."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _ratio_text(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def markdown(rows: Sequence[Row]) -> str:
    """The rows as Markdown tables, one for each transport and profile."""
    lines: list[str] = []
    before: tuple[str, str] | None = None
    for row in rows:
        if (row.transport, row.profile) != before:
            before = (row.transport, row.profile)
            lines += ["", f"### {row.profile}, {row.transport}", ""]
            lines += ["| " + " | ".join(("work", *HEADERS)) + " |", "|---" * (len(HEADERS) + 1) + "|"]
        lines.append("| " + " | ".join([row.work.name, *cells(row)]) + " |")
    return "\n".join(lines[1:]) + "\n"

"""From samples to rows (pure): medians, and paired ratios.

A ratio compares figures of one run, to the best of the others in that run; a row has the median of all runs' ratios.
Above 1 always means that the system is ahead, whether more or less of a figure is better.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

DEFAULT_SHAPE: Final = "session"


@dataclass(frozen=True, slots=True)
class Work:
    """A row: what is measured, in which unit, and which systems are its limits: the best of them counts."""

    name: str
    unit: str
    more_is_better: bool
    limits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement in a run. `extra` holds what else was counted meanwhile: by unit, which is its name, too."""

    profile: str
    transport: str
    work: str
    system: str
    value: float
    extra: Mapping[str, float] = field(default_factory=dict)
    run: int = 0
    shape: str = DEFAULT_SHAPE

    @property
    def place(self) -> tuple[str, str, str]:
        """Shape, transport and profile: a table each."""
        return self.shape, self.transport, self.profile


@dataclass(frozen=True, slots=True)
class Row:
    """The medians of one system at one work in one place; ratios are None where there is nothing to compare with.

    `to_best_peer` is that of vbnfs, with whatever options; `to_limit` its and that of its peers; `vbnfs_to_it` is how
    far vbnfs as it is, is ahead of another system.
    """

    place: tuple[str, str, str]
    work: Work
    system: str
    value: float
    least: float
    most: float
    runs: int
    to_best_peer: float | None
    to_limit: float | None
    vbnfs_to_it: float | None
    extra: Mapping[str, float]


OURS: Final = "vbnfs"
LIMITS: Final = frozenset({"curl", "curl-24", "zeros", "local"})  # and floors


def is_ours(system: str) -> bool:
    """Whether a system is vbnfs, with whatever options."""
    return system.partition(" ")[0] == OURS


def is_peer(system: str) -> bool:
    """Whether a system is an alternative for users."""
    return not is_ours(system) and system not in LIMITS


def median_extra(samples: Sequence[Sample]) -> dict[str, float]:
    """The medians of all that was counted."""
    names = dict.fromkeys(name for sample in samples for name in sample.extra)
    return {name: statistics.median(s.extra[name] for s in samples if name in s.extra) for name in names}


def rows_of(samples: Iterable[Sample], works: Sequence[Work]) -> list[Row]:
    """The rows in the order of `works`, with the systems in the order in which they came."""
    cells: dict[tuple[tuple[str, str, str], str], dict[str, list[Sample]]] = {}
    for sample in samples:
        cell = cells.setdefault((sample.place, sample.work), {})
        cell.setdefault(sample.system, []).append(sample)
    order = {work.name: number for number, work in enumerate(works)}
    ordered = sorted(cells, key=lambda cell: (cell[0][0] != DEFAULT_SHAPE, cell[0], order[cell[1]]))
    return [row for cell in ordered for row in _cell_rows(works[order[cell[1]]], cells[cell])]


def _cell_rows(work: Work, by_system: Mapping[str, Sequence[Sample]]) -> list[Row]:
    peers = [sample for name, samples in by_system.items() if is_peer(name) for sample in samples]
    limits = [sample for name in work.limits for sample in by_system.get(name, ())]
    ours = by_system.get(OURS, ())
    return [
        _row(
            work,
            samples,
            to_best_peer=paired(work, samples, peers) if is_ours(name) else None,
            to_limit=None if name in LIMITS else paired(work, samples, limits),
            vbnfs_to_it=None if name == OURS else paired(work, ours, samples),
        )
        for name, samples in by_system.items()
    ]


def _row(
    work: Work,
    samples: Sequence[Sample],
    *,
    to_best_peer: float | None,
    to_limit: float | None,
    vbnfs_to_it: float | None,
) -> Row:
    values = [sample.value for sample in samples]
    return Row(
        place=samples[0].place,
        work=work,
        system=samples[0].system,
        value=statistics.median(values),
        least=min(values),
        most=max(values),
        runs=len(values),
        to_best_peer=to_best_peer,
        to_limit=to_limit,
        vbnfs_to_it=vbnfs_to_it,
        extra=median_extra(samples),
    )


def paired(work: Work, samples: Iterable[Sample], others: Iterable[Sample]) -> float | None:
    """How far samples are ahead of the best others of the same run: the median over the runs that have both."""
    values: dict[int, list[float]] = {}
    for other in others:
        values.setdefault(other.run, []).append(other.value)
    best = max if work.more_is_better else min
    ratios = [ratio(work, one.value, best(values[one.run])) for one in samples if one.run in values]
    known = [one for one in ratios if one is not None]
    return statistics.median(known) if known else None


def ratio(work: Work, value: float, other: float) -> float | None:
    """How far `value` is ahead of another one; None where one of them is 0."""
    above, below = (value, other) if work.more_is_better else (other, value)
    return None if not above or not below else above / below

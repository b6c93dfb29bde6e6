"""What is read of a session's or a probe's file for the figures of a quick look, and no more than that."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import numpy as np

from vbnfs.web.figures import Figure, Floats, lfp_figure, running_figure, unit_figures, waveform_figure
from vbnfs.web.look_arrays import array_at, groups_in, number_at, values_of
from vbnfs.web.quick_looks import LFP, RUNNING, RUNNING_SPEED, UNIT, WAVEFORM, AskedLook

_MOST_CHANNELS: Final = 12
_MOST_UNITS: Final = 20_000  # a page has the numbers of all
_MOST_POINTS: Final = 400_000  # that a page draws

Found = tuple[list[Figure], list[int]]  # figures, and the units that can be asked for


def figures_of(file: Any, asked: AskedLook) -> Found:
    """The figures of a look into a file that is open in h5py.

    Raises what h5py and NumPy do where the file has something else than such files have, and `ValueError`.
    """
    figures, units = _LOOKS[asked.kind](file, asked)
    points = sum(len(one.x) * len(one.series) for one in figures)
    if points > _MOST_POINTS:
        raise ValueError(f"{points:,} points are too many to be drawn")
    return figures, units


def _unit(file: Any, asked: AskedLook) -> Found:
    units, row, unit = _unit_of(file, asked)
    return [*unit_figures(unit, _ragged(file, "spike_times", row), _changes(file))], units


def _waveform(file: Any, asked: AskedLook) -> Found:
    units, row, unit = _unit_of(file, asked)
    return [waveform_figure(unit, _ragged(file, "waveform_mean", row))], units


def _unit_of(file: Any, asked: AskedLook) -> tuple[list[int], int, int]:
    """All units, the row of the one that is asked for, and its id."""
    ids = array_at(file, "units/id")
    if len(ids) > _MOST_UNITS:
        raise ValueError(f"{len(ids):,} units are too many for a quick look")
    units = [int(one) for one in values_of(ids)]
    if not units:
        raise ValueError("it has no units")
    if asked.unit is None:
        return units, 0, units[0]
    if asked.unit not in units:
        raise ValueError(f"it has no unit {asked.unit}; the first of its {len(units):,} units is {units[0]}")
    return units, units.index(asked.unit), asked.unit


def _ragged(file: Any, name: str, row: int) -> Floats:
    """A row of a column whose rows differ in length (NWB's `VectorIndex`: where each one ends)."""
    ends = array_at(file, f"units/{name}_index")
    bounds = [0, *(int(one) for one in ends[max(0, row - 1) : row + 1])]
    values = array_at(file, f"units/{name}")
    if row >= len(ends) or not 0 <= bounds[-2] <= bounds[-1] <= len(values):
        raise ValueError(f"units/{name}_index does not say where the values of this unit are")
    return values_of(values, bounds[-2], bounds[-1])


def _changes(file: Any) -> Floats:
    """When the stimulus changed, by all tables of presentations that say so."""
    tables, found = list[tuple[Any, Any]](), list[Floats]()
    with suppress(LookupError):
        for table in groups_in(file, "intervals"):
            with suppress(LookupError, TypeError, ValueError):  # it says nothing of changes
                tables.append((array_at(table, "start_time"), array_at(table, "is_change")))
    for starts, is_change in tables:
        found.append(values_of(starts)[values_of(is_change) == 1])
    times = np.sort(np.concatenate(found)) if found else np.empty(0)
    return times[np.isfinite(times)]


def _running(file: Any, asked: AskedLook) -> Found:
    times, data = (array_at(file, f"{RUNNING_SPEED}/{name}") for name in ("timestamps", "data"))
    _check_lengths(times, data)
    return [running_figure(values_of(times), _in_its_unit(data, values_of(data)))], []


def _lfp(file: Any, asked: AskedLook) -> Found:
    data, times = _lfp_arrays(file)
    _check_lengths(times, data)
    begin, stop = (float(times[at]) for at in (0, -1))
    if not 0 < stop - begin < np.inf:
        raise ValueError("its times do not go up")
    if asked.start >= stop - begin:
        raise ValueError(f"it is {stop - begin:,.1f} s long; nothing is there from second {asked.start:,g} on")
    rate = (len(times) - 1) / (stop - begin)
    first = min(int(asked.start * rate), len(times) - 2)
    last = min(len(times), first + max(2, int(asked.seconds * rate)))
    volts = _in_its_unit(data, values_of(data, first, last))
    channels = range(0, volts.shape[1], max(1, -(-volts.shape[1] // _MOST_CHANNELS)))
    return [lfp_figure(values_of(times, first, last) - begin, volts[:, list(channels)], channels)], []


def _lfp_arrays(file: Any) -> tuple[Any, Any]:
    """The voltages of a probe's file, and their times."""
    for outer in groups_in(file, "acquisition"):
        for name in outer:
            if name.endswith("_lfp_data"):
                return array_at(outer, f"{name}/data"), array_at(outer, f"{name}/timestamps")
    raise ValueError("it has no LFP")


def _check_lengths(times: Any, data: Any) -> None:
    if len(times) != len(data):
        raise ValueError(f"it has {len(data):,} samples, and times of {len(times):,}")


def _in_its_unit(array: Any, values: Floats) -> Floats:
    """Values of a `TimeSeries` in its unit: as NWB has it, stored value times `conversion`, plus `offset`."""
    return values * number_at(array, "conversion", 1.0) + number_at(array, "offset", 0.0)


_LOOKS: Final[Mapping[str, Callable[[Any, AskedLook], Found]]] = {
    UNIT: _unit,
    WAVEFORM: _waveform,
    RUNNING: _running,
    LFP: _lfp,
}

"""Quick looks into a session's or a probe's file: what is read of it for a figure, and no more than that."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vbnfs.api.connection import Parts
from vbnfs.api.files import File
from vbnfs.dataset.manifest import DataFile
from vbnfs.errors import Hdf5Error
from vbnfs.web.figures import Figure, Floats, lfp_figure, running_figure, unit_figures, waveform_figure

UNIT: Final = "unit"
WAVEFORM: Final = "waveform"
RUNNING: Final = "running"
LFP: Final = "lfp"
TITLES: Final[Mapping[str, str]] = {
    UNIT: "A unit's spikes around changes of the stimulus",
    WAVEFORM: "A unit's mean waveform",
    RUNNING: "Running speed",
    LFP: "A stretch of LFP",
}
_LONGEST_SECONDS: Final = 5.0  # of LFP
_MOST_CHANNELS: Final = 12
_MOST_VALUES: Final = 8_000_000  # that are read of one array
# What h5py and NumPy raise where a file has something else at a path than such files have.
_UNEXPECTED: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
_RUNNING: Final = "/processing/running/speed"
_NEEDED: Final[Mapping[str, Sequence[str]]] = {
    UNIT: ("/units/id", "/units/spike_times", "/units/spike_times_index"),
    WAVEFORM: ("/units/id", "/units/waveform_mean", "/units/waveform_mean_index"),
    RUNNING: (f"{_RUNNING}/data", f"{_RUNNING}/timestamps"),
}


@dataclass(frozen=True, slots=True)
class AskedLook:
    """Which figure is wanted; of which unit (None: the first one), or from which second on, and how many."""

    kind: str
    unit: int | None = None
    start: float = 0.0
    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class QuickLook:
    """Figures, and how many bytes came from S3 for them. `units` are those that can be asked for."""

    asked: AskedLook
    figures: Sequence[Figure]
    units: Sequence[int]
    fetched_bytes: int


def offered(paths: Collection[str]) -> list[tuple[str, str]]:
    """The looks into a file that has objects at these paths: kind and title."""
    kinds = [kind for kind, needed in _NEEDED.items() if all(path in paths for path in needed)]
    kinds += [LFP] * any(_is_lfp(path) for path in paths)
    return [(kind, TITLES[kind]) for kind in kinds]


def _is_lfp(path: str) -> bool:
    return path.startswith("/acquisition/") and path.endswith("_lfp_data/data")


def asked_of(query: Mapping[str, str]) -> AskedLook:
    """What an address asks for. Numbers that are none are as if they were not there."""
    kind, unit = query.get("look", ""), query.get("unit", "")
    seconds = min(_number(query.get("seconds"), 1.0), _LONGEST_SECONDS) or 1.0
    is_number = unit.isascii() and unit.isdigit() and len(unit) < 19
    return AskedLook(kind, int(unit) if is_number else None, _number(query.get("start"), 0.0), seconds)


def _number(text: str | None, default: float) -> float:
    try:
        value = float(text or default)
    except ValueError:
        return default
    return value if 0 <= value < 1e7 else default


def look_into(file: File, asked: AskedLook) -> QuickLook:
    """The figures of a look. Raises `Hdf5Error` for a file that has not what is needed, `OSError` from S3."""
    before = file.connection.run(_cached_bytes, file.entry)
    try:
        with file.h5() as opened:
            figures, units = _LOOKS[asked.kind](opened, asked)
    except _UNEXPECTED as error:
        what = TITLES.get(asked.kind, asked.kind)
        raise Hdf5Error(f"{file.path}: no such figure can be made ({what.lower()}): {error}") from error
    after = file.connection.run(_cached_bytes, file.entry)
    return QuickLook(asked, figures, units, max(0, after - before))


async def _cached_bytes(parts: Parts, entry: DataFile) -> int:
    """How much of a file is here, what came just now included."""
    content = await parts.files.content(entry)
    await parts.files.readers.source.writer.written(content)
    return await parts.files.cached_bytes(content)


def _unit(file: Any, asked: AskedLook) -> tuple[list[Figure], list[int]]:
    units, row, unit = _unit_of(file, asked)
    return unit_figures(unit, _ragged(file, "spike_times", row), _changes(file)), units


def _waveform(file: Any, asked: AskedLook) -> tuple[list[Figure], list[int]]:
    units, row, unit = _unit_of(file, asked)
    return [waveform_figure(unit, _ragged(file, "waveform_mean", row))], units


def _unit_of(file: Any, asked: AskedLook) -> tuple[list[int], int, int]:
    """All units, the row of the one that is asked for, and its id."""
    units = [int(one) for one in _read(file["units/id"])]
    if not units:
        raise ValueError("it has no units")
    if asked.unit is None:
        return units, 0, units[0]
    if asked.unit not in units:
        raise ValueError(f"it has no unit {asked.unit}; the first of its {len(units):,} units is {units[0]}")
    return units, units.index(asked.unit), asked.unit


def _ragged(file: Any, name: str, row: int) -> Floats:
    """A row of a column whose rows differ in length (NWB's `VectorIndex`: where each one ends)."""
    ends = file[f"units/{name}_index"]
    bounds = [0, *(int(one) for one in ends[max(0, row - 1) : row + 1])]
    values = file[f"units/{name}"]
    if row >= len(ends) or not 0 <= bounds[-2] <= bounds[-1] <= len(values):
        raise ValueError(f"units/{name}_index does not say where the values of this unit are")
    return _read(values, bounds[-2], bounds[-1])


def _changes(file: Any) -> Floats:
    """When the stimulus changed, by all tables of presentations that say so."""
    found = []
    for table in _groups(file["intervals"]) if "intervals" in file else ():
        if "is_change" in table and "start_time" in table and table["is_change"].dtype.kind in "biuf":
            found.append(_read(table["start_time"])[_read(table["is_change"]) == 1])
    times = np.sort(np.concatenate(found)) if found else np.empty(0)
    return times[np.isfinite(times)]


def _groups(outer: Any) -> Iterator[Any]:
    """The groups in a group. Links that lead nowhere, or in a circle, are passed over."""
    for name in outer:
        with suppress(KeyError, RuntimeError):
            if hasattr(found := outer[name], "items"):
                yield found


def _running(file: Any, asked: AskedLook) -> tuple[list[Figure], list[int]]:
    series = file[_RUNNING]
    times, data = series["timestamps"], series["data"]
    _check_lengths(times, data)
    return [running_figure(_read(times), _in_its_unit(data, _read(data)))], []


def _lfp(file: Any, asked: AskedLook) -> tuple[list[Figure], list[int]]:
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
    volts = _in_its_unit(data, _read(data, first, last))
    channels = range(0, volts.shape[1], max(1, -(-volts.shape[1] // _MOST_CHANNELS)))
    return [lfp_figure(_read(times, first, last) - begin, volts[:, list(channels)], channels)], []


def _lfp_arrays(file: Any) -> tuple[Any, Any]:
    """The voltages of a probe's file, and their times."""
    for outer in _groups(file["acquisition"]):
        for name in outer:
            if name.endswith("_lfp_data"):
                return outer[name]["data"], outer[name]["timestamps"]
    raise ValueError("it has no LFP")


def _check_lengths(times: Any, data: Any) -> None:
    if len(times) != len(data):
        raise ValueError(f"it has {len(data):,} samples, and times of {len(times):,}")


def _in_its_unit(array: Any, values: Floats) -> Floats:
    """Values of a `TimeSeries` in its unit: as NWB has it, stored value times `conversion`, plus `offset`."""
    return values * float(array.attrs.get("conversion", 1.0)) + float(array.attrs.get("offset", 0.0))


def _read(array: Any, start: int = 0, stop: int | None = None) -> Floats:
    """Rows of an array. Raises `ValueError` where that is too much for a look."""
    rows = (array.shape[0] if stop is None else stop) - start
    count = rows * math.prod(array.shape[1:])
    if count > _MOST_VALUES:
        raise ValueError(f"{count:,} values are too many for a quick look")
    return np.asarray(array[start : start + rows], dtype=np.float64)


_LOOKS: Final[Mapping[str, Callable[[Any, AskedLook], tuple[list[Figure], list[int]]]]] = {
    UNIT: _unit,
    WAVEFORM: _waveform,
    RUNNING: _running,
    LFP: _lfp,
}

"""What the NWB files of a release have in common: how a column, a series and a file come to be.

Nothing is chunked or compressed, as in the real files; so a large array is one contiguous extent. The same contents
give the same bytes (with the same versions of pynwb, hdmf, h5py and HDF5): ids that the libraries would draw are
derived from the file's name, dates are the session's, and HDF5 keeps no times of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.core import VectorData, VectorIndex
from pynwb.file import Subject

from vbnfs.demo.chance import object_id

Floats: TypeAlias = npt.NDArray[np.float64]

_NOTE = "Drawn numbers in the form of the Visual Behavior Neuropixels dataset: no animal was recorded."


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """A column whose rows have any number of values: row i is `values[ends[i - 1]:ends[i]]`."""

    values: Any
    ends: npt.NDArray[np.int64]


def ragged(values: Any, counts: Sequence[int] | npt.NDArray[np.int64]) -> Ragged:
    """Cut `values` into rows of `counts` values."""
    return Ragged(values, np.cumsum(np.asarray(counts, dtype=np.int64)))


def columns(values: Mapping[str, Any]) -> list[VectorData]:
    """Turn named columns (arrays, lists, Ragged) into those of a DynamicTable."""
    made: list[VectorData] = []
    for name, value in values.items():
        stored = value.values if isinstance(value, Ragged) else value
        data = VectorData(name=name, description=name.replace("_", " "), data=stored)
        made.append(data)
        if isinstance(value, Ragged):
            made.append(VectorIndex(name=f"{name}_index", target=data, data=value.ends))
    return made


def series(name: str, data: Any, unit: str, timestamps: Any) -> TimeSeries:
    """Make a TimeSeries; `timestamps` in seconds, or another series to share them with."""
    return TimeSeries(name=name, data=data, unit=unit, timestamps=timestamps, description=name.replace("_", " "))


def new_file(session_id: int, started: datetime, session_type: str, mouse: Mapping[str, Any]) -> NWBFile:
    """Make an empty file for a session; `mouse` gives mouse_id, genotype, sex and age_in_days."""
    return NWBFile(
        session_description=f"{session_type}. {_NOTE}",
        identifier=str(session_id),
        session_id=str(session_id),
        session_start_time=started,
        file_create_date=started,
        keywords=["visual", "behavior", "neuropixels", "synthetic"],
        subject=Subject(
            subject_id=str(mouse["mouse_id"]),
            genotype=str(mouse["genotype"]),
            sex=str(mouse["sex"]),
            age=f"P{mouse['age_in_days']}D",
            species="Mus musculus",
        ),
    )


def write(path: Path, file: NWBFile) -> None:
    """Write `file`; the ids of its objects follow from the name of `path` and their places in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for place, child in enumerate(_objects(file)):
        # hdmf draws a UUID for each object as it is made and offers no way to give it another.
        child._AbstractContainer__object_id = object_id(path.name, place)
    with NWBHDF5IO(str(path), mode="w") as io:
        io.write(file, expandable=())  # else the columns of tables would be chunked


def _objects(container: Any) -> Iterator[Any]:
    yield container
    for child in container.children:
        yield from _objects(child)

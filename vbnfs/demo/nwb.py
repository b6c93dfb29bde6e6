"""What the NWB files of a release have in common: how a column, a series and a file are made.

As in the real files, nothing is chunked or compressed, so a large array is one contiguous extent. The same contents
give the same bytes (with the same versions of pynwb, hdmf, h5py and HDF5): ids that the libraries would draw are
derived from the file's name, dates are the session's, and HDF5 stores no times of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.core import VectorData, VectorIndex

from vbnfs.demo.chance import object_id
from vbnfs.demo.extensions import extension_type

STIMULUS_FRAME_RATE = 60.0  # of the monitor, per second

Floats: TypeAlias = npt.NDArray[np.float64]
Change: TypeAlias = Callable[[NWBFile], None]

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


def new_file(session_id: int, session: Mapping[str, Any], metadata: Any = None) -> NWBFile:
    """Make a file with nothing but the metadata of its session, a row of one of the tables of sessions.

    `metadata` replaces the fields that AllenSDK requires of a session without imaging.
    """
    file = NWBFile(
        session_description=f"{session['session_type']}. {_NOTE}",
        identifier=str(session_id),
        session_id=str(session_id),
        session_start_time=session["date_of_acquisition"],
        file_create_date=session["date_of_acquisition"],
        keywords=["visual", "behavior", "neuropixels", "synthetic"],
        subject=_subject(session),
    )
    fields = behavior_metadata(session, "NeuropixelVisualBehavior")
    file.add_lab_meta_data(metadata or extension_type("BehaviorMetadata")(**fields))
    return file


def behavior_metadata(session: Mapping[str, Any], project_code: str) -> dict[str, Any]:
    """Return the fields of the extension type BehaviorMetadata for a row of one of the tables of sessions."""
    return {
        "name": "metadata",
        "behavior_session_id": int(session["behavior_session_id"]),
        "behavior_session_uuid": object_id("behavior session", session["behavior_session_id"]),
        "equipment_name": str(session["equipment_name"]),
        "project_code": project_code,
        "session_type": str(session["session_type"]),
        "stimulus_frame_rate": STIMULUS_FRAME_RATE,
    }


def _subject(mouse: Mapping[str, Any]) -> Any:
    """The mouse. Its genotype names the lines: in `Sst-IRES-Cre/wt;Ai32(...)/wt` one drives, one reports."""
    lines = [allele.rpartition("/")[0] for allele in str(mouse["genotype"]).split(";")]
    drivers = [line for line in lines if line.endswith("-Cre")]
    reporters = [line for line in lines if line.startswith("Ai")]
    return extension_type("BehaviorSubject")(
        subject_id=str(mouse["mouse_id"]),
        genotype=str(mouse["genotype"]),
        driver_line=drivers or None,
        reporter_line=reporters[0] if reporters else "None",
        sex=str(mouse["sex"]),
        age=f"P{mouse['age_in_days']}D",
        species="Mus musculus",
    )


def unchanged(file: NWBFile) -> None:
    """Leave a file as the real ones are."""


def write(path: Path, file: NWBFile) -> None:
    """Write `file`; the ids of its objects depend on the name of `path` and on their places in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for place, child in enumerate(_objects(file)):
        # hdmf draws a UUID for each new object and has no public way to replace it.
        child._AbstractContainer__object_id = object_id(path.name, place)
    with _Writer(str(path), mode="w") as io:
        io.write(file, expandable=())  # else the columns of tables would be chunked


class _Writer(NWBHDF5IO):  # type: ignore[misc] # it ships no types
    """Writes the table of electrodes as a plain table, as NWB did until 2.7 and as the real files have it.

    The libraries that AllenSDK works with know no other type; newer ones read both.
    """

    def write_builder(self, builder: Any, **options: Any) -> None:
        electrodes = builder.groups["general"].groups.get("extracellular_ephys", {}).get("electrodes")
        if electrodes is not None:
            electrodes.attributes.update(neurodata_type="DynamicTable", namespace="hdmf-common")
        super().write_builder(builder, **options)


def _objects(container: Any) -> Iterator[Any]:
    yield container
    for child in container.children:
        yield from _objects(child)

"""A small release of the dataset: the files of every version, and which version has which files.

Between the versions there is each kind of change that the real dataset has:

    0.1.0   sessions in one folder, `ecephys_sessions/`
    0.2.0   another units.csv, and nothing else
    0.4.0   a folder for each session, so their files are renamed; the second's is corrected (as many bytes, others);
            LFP and behavior-only files are new; channels.csv is uploaded anew with the same bytes
    0.5.0   LFP and all sessions but the last are scaled anew; units have a quality; of the behavior-only files the
            second is uploaded anew with the same bytes, the last is gone and another is new

This module writes local files; `vbnfs.demo.upload` uploads them to S3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vbnfs.demo.cohort import Cohort, make_cohort, records
from vbnfs.demo.lfp_file import write_lfp
from vbnfs.demo.scale import ReleaseScale
from vbnfs.demo.session_file import Processing, write_behavior_session, write_ecephys_session
from vbnfs.demo.tables import STEMS, write_tables

VERSIONS = ("0.1.0", "0.2.0", "0.4.0", "0.5.0")

_FIRST = Processing()
_CORRECTED = Processing(reward_volume=0.007)
_RESCALED = Processing(waveform_scale=0.195)
_LFP_VOLTS = {"0.4.0": 4.69e-6, "0.5.0": 1.95e-7}


@dataclass(frozen=True, slots=True)
class LocalVersion:
    """One dataset version before its upload.

    `metadata` maps a table's stem, and `data` a file id, to the file's path relative to the project; `sources` maps
    these paths to local files. `anew` are paths that are uploaded again though their bytes have not changed.
    """

    version: str
    metadata: Mapping[str, str]
    data: Mapping[int, str]
    sources: Mapping[str, Path]
    anew: frozenset[str]


@dataclass(frozen=True, slots=True)
class LocalRelease:
    """A release in a local directory, oldest version first."""

    directory: Path
    cohort: Cohort
    versions: tuple[LocalVersion, ...]


def make_release(
    directory: Path,
    seed: int = 0,
    *,
    scale: ReleaseScale | None = None,
    report: Callable[[str], None] = lambda message: None,
) -> LocalRelease:
    """Write the files of a release into `directory` and describe them.

    The same seed and scale give the same bytes, with the same versions of numpy, pandas, h5py, hdmf and pynwb and on
    the same kind of processor. `report` is called with a message before each file is written.
    """
    cohort = make_cohort(seed, scale or ReleaseScale())
    made: set[Path] = set()
    versions = []
    for version in VERSIONS:
        files = list(_files(cohort, version))
        for file in files:
            source = directory / file.source
            if source not in made:
                report(f"making {file.source}")
                file.write(source)
                made.add(source)
        versions.append(_local_version(directory, cohort, version, files))
    return LocalRelease(directory, cohort, tuple(versions))


@dataclass(frozen=True, slots=True)
class _File:
    """A data file of one version: its owner, its path in the project, and the function that writes it.

    Two versions with the same `source`, a path in the local directory, have the same bytes.
    """

    owner: int  # id of a probe, an ecephys session or a behavior session
    path: str
    source: str
    write: Callable[[Path], None]


def _local_version(directory: Path, cohort: Cohort, version: str, files: list[_File]) -> LocalVersion:
    number = tuple(int(part) for part in version.split("."))
    file_ids = {file.owner: file_id for file_id, file in enumerate(files)}
    tables = directory / version / "project_metadata"
    write_tables(tables, cohort, number, file_ids)
    metadata = {stem: f"project_metadata/{stem}.csv" for stem in STEMS}
    sources = {path: tables / f"{stem}.csv" for stem, path in metadata.items()}
    sources |= {file.path: directory / file.source for file in files}
    data = {file_id: file.path for file_id, file in enumerate(files)}
    return LocalVersion(version, metadata, data, sources, _anew(cohort, version))


def _anew(cohort: Cohort, version: str) -> frozenset[str]:
    if version == "0.4.0":
        return frozenset({"project_metadata/channels.csv"})
    trainings = _trainings(cohort, version)
    if version == "0.5.0" and len(trainings) > 2:
        return frozenset({_training_path(trainings[1])})
    return frozenset()


def _files(cohort: Cohort, version: str) -> Iterator[_File]:
    """Yield a version's data files in the order of their file ids: probes, sessions, behavior-only sessions."""
    sessions: list[dict[str, Any]] = records(cohort.ecephys_sessions)
    if version in _LFP_VOLTS:
        for session in sessions:
            yield from _lfp_files(cohort, version, session)
    for index, session in enumerate(sessions):
        yield _session_file(cohort, version, index, session)
    for row in _trainings(cohort, version):
        path = _training_path(row)
        yield _File(
            int(row["behavior_session_id"]), path, path, partial(write_behavior_session, cohort=cohort, row=row)
        )


def _lfp_files(cohort: Cohort, version: str, session: dict[str, Any]) -> Iterator[_File]:
    session_id, volts = int(session["ecephys_session_id"]), _LFP_VOLTS[version]
    for probe in records(cohort.probes_of(session_id)):
        if probe["has_lfp_data"]:
            path = f"behavior_ecephys_sessions/{session_id}/probe_{probe['name']}_lfp.nwb"
            yield _File(
                int(probe["ecephys_probe_id"]),
                path,
                f"{version}/{path}",
                partial(write_lfp, cohort=cohort, session=session, probe=probe, volts=volts),
            )


def _session_file(cohort: Cohort, version: str, index: int, session: dict[str, Any]) -> _File:
    session_id = int(session["ecephys_session_id"])
    name = f"ecephys_session_{session_id}.nwb"
    nested = version in _LFP_VOLTS
    path = f"behavior_ecephys_sessions/{session_id}/{name}" if nested else f"ecephys_sessions/{name}"
    since, processing = _processing(version, index, last=index == len(cohort.ecephys_sessions) - 1)
    return _File(
        session_id,
        path,
        f"{since}/ecephys_sessions/{name}",
        partial(write_ecephys_session, cohort=cohort, row=session, processing=processing),
    )


def _processing(version: str, index: int, *, last: bool) -> tuple[str, Processing]:
    """Return the processing of a session's file in `version`, and the first version with that processing."""
    if version == "0.5.0" and not last:
        return "0.5.0", _RESCALED
    if version in _LFP_VOLTS and index == 1:
        return "0.4.0", _CORRECTED
    return "0.1.0", _FIRST


def _trainings(cohort: Cohort, version: str) -> list[dict[str, Any]]:
    """Return the behavior-only sessions that have a file: all but the newest, and later all but the one before it."""
    rows = records(cohort.behavior_only())
    if version not in _LFP_VOLTS or not rows:
        return []
    return rows[:-1] if version == "0.4.0" else [*rows[:-2], rows[-1]]


def _training_path(row: dict[str, Any]) -> str:
    session_id = int(row["behavior_session_id"])
    return f"behavior_only_sessions/{session_id}/behavior_session_{session_id}.nwb"

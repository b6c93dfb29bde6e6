"""What a course reads: genuine sessions, each with the LFP of a probe, made on the spot and kept; their manifest."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.speed.files import BUCKET, PROJECT, VERSION, Files, stored, version_id
from vbnfs.demo.cohort import make_cohort, records
from vbnfs.demo.lfp_file import write_lfp
from vbnfs.demo.scale import ReleaseScale
from vbnfs.demo.session_file import Processing, write_ecephys_session

_LFP_VOLTS: Final = 1.95e-7
_SEED: Final = 21
_MANIFEST: Final = f"{PROJECT}_project_manifest_v{VERSION}.json"


@dataclass(frozen=True, slots=True)
class Size:
    """How large a course's sessions are; how many are read together, and how many in each other part.

    `idle_seconds`: for how long it is waited at the most, before each measurement, until the processors are idle.
    """

    name: str
    together: int
    others: int
    release: ReleaseScale
    idle_seconds: float = 0.0

    @property
    def sessions(self) -> int:
        """How many are made: those read together, and others before a proxy that is damaged, killed, and back."""
        return self.together + 3 * self.others


def _release(sessions: int, units: int, spikes: int, seconds: int) -> ReleaseScale:
    return ReleaseScale(
        ecephys_sessions=sessions,
        behavior_sessions=0,
        probes=6,
        units_per_session=units,
        spikes_per_unit=spikes,
        session_seconds=seconds,
        lfp_seconds=12,
    )


SIZES: Final = {
    size.name: size
    for size in (
        Size("small", 2, 1, _release(5, 44, 8_000, 300)),
        Size("real", 4, 1, _release(7, 425, 11_000, 2_250), idle_seconds=30.0),
    )
}


@dataclass(frozen=True, slots=True)
class Course:
    """The files by their names in the dataset, in pairs: a session, and the LFP of one of its probes."""

    files: Files
    pairs: Sequence[tuple[str, str]]
    size: Size

    @property
    def together(self) -> Sequence[tuple[str, str]]:
        """What all read at the same time."""
        return self.pairs[: self.size.together]

    @property
    def damaged(self) -> Sequence[tuple[str, str]]:
        """What the site cache has wrong."""
        return self.pairs[self.size.together :][: self.size.others]

    @property
    def killed(self) -> Sequence[tuple[str, str]]:
        """While this is read, the site cache is killed."""
        return self.pairs[self.size.together + self.size.others :][: self.size.others]

    @property
    def after(self) -> Sequence[tuple[str, str]]:
        """What is read when the site cache is back."""
        return self.pairs[self.size.together + 2 * self.size.others :][: self.size.others]


def make_course(directory: Path, size: Size) -> Course:
    """The files, in a folder of their own below `directory`: made if they are not there."""
    place = directory / f"course-{size.name}"
    manifest = place / _MANIFEST
    if not manifest.exists():
        print(f"making {size.sessions} sessions", flush=True)
        pairs = _write(place, size.release)
        new = manifest.with_suffix(".new")
        new.write_text(_manifest(place, pairs))
        new.replace(manifest)  # the last to be written, and whole or not at all
    names = [str(path.relative_to(place)) for path in sorted(place.glob("*/*/*.nwb"))]
    sessions = [name for name in names if "ecephys_session" in Path(name).name]
    pairs = [(name, next(one for one in names if one != name and _folder(one) == _folder(name))) for name in sessions]
    objects = [stored(f"{PROJECT}/{name}", place / name) for name in names]
    objects.append(stored(f"{PROJECT}/manifests/{_MANIFEST}", manifest))
    return Course(Files(place, tuple(objects)), pairs, size)


def _folder(name: str) -> Path:
    return Path(name).parent


def _write(place: Path, release: ReleaseScale) -> list[tuple[str, str]]:
    cohort = make_cohort(_SEED, release)
    pairs = []
    for number, session in enumerate(records(cohort.ecephys_sessions), start=1):
        folder = f"behavior_ecephys_sessions/{number}"
        pair = f"{folder}/ecephys_session_{number}.nwb", f"{folder}/probe_{number}_lfp.nwb"
        (place / folder).mkdir(parents=True, exist_ok=True)
        write_ecephys_session(place / pair[0], cohort, session, Processing())
        probe: dict[str, Any] = next(
            row
            for row in records(cohort.probes_of(int(session["ecephys_session_id"])))
            if row["has_lfp_data"]
        )  # fmt: skip
        write_lfp(place / pair[1], cohort, session, probe, _LFP_VOLTS)
        pairs.append(pair)
    return pairs


def _manifest(place: Path, pairs: Sequence[tuple[str, str]]) -> str:
    names = [name for pair in pairs for name in pair]
    return json.dumps({
        "project_name": PROJECT,
        "manifest_version": VERSION,
        "data_pipeline": [{"name": "AllenSDK", "version": "2.16.2", "comment": ""}],
        "metadata_file_id_column_name": "file_id",
        "metadata_files": {},
        "data_files": {str(number): _entry(place, name) for number, name in enumerate(names)},
    })  # fmt: skip


def _entry(place: Path, name: str) -> dict[str, str]:
    key = f"{PROJECT}/{name}"
    with (place / name).open("rb") as file:
        file_hash = hashlib.file_digest(file, "blake2b").hexdigest()
    url = f"https://{BUCKET}.s3.us-west-2.amazonaws.com/{key}"
    return {"url": url, "version_id": version_id(key), "file_hash": file_hash}

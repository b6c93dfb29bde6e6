"""What is read in the measurements: genuine files of the real ones' size and shape, made on the spot and kept.

Of each shape (`shapes.py`) a session, the LFP of one probe, and the five tables, with which AllenSDK opens them. And
sixteen more sessions for programs that read at the same time: these have the first one's bytes (hard links), and
names of their own. Their manifest gives no hash, so no system can know that they are equal.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.speed.shapes import Shape
from vbnfs.demo.cohort import make_cohort, records
from vbnfs.demo.lfp_file import write_lfp
from vbnfs.demo.nwb import unchanged
from vbnfs.demo.session_file import Processing, write_ecephys_session
from vbnfs.demo.tables import STEMS, write_tables

BUCKET: Final = "visual-behavior-neuropixels-data"
PROJECT: Final = "visual-behavior-neuropixels"
VERSION: Final = "0.5.0"
MORE_SESSIONS: Final = 16

SESSION: Final = "behavior_ecephys_sessions/1/ecephys_session_1.nwb"
LFP: Final = "behavior_ecephys_sessions/1/probe_probeA_lfp.nwb"
TABLES: Final = {stem: f"project_metadata/{stem}.csv" for stem in STEMS}
UNITS: Final = TABLES["units"]
MANIFEST: Final = f"{PROJECT}_project_manifest_v{VERSION}.json"
MORE: Final = tuple(
    f"behavior_ecephys_sessions/{number}/ecephys_session_{number}.nwb" for number in range(2, 2 + MORE_SESSIONS)
)

CACHE_DIR: Final = "allensdk"  # in a mount: what AllenSDK takes for a cache_dir that it has filled itself

_TABLE_BYTES: Final = 132_000_000
_LFP_VOLTS: Final = 1.95e-7


@dataclass(frozen=True, slots=True)
class Stored:
    """An object of the bucket, and the local file with its bytes."""

    key: str
    path: Path
    size_bytes: int
    version_id: str
    modified_seconds: int


@dataclass(frozen=True, slots=True)
class Files:
    """The files by their path in the project, and all objects: these, and the manifest."""

    directory: Path
    objects: tuple[Stored, ...]

    def path(self, name: str) -> Path:
        """The local file of a path in the project."""
        return self.directory / name

    def size_bytes(self, name: str) -> int:
        """Its size."""
        return self.path(name).stat().st_size

    def digest(self, name: str) -> str:
        """BLAKE2b (RFC 7693, 64 bytes, hexadecimal) of the local file."""
        return _blake2b(self.path(name))


def make_files(directory: Path, *, shape: Shape, scale: float, seed: int) -> Files:
    """The files in a folder of their own below `directory`, made if they are not there; `scale` 1.0 is real size."""
    place = directory / f"files-{shape.name}-{scale:g}-{seed}"
    done = place / MANIFEST
    if not done.exists():
        place.mkdir(parents=True, exist_ok=True)
        print(f"making {shape.about}: minutes, once", flush=True)
        _write_files(place, shape, scale, seed)
        for name in MORE:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).unlink(missing_ok=True)
            os.link(place / SESSION, place / name)
        _replace(done, manifest(place))
    names = (SESSION, LFP, *TABLES.values(), *MORE)
    objects = [stored(f"{PROJECT}/{name}", place / name) for name in names]
    return Files(place, (*objects, stored(f"{PROJECT}/manifests/{MANIFEST}", done)))


def stored(key: str, path: Path) -> Stored:
    """A local file as an object; its version id follows from its key."""
    status = path.stat()
    return Stored(key, path, status.st_size, version_id(key), int(status.st_mtime))


def version_id(key: str) -> str:
    """32 characters, as S3's are."""
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest().upper()


def manifest(directory: Path) -> str:
    """The manifest of the files in `directory`. The id of a data file is its place in SESSION, LFP, MORE."""
    data = [_entry(name, _blake2b(directory / name)) for name in (SESSION, LFP)]
    data += [_entry(name, "unknown") for name in MORE]
    return json.dumps({
        "project_name": PROJECT,
        "manifest_version": VERSION,
        "data_pipeline": [{"name": "AllenSDK", "version": "2.16.2", "comment": ""}],
        "metadata_file_id_column_name": "file_id",
        "metadata_files": {stem: _entry(name, _blake2b(directory / name)) for stem, name in TABLES.items()},
        "data_files": {str(number): entry for number, entry in enumerate(data)},
    })  # fmt: skip


def repeat_rows(lines: list[str], at_least_bytes: int) -> Iterable[str]:
    """A table's header, and its rows again and again until there are enough bytes (pure)."""
    yield lines[0]
    total_bytes = len(lines[0])
    for line in itertools.cycle(lines[1:]):
        if total_bytes >= at_least_bytes:
            return
        total_bytes += len(line)
        yield line


def _write_files(place: Path, shape: Shape, scale: float, seed: int) -> None:
    cohort = make_cohort(seed, shape.release(scale))
    session: dict[str, Any] = records(cohort.ecephys_sessions)[0]
    probe = next(row for row in records(cohort.probes) if row["has_lfp_data"])
    change = shape.change(scale)
    write_ecephys_session(place / SESSION, cohort, session, Processing(), change)
    write_lfp(place / LFP, cohort, session, probe, _LFP_VOLTS, change if shape.has_lfp else unchanged)
    file_ids = {int(session["ecephys_session_id"]): 0, int(probe["ecephys_probe_id"]): 1}
    write_tables((place / UNITS).parent, cohort, (0, 5, 0), file_ids)
    _lengthen(place / UNITS, round(_TABLE_BYTES * scale))


def _lengthen(table: Path, at_least_bytes: int) -> None:
    """The real columns; real rows would take too long to draw, so they repeat."""
    lines = table.read_text().splitlines(keepends=True)
    with table.open("w") as file:
        file.writelines(repeat_rows(lines, at_least_bytes))


def _entry(name: str, file_hash: str) -> dict[str, str]:
    key = f"{PROJECT}/{name}"
    url = f"https://{BUCKET}.s3.us-west-2.amazonaws.com/{key}"
    return {"url": url, "version_id": version_id(key), "file_hash": file_hash}


def _blake2b(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _replace(path: Path, text: str) -> None:
    """The last to be written, and whole or not at all: where it is, the rest is, too."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)

"""A file of a version: where its bytes come from, what of them is here, and lines of programs that open it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

import trio

from vbnfs.access.opening import url_of
from vbnfs.access.versions import Versions
from vbnfs.api.connection import Parts
from vbnfs.cache.pins import read_pins
from vbnfs.dataset.kinds import kind_of
from vbnfs.dataset.manifest import DataFile, Manifest
from vbnfs.dataset.names import MANIFESTS
from vbnfs.host.places import folder_at
from vbnfs.objects import Content
from vbnfs.web.copied import Lines

_HDF5: Final = frozenset({".nwb", ".h5", ".hdf5"})
_TABLES: Final = frozenset({".csv"})


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file as it is now. `elsewhere`: version and path, wherever the same bytes are.

    `verified` is the text of `user.vbnfs.verified`; `local_path` is where all of it stands in the cache, checked.
    """

    version: str
    path: str
    place: str
    kind: str
    size_bytes: int
    cached_bytes: int
    verified: str
    file_hash: str | None
    url: str
    version_id: str | None
    elsewhere: Sequence[tuple[str, str]]
    pins: Sequence[str]
    local_path: Path | None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The end of its name."""
        return PurePosixPath(self.path).suffix.lower()

    @property
    def is_hdf5(self) -> bool:
        """Whether it is an HDF5 file, by its name."""
        return self.suffix in _HDF5

    @property
    def is_verified(self) -> bool:
        """Whether all of it is here, and its hash is the manifest's."""
        return not self.verified.startswith("no:")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a program opens the file: lines of it; None where the program needs a path, and there is none."""

    name: str
    code: str | None


def entry_at(manifest: Manifest, path: str) -> DataFile | None:
    """The file of a version at a path; None where there is none."""
    parts = tuple(path.split("/"))
    return next((file for file in manifest.files if file.path == parts), None)


def place_of(manifest: Manifest, entry: DataFile) -> str:
    """Where a file is in a mount."""
    return f"{MANIFESTS}/{manifest.dataset_version.folder}/{'/'.join(entry.path)}"


def versions_with(versions: Versions, entry: DataFile) -> list[tuple[str, str]]:
    """The versions that have a file's bytes, with its path there, the newest first."""
    wanted, of = versions.named.of(entry).content_id, versions.named.of
    return [
        (manifest.dataset_version.text, "/".join(file.path))
        for manifest in reversed(versions.release.manifests)
        for file in manifest.files
        if of(file).content_id == wanted
    ]


@dataclass(frozen=True, slots=True)
class State:
    """What is here of a file, as far as it can change."""

    content: Content
    cached_bytes: int
    verified: str
    local_path: Path | None
    pins: Sequence[str]


async def state_of(parts: Parts, entry: DataFile) -> State:
    """What is here of a file. Raises a `StorageError` where its size cannot be had."""
    content = await parts.files.content(entry)
    return State(
        content,
        await parts.files.cached_bytes(content),
        await parts.files.verified(content),
        await parts.files.checked_path(content),
        await trio.to_thread.run_sync(partial(_pins_of, parts, content.content_id)),
    )


def _pins_of(parts: Parts, content_id: str) -> list[str]:
    pins, _ = read_pins(folder_at(parts.versions.dataset.config.cache_dir))
    return sorted(pin.name for pin in pins if content_id in pin.sizes)


def facts_of(versions: Versions, manifest: Manifest, entry: DataFile, state: State) -> FileFacts:
    """All that a page says of a file."""
    source = entry.version
    return FileFacts(
        version=manifest.dataset_version.text,
        path="/".join(entry.path),
        place=place_of(manifest, entry),
        kind=kind_of(entry.path).kind,
        size_bytes=state.content.size_bytes,
        cached_bytes=state.cached_bytes,
        verified=state.verified,
        file_hash=entry.file_hash,
        url=url_of(versions.dataset.config, source),
        version_id=source.version_id,
        elsewhere=versions_with(versions, entry),
        pins=state.pins,
        local_path=state.local_path,
    )


def of_dataset(facts: FileFacts) -> str:
    """The file, of a dataset in Python, without a mount."""
    return f"version({facts.version!r}).file({facts.path!r})"


def recipes(facts: FileFacts, path: Path | None, lines: Lines) -> list[Recipe]:
    """How programs open the file. `path` is where this machine has it: in a mount, or whole in the cache."""
    text = None if path is None else str(path)
    in_python = f"{lines.dataset}.{of_dataset(facts)}"
    if facts.suffix in _TABLES:
        return _of_a_table(facts, text, lines)
    if not facts.is_hdf5:
        return [Recipe("Python", f"import vbnfs\n\ndata = {in_python}.read_bytes()")]
    found = [Recipe("h5py", _h5py(in_python, text))]
    if facts.suffix == ".nwb":
        found.append(Recipe("pynwb", _pynwb(in_python, text)))
    in_matlab = None if text is None else f"path = {_matlab(text)};\nh5disp(path)"
    in_r = None if text is None else f"library(rhdf5)\npath <- {json.dumps(text, ensure_ascii=False)}\nh5ls(path)"
    return [*found, Recipe("MATLAB", in_matlab), Recipe("R", in_r)]


def _h5py(in_python: str, path: str | None) -> str:
    if path is None:
        return f"import vbnfs\n\nwith {in_python}.h5() as file:\n    print(list(file))"
    return f"import h5py\n\nwith h5py.File({path!r}) as file:\n    print(list(file))"


def _pynwb(in_python: str, path: str | None) -> str:
    if path is None:
        return f"import vbnfs\n\nnwb = {in_python}.nwb()"
    return f"import pynwb\n\nnwb = pynwb.NWBHDF5IO({path!r}, 'r', load_namespaces=True).read()"


def _of_a_table(facts: FileFacts, path: str | None, lines: Lines) -> list[Recipe]:
    table = facts.name.removesuffix(".csv")
    in_python = f"import vbnfs\n\ntable = {lines.dataset}.version({facts.version!r}).table({table!r})"
    if path is None:
        return [Recipe("Python", in_python), Recipe("MATLAB", None), Recipe("R", None)]
    return [
        Recipe("pandas", f"import pandas\n\ntable = pandas.read_csv({path!r})"),
        Recipe("MATLAB", f"table = readtable({_matlab(path)});"),
        Recipe("R", f"table <- read.csv({json.dumps(path, ensure_ascii=False)})"),
    ]


def _matlab(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

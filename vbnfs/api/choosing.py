"""Which files a program means: as it names them, and as access/ has them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from vbnfs.access.wanted import Wanted
from vbnfs.api.files import File
from vbnfs.dataset.manifest import DatasetVersion
from vbnfs.dataset.names import MANIFESTS

Files: TypeAlias = File | str | Sequence[File | str]
Lfp: TypeAlias = bool | str | Sequence[str]  # probes


def wanted_of(
    files: Files,
    in_version: str | None,
    sessions: str | None,
    behavior_only: str | None,
    having: Mapping[str, str] | None,
    lfp: Lfp,
) -> Wanted:
    """What is asked for, of a version; None: of the newest one. Raises `ValueError` where that is nothing."""
    if not files and sessions is None and behavior_only is None:
        raise ValueError("name files, or sessions='...' ('all' for every session), or behavior_only='...'")
    paths = tuple(places_of(files, in_version))
    return Wanted(paths, sessions, behavior_only, lfp_text(lfp), in_version, tuple((having or {}).items()))


def places_of(files: Files, in_version: str | None) -> list[str]:
    """Where files are in the dataset's tree; those that are named by text are of a version."""
    each: Iterable[File | str] = [files] if isinstance(files, File | str) else files
    return [_place_of(one, in_version) if isinstance(one, str) else one.place for one in each]


def _place_of(path: str, in_version: str | None) -> str:
    """A path below the folder of the version, or with that folder: `v0.5.0/project_metadata`."""
    path = path.strip("/").removeprefix(f"{MANIFESTS}/")
    if in_version is None:
        return f"{MANIFESTS}/{path}" if re.match(r"v\d", path) else path
    folder = DatasetVersion(in_version).folder
    inside = "" if path == folder else path.removeprefix(f"{folder}/")
    return f"{MANIFESTS}/{folder}/{inside}".rstrip("/")


def lfp_text(lfp: Lfp) -> str:
    """Which LFP is wanted, as commands have it: `yes`, `no`, or probes as `A,B`."""
    if isinstance(lfp, bool):
        return "yes" if lfp else "no"
    return lfp if isinstance(lfp, str) else ",".join(lfp) or "no"

"""Which files a program means: as it names them, and as access/ has them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Final, TypeAlias

from vbnfs.access.wanted import Wanted
from vbnfs.api.arguments import path_text, text, texts
from vbnfs.api.files import File
from vbnfs.dataset.manifest import DatasetVersion
from vbnfs.dataset.names import MANIFESTS

Named: TypeAlias = File | str | PathLike[str]
Files: TypeAlias = Named | Iterable[Named]
Lfp: TypeAlias = bool | str | Sequence[str]  # probes

QUERY: Final = "experience_level == 'Novel'"  # an example


def wanted_of(
    files: Files,
    in_version: str | None,
    sessions: str | None,
    behavior_only: str | None,
    having: Mapping[str, str] | None,
    lfp: Lfp,
) -> Wanted:
    """What is asked for, of a version; None: of the newest one. Raises `ValueError` where that is nothing."""
    paths = tuple(places_of(files, in_version))
    if not paths and sessions is None and behavior_only is None:
        raise ValueError("name files, or sessions='...' ('all' for every session), or behavior_only='...'")
    for query in (sessions, behavior_only):
        if query is not None:
            text(query, "a query", QUERY)
    return Wanted(paths, sessions, behavior_only, lfp_text(lfp), in_version, tuple(conditions_of(having).items()))


def conditions_of(having: Mapping[str, str] | None) -> dict[str, str]:
    """Queries by the names of the tables that they are of. Raises `TypeError` for anything else."""
    if not isinstance(having or {}, Mapping):
        raise TypeError(f"having is a dict, such as {{'sessions': \"{QUERY}\"}}, and not {having!r}")
    return {name: text(query, "a query", QUERY) for name, query in (having or {}).items()}


def places_of(files: Files, in_version: str | None) -> list[str]:
    """Where files are in the dataset's tree; those that are named by text are of a version."""
    each: Iterable[Named] = [files] if isinstance(files, File | str | PathLike) else files
    try:
        return [one.place if isinstance(one, File) else _place_of(path_text(one), in_version) for one in each]
    except TypeError as error:
        raise TypeError(f"files are named by vbnfs.File, text or a path, or several, and not by {files!r}") from error


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
    if lfp is None:
        raise TypeError("lfp is True, False, or probes, as 'A,B' or a list, and not None")
    return lfp if isinstance(lfp, str) else ",".join(texts(lfp, "a probe", "probeA")) or "no"

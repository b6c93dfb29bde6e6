"""What is picked: sessions, with LFP of none, of all, or of the probes in chosen areas; and the name of a pin."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vbnfs.access.finding import Finder
from vbnfs.dataset.kinds import LFP, SESSION, kind_of
from vbnfs.dataset.manifest import DataFile, Manifest
from vbnfs.dataset.names import MANIFESTS
from vbnfs.errors import TablesError, UsageError
from vbnfs.tables.facets import listed_in

NO_LFP: Final = "no"
ALL_LFP: Final = "yes"
LFP_OF_AREAS: Final = "areas"
AREAS: Final = "structure_acronyms"  # a column of sessions and of probes: the text of a list
_ID: Final = re.compile(r"[0-9]{1,18}")
_PIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Picked:
    """Sessions by their ids, or all that a page's filters find (`is_all`); the LFP that is wanted; a pin's name."""

    version: str | None
    session_ids: Sequence[int]
    is_all: bool
    lfp: str
    pin: str | None

    @property
    def wanted_lfp(self) -> str:
        """Which LFP is wanted of folders, as `Wanted` has it. Files that are named are wanted in any case."""
        return "no" if self.lfp == NO_LFP else "yes"


def picked_of(form: Mapping[str, Sequence[str]]) -> Picked:
    """What a form asks. Raises `UsageError` for what it cannot have."""
    lfp, ids = _one(form, "lfp") or NO_LFP, form.get("session", ())
    if lfp not in {NO_LFP, ALL_LFP, LFP_OF_AREAS} or not all(_ID.fullmatch(one) for one in ids):
        raise UsageError("the form has what no page of this program asks for: load the page anew")
    pin = _one(form, "pin")
    if pin is not None and _PIN_NAME.fullmatch(pin) is None:
        raise UsageError(
            f"{pin[:64]}: a pin's name has letters, digits, '.', '_' and '-', and begins with one of the first two"
        )
    return Picked(_one(form, "version"), [int(one) for one in ids], "all" in form, lfp, pin)


def _one(form: Mapping[str, Sequence[str]], name: str) -> str | None:
    return next((value for value in form.get(name, ()) if value), None)


async def files_of(
    finder: Finder, manifest: Manifest, session_ids: Collection[int], *, lfp: str, areas: Collection[str]
) -> list[str]:
    """The places of the files of sessions in a mount's tree, in the manifest's order."""
    wanted = set(session_ids)
    of_areas = await _lfp_in(finder, areas) if lfp == LFP_OF_AREAS else None
    return [_place(manifest, file) for file in manifest.files if _is_wanted(file, wanted, lfp, of_areas)]


def _is_wanted(file: DataFile, sessions: Collection[int], lfp: str, of_areas: Collection[DataFile] | None) -> bool:
    kind = kind_of(file.path)
    if kind.session_id not in sessions or kind.kind not in {SESSION, LFP}:
        return False
    if kind.kind == SESSION:
        return True
    return lfp == ALL_LFP or (of_areas is not None and file in of_areas)


async def _lfp_in(finder: Finder, areas: Collection[str]) -> set[DataFile]:
    """The LFP files of probes that are in one of some areas. Raises `TablesError` where no table says it."""
    name = finder.tables.name_of("probes")
    rows, files = await finder.tables.load(name), await finder.files(name)
    if files is None or AREAS not in rows.columns:
        raise TablesError(f"{name} does not say which areas a probe is in: choose the LFP of all probes, or none")
    found = set[DataFile]()
    for text, row in zip(rows[AREAS], files, strict=True):
        if row.own is not None and not set(listed_in(str(text))).isdisjoint(areas):
            found.add(row.own)
    return found


def _place(manifest: Manifest, file: DataFile) -> str:
    return f"{MANIFESTS}/{manifest.dataset_version.folder}/{'/'.join(file.path)}"

"""The versions of the dataset side by side, and what one changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from vbnfs.access.here import Here
from vbnfs.access.versions import Versions
from vbnfs.dataset.kinds import KINDS, kind_of
from vbnfs.dataset.manifest import Manifest


@dataclass(frozen=True, slots=True)
class OfKind:
    """How many files of a kind a version has, their bytes (None: S3 gave not all sizes), and how much is cached."""

    kind: str
    files: int
    size_bytes: int | None
    here_bytes: int


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version. Equal contents count once in bytes. `before` is the version before it."""

    name: str
    before: str | None
    is_newest: bool
    files: int
    size_bytes: int | None
    here_bytes: int
    kinds: Sequence[OfKind]


def version_rows(versions: Versions, here: Here) -> list[VersionRow]:
    """The versions, the newest first."""
    manifests = versions.release.manifests
    names = [None, *(str(manifest.dataset_version) for manifest in manifests)]
    rows = [_row(versions, here, manifest, before) for manifest, before in zip(manifests, names, strict=False)]
    return rows[::-1]


def _row(versions: Versions, here: Here, manifest: Manifest, before: str | None) -> VersionRow:
    kinds = [_of_kind(versions, here, manifest, kind) for kind in KINDS]
    sizes = [one.size_bytes for one in kinds]
    return VersionRow(
        name=str(manifest.dataset_version),
        before=before,
        is_newest=manifest is versions.release.manifests[-1],
        files=len(manifest.files),
        size_bytes=_sum(sizes),
        here_bytes=sum(one.here_bytes for one in kinds),
        kinds=[one for one in kinds if one.files],
    )


def _of_kind(versions: Versions, here: Here, manifest: Manifest, kind: str) -> OfKind:
    files = [file for file in manifest.files if kind_of(file.path).kind == kind]
    contents = versions.contents(files)
    sizes = [None if one is None else one.size_bytes for one in contents.values()]
    here_bytes = sum(here.bytes_of(name, one.size_bytes) for name, one in contents.items() if one is not None)
    return OfKind(kind, len(files), _sum(sizes), here_bytes)


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None

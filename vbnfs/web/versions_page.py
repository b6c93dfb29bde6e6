"""The versions of the dataset side by side, and what one changed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vbnfs.access.here import Here
from vbnfs.access.versions import Versions
from vbnfs.dataset.kinds import KINDS, kind_of
from vbnfs.dataset.manifest import DataFile, DatasetVersion, Manifest


@dataclass(frozen=True, slots=True)
class FilesOfKind:
    """The files of a kind that a version has: how many, and the sizes of their contents (None: S3 gave none)."""

    kind: str
    files: int
    sizes: Mapping[str, int | None]
    size_bytes: int | None

    def here_bytes(self, here: Here) -> int:
        """How many of their bytes are cached."""
        ids = self.sizes.keys() & here.ids
        return sum(here.bytes_of(one, size) for one in ids if (size := self.sizes[one]) is not None)


class KnownKinds:
    """The files of versions by kind. What is known of a version with all sizes never changes, and is kept."""

    def __init__(self) -> None:
        self._kept: dict[DatasetVersion, list[FilesOfKind]] = {}

    def of(self, versions: Versions, manifest: Manifest) -> list[FilesOfKind]:
        """Those of a version, in the order of `KINDS`."""
        found = self._kept.get(manifest.dataset_version) or _by_kind(versions, manifest)
        if all(one.size_bytes is not None for one in found):
            self._kept[manifest.dataset_version] = found
        return found


def _by_kind(versions: Versions, manifest: Manifest) -> list[FilesOfKind]:
    files: dict[str, list[DataFile]] = {}
    for file in manifest.files:
        files.setdefault(kind_of(file.path).kind, []).append(file)
    return [_of_kind(versions, kind, files[kind]) for kind in KINDS if kind in files]


def _of_kind(versions: Versions, kind: str, files: Sequence[DataFile]) -> FilesOfKind:
    sizes = {name: None if one is None else one.size_bytes for name, one in versions.contents(files).items()}
    return FilesOfKind(kind, len(files), sizes, _sum(sizes.values()))


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


def version_rows(versions: Versions, known: KnownKinds, here: Here) -> list[VersionRow]:
    """The versions, the newest first."""
    manifests = versions.release.manifests
    names = [None, *(str(manifest.dataset_version) for manifest in manifests)]
    rows = [
        _row(manifest, known.of(versions, manifest), here, before)
        for manifest, before in zip(manifests, names, strict=False)
    ]
    return [replace(row, is_newest=row is rows[-1]) for row in rows[::-1]]


def _row(manifest: Manifest, found: Sequence[FilesOfKind], here: Here, before: str | None) -> VersionRow:
    kinds = [OfKind(one.kind, one.files, one.size_bytes, one.here_bytes(here)) for one in found]
    return VersionRow(
        name=str(manifest.dataset_version),
        before=before,
        is_newest=False,
        files=len(manifest.files),
        size_bytes=_sum(one.size_bytes for one in kinds),
        here_bytes=sum(one.here_bytes for one in kinds),
        kinds=kinds,
    )


def _sum(values: Iterable[int | None]) -> int | None:
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if len(known) == len(found) else None

"""Which dataset versions exist: the list of their manifests, and the manifests themselves.

The list comes from ListObjectsV2 of what begins with `<project>/manifests`: so it shows, too, whether the bucket has
a structure index beside them (docs/structure-index.md). It is stored as `index` (JSON), `[[key, ETag, bytes,
nanoseconds], ...]`, after the manifests that it names. Its age is the file's; 1970 if it is no listing's. Where there
is no list, the manifests are those that were listed before, and those that are known by name (`by_name.py`).
"""

import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from vbnfs.dataset.by_name import NamedManifests, Unlisted
from vbnfs.dataset.manifest import DatasetVersion, Manifest, Origin, version_of_file_name
from vbnfs.dataset.manifest_copies import ManifestCopies
from vbnfs.dataset.names import LATEST, MANIFESTS
from vbnfs.dataset.stored_files import StoredFolder
from vbnfs.dataset.stored_sizes import stored_rows
from vbnfs.errors import DatasetError, ListingDeniedError, StorageError, with_own_remedy, with_remedy
from vbnfs.logs import WarnOnce
from vbnfs.objects import ListedObject, ObjectAttributes, ObjectClient
from vbnfs.suggestions import hint

log = structlog.get_logger()

_MAX_MANIFESTS: Final = 1_000
_INDEX: Final = "index"
# Beside the folder of the manifests: AllenSDK takes each object in it for a manifest, whatever its name.
_STRUCTURE_INDEX: Final = ".structure-index"


@dataclass(frozen=True, slots=True)
class Release:
    """The dataset versions that can be shown, and why others cannot.

    `doubt` is why there is no list of manifests: the bucket cannot be reached (`is_offline`), or gives no usable one.
    The versions are then those of the stored list, and those that are known by name (`is_by_name`).
    """

    manifests: tuple[Manifest, ...]
    problems: tuple[str, ...]
    is_offline: bool = False
    doubt: str | None = None
    is_by_name: bool = False

    @property
    def basis(self) -> str:
        """Where the versions come from, if not from a list, in words."""
        return "what is known by name" if self.is_by_name else "what is kept from before"

    @property
    def versions(self) -> tuple[DatasetVersion, ...]:
        """All that can be shown, oldest first."""
        return tuple(manifest.dataset_version for manifest in self.manifests)

    def choose(self, wanted: str | None) -> DatasetVersion:
        """The wanted version; the newest for None and `latest`. Raises `DatasetError`, which names all versions."""
        if not self.manifests:
            reasons = "".join(f"\n  {problem}" for problem in self.problems)
            raise DatasetError(f"no dataset version can be shown{':' if reasons else ''}{reasons}")
        if wanted is not None and DatasetVersion(wanted) in self.versions:
            return DatasetVersion(wanted)
        if wanted not in {None, LATEST}:
            known = ", ".join(map(str, self.versions))
            message = f"there is no dataset version {wanted}; there are: {known}"
            raise DatasetError(message + hint(str(wanted), map(str, self.versions)))
        return self.versions[-1]


@dataclass(frozen=True, slots=True)
class Index:
    """A list of manifests, empty if none is stored. `age_seconds` is negative if it was written in the future."""

    listed: Sequence[ListedObject] = ()
    age_seconds: float = math.inf

    def is_fresh(self, max_age_seconds: float) -> bool:
        """Whether it need not be requested again."""
        return bool(self.listed) and 0 <= self.age_seconds < max_age_seconds


class ReleaseReader:
    """The dataset `project` in the bucket of `origin`, by way of `client`; copies are stored in `folder`.

    `versions` are known by name: versions of the dataset, or whole file names of manifests.
    """

    def __init__(
        self,
        client: ObjectClient,
        folder: StoredFolder,
        *,
        origin: Origin,
        project: str,
        versions: Sequence[str] = (),
    ) -> None:
        self._client = client
        self._folder = folder
        self._bucket = origin.bucket
        self._prefix = f"{project}/{MANIFESTS}/"
        self._index_key = f"{project}/{MANIFESTS}{_STRUCTURE_INDEX}"
        self.published_index: ListedObject | None = None  # the dataset's structure index, if the bucket has one
        self._copies = ManifestCopies(client, StoredFolder(folder / MANIFESTS), origin=origin)
        self._named = NamedManifests(client, prefix=self._prefix, project=project, versions=versions)
        self._warn_once = WarnOnce()
        self._was_offline = False

    async def list_manifests(self) -> list[ListedObject]:
        """The manifests in the bucket. Raises a `StorageError`, and `DatasetError` for none and for too many."""
        where = f"in bucket {self._bucket!r} below {self._prefix!r}"
        try:
            found = await self._client.list_objects(self._prefix.removesuffix("/"))
        except ListingDeniedError:  # a policy may allow listing in that folder alone
            found = await self._client.list_objects(self._prefix)
        self.published_index = next((entry for entry in found if entry.key == self._index_key), None)
        listed = [entry for entry in found if self._is_manifest(entry)]
        if not listed:
            raise DatasetError(f"no manifest {where}: check --bucket and --project")
        if len(listed) > _MAX_MANIFESTS:
            raise DatasetError(f"{len(listed):,} manifests {where}; at most {_MAX_MANIFESTS:,} are taken")
        return listed

    def _is_manifest(self, entry: ListedObject) -> bool:
        name = entry.key.removeprefix(self._prefix)
        return entry.key.startswith(self._prefix) and "/" not in name and version_of_file_name(name) is not None

    async def without_list(self, known: Sequence[ListedObject], failure: StorageError | DatasetError) -> Unlisted:
        """What there is besides the `known` manifests where they cannot be listed, `failure` being why."""
        return await self._named.ask(known, failure)

    async def read(self, listed: Sequence[ListedObject], unlisted: Unlisted | None) -> Release:
        """The release that `listed` manifests make. `unlisted`: there is no newer list of them."""
        is_offline = unlisted is not None and unlisted.is_offline
        if unlisted is not None and is_offline and not self._was_offline:
            log.warning("bucket cannot be reached; going on with what is kept", reason=str(unlisted.failure))
        self._was_offline = is_offline
        if unlisted is not None and not is_offline:
            self._warn_once("manifests cannot be listed; going on with what is kept", reason=str(unlisted.failure))
        found = await self._copies.get(listed, is_offline=is_offline)
        problems = {entry.key: with_own_remedy(one) for entry, one in found.items() if not isinstance(one, Manifest)}
        shown, repeated = without_repeated_versions(one for one in found.values() if isinstance(one, Manifest))
        for name, problem in (problems | repeated).items():
            self._warn_once("dataset version refused", manifest=name, reason=problem)
        if unlisted is None:
            return Release(shown, (*problems.values(), *repeated.values()))
        all_problems = (*problems.values(), *repeated.values(), *unlisted.problems)
        return Release(shown, all_problems, is_offline, with_remedy(unlisted.failure), bool(unlisted.named))

    def take_in(self, listed: Sequence[ListedObject], manifests: Mapping[str, bytes]) -> None:
        """Store manifests that another cache has handed on, and this one lacks, as unproven copies. Writes the disk.

        Only those of this dataset whose bytes are there.
        """
        before = self.read_index().listed
        keys = {entry.key for entry in before}
        new = [entry for entry in listed if self._is_manifest(entry) and entry.key not in keys]
        taken = [entry for entry in new if self._copies.take_in(entry, manifests)]
        if taken:
            self.write_index([*before, *taken], is_list=False)

    # The stored list

    def read_index(self) -> Index:
        """The manifests that were listed last. Reads the disk."""
        rows = stored_rows(self._folder.read(_INDEX) or b"[]")
        listed = [ListedObject(key, ObjectAttributes(size, when, etag)) for key, etag, size, when in rows]
        try:
            return Index(listed, time.time() - (self._folder / _INDEX).stat().st_mtime)
        except OSError:
            return Index(listed)

    def write_index(self, listed: Iterable[ListedObject], *, is_list: bool) -> None:
        """Store the manifests as a list: as of now, if it is one; else it is asked for at the next chance."""
        rows = [[o.key, o.etag, o.attributes.size_bytes, o.attributes.modified_ns] for o in listed]
        self._folder.write(_INDEX, json.dumps(rows).encode())
        if not is_list:
            with suppress(OSError):
                descriptor = (self._folder / _INDEX).open(os.O_RDONLY)
                try:
                    os.utime(descriptor, (0, 0))
                finally:
                    os.close(descriptor)


def without_repeated_versions(manifests: Iterable[Manifest]) -> tuple[tuple[Manifest, ...], dict[str, str]]:
    """The manifests by version, less those whose version an earlier one has; for these the reason, by file name."""
    shown: list[Manifest] = []
    problems: dict[str, str] = {}
    for manifest in sorted(manifests, key=lambda m: (m.dataset_version, m.modified_ns, m.file_name)):
        if shown and shown[-1].dataset_version == manifest.dataset_version:
            problem = f"{manifest.file_name}: the same version as {shown[-1].file_name}"
            problems[manifest.file_name] = problem
        else:
            shown.append(manifest)
    return tuple(shown), problems

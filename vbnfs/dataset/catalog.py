"""Which dataset versions exist, and how large and how old their objects are.

A manifest has no sizes, so they come from ListObjectVersions: pages of 1,000, a handful of requests for a whole
release. Where the bucket refuses to list, HEAD asks for single objects, when somebody looks at them. All of it
is kept below the cache directory and never asked for again, since a version id never changes its meaning:

    datasets/<endpoint or aws>/<bucket>/<project>/index           which manifests there are (JSON)
    datasets/.../manifests/<file name>                            their bytes
    datasets/.../attributes                                       [[key, version id, bytes, seconds], ...] (JSON)
"""

import json
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import trio

from vbnfs.dataset.manifest import (
    MAX_MANIFEST_BYTES,
    DatasetVersion,
    Manifest,
    Origin,
    parse_manifest,
    version_of_file_name,
)
from vbnfs.dataset.store import read_kept, write_kept
from vbnfs.errors import (
    AccessDeniedError,
    BadReplyError,
    DatasetError,
    ManifestError,
    StorageError,
)
from vbnfs.objects import ListedObject, ObjectAttributes, ObjectClient, ObjectVersion

log = structlog.get_logger()

_HEADS_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Release:
    """What a catalog knows: the versions that can be shown, and why others cannot."""

    manifests: tuple[Manifest, ...]
    problems: tuple[str, ...]
    is_offline: bool = False

    @property
    def versions(self) -> tuple[DatasetVersion, ...]:
        """All that can be shown, oldest first."""
        return tuple(manifest.dataset_version for manifest in self.manifests)

    def choose(self, wanted: str | None) -> DatasetVersion:
        """The wanted version, or the newest. Raises `DatasetError`, which names those that there are."""
        if not self.manifests:
            reasons = "".join(f"\n  {problem}" for problem in self.problems)
            raise DatasetError(f"no dataset version can be shown{':' if reasons else ''}{reasons}")
        if wanted is None:
            return self.versions[-1]
        if DatasetVersion(wanted) not in self.versions:
            known = ", ".join(map(str, self.versions))
            raise DatasetError(f"there is no dataset version {wanted}; there are: {known}")
        return DatasetVersion(wanted)


class Catalog:
    """The dataset `project` of a bucket, by way of `client`, kept in `directory`."""

    def __init__(self, client: ObjectClient, directory: Path, *, origin: Origin, project: str) -> None:
        self._client = client
        self._directory = directory
        self._origin = origin
        self._project = project
        self._attributes: dict[ObjectVersion, ObjectAttributes] = {}
        self._parsed: dict[tuple[str, str], Manifest] = {}
        self._heads = trio.CapacityLimiter(_HEADS_AT_ONCE)
        self._heads_under_way: dict[ObjectVersion, trio.Event] = {}
        self._not_listed: Set[ObjectVersion] = frozenset()  # another listing would not tell of these either
        self._kept_lock = trio.Lock()

    async def load(self) -> Release:
        """Ask the bucket what there is; without network, what is kept (and `is_offline`).

        Raises a `StorageError` if the bucket cannot be reached and nothing is kept.
        """
        self._attributes.update(await trio.to_thread.run_sync(self._read_attributes))
        is_offline = False
        try:
            listed = await self._list_manifests()
        except StorageError as error:
            listed = await trio.to_thread.run_sync(self._read_index)
            if not listed:
                raise
            log.warning("bucket cannot be reached; going on with what is kept", reason=str(error))
            is_offline = True
        release = await self._release(listed, is_offline=is_offline)
        if not is_offline:
            await self._learn_attributes(release.manifests)
        return await trio.to_thread.run_sync(self._without_contradictions, release)

    def attributes(self, version: ObjectVersion) -> ObjectAttributes | None:
        """Size and time of an object version, if they are known yet."""
        return self._attributes.get(version)

    async def need_attributes(self, versions: Iterable[ObjectVersion]) -> None:
        """Ask for those of `versions` that are not known yet, and keep what is learnt.

        An object that cannot be asked for stays unknown, with a warning; `attributes_of` raises for it.
        """
        missing = [version for version in versions if version not in self._attributes]
        if not missing:
            return
        async with trio.open_nursery() as nursery:
            for version in missing:
                nursery.start_soon(self._try_attributes, version)
        await self._keep_attributes()

    async def attributes_of(self, version: ObjectVersion) -> ObjectAttributes:
        """Size and time of an object version, asked for if need be. Raises a `StorageError`."""
        if version not in self._attributes:
            await self._ask_attributes(version)
            await self._keep_attributes()
        return self._attributes[version]

    # Manifests

    async def _list_manifests(self) -> list[ListedObject]:
        prefix = f"{self._project}/manifests/"
        listed = [o for o in await self._client.list_objects(prefix) if _manifest_name(o, prefix) is not None]
        if not listed:
            raise DatasetError(
                f"no manifest in bucket {self._origin.bucket!r} below {prefix!r}: check --bucket and --project"
            )
        await trio.to_thread.run_sync(self._write_index, listed)
        return listed

    async def _release(self, listed: Sequence[ListedObject], *, is_offline: bool) -> Release:
        manifests: list[Manifest] = []
        problems: list[str] = []
        for entry in listed:
            try:
                manifests.append(await self._manifest(entry, is_offline=is_offline))
            except (ManifestError, StorageError) as error:
                log.warning("dataset version refused", manifest=entry.key, reason=str(error))
                problems.append(str(error))
        manifests.sort(key=lambda manifest: manifest.dataset_version)
        return Release(tuple(manifests), tuple(problems), is_offline)

    async def _manifest(self, entry: ListedObject, *, is_offline: bool) -> Manifest:
        known = self._parsed.get((entry.key, entry.etag))
        if known is None:
            data = await self._manifest_bytes(entry, is_offline=is_offline)
            known = await trio.to_thread.run_sync(self._parse, entry, data)
            self._parsed[entry.key, entry.etag] = known
        return known

    def _parse(self, entry: ListedObject, data: bytes) -> Manifest:
        file_name = entry.key.rpartition("/")[2]
        return parse_manifest(
            data, file_name=file_name, modified_ns=entry.attributes.modified_ns, origin=self._origin
        )

    async def _manifest_bytes(self, entry: ListedObject, *, is_offline: bool) -> bytes:
        path = self._directory / "manifests" / entry.key.rpartition("/")[2]
        tag = entry.etag.encode() + b"\n"
        kept = await trio.to_thread.run_sync(read_kept, path)
        if kept is not None and kept.startswith(tag):
            return kept[len(tag) :]
        if is_offline:
            raise ManifestError(f"{path.name}: not kept here, and the bucket cannot be reached")
        if entry.attributes.size_bytes > MAX_MANIFEST_BYTES:
            raise ManifestError(
                f"{path.name}: {entry.attributes.size_bytes:,} bytes; at most {MAX_MANIFEST_BYTES:,} are taken"
            )
        data = await self._client.get_object(entry.key, max_bytes=MAX_MANIFEST_BYTES)
        await trio.to_thread.run_sync(self._keep, path, tag + data)
        return data

    def _without_contradictions(self, release: Release) -> Release:
        """Refuse a version that gives bytes which an older one lists another length: one of them lies."""
        sizes: dict[str, int] = {}
        manifests: list[Manifest] = []
        problems = list(release.problems)
        for manifest in release.manifests:
            try:
                self._check_sizes(manifest, sizes)
            except ManifestError as error:
                log.warning("dataset version refused", manifest=manifest.file_name, reason=str(error))
                problems.append(str(error))
            else:
                manifests.append(manifest)
        return Release(tuple(manifests), tuple(problems), release.is_offline)

    def _check_sizes(self, manifest: Manifest, sizes: dict[str, int]) -> None:
        found: dict[str, int] = {}
        for file in manifest.files:
            attributes = self._attributes.get(file.version)
            if attributes is None or file.file_hash is None:
                continue
            known = sizes.get(file.file_hash, found.setdefault(file.file_hash, attributes.size_bytes))
            if known != attributes.size_bytes:
                raise ManifestError(
                    f"{manifest.file_name}: {'/'.join(file.path)!r} has {attributes.size_bytes:,} bytes, but a file"
                    f" with the same file_hash has {known:,}"
                )
        sizes.update(found)

    # Sizes and times

    async def _learn_attributes(self, manifests: Iterable[Manifest]) -> None:
        """List the whole project if an object of any manifest is new."""
        wanted = await trio.to_thread.run_sync(_object_versions, tuple(manifests))
        if wanted <= self._attributes.keys() | self._not_listed:
            return
        try:
            rows = await self._client.list_versions(f"{self._project}/")
        except (AccessDeniedError, BadReplyError) as error:
            log.warning("object versions cannot be listed; sizes are asked for one by one", reason=str(error))
            return
        self._attributes.update((row.version, row.attributes) for row in rows if row.version in wanted)
        self._not_listed = wanted - self._attributes.keys()
        await self._keep_attributes()

    async def _try_attributes(self, version: ObjectVersion) -> None:
        try:
            await self._ask_attributes(version)
        except StorageError as error:
            log.warning("size unknown", object=str(version), reason=str(error))

    async def _ask_attributes(self, version: ObjectVersion) -> None:
        """HEAD, once for all who ask at the same time."""
        if (under_way := self._heads_under_way.get(version)) is not None:
            await under_way.wait()
            if version in self._attributes:
                return
        done = self._heads_under_way[version] = trio.Event()
        try:
            async with self._heads:
                self._attributes[version] = await self._client.head(version)
        finally:
            self._heads_under_way.pop(version, None)
            done.set()

    async def _keep_attributes(self) -> None:
        async with self._kept_lock:
            await trio.to_thread.run_sync(self._write_attributes, dict(self._attributes))

    # What is kept

    def _write_index(self, listed: Sequence[ListedObject]) -> None:
        rows = [[o.key, o.etag, o.attributes.size_bytes, o.attributes.modified_ns] for o in listed]
        data = json.dumps(rows).encode()
        if read_kept(path := self._directory / "index") != data:
            self._keep(path, data)

    def _read_index(self) -> list[ListedObject]:
        rows = json.loads(read_kept(self._directory / "index") or b"[]")
        return [ListedObject(key, etag, ObjectAttributes(size, time)) for key, etag, size, time in rows]

    def _write_attributes(self, attributes: dict[ObjectVersion, ObjectAttributes]) -> None:
        merged = {**self._read_attributes(), **attributes}  # another process may have learnt others
        rows = [[v.key, v.version_id, a.size_bytes, a.modified_ns] for v, a in merged.items()]
        self._keep(self._directory / "attributes", json.dumps(rows).encode())

    def _read_attributes(self) -> dict[ObjectVersion, ObjectAttributes]:
        rows = json.loads(read_kept(self._directory / "attributes") or b"[]")
        return {ObjectVersion(key, id_): ObjectAttributes(size, time) for key, id_, size, time in rows}

    @staticmethod
    def _keep(path: Path, data: bytes) -> None:
        try:
            write_kept(path, data)
        except OSError as error:
            log.warning("cannot be kept; it will be asked for again", file=str(path), reason=str(error))


def _object_versions(manifests: Iterable[Manifest]) -> Set[ObjectVersion]:
    return {file.version for manifest in manifests for file in manifest.files}


def _manifest_name(entry: ListedObject, prefix: str) -> str | None:
    """The file name of a listed manifest; None for anything else below the prefix."""
    name = entry.key.removeprefix(prefix)
    return None if "/" in name or version_of_file_name(name) is None else name

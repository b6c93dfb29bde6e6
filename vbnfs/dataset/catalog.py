"""Which dataset versions exist, and how large and how old their objects are.

A manifest has no sizes, so they come from ListObjectVersions: pages of 1,000, a handful of requests for a whole
release. Where the bucket refuses to list, HEAD asks for single objects, when somebody looks at them. All of it
is kept below the cache directory and never asked for again, since a version id never changes its meaning:

    datasets-v1/<endpoint or aws>/<bucket>/<project>/index           which manifests there are (JSON)
    datasets-v1/.../manifests/<file name>                            ETag, size and time, then their bytes
    datasets-v1/.../attributes          what was listed: [[key, version id, bytes, nanoseconds, ETag], ...]
    datasets-v1/.../heads               what HEAD said, such a row in each line; HEAD is right where both differ
"""

import hashlib
import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from vbnfs.dataset.contents import Contents, NamedContent, contents_of
from vbnfs.dataset.manifest import (
    MAX_MANIFEST_BYTES,
    DatasetVersion,
    Manifest,
    Origin,
    parse_manifest,
    version_of_file_name,
)
from vbnfs.dataset.store import append_kept_line, read_kept, read_kept_lines, write_kept
from vbnfs.errors import DatasetError, ManifestError, StorageError, VbnfsError
from vbnfs.objects import (
    ListedObject,
    ListedVersion,
    ObjectAttributes,
    ObjectClient,
    ObjectVersion,
    may_have_size,
)
from vbnfs.places import Place, folder_at

log = structlog.get_logger()

KEPT_FORMAT: Final = "datasets-v1"  # what is kept in another format stands elsewhere
_MD5: Final = re.compile(r"[0-9a-f]{32}")
LATEST: Final = "latest"  # as a version: the newest, whichever that is
_HEADS_AT_ONCE: Final = 16
_MANIFESTS_AT_ONCE: Final = 8  # they are in memory meanwhile, as text and as objects

Known = dict[ObjectVersion, ObjectAttributes]
_Listing = list[ListedVersion] | StorageError  # or why there is none


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
        """The wanted version; the newest for None and `latest`. Raises `DatasetError`, which names all there are."""
        if not self.manifests:
            reasons = "".join(f"\n  {problem}" for problem in self.problems)
            raise DatasetError(f"no dataset version can be shown{':' if reasons else ''}{reasons}")
        if wanted is not None and DatasetVersion(wanted) in self.versions:
            return DatasetVersion(wanted)
        if wanted not in {None, LATEST}:
            known = ", ".join(map(str, self.versions))
            raise DatasetError(f"there is no dataset version {wanted}; there are: {known}")
        return self.versions[-1]


@dataclass(slots=True)
class _Head:
    """A HEAD under way.

    `error` tells why it failed. When it is done without one, the answer is there, or its asker was cancelled and
    somebody else has to ask.
    """

    done: trio.Event = field(default_factory=trio.Event)
    error: StorageError | None = None


class Catalog:
    """The dataset `project` of a bucket, by way of `client`, kept in `directory`.

    Whatever takes time for a whole release is done in threads. They look things up in `_attributes`, which
    only the event loop changes.
    """

    def __init__(self, client: ObjectClient, directory: Path | Place, *, origin: Origin, project: str) -> None:
        self._client = client
        self._directory = folder_at(directory)
        self._origin = origin
        self._project = project
        self._attributes: Known = {}
        self._parsed: dict[ListedObject, Manifest] = {}
        self._heads = trio.CapacityLimiter(_HEADS_AT_ONCE)
        self._heads_under_way: dict[ObjectVersion, _Head] = {}
        self._not_listed: Set[ObjectVersion] = frozenset()  # another listing would not tell of these either
        self._doubted: set[ObjectVersion] = set()  # what is known of these was contradicted: HEAD is to be asked
        self._confirmed: set[ObjectVersion] = set()  # by HEAD, in this process
        self._was_offline = False
        self._told: set[tuple[str, ...]] = set()  # warnings, so that each is given once

    async def load(self, *, max_age_seconds: float = 0.0) -> Release:
        """Ask the bucket what there is; without network, what is kept (and `is_offline`).

        A list of manifests that was asked for within `max_age_seconds`, by whichever process, is not asked for
        again; then it is only found out whether the server is there. Raises a `StorageError` if the bucket cannot
        be reached and nothing is kept.
        """
        kept, age_seconds = await trio.to_thread.run_sync(self._read_index)
        is_offline, versions = False, None
        try:
            listed, versions = await self._list(kept, is_fresh=0 <= age_seconds < max_age_seconds)
        except StorageError as error:
            if not kept:
                raise type(error)(f"{error}, and nothing is kept of the dataset") from error
            listed, is_offline = kept, True
            if not self._was_offline:
                log.warning("bucket cannot be reached; going on with what is kept", reason=str(error))
        self._was_offline = is_offline
        release = await self._release(listed, is_offline=is_offline)
        await self._learn_attributes(release, versions)
        return await trio.to_thread.run_sync(self._without_contradictions, release)

    def attributes(self, version: ObjectVersion) -> ObjectAttributes | None:
        """Size and time of an object version, if they are known yet."""
        return self._attributes.get(version)

    async def attributes_of(self, version: ObjectVersion) -> ObjectAttributes:
        """Size and time of an object version; HEAD asks for them if need be. Raises a `StorageError`.

        One HEAD serves all who ask at the same time; they share its failure, too.
        """
        while version not in self._attributes or version in self._doubted:
            if (under_way := self._heads_under_way.get(version)) is None:
                await self._head(version)  # no await between the look-up and its insertion there
                continue
            await under_way.done.wait()
            if under_way.error is not None:
                raise type(under_way.error)(str(under_way.error)) from under_way.error
        return self._attributes[version]

    def contents(self, manifests: Iterable[Manifest]) -> Contents:
        """The contents that entries of `manifests` name; those of the earlier ones take precedence."""
        return contents_of(manifests, bucket=self._origin.bucket, attributes=self.attributes)

    def known(self, content: NamedContent) -> ObjectAttributes | None:
        """Size and time of a content, if they are known yet: those of its first source of which they are.

        A size that bytes with the content's hash cannot have is not believed before HEAD has confirmed it.
        """
        impossible = None
        for source in content.sources:
            attributes = self._attributes.get(source)
            if attributes is None:
                continue
            if may_have_size(content.file_hash, attributes.size_bytes):
                return attributes
            if source in self._confirmed:
                impossible = impossible or attributes
        return impossible

    async def learn(self, content: NamedContent) -> ObjectAttributes:
        """Size and time of a content; HEAD asks its sources for it if need be. Raises a `StorageError`."""
        failure: StorageError | None = None
        for source in content.sources:
            known = self.known(content)
            if known is not None and may_have_size(content.file_hash, known.size_bytes):
                return known
            try:
                if source in self._attributes and source not in self._confirmed:
                    self._doubted.add(source)
                await self.attributes_of(source)
            except StorageError as error:
                failure = failure or error
        known = self.known(content)
        if known is not None:
            return known
        raise failure or DatasetError(f"{content.sources[0]}: no size")

    async def learn_all(self, contents: Iterable[NamedContent]) -> None:
        """Learn what is not known yet of `contents`.

        A content that cannot be asked for stays unknown, with a warning; `learn` raises for it.
        """
        missing = {content for content in contents if self.known(content) is None}
        if not missing:
            return
        async with trio.open_nursery() as nursery:
            for content in missing:
                nursery.start_soon(self._try_to_learn, content)

    async def look_again(self, content: NamedContent) -> bool:
        """Ask HEAD for what a reply has contradicted, once for each object. Returns whether the size was wrong."""
        before = self.known(content)
        for source in content.sources:
            if source in self._attributes and source not in self._confirmed:
                self._doubted.add(source)
                with suppress(StorageError):  # it stays as it is
                    await self.attributes_of(source)
        after = self.known(content)
        return before is not None and after is not None and before.size_bytes != after.size_bytes

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

    async def _list(self, kept: list[ListedObject], *, is_fresh: bool) -> tuple[list[ListedObject], _Listing | None]:
        """The manifests, and the object versions where those were asked for, too."""
        if kept:
            await self._client.reach()  # which takes 3 s at most; a question to nobody would take longer
            return kept if is_fresh else await self._list_manifests(), None
        if await trio.to_thread.run_sync(self._knows_objects):
            return await self._list_manifests(), None
        return await self._list_everything()

    async def _list_everything(self) -> tuple[list[ListedObject], _Listing]:
        """Manifests and, at the same time, object versions: the first mount of all waits for every round trip."""
        manifests: list[ListedObject] = []
        failure: VbnfsError | None = None
        versions: list[_Listing] = []

        async def list_versions() -> None:
            versions.append(await self._list_versions())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(list_versions)
            try:
                manifests += await self._list_manifests()
            except VbnfsError as error:  # outside of the nursery it would not be in a group
                failure = error
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return manifests, versions[0]

    async def _list_versions(self) -> _Listing:
        try:
            return await self._client.list_versions(f"{self._project}/")
        except StorageError as error:
            return error

    async def _release(self, listed: Sequence[ListedObject], *, is_offline: bool) -> Release:
        """The manifests, all asked for at once: the first mount of all waits for every round trip."""
        found: dict[ListedObject, Manifest | ManifestError | StorageError] = {}
        at_once = trio.CapacityLimiter(_MANIFESTS_AT_ONCE)

        async def find(entry: ListedObject) -> None:
            try:
                async with at_once:
                    found[entry] = await self._manifest(entry, is_offline=is_offline)
            except (ManifestError, StorageError) as error:
                found[entry] = error

        async with trio.open_nursery() as nursery:
            for entry in listed:
                nursery.start_soon(find, entry)
        problems = {entry.key: found[entry] for entry in listed if not isinstance(found[entry], Manifest)}
        for key, error in problems.items():
            self._warn_once("dataset version refused", manifest=key, reason=str(error))
        manifests = [manifest for manifest in found.values() if isinstance(manifest, Manifest)]
        manifests.sort(key=lambda m: (m.dataset_version, m.modified_ns, m.file_name))
        return Release(tuple(manifests), tuple(map(str, problems.values())), is_offline)

    async def _manifest(self, entry: ListedObject, *, is_offline: bool) -> Manifest:
        known = self._parsed.get(entry)
        if known is None:
            data = await self._manifest_bytes(entry, is_offline=is_offline)
            known = await trio.to_thread.run_sync(self._parse, entry, data)
            self._parsed[entry] = known
        return known

    def _parse(self, entry: ListedObject, data: bytes) -> Manifest:
        file_name = entry.key.rpartition("/")[2]
        modified_ns = entry.attributes.modified_ns
        manifest = parse_manifest(data, file_name=file_name, modified_ns=modified_ns, origin=self._origin)
        return replace(manifest, source=ObjectVersion(entry.key, None))

    async def _manifest_bytes(self, entry: ListedObject, *, is_offline: bool) -> bytes:
        path = self._directory / "manifests" / entry.key.rpartition("/")[2]
        # Not every server gives an ETag; size and time tell most changes too.
        tag = f"{entry.etag} {entry.attributes.size_bytes} {entry.attributes.modified_ns}\n".encode()
        kept = await trio.to_thread.run_sync(read_kept, path)
        if kept is not None and kept.startswith(tag):
            return kept[len(tag) :]
        if is_offline:
            raise ManifestError(f"{path.name}: not kept here, and the bucket cannot be reached")
        if entry.attributes.size_bytes > MAX_MANIFEST_BYTES:
            raise ManifestError(
                f"{path.name}: {entry.attributes.size_bytes:,} bytes; at most {MAX_MANIFEST_BYTES:,} are taken"
            )
        data = await self._fetch_manifest(entry)
        await trio.to_thread.run_sync(self._keep, path, tag + data)
        return data

    async def _fetch_manifest(self, entry: ListedObject) -> bytes:
        """A manifest's bytes, which only its ETag can vouch for: that of bytes put in one part is their MD5.

        Not if KMS or a customer's key encrypts them (S3's "Checking object integrity"), nor on every other server. So
        one that differs proves nothing: what comes a second time just as it came at first is believed.
        """
        told = entry.etag.strip('"')
        data = await self._client.get_object(entry.key, max_bytes=MAX_MANIFEST_BYTES)
        if not _MD5.fullmatch(told) or await trio.to_thread.run_sync(_md5, data) == told:
            return data
        again = await self._client.get_object(entry.key, max_bytes=MAX_MANIFEST_BYTES)
        if again != data and await trio.to_thread.run_sync(_md5, again) != told:
            raise ManifestError(f"{entry.key}: came twice, differently, and never as its ETag tells; the way is bad")
        return again

    def _without_contradictions(self, release: Release) -> Release:
        """Refuse a manifest of a version that an earlier manifest has: one of the two is wrong."""
        manifests: list[Manifest] = []
        problems = list(release.problems)
        for manifest in release.manifests:
            if manifests and manifests[-1].dataset_version == manifest.dataset_version:
                problem = f"{manifest.file_name}: the same version as {manifests[-1].file_name}"
                self._warn_once("dataset version refused", manifest=manifest.file_name, reason=problem)
                problems.append(problem)
            else:
                manifests.append(manifest)
        return Release(tuple(manifests), tuple(problems), release.is_offline)

    # Sizes and times

    async def _learn_attributes(self, release: Release, listing: _Listing | None) -> None:
        """If an object of any manifest is new: from what is kept, else from a listing of the whole project."""
        learnt, missing = await trio.to_thread.run_sync(self._kept_attributes, release.manifests)
        self._attributes.update(learnt)
        if not missing or release.is_offline:
            return
        if listing is None:
            listing = await self._list_versions()
        if isinstance(listing, StorageError):
            self._warn_once("object versions cannot be listed; sizes are asked for one by one", reason=str(listing))
            return
        learnt, not_listed = await trio.to_thread.run_sync(self._take_listed, listing, missing)
        self._attributes.update(learnt)
        self._not_listed = not_listed

    def _kept_attributes(self, manifests: Iterable[Manifest]) -> tuple[Known, Set[ObjectVersion]]:
        """What is kept of the objects that are new, and those of which nothing is."""
        objects = {file.version for manifest in manifests for file in manifest.files}
        missing = {v for v in objects if v not in self._attributes and v not in self._not_listed}
        kept = self._read_attributes() if missing else {}
        learnt = {version: kept[version] for version in missing if version in kept}
        return learnt, {version for version in missing if version not in learnt or learnt[version].etag is None}

    def _take_listed(
        self, rows: Iterable[ListedVersion], missing: Set[ObjectVersion]
    ) -> tuple[Known, Set[ObjectVersion]]:
        """What a listing tells of the missing objects, and those that no listing tells of."""
        learnt = {row.version: row.attributes for row in rows if row.version in missing}
        merged = {**self._read_attributes(), **learnt}  # another process may have learnt others
        data = json.dumps([_row(version, attributes) for version, attributes in merged.items()]).encode()
        self._keep(self._directory / "attributes", data)
        return learnt, self._not_listed | (missing - learnt.keys())

    async def _try_to_learn(self, content: NamedContent) -> None:
        try:
            await self.learn(content)
        except StorageError as error:
            self._warn_once("size unknown", object=str(content.sources[0]), reason=str(error))

    async def _head(self, version: ObjectVersion) -> None:
        head = self._heads_under_way[version] = _Head()
        try:
            async with self._heads:
                attributes = self._attributes[version] = await self._client.head(version)
            self._doubted.discard(version)
            self._confirmed.add(version)
        except StorageError as error:
            head.error = error
            raise
        finally:
            del self._heads_under_way[version]
            head.done.set()
        line = json.dumps(_row(version, attributes)).encode()
        # A disk that hangs must not outlast the deadline of whoever asked.
        await trio.to_thread.run_sync(self._keep_line, self._directory / "heads", line, abandon_on_cancel=True)

    # What is kept

    def _write_index(self, listed: Sequence[ListedObject]) -> None:
        rows = [[o.key, o.etag, o.attributes.size_bytes, o.attributes.modified_ns] for o in listed]
        data = json.dumps(rows).encode()
        self._keep(self._directory / "index", data)

    def _read_index(self) -> tuple[list[ListedObject], float]:
        """The manifests that were listed last, and how many seconds ago."""
        path = self._directory / "index"
        rows = _rows(read_kept(path) or b"[]")
        listed = [ListedObject(key, etag, ObjectAttributes(size, when)) for key, etag, size, when in rows]
        try:
            return listed, time.time() - path.stat().st_mtime
        except OSError:
            return listed, math.inf

    def _knows_objects(self) -> bool:
        """Whether sizes and times are known, or kept."""
        return bool(self._attributes) or (self._directory / "attributes").is_file()

    def _read_attributes(self) -> Known:
        rows = _attribute_rows(read_kept(self._directory / "attributes") or b"[]")
        for line in read_kept_lines(self._directory / "heads"):
            learnt = _attribute_rows(b"[%s]" % line)
            rows |= {version: row for version, row in learnt.items() if version not in rows or row.etag is not None}
        return rows

    def _keep(self, path: Place, data: bytes) -> None:
        with self._refusals_told(path):
            write_kept(path, data)

    def _keep_line(self, path: Place, text: bytes) -> None:
        with self._refusals_told(path):
            append_kept_line(path, text)

    @contextmanager
    def _refusals_told(self, path: Place) -> Iterator[None]:
        """A cache that cannot be written costs requests, not the answer."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)  # without the temporary name, which is another each time
            self._warn_once("cannot be kept; it will be asked for again", file=str(path), reason=reason)

    def _warn_once(self, event: str, **about: str) -> None:
        """A warning, unless the same was given before: the catalog is loaded again every few minutes."""
        warning = (event, *about.values())
        if warning not in self._told:
            self._told.add(warning)
            log.warning(event, **about)


def _rows(data: bytes, *, length: int = 4) -> list[list[Any]]:
    """Kept rows of a length; none where something else stands there: it is learnt again."""
    try:
        rows = json.loads(data)
    except ValueError:
        return []
    are_rows = isinstance(rows, list) and all(isinstance(row, list) and len(row) == length for row in rows)
    return rows if are_rows else []


def _attribute_rows(data: bytes) -> Known:
    """Kept sizes and times. Rows of four are from before ETags were kept."""
    rows = [*_rows(data, length=4), *_rows(data, length=5)]
    return {ObjectVersion(key, id_): ObjectAttributes(*attributes) for key, id_, *attributes in rows}


def _row(version: ObjectVersion, attributes: ObjectAttributes) -> list[str | int | None]:
    return [version.key, version.version_id, attributes.size_bytes, attributes.modified_ns, attributes.etag]


def _manifest_name(entry: ListedObject, prefix: str) -> str | None:
    """The file name of a listed manifest; None for anything else below the prefix."""
    name = entry.key.removeprefix(prefix)
    return None if "/" in name or version_of_file_name(name) is None else name


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()

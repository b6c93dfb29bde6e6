"""Which dataset versions exist, and how large and how old their objects are.

A manifest has no sizes, so they come from ListObjectVersions: pages of 1,000, a handful of requests for a whole
release. Where the bucket refuses to list, HEAD asks for single objects, when somebody looks at them. All of it
is kept below the cache directory and never asked for again, since a version id never changes its meaning; but objects
that have none of their own are listed once more by each process. Nothing is kept before it was read and agrees with
what else is known; each load keeps what is known and missing on the disk:

    datasets-v1/<endpoint or aws>/<bucket>/<project>/index           which manifests there are (JSON)
    datasets-v1/.../manifests/<file name>                            ETag, size and time, then their bytes (copies.py)
    datasets-v1/.../attributes          what was listed: [[key, version id, bytes, nanoseconds, ETag], ...]
    datasets-v1/.../heads               what HEAD said, such a row in each line; HEAD is right where both differ
"""

import hashlib
import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from vbnfs.dataset.contents import Contents, NamedContent, contents_of
from vbnfs.dataset.copies import Copies
from vbnfs.dataset.kept_files import append_kept_line, read_kept, read_kept_lines, write_kept
from vbnfs.dataset.manifest import DatasetVersion, Manifest, Origin, version_of_file_name
from vbnfs.errors import (
    BadReplyError,
    DatasetError,
    OfflineError,
    StorageError,
    TransportError,
    UntrustedServerError,
    VbnfsError,
)
from vbnfs.host.places import Place, folder_at
from vbnfs.objects import (
    ListedObject,
    ListedVersion,
    ObjectAttributes,
    ObjectClient,
    ObjectVersion,
    may_have_size,
)

log = structlog.get_logger()

KEPT_FORMAT: Final = "datasets-v1"  # what is kept in another format stands elsewhere
LATEST: Final = "latest"  # as a version: the newest, whichever that is
_HEADS_AT_ONCE: Final = 16  # for those who wait
_HEADS_AHEAD: Final = 20  # before anybody asks; of 24 connections that leaves some to those who wait
_MAX_MANIFESTS: Final = 1_000
_UNREACHED: Final = (TransportError, OfflineError, UntrustedServerError)
_MOST_TOLD: Final = 1_024

Known = dict[ObjectVersion, ObjectAttributes]
_Listing = list[ListedVersion] | StorageError  # or why there is none


@dataclass(frozen=True, slots=True)
class Release:
    """What a catalog knows: the versions that can be shown, and why others cannot.

    `doubt`: the bucket answers, but has no list of manifests that can be believed; these are those that are kept.
    """

    manifests: tuple[Manifest, ...]
    problems: tuple[str, ...]
    is_offline: bool = False
    doubt: str | None = None

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
        self._copies = Copies(
            client, self._directory / "manifests", origin=origin, keep=self._keep, warn=self._warn_once
        )
        self._listed: list[ListedObject] = []  # last
        self._heads = trio.CapacityLimiter(_HEADS_AT_ONCE)
        self._heads_under_way: dict[ObjectVersion, _Head] = {}
        self._not_listed: Set[ObjectVersion] = frozenset()  # another listing would not tell of these either
        self._doubted: set[ObjectVersion] = set()  # what is known of these was contradicted: HEAD is to be asked
        self._confirmed: set[ObjectVersion] = set()  # by HEAD, in this process
        self._was_offline = False
        self._has_asked_heads = False
        self._wanted: dict[NamedContent, None] = {}  # in order
        self._has_wanted = trio.lowlevel.ParkingLot()
        self._kept_sizes: bytes | None = None  # the digest of what is known to be kept of sizes
        self._told: set[tuple[str, ...]] = set()  # warnings, so that each is given once

    async def load(self, *, max_age_seconds: float = 0.0) -> Release:
        """Ask the bucket what there is; without network, what is kept (and `is_offline`).

        A list of manifests that was asked for within `max_age_seconds`, by whichever process, is not asked for
        again; then it is only found out whether the server is there. Raises a `StorageError` if the bucket cannot
        be reached and nothing is kept.
        """
        on_disk, age_seconds = await trio.to_thread.run_sync(self._read_index)
        kept, failure, versions = on_disk or self._listed, None, None
        try:
            listed, versions = await self._list(kept, is_fresh=bool(on_disk) and 0 <= age_seconds < max_age_seconds)
        except (StorageError, DatasetError) as error:
            if not kept:
                raise _as_first(error) from error
            listed, failure = kept, error
        release = await self._release(listed, failure)
        await self._learn_attributes(release, versions)
        await trio.to_thread.run_sync(self._keep_again, listed, on_disk, self._attributes.copy())
        self._listed = listed
        return await trio.to_thread.run_sync(self._without_contradictions, release)

    def attributes(self, version: ObjectVersion) -> ObjectAttributes | None:
        """Size and time of an object version, if they are known yet."""
        return self._attributes.get(version)

    async def attributes_of(
        self, version: ObjectVersion, limiter: trio.CapacityLimiter | None = None
    ) -> ObjectAttributes:
        """Size and time of an object version; HEAD asks for them if need be. Raises a `StorageError`.

        One HEAD serves all who ask at the same time; they share its failure, too. `limiter` is of the HEADs.
        """
        while version not in self._attributes or version in self._doubted:
            if (under_way := self._heads_under_way.get(version)) is None:
                await self._head(
                    version, limiter or self._heads
                )  # no await between the look-up and its insertion there
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

    async def learn(self, content: NamedContent, limiter: trio.CapacityLimiter | None = None) -> ObjectAttributes:
        """Size and time of a content; HEAD asks its sources for it if need be. Raises a `StorageError`."""
        failure: StorageError | None = None
        for source in content.sources:
            known = self.known(content)
            if known is not None and may_have_size(content.file_hash, known.size_bytes):
                return known
            try:
                if source in self._attributes and source not in self._confirmed:
                    self._doubted.add(source)
                await self.attributes_of(source, limiter)
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

    def want(self, contents: Iterable[NamedContent]) -> None:
        """Have `ask_ahead` learn those of `contents` that are not known yet, in this order. Waits for nothing."""
        self._wanted.update((content, None) for content in contents if self.known(content) is None)
        self._has_wanted.unpark_all()

    async def ask_ahead(self) -> None:
        """Ask for what is wanted, for as long as it runs. What is learnt is kept; a failure is no news to anybody."""
        limiter = trio.CapacityLimiter(_HEADS_AHEAD)

        async def ask() -> None:
            while True:
                while not self._wanted:
                    await self._has_wanted.park()
                content = next(iter(self._wanted))
                del self._wanted[content]
                try:
                    await self.learn(content, limiter)
                except _UNREACHED:
                    self._wanted.clear()  # of the others nothing else would be heard; who looks at one asks for it
                except StorageError:
                    continue

        async with trio.open_nursery() as nursery:
            for _ in range(_HEADS_AHEAD):
                nursery.start_soon(ask)

    # Manifests

    async def _list_manifests(self) -> list[ListedObject]:
        prefix = f"{self._project}/manifests/"
        where = f"in bucket {self._origin.bucket!r} below {prefix!r}"
        listed = [o for o in await self._client.list_objects(prefix) if _manifest_name(o, prefix) is not None]
        if not listed:
            raise DatasetError(f"no manifest {where}: check --bucket and --project")
        if len(listed) > _MAX_MANIFESTS:
            raise DatasetError(f"{len(listed):,} manifests {where}; at most {_MAX_MANIFESTS:,} are taken")
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
        prefix = f"{self._project}/"
        try:
            listed = await self._client.list_versions(prefix)
        except StorageError as error:
            return error
        return listed or BadReplyError(f"listing of {prefix!r}: no object versions, though there are manifests")

    async def _release(self, listed: Sequence[ListedObject], failure: StorageError | DatasetError | None) -> Release:
        """What the manifests say; `failure` is why there is no newer list of them."""
        is_offline = isinstance(failure, _UNREACHED)
        if is_offline and not self._was_offline:
            log.warning("bucket cannot be reached; going on with what is kept", reason=str(failure))
        self._was_offline = is_offline
        doubt = None if failure is None or is_offline else str(failure)
        if doubt is not None:
            self._warn_once("manifests cannot be listed; going on with what is kept", reason=doubt)
        found = await self._copies.get(listed, is_offline=is_offline)
        problems = {entry.key: found[entry] for entry in listed if not isinstance(found[entry], Manifest)}
        for key, error in problems.items():
            self._warn_once("dataset version refused", manifest=key, reason=str(error))
        manifests = [manifest for manifest in found.values() if isinstance(manifest, Manifest)]
        manifests.sort(key=lambda m: (m.dataset_version, m.modified_ns, m.file_name))
        return Release(tuple(manifests), tuple(map(str, problems.values())), is_offline, doubt)

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
        return replace(release, manifests=tuple(manifests), problems=tuple(problems))

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
        """What is kept of the objects that are new, and those that are to be asked for.

        Of these are also those that may have been replaced since.
        """
        objects = {file.version for manifest in manifests for file in manifest.files}
        missing = {v for v in objects if v not in self._attributes and v not in self._not_listed}
        kept = self._read_attributes() if missing else {}
        learnt = {version: kept[version] for version in missing if version in kept}
        settled = {version for version, one in learnt.items() if one.etag is not None and version.is_immutable}
        return learnt, missing - settled

    def _take_listed(
        self, rows: Iterable[ListedVersion], missing: Set[ObjectVersion]
    ) -> tuple[Known, Set[ObjectVersion]]:
        """What a listing tells of the missing objects, and those that no listing tells of."""
        learnt = {row.version: row.attributes for row in rows if row.version in missing}
        merged = {**self._read_attributes(), **learnt}  # another process may have learnt others
        self._write_attributes(merged)
        return learnt, self._not_listed | (missing - learnt.keys())

    async def _try_to_learn(self, content: NamedContent) -> None:
        try:
            await self.learn(content)
        except StorageError as error:
            self._warn_once("size unknown", object=str(content.sources[0]), reason=str(error))

    async def _head(self, version: ObjectVersion, limiter: trio.CapacityLimiter) -> None:
        head = self._heads_under_way[version] = _Head()
        try:
            async with limiter:
                attributes = self._attributes[version] = await self._client.head(version)
            self._doubted.discard(version)
            self._confirmed.add(version)
            self._has_asked_heads = True
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

    def _keep_again(self, listed: Sequence[ListedObject], on_disk: Sequence[ListedObject], known: Known) -> None:
        """Keep what is known and missing on the disk: that may have been full, or emptied."""
        if listed is not on_disk:
            self._write_index(listed)
        digest = _digest(read_kept(self._directory / "attributes"))
        if not known or (digest == self._kept_sizes and not self._has_asked_heads):
            return  # else it is read, which takes a tenth of a second
        kept = self._read_attributes()
        if not known.keys() <= kept.keys():
            self._write_attributes({**kept, **known})
            digest = _digest(read_kept(self._directory / "attributes"))
        self._kept_sizes = digest

    def _write_index(self, listed: Sequence[ListedObject]) -> None:
        rows = [[o.key, o.etag, o.attributes.size_bytes, o.attributes.modified_ns] for o in listed]
        data = json.dumps(rows).encode()
        self._keep(self._directory / "index", data)

    def _read_index(self) -> tuple[list[ListedObject], float]:
        """The manifests that were listed last, and how many seconds ago."""
        path = self._directory / "index"
        rows = _rows(read_kept(path) or b"[]")
        listed = [ListedObject(key, ObjectAttributes(size, when, etag)) for key, etag, size, when in rows]
        try:
            return listed, time.time() - path.stat().st_mtime
        except OSError:
            return listed, math.inf

    def _knows_objects(self) -> bool:
        """Whether sizes and times are known, or kept."""
        return bool(self._attributes) or (self._directory / "attributes").is_file()

    def _write_attributes(self, known: Known) -> None:
        data = json.dumps([_row(version, attributes) for version, attributes in known.items()]).encode()
        self._keep(self._directory / "attributes", data)

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
            if len(self._told) >= _MOST_TOLD:  # a bucket that has something new to be warned of each time
                self._told.clear()
            self._told.add(warning)
            log.warning(event, **about)


def _as_first(error: StorageError | DatasetError) -> StorageError | DatasetError:
    """The error where nothing is kept to go on with."""
    if isinstance(error, StorageError):
        return type(error)(f"{error}, and nothing is kept of the dataset")
    return error


def _digest(data: bytes | None) -> bytes | None:
    return None if data is None else hashlib.blake2b(data, digest_size=16).digest()


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

"""How large and how old the objects of a release are.

A manifest has no sizes, so they come from ListObjectVersions: pages of 1,000 rows, a handful of requests for a whole
release. Where the bucket refuses to list, HEAD asks for single objects when they are needed. All of it is stored
(`stored_sizes.py`) and not requested again, since a version id never changes its meaning; only objects without a
version id of their own are listed again by each process.

A listed size is unproven. HEAD asks for it again, once for each object, if the manifest's hash excludes it or a
range reply contradicts it. What HEAD has returned is *confirmed*.
"""

from collections.abc import Iterable, Set
from contextlib import suppress
from dataclasses import replace
from typing import Final

import trio

from vbnfs.dataset.contents import NamedContent
from vbnfs.dataset.manifest import Manifest
from vbnfs.dataset.stored_files import StoredFolder
from vbnfs.dataset.stored_sizes import AttributesTable, StoredSizes
from vbnfs.errors import (
    BadReplyError,
    DatasetError,
    OfflineError,
    ProxyDeniedError,
    StorageError,
    TransportError,
    UntrustedServerError,
)
from vbnfs.flight import Flight
from vbnfs.logs import WarnOnce
from vbnfs.objects import ListedVersion, ObjectAttributes, ObjectClient, ObjectVersion, may_have_size

# The server cannot be asked, for anything.
UNREACHABLE: Final = (TransportError, OfflineError, UntrustedServerError, ProxyDeniedError)
_MOST_HEADS: Final = 16  # at once, for callers that wait
_MOST_PREFETCHES: Final = 20  # HEADs at once; of 24 connections that leaves some to callers that wait

Listing = list[ListedVersion] | StorageError  # or why there is none


class ObjectSizes:
    """Size, time and ETag of the object versions whose keys begin with `prefix`.

    Work that grows with the release runs in threads. They read `_attributes`, which only the event loop changes.
    """

    def __init__(self, client: ObjectClient, folder: StoredFolder, *, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._stored = StoredSizes(folder)
        self._warn_once = WarnOnce()
        self._attributes: AttributesTable = {}
        self._not_listed: Set[ObjectVersion] = frozenset()  # absent from the last listing: not listed for again
        self._doubted: set[ObjectVersion] = set()  # contradicted: HEAD has to ask before they are returned
        self._confirmed: set[ObjectVersion] = set()  # by HEAD, in this process
        self._heads = trio.CapacityLimiter(_MOST_HEADS)
        self._flights: dict[ObjectVersion, Flight[None]] = {}  # HEADs under way
        self._queue: dict[NamedContent, None] = {}  # to be prefetched, in order
        self._queue_filled = trio.lowlevel.ParkingLot()

    # Object versions

    def of_object(self, version: ObjectVersion) -> ObjectAttributes | None:
        """Size and time of an object version, if they are known."""
        return self._attributes.get(version)

    async def fetch_object(
        self, version: ObjectVersion, limiter: trio.CapacityLimiter | None = None
    ) -> ObjectAttributes:
        """Size and time of an object version, by HEAD if they are not known. Raises a `StorageError`.

        One HEAD serves all callers that wait at the same time; each gets a copy of its error, too. `limiter` bounds
        the HEADs under way.
        """
        while version not in self._attributes or version in self._doubted:
            if (flight := self._flights.get(version)) is None:
                await self._head(version, limiter or self._heads)
            else:
                await flight.outcome()  # if its caller was cancelled, nothing is known: then another caller asks
        return self._attributes[version]

    async def _head(self, version: ObjectVersion, limiter: trio.CapacityLimiter) -> None:
        flight = self._flights[version] = Flight[None]()
        failure: StorageError | None = None
        try:
            async with limiter:
                attributes = self._attributes[version] = await self._client.head(version)
            self._doubted.discard(version)
            self._confirmed.add(version)
        except StorageError as error:
            failure = error
            raise
        finally:
            del self._flights[version]
            flight.land(None) if failure is None else flight.fail(failure)
        # A disk that hangs must not outlast the caller's deadline.
        await trio.to_thread.run_sync(self._stored.add_head, version, attributes, abandon_on_cancel=True)

    def take_in(self, rows: AttributesTable) -> None:
        """Store what another cache knows and this one does not; the next `update` reads it. Writes the disk.

        Without the ETags of versions that never change: then they are listed again, once S3 can be asked.
        """
        known = self._stored.read()
        new = {
            version: replace(row, etag=None) if version.is_immutable else row
            for version, row in rows.items()
            if version not in known
        }
        if new:
            self._stored.add_listed(new)

    def _doubt(self, version: ObjectVersion) -> bool:
        """Have HEAD asked for what is known of an object version, unless HEAD has returned it."""
        if version not in self._attributes or version in self._confirmed:
            return False
        self._doubted.add(version)
        return True

    # Contents

    def get(self, content: NamedContent) -> ObjectAttributes | None:
        """Size and time of a content, if they are known: those of its first source that has the content's size.

        A size that HEAD has confirmed for any source counts more than a listed one. A size that bytes with the
        content's hash cannot have counts only if HEAD has confirmed it, and no other size is known.
        """
        listed = impossible = None
        for source in content.sources:
            attributes = self._attributes.get(source)
            if attributes is None:
                continue
            is_possible = may_have_size(content.file_hash, attributes.size_bytes)
            if not self._confirmed or source not in self._confirmed:  # usually none: then nothing is hashed
                listed = listed or (attributes if is_possible else None)
            elif not is_possible:
                impossible = impossible or attributes
            elif listed is None or listed.size_bytes != attributes.size_bytes:
                return attributes
            else:
                return listed  # the first source's time
        return listed or impossible

    async def fetch(self, content: NamedContent, limiter: trio.CapacityLimiter | None = None) -> ObjectAttributes:
        """Size and time of a content, by HEAD of its sources if they are not known. Raises a `StorageError`."""
        failure: StorageError | None = None
        for source in content.sources:
            known = self.get(content)
            if known is not None and may_have_size(content.file_hash, known.size_bytes):
                return known
            self._doubt(source)
            try:
                await self.fetch_object(source, limiter)
            except StorageError as error:
                failure = failure or error
        known = self.get(content)
        if known is not None:
            return known
        raise failure or DatasetError(f"{content.sources[0]}: no size")

    async def fetch_all(self, contents: Iterable[NamedContent]) -> None:
        """Fetch the sizes of `contents` that are not known.

        A content whose size cannot be fetched stays unknown, with a warning; `fetch` raises for it.
        """
        missing = {content for content in contents if self.get(content) is None}
        if not missing:
            return
        async with trio.open_nursery() as nursery:
            for content in missing:
                nursery.start_soon(self._try_to_fetch, content)

    async def _try_to_fetch(self, content: NamedContent) -> None:
        try:
            await self.fetch(content)
        except StorageError as error:
            self._warn_once("size unknown", object=str(content.sources[0]), reason=str(error))

    async def recheck(self, content: NamedContent) -> bool:
        """Ask HEAD for sizes that a reply has contradicted, once for each source. Whether the size has changed."""
        before = self.get(content)
        for source in filter(self._doubt, content.sources):
            with suppress(StorageError):  # what was known of it stays
                await self.fetch_object(source)
        after = self.get(content)
        return before is not None and after is not None and before.size_bytes != after.size_bytes

    # Prefetching

    def prefetch(self, contents: Iterable[NamedContent]) -> None:
        """Have `run_prefetches` fetch the sizes of `contents` that are not known, in this order. Returns at once."""
        self._queue.update((content, None) for content in contents if self.get(content) is None)
        self._queue_filled.unpark_all()

    async def run_prefetches(self) -> None:
        """Send the HEADs that `prefetch` asks for, until cancelled. Their failures are ignored."""
        limiter = trio.CapacityLimiter(_MOST_PREFETCHES)
        async with trio.open_nursery() as nursery:
            for _ in range(_MOST_PREFETCHES):
                nursery.start_soon(self._run_one_after_another, limiter)

    async def _run_one_after_another(self, limiter: trio.CapacityLimiter) -> None:
        while True:
            while not self._queue:
                await self._queue_filled.park()
            content = next(iter(self._queue))
            del self._queue[content]
            try:
                await self.fetch(content, limiter)
            except UNREACHABLE:
                self._queue.clear()  # the others would fail alike; a reader that needs one fetches it
            except StorageError:
                continue

    # Releases

    def have_any(self) -> bool:
        """Whether any size is known or stored. Reads the disk."""
        return bool(self._attributes) or self._stored.have_listing()

    async def list_versions(self) -> Listing:
        """All object versions of the project, or why they cannot be listed."""
        try:
            listed = await self._client.list_versions(self._prefix)
        except StorageError as error:
            return error
        return listed or BadReplyError(f"listing of {self._prefix!r}: no object versions, though there are manifests")

    async def update(self, manifests: Iterable[Manifest], listing: Listing | None, *, is_offline: bool) -> None:
        """Read what is stored of new objects in `manifests`; take the others from `listing`, or a new one (None)."""
        found, missing = await trio.to_thread.run_sync(self._read_stored, manifests)
        self._attributes.update(found)
        if not missing or is_offline:
            return
        if listing is None:
            listing = await self.list_versions()
        if isinstance(listing, StorageError):
            event = "object versions cannot be listed; sizes are asked for one by one"
            self._warn_once(event, reason=str(listing))
            return
        found, not_listed = await trio.to_thread.run_sync(self._take_listed, listing, missing)
        self._attributes.update(found)
        self._not_listed = not_listed

    def _read_stored(self, manifests: Iterable[Manifest]) -> tuple[AttributesTable, Set[ObjectVersion]]:
        """What is stored of the new objects, and the objects to list.

        Stored objects are listed again if their ETag was not stored, or if they can have been replaced.
        """
        objects = {file.version for manifest in manifests for file in manifest.files}
        missing = {v for v in objects if v not in self._attributes and v not in self._not_listed}
        stored = self._stored.read() if missing else {}
        found = {version: stored[version] for version in missing if version in stored}
        settled = {version for version, one in found.items() if one.etag is not None and version.is_immutable}
        return found, missing - settled

    def _take_listed(
        self, rows: Iterable[ListedVersion], missing: Set[ObjectVersion]
    ) -> tuple[AttributesTable, Set[ObjectVersion]]:
        """Store and return the rows of the missing objects; also return the objects that no listing has."""
        found = {row.version: row.attributes for row in rows if row.version in missing}
        self._stored.add_listed(found)
        return found, self._not_listed | (missing - found.keys())

    async def restore(self) -> None:
        """Store again what is known and missing on the disk."""
        confirmed = {version: self._attributes[version] for version in self._confirmed}
        await trio.to_thread.run_sync(self._stored.restore, self._attributes.copy(), confirmed)

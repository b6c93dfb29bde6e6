"""Copies of manifests: which bytes are shown, and which are stored.

A manifest has no hash of itself. A copy is compared with what else is known: it must have the listed size, and be a
manifest. The ETag of an object that was uploaded in one part is the MD5 of its bytes (S3 API reference, Object). That
does not hold on every server, nor where KMS or a customer's key encrypts the object, which AWS sends to no anonymous
client. So:

| the bytes | the copy |
|---|---|
| have the ETag as their MD5 | is proven, and stored for good |
| have not, though AWS or this bucket gives such ETags | is refused, and requested again at the next load |
| came with an ETag that is no MD5, or twice without having it as their MD5 | is shown, and stored as unproven |

An unproven copy is shown without network. Otherwise it is requested once more at the next load: the same bytes settle
it.
Where no copy can be fetched, the stored one goes on being shown.
"""

import enum
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar, TypeVarTuple

import trio

from vbnfs.dataset.manifest import MAX_MANIFEST_BYTES, Manifest, Origin, parse_manifest
from vbnfs.dataset.stored_files import StoredFolder
from vbnfs.errors import ManifestError, StorageError, TransportError
from vbnfs.logs import WarnOnce
from vbnfs.objects import ListedObject, ObjectAttributes, ObjectClient, ObjectVersion

_MD5: Final = re.compile(r"[0-9a-f]{32}")
_MOST_FETCHES: Final = 8  # at once; their bytes are in memory
_MOST_PARSED: Final = 2  # at once; as text and as objects a manifest takes some times its bytes
_TRIES: Final = 2
_ALL_SECONDS: Final = 600.0  # for all that have to be fetched
_MAX_ALL_BYTES: Final = 256 << 20  # of all manifests together; the real ones have under 10 MB
_UNPROVEN: Final = "claim"  # in a stored copy

_OTHER_MD5: Final = "its bytes do not have the MD5 that its ETag tells; it will be asked for again"

_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")


class Proof(enum.Enum):
    """What the listed size and ETag say of the bytes of a manifest."""

    PROVEN = enum.auto()  # the ETag is their MD5
    UNKNOWN = enum.auto()  # the ETag is no MD5
    DOUBTFUL = enum.auto()  # the ETag is another MD5, or only looks like one
    WRONG = enum.auto()  # another size was listed


def prove(data: bytes, entry: ListedObject) -> Proof:
    """Compare the bytes of a manifest with its row of a listing."""
    if len(data) != entry.attributes.size_bytes:
        return Proof.WRONG
    if not _MD5.fullmatch(entry.etag):
        return Proof.UNKNOWN
    return Proof.PROVEN if hashlib.md5(data, usedforsecurity=False).hexdigest() == entry.etag else Proof.DOUBTFUL


@dataclass(frozen=True, slots=True)
class Copy:
    """The bytes of a manifest, and its row of the listing by which they were fetched.

    `is_settled` False: unproven, to be requested once more.
    """

    entry: ListedObject
    manifest: Manifest
    proof: Proof
    is_settled: bool

    def relisted(self, entry: ListedObject) -> "Copy | None":
        """The same copy for a new row of the listing; None unless both rows name the same bytes.

        The time differs if the same manifest was uploaded again.
        """
        if self.entry == entry:
            return self
        same = (self.entry.etag, self.entry.attributes.size_bytes) == (entry.etag, entry.attributes.size_bytes)
        if not same or self.proof is not Proof.PROVEN:
            return None
        return replace(self, entry=entry, manifest=replace(self.manifest, modified_ns=entry.attributes.modified_ns))

    def stored_form(self) -> bytes:
        """What is stored of it: a line with ETag, size and time, then the bytes."""
        attributes = self.entry.attributes
        words = [self.entry.etag, str(attributes.size_bytes), str(attributes.modified_ns)]
        words += [] if self.is_settled else [_UNPROVEN]
        return " ".join(words).encode() + b"\n" + self.manifest.data


Failure = ManifestError | StorageError


@dataclass(slots=True)
class _Search:
    """The search for one manifest's copy: the earlier copy, the one for the present listing, or why there is none."""

    entry: ListedObject
    earlier: Copy | None = None
    current: Copy | None = None
    error: Failure | None = None
    is_stored: bool = False  # `earlier` is on the disk


class ManifestCopies:
    """The manifests of one dataset, stored in `folder` under their file names."""

    def __init__(self, client: ObjectClient, folder: StoredFolder, *, origin: Origin) -> None:
        self._client = client
        self._folder = folder
        self._origin = origin
        self._warn_once = WarnOnce()
        self._gives_md5 = origin.endpoint_url is None  # AWS gives anonymous clients no other ETags
        self._shown: dict[str, Copy] = {}  # by key; those of the last listing
        self._refused: dict[ListedObject, ManifestError] = {}  # proven, but not manifests; of the last listing
        self._parsing = trio.CapacityLimiter(_MOST_PARSED)

    async def get(
        self, listed: Sequence[ListedObject], *, is_offline: bool
    ) -> dict[ListedObject, Manifest | Failure]:
        """The manifest for each row, or why it cannot be shown. What can be shown is stored, unless it is already."""
        searches = [_Search(entry) for entry in listed]
        await self._for_each(self._find_earlier, searches)
        self._note_proofs(search.earlier for search in searches)
        _refuse_what_is_too_large(searches)
        with trio.move_on_after(_ALL_SECONDS):
            await self._for_each(partial(self._find_current, is_offline=is_offline), searches)
        self._note_proofs(search.current for search in searches)
        chosen = {search.entry: self._choose(search) for search in searches}
        await trio.to_thread.run_sync(self._store_missing, searches, chosen)
        self._shown = {entry.key: copy for entry, copy in chosen.items() if isinstance(copy, Copy)}
        self._refused = {entry: error for entry, error in self._refused.items() if entry in chosen}
        return {entry: copy.manifest if isinstance(copy, Copy) else copy for entry, copy in chosen.items()}

    async def _for_each(self, work: Callable[[_Search], Awaitable[None]], searches: Iterable[_Search]) -> None:
        """Run `work` for several searches at the same time: the first mount waits for every round trip."""
        limiter = trio.CapacityLimiter(_MOST_FETCHES)

        async def one(search: _Search) -> None:
            async with limiter:
                await work(search)

        async with trio.open_nursery() as nursery:
            for search in searches:
                nursery.start_soon(one, search)

    def _note_proofs(self, copies: Iterable[Copy | None]) -> None:
        self._gives_md5 |= any(copy is not None and copy.proof is Proof.PROVEN for copy in copies)

    def _is_refuted(self, copy: Copy) -> bool:
        return copy.proof is Proof.WRONG or (copy.proof is Proof.DOUBTFUL and self._gives_md5)

    # Earlier copies

    async def _find_earlier(self, search: _Search) -> None:
        """Take the copy that was shown last, or the stored one."""
        search.earlier = self._shown.get(search.entry.key)
        if search.earlier is None:
            search.earlier = await self._in_thread(self._read_stored, search.entry)
            search.is_stored = search.earlier is not None

    def _read_stored(self, entry: ListedObject) -> Copy | None:
        """The stored copy; None if there is none, or it is not a manifest."""
        head, _, data = (self._folder.read(_name(entry)) or b"").partition(b"\n")
        words = head.decode(errors="replace").split(" ")
        is_settled = words[-1] != _UNPROVEN
        words = words if is_settled else words[:-1]
        try:
            etag, size, modified = words
            row = ListedObject(entry.key, ObjectAttributes(int(size), int(modified), etag))
            return Copy(row, self._parse(row, data), prove(data, row), is_settled)
        except (ValueError, ManifestError):
            return None

    # Current copies

    async def _find_current(self, search: _Search, *, is_offline: bool) -> None:
        """Fetch a copy, unless the earlier one is good."""
        search.error = search.error or self._refused.get(search.entry)
        if search.error is not None:
            return
        earlier = search.earlier
        copy = None if earlier is None or self._is_refuted(earlier) else earlier.relisted(search.entry)
        if copy is not None and (copy.is_settled or is_offline):
            search.current = copy
            return
        if is_offline:
            if earlier is None:
                name = _name(search.entry)
                search.error = ManifestError(f"{name}: not kept here, and the bucket cannot be reached")
            return
        try:
            search.current = await self._fetch(search.entry, copy)
        except (ManifestError, StorageError) as error:
            search.error = error

    async def _fetch(self, entry: ListedObject, unproven: Copy | None) -> Copy:
        """Request a manifest; and once more, if what comes first cannot be shown."""
        received: list[bytes] = [] if unproven is None else [unproven.manifest.data]
        for tries_left in reversed(range(_TRIES)):
            data = await self._client.get_object(entry.key, max_bytes=entry.attributes.size_bytes)
            proof = await trio.to_thread.run_sync(prove, data, entry)
            is_repeated = proof is Proof.DOUBTFUL and not self._gives_md5 and data in received
            try:
                if proof in {Proof.PROVEN, Proof.UNKNOWN} or is_repeated:
                    is_settled = proof is Proof.PROVEN or (unproven is not None and data == unproven.manifest.data)
                    return Copy(entry, await self._in_thread(self._parse, entry, data), proof, is_settled)
            except ManifestError as error:
                if proof is Proof.PROVEN:
                    self._refused[entry] = error
                if proof is Proof.PROVEN or not tries_left:
                    raise
            received.append(data)
        raise ManifestError(f"{_name(entry)}: {self._why_refused(received, entry)}")

    def _why_refused(self, received: Sequence[bytes], entry: ListedObject) -> str:
        size_bytes = entry.attributes.size_bytes
        if len(received[-1]) != size_bytes:
            return f"{len(received[-1]):,} bytes came, but {size_bytes:,} were listed; it will be asked for again"
        if self._gives_md5:
            return _OTHER_MD5
        return "came twice, differently, and never as its ETag tells; the way is bad"

    def take_in(self, entry: ListedObject, manifests: Mapping[str, bytes]) -> bool:
        """Store a manifest that came otherwise than from the bucket, if its bytes are there and may be right."""
        data = manifests.get(_name(entry))
        if data is None or prove(data, entry) is Proof.WRONG:
            return False
        try:
            copy = Copy(entry, self._parse(entry, data), Proof.UNKNOWN, is_settled=False)
        except ManifestError:
            return False
        self._folder.write(_name(entry), copy.stored_form())
        return True

    # What is shown, and stored

    def _choose(self, search: _Search) -> Copy | Failure:
        """The current copy; else the earlier one, unless it is known that the bucket has no manifest there now."""
        current, earlier, error = search.current, search.earlier, search.error
        if current is not None and not self._is_refuted(current):
            return current
        is_earlier_refuted = earlier is not None and self._is_refuted(earlier)
        if error is None and (current is not None or is_earlier_refuted):
            error = ManifestError(f"{_name(search.entry)}: {_OTHER_MD5}")
        elif error is None and earlier is None:
            error = TransportError(f"{_name(search.entry)}: not here after {_ALL_SECONDS:.0f} s")
        if earlier is None or is_earlier_refuted or search.entry in self._refused:
            assert error is not None
            return error
        if error is not None:
            event = "manifest cannot be had; the kept one is shown"
            self._warn_once(event, manifest=search.entry.key, reason=str(error))
        return earlier

    def _store_missing(self, searches: Iterable[_Search], chosen: Mapping[ListedObject, Copy | Failure]) -> None:
        """Store what is shown and missing on the disk, which may have been full, or emptied."""
        for search in searches:
            copy = chosen[search.entry]
            if not isinstance(copy, Copy) or (search.is_stored and copy is search.earlier):
                continue
            form, name = copy.stored_form(), _name(search.entry)
            if copy is not search.earlier or self._folder.read(name) != form:
                self._folder.write(name, form)

    async def _in_thread(self, work: Callable[[*_Arguments], _T], *arguments: *_Arguments) -> _T:
        return await trio.to_thread.run_sync(work, *arguments, limiter=self._parsing)

    def _parse(self, entry: ListedObject, data: bytes) -> Manifest:
        modified_ns = entry.attributes.modified_ns
        manifest = parse_manifest(data, file_name=_name(entry), modified_ns=modified_ns, origin=self._origin)
        return replace(manifest, source=ObjectVersion(entry.key, None))


def _name(entry: ListedObject) -> str:
    return entry.key.rpartition("/")[2]


def _refuse_what_is_too_large(searches: Iterable[_Search]) -> None:
    """Refuse each manifest that is too large, and the newest ones if all are too large together."""
    left_bytes = _MAX_ALL_BYTES
    for search in sorted(searches, key=lambda search: search.entry.attributes.modified_ns):
        size_bytes, name = search.entry.attributes.size_bytes, _name(search.entry)
        left_bytes -= size_bytes
        if size_bytes > MAX_MANIFEST_BYTES:
            search.error = ManifestError(f"{name}: {size_bytes:,} bytes; at most {MAX_MANIFEST_BYTES:,} are taken")
        elif left_bytes < 0:
            search.error = ManifestError(f"{name}: the manifests have more than {_MAX_ALL_BYTES:,} bytes in all")

"""Copies of manifests: which bytes are shown, and which are kept.

A manifest has no hash of itself. A copy is held against what else is known: it must have the size that was listed,
and be a manifest. The ETag of an object that was put in one part is the MD5 of its bytes (S3 API reference, Object).
It is not on every server, nor where KMS or a customer's key encrypts the object, which AWS sends to no anonymous
client. So:

| the bytes | the copy |
|---|---|
| have the ETag as their MD5 | is proven, and kept for good |
| have not, though AWS or this bucket gives such ETags | is refused, and asked for again at the next load |
| came with an ETag that is no MD5, or twice without having it as their MD5 | is shown, and kept as a claim |

A claim serves without network. Else it is asked for once more at the next load: the same bytes settle it. Where no
copy can be had, the one that was kept before goes on being shown.
"""

import enum
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar, TypeVarTuple

import trio

from vbnfs.dataset.kept_files import read_kept
from vbnfs.dataset.manifest import MAX_MANIFEST_BYTES, Manifest, Origin, parse_manifest
from vbnfs.errors import ManifestError, StorageError, TransportError
from vbnfs.host.places import Place
from vbnfs.objects import ListedObject, ObjectAttributes, ObjectClient, ObjectVersion

_MD5: Final = re.compile(r"[0-9a-f]{32}")
_AT_ONCE: Final = 8  # they are in memory meanwhile
_PARSED_AT_ONCE: Final = 2  # as text and as objects, which takes some times as much
_TRIES: Final = 2
_ALL_SECONDS: Final = 600.0  # for all that have to be fetched
_MAX_ALL_BYTES: Final = 256 << 20  # of all manifests together; the real ones have under 10 MB
_CLAIM: Final = "claim"

_OTHER_MD5: Final = "its bytes do not have the MD5 that its ETag tells; it will be asked for again"

_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")


class Proof(enum.Enum):
    """What an ETag says of the bytes that came."""

    PROVEN = enum.auto()  # their MD5
    UNKNOWN = enum.auto()  # nothing: it is no MD5
    DOUBTFUL = enum.auto()  # another MD5, or it only looks like one
    WRONG = enum.auto()  # they have not even the size that was listed


def prove(data: bytes, entry: ListedObject) -> Proof:
    """Hold the bytes of a manifest against what was listed of it."""
    if len(data) != entry.attributes.size_bytes:
        return Proof.WRONG
    if not _MD5.fullmatch(entry.etag):
        return Proof.UNKNOWN
    return Proof.PROVEN if hashlib.md5(data, usedforsecurity=False).hexdigest() == entry.etag else Proof.DOUBTFUL


@dataclass(frozen=True, slots=True)
class Copy:
    """A manifest as it was had, and what was listed of it then. `is_settled` False: a claim."""

    entry: ListedObject
    manifest: Manifest
    proof: Proof
    is_settled: bool

    def under(self, entry: ListedObject) -> "Copy | None":
        """The same as the copy of what is listed now, if it has the same bytes: it was uploaded again, say."""
        if self.entry == entry:
            return self
        same = (self.entry.etag, self.entry.attributes.size_bytes) == (entry.etag, entry.attributes.size_bytes)
        if not same or self.proof is not Proof.PROVEN:
            return None
        return replace(self, entry=entry, manifest=replace(self.manifest, modified_ns=entry.attributes.modified_ns))

    def kept_form(self) -> bytes:
        """As it stands on the disk: a line with ETag, size and time, then the bytes."""
        attributes = self.entry.attributes
        words = [self.entry.etag, str(attributes.size_bytes), str(attributes.modified_ns)]
        words += [] if self.is_settled else [_CLAIM]
        return " ".join(words).encode() + b"\n" + self.manifest.data


Failure = ManifestError | StorageError


@dataclass(slots=True)
class _Search:
    """One manifest that is looked for: the copy to show, the one that was kept before, and why there is no newer."""

    entry: ListedObject
    held: Copy | None = None
    new: Copy | None = None
    error: Failure | None = None
    is_on_disk: bool = False  # `held`


class Copies:
    """The manifests of one dataset, kept in `directory`: `keep` writes there, `warn` says a thing once."""

    def __init__(
        self,
        client: ObjectClient,
        directory: Place,
        *,
        origin: Origin,
        keep: Callable[[Place, bytes], None],
        warn: Callable[..., None],
    ) -> None:
        self._client = client
        self._directory = directory
        self._origin = origin
        self._keep = keep
        self._warn = warn
        self._gives_md5 = origin.endpoint_url is None  # to those who ask anonymously, AWS gives no other ETags
        self._shown: dict[str, Copy] = {}  # by key; those of the last listing
        self._refused: dict[ListedObject, ManifestError] = {}  # proven, and no manifests; of the last listing
        self._parsing = trio.CapacityLimiter(_PARSED_AT_ONCE)

    async def get(
        self, listed: Sequence[ListedObject], *, is_offline: bool
    ) -> dict[ListedObject, Manifest | Failure]:
        """The manifest for each row, or why it cannot be shown. What can be shown and is not on the disk is kept."""
        searches = [_Search(entry) for entry in listed]
        await self._for_each(self._look, searches)
        self._note_proofs(search.held for search in searches)
        _refuse_what_is_too_large(searches)
        with trio.move_on_after(_ALL_SECONDS):
            await self._for_each(partial(self._ask, is_offline=is_offline), searches)
        self._note_proofs(search.new for search in searches)
        chosen = {search.entry: self._choose(search) for search in searches}
        await trio.to_thread.run_sync(self._keep_missing, searches, chosen)
        self._shown = {entry.key: copy for entry, copy in chosen.items() if isinstance(copy, Copy)}
        self._refused = {entry: error for entry, error in self._refused.items() if entry in chosen}
        return {entry: copy.manifest if isinstance(copy, Copy) else copy for entry, copy in chosen.items()}

    async def _for_each(self, work: Callable[[_Search], Awaitable[None]], searches: Iterable[_Search]) -> None:
        """All at once: the first mount of all waits for every round trip."""
        at_once = trio.CapacityLimiter(_AT_ONCE)

        async def one(search: _Search) -> None:
            async with at_once:
                await work(search)

        async with trio.open_nursery() as nursery:
            for search in searches:
                nursery.start_soon(one, search)

    def _note_proofs(self, copies: Iterable[Copy | None]) -> None:
        self._gives_md5 |= any(copy is not None and copy.proof is Proof.PROVEN for copy in copies)

    def _is_refuted(self, copy: Copy) -> bool:
        return copy.proof is Proof.WRONG or (copy.proof is Proof.DOUBTFUL and self._gives_md5)

    # What there is

    async def _look(self, search: _Search) -> None:
        """What is at hand or kept of it."""
        search.held = self._shown.get(search.entry.key)
        if search.held is None:
            search.held = await self._in_thread(self._read, search.entry)
            search.is_on_disk = search.held is not None

    def _read(self, entry: ListedObject) -> Copy | None:
        """What is kept of a manifest, if it is one."""
        head, _, data = (read_kept(self._path(entry)) or b"").partition(b"\n")
        words = head.decode(errors="replace").split(" ")
        is_settled = words[-1] != _CLAIM
        words = words if is_settled else words[:-1]
        try:
            etag, size, modified = words
            then = ListedObject(entry.key, ObjectAttributes(int(size), int(modified), etag))
            return Copy(then, self._parse(then, data), prove(data, then), is_settled)
        except (ValueError, ManifestError):
            return None

    # What is asked for

    async def _ask(self, search: _Search, *, is_offline: bool) -> None:
        """Ask for a copy unless there is a good one."""
        search.error = search.error or self._refused.get(search.entry)
        if search.error is not None:
            return
        held = None if search.held is None or self._is_refuted(search.held) else search.held.under(search.entry)
        if held is not None and (held.is_settled or is_offline):
            search.new = held
            return
        if is_offline:
            if search.held is None:
                name = _name(search.entry)
                search.error = ManifestError(f"{name}: not kept here, and the bucket cannot be reached")
            return
        try:
            search.new = await self._fetch(search.entry, held)
        except (ManifestError, StorageError) as error:
            search.error = error

    async def _fetch(self, entry: ListedObject, claim: Copy | None) -> Copy:
        """Ask for a manifest: once more where what comes first is nothing that can be shown."""
        came: list[bytes] = [] if claim is None else [claim.manifest.data]
        for left in reversed(range(_TRIES)):
            data = await self._client.get_object(entry.key, max_bytes=entry.attributes.size_bytes)
            proof = await trio.to_thread.run_sync(prove, data, entry)
            is_again = proof is Proof.DOUBTFUL and not self._gives_md5 and data in came
            try:
                if proof in {Proof.PROVEN, Proof.UNKNOWN} or is_again:
                    is_settled = proof is Proof.PROVEN or (claim is not None and data == claim.manifest.data)
                    return Copy(entry, await self._in_thread(self._parse, entry, data), proof, is_settled)
            except ManifestError as error:
                if proof is Proof.PROVEN:
                    self._refused[entry] = error
                if proof is Proof.PROVEN or not left:
                    raise
            came.append(data)
        raise ManifestError(f"{_name(entry)}: {self._why_not(came, entry)}")

    def _why_not(self, came: Sequence[bytes], entry: ListedObject) -> str:
        size_bytes = entry.attributes.size_bytes
        if len(came[-1]) != size_bytes:
            return f"{len(came[-1]):,} bytes came, but {size_bytes:,} were listed; it will be asked for again"
        if self._gives_md5:
            return _OTHER_MD5
        return "came twice, differently, and never as its ETag tells; the way is bad"

    # What is shown, and kept

    def _choose(self, search: _Search) -> Copy | Failure:
        """The new copy; else, unless the bucket has no manifest there now, the one that was kept before."""
        if search.new is not None and not self._is_refuted(search.new):
            return search.new
        error = search.error
        if error is None and (search.new is not None or (search.held is not None and self._is_refuted(search.held))):
            error = ManifestError(f"{_name(search.entry)}: {_OTHER_MD5}")
        elif error is None and search.held is None:
            error = TransportError(f"{_name(search.entry)}: not here after {_ALL_SECONDS:.0f} s")
        if search.held is None or self._is_refuted(search.held) or search.entry in self._refused:
            assert error is not None
            return error
        if error is not None:
            self._warn("manifest cannot be had; the kept one is shown", manifest=search.entry.key, reason=str(error))
        return search.held

    def _keep_missing(self, searches: Iterable[_Search], chosen: Mapping[ListedObject, Copy | Failure]) -> None:
        """Keep what is shown and is not on the disk: that may have been full, or emptied."""
        for search in searches:
            copy = chosen[search.entry]
            if not isinstance(copy, Copy) or (search.is_on_disk and copy is search.held):
                continue
            form, path = copy.kept_form(), self._path(search.entry)
            if copy is not search.held or read_kept(path) != form:
                self._keep(path, form)

    async def _in_thread(self, work: Callable[[*_Arguments], _T], *arguments: *_Arguments) -> _T:
        return await trio.to_thread.run_sync(work, *arguments, limiter=self._parsing)

    def _parse(self, entry: ListedObject, data: bytes) -> Manifest:
        modified_ns = entry.attributes.modified_ns
        manifest = parse_manifest(data, file_name=_name(entry), modified_ns=modified_ns, origin=self._origin)
        return replace(manifest, source=ObjectVersion(entry.key, None))

    def _path(self, entry: ListedObject) -> Place:
        return self._directory / _name(entry)


def _name(entry: ListedObject) -> str:
    return entry.key.rpartition("/")[2]


def _refuse_what_is_too_large(searches: Iterable[_Search]) -> None:
    """Of manifests that are too large together, the oldest are taken."""
    left_bytes = _MAX_ALL_BYTES
    for search in sorted(searches, key=lambda search: search.entry.attributes.modified_ns):
        size_bytes, name = search.entry.attributes.size_bytes, _name(search.entry)
        left_bytes -= size_bytes
        if size_bytes > MAX_MANIFEST_BYTES:
            search.error = ManifestError(f"{name}: {size_bytes:,} bytes; at most {MAX_MANIFEST_BYTES:,} are taken")
        elif left_bytes < 0:
            search.error = ManifestError(f"{name}: the manifests have more than {_MAX_ALL_BYTES:,} bytes in all")

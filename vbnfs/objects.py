"""The vocabulary: names of an object, of a part of it and of a block of it, and the client that fetches them.

An *object version* is S3's: a key and a version id. A *content* is what vbnfs caches: bytes that never change, named
by `content_id`. Two object versions with the same bytes are one content. So dataset versions share blocks, inodes and
kernel pages, though none refers to another.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Protocol

NULL_VERSION: Final = "null"  # S3's id for what was stored without versioning: its bytes may be replaced
EMPTY_HASH: Final = hashlib.blake2b(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of one object of the dataset's bucket. `version_id` None means the current one.

    `etag` is set if the version id does not fix the bytes. Ranges are then requested on the condition that the object
    still has this ETag (RFC 9110, 13.1.1, If-Match).
    """

    key: str
    version_id: str | None
    etag: str | None = None

    @property
    def is_immutable(self) -> bool:
        """Whether its bytes can never be replaced (S3 User Guide, "Retaining multiple versions of objects")."""
        return self.version_id not in {None, NULL_VERSION}

    def __str__(self) -> str:
        return self.key if self.version_id is None else f"{self.key}?versionId={self.version_id}"


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` up to, not including, `stop`. Only s3/ranges.py makes HTTP's inclusive form of it."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            raise ValueError(f"not a byte range: {self.start}..{self.stop}")

    def __len__(self) -> int:
        return self.stop - self.start

    def clip(self, size_bytes: int) -> "ByteRange":
        """The part of this range that lies within an object of `size_bytes`."""
        return ByteRange(min(self.start, size_bytes), min(self.stop, size_bytes))


@dataclass(frozen=True, slots=True)
class Content:
    """Immutable bytes: their name in the cache, their length, and the object versions that should hold them.

    `source` is shown as the origin; `others` are further object versions that manifests name for the same bytes.
    `file_hash` is the blake2b of all of the bytes in lower-case hex, if a manifest has it. Until the bytes have been
    hashed it is unproven, and so is every source.
    """

    content_id: str
    size_bytes: int
    source: ObjectVersion
    file_hash: str | None = None
    others: tuple[ObjectVersion, ...] = ()

    @property
    def sources(self) -> tuple[ObjectVersion, ...]:
        """All object versions that should hold the bytes, `source` first."""
        return (self.source, *self.others)


def may_have_size(file_hash: str | None, size_bytes: int) -> bool:
    """Whether bytes with this hash can have this length: only the empty byte string has the hash of no bytes."""
    return file_hash is None or (file_hash == EMPTY_HASH) == (size_bytes == 0)


class BlockKey(NamedTuple):
    """The block `number` (0, 1, ...) of a content. A tuple, because each block is looked up some ten times."""

    content_id: str
    number: int


@dataclass(frozen=True, slots=True)
class ObjectAttributes:
    """The attributes of an object version, from HEAD or a listing. `modified_ns` is S3's LastModified since 1970.

    `etag` is None if it is not known; a server may send none.
    """

    size_bytes: int
    modified_ns: int
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class ListedObject:
    """A row of ListObjectsV2."""

    key: str
    attributes: ObjectAttributes

    @property
    def etag(self) -> str:
        """Its ETag; '' if the server sent none."""
        return self.attributes.etag or ""


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """A row of ListObjectVersions (delete markers are left out)."""

    version: ObjectVersion
    attributes: ObjectAttributes


@dataclass(frozen=True, slots=True)
class RangeRequest:
    """A range to fetch, not empty, and what its reply has to agree with: the version, and the object's size.

    `is_anew`: on a new connection, since others brought wrong bytes, or none. `sink`: where whole blocks go as they
    come.
    """

    version: ObjectVersion
    byte_range: ByteRange
    size_bytes: int
    is_anew: bool = False
    sink: "Sink | None" = None

    def after(self, position: int) -> "RangeRequest":
        """The part of it from byte `position` on."""
        return replace(self, byte_range=ByteRange(position, self.byte_range.stop))

    def anew(self) -> "RangeRequest":
        """The same, on a new connection."""
        return self if self.is_anew else replace(self, is_anew=True)


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive bytes of an object that have come: those from `start` on."""

    start: int
    data: bytes

    def __len__(self) -> int:
        return len(self.data)

    @property
    def stop(self) -> int:
        """Where it ends."""
        return self.start + len(self.data)

    def after(self, position: int) -> "Piece":
        """The part of it from byte `position` on."""
        return self if position <= self.start else Piece(position, self.data[position - self.start :])


@dataclass(frozen=True, slots=True)
class Stored:
    """Consecutive bytes of an object that have come and are in the cache already, without the bytes.

    What received them has stored them, and has made room for them. Only whole blocks are in the cache: so this ends
    where a block does. It may begin within one, of which the bytes before `start` came as a `Piece`, too. Nothing
    keeps the cache from losing them again: a reader has to look.
    """

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def after(self, position: int) -> "Stored":
        """The part of it from byte `position` on."""
        return Stored(max(self.start, position), self.stop)


@dataclass(frozen=True, slots=True)
class StorePlan:
    """What another process has to know to store blocks of a content, besides its two open files.

    `identity` is what its checksums are seeded with. `digests` has those of its blocks from number `first` on, as far
    as they may come, one behind the other; None: none are known. `are_shared`: other hosts may have the files, too.
    """

    identity: str
    size_bytes: int
    first: int
    digests: bytes | None
    are_shared: bool = False


@dataclass(frozen=True, slots=True)
class OpenStore:
    """What a sink is for another process: its plan, and the descriptors of a content's `data` and `checksums`.

    They are open as long as this has their `owner`.
    """

    plan: StorePlan
    descriptors: tuple[int, int]
    owner: object


class Sink(Protocol):
    """Where whole blocks of a body are stored by what receives it: their bytes do not pass the event loop.

    What receives it may be another process: then that has the sink `opened`, and this one notes what it has stored.
    """

    def store(self, start: int, parts: Sequence[bytes]) -> bool:
        """Store adjacent whole blocks of the object, from byte `start` on; their bytes are cut anywhere into parts.

        False: they are not stored, and are to be handed on as a `Piece`. May wait for a disk. Never raises.
        """
        ...

    def opened(self, byte_range: ByteRange) -> OpenStore | None:
        """For the blocks of a range; None where another process can store none. May wait for a disk. Never raises."""
        return None

    def note_stored(self, start: int, stop: int) -> None:
        """Another process has stored these bytes."""

    def close(self) -> None:
        """Let go of what is open for this one. Called where `store` is, and behind it: it may wait for a disk."""
        return


# What has come of an object. Clients that are wrapped around another go by where it begins and ends (`start`, `stop`,
# `len`, `after`), and leave its bytes alone: there may be none.
Received = Piece | Stored
Receive = Callable[[Received], Awaitable[None]]


class ObjectClient(Protocol):
    """Reads one bucket, and never writes to it.

    Every method raises a `StorageError`; being cancelled leaves nothing behind.
    """

    async def reach(self) -> None:
        """Whether the server is there, and can be trusted: connect, and ask nothing of it."""
        ...

    async def list_objects(self, prefix: str) -> list[ListedObject]:
        """The current objects below `prefix`, all pages (S3: ListObjectsV2)."""
        ...

    async def list_versions(self, prefix: str) -> list[ListedVersion]:
        """Every version of every object below `prefix`, all pages (S3: ListObjectVersions)."""
        ...

    async def head(self, version: ObjectVersion) -> ObjectAttributes:
        """Size and time of one version (S3: HeadObject)."""
        ...

    async def get_object(self, key: str, *, max_bytes: int) -> bytes:
        """The whole current object; `BadReplyError` as soon as it proves larger than `max_bytes`."""
        ...

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        """Hand exactly the bytes of a range to `receive`, in order, in pieces of any length, or as `Stored`.

        Nothing is handed on before status, Content-Range (the object's size included) and the version id, where the
        server sends it, agree with the request. When it raises, what was handed on is good, and the rest did not
        come. What `receive` raises comes out as it is, and ends the request.
        """
        ...

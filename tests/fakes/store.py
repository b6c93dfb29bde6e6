"""A versioned bucket in memory: what the fakes at the network's edge serve."""

import bisect
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

_FIRST_MODIFIED: Final = datetime(2023, 1, 1, tzinfo=UTC)


class Data(Protocol):
    """Bytes, or what gives bytes when it is sliced (see `Pattern`)."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Pattern:
    """`size_bytes` of reproducible noise that takes no memory: every 64 bytes of it name their place."""

    size_bytes: int
    seed: int = 0

    def __len__(self) -> int:
        return self.size_bytes

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, step = part.indices(self.size_bytes)
        assert step == 1
        if stop <= start:
            return b""
        first = start // 64
        salt = self.seed.to_bytes(8, "little")
        noise = b"".join(
            hashlib.blake2b(word.to_bytes(8, "little"), salt=salt).digest() for word in range(first, -(-stop // 64))
        )
        return noise[start - first * 64 : stop - first * 64]


@dataclass(frozen=True, slots=True)
class FileData:
    """The bytes of a file, which takes no memory either."""

    path: Path

    def __len__(self) -> int:
        return self.path.stat().st_size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, step = part.indices(len(self))
        assert step == 1
        with open(self.path, "rb") as file:
            file.seek(start)
            return file.read(max(0, stop - start))


@dataclass(frozen=True)
class StoredVersion:
    """One version of a key. `data` None: a delete marker."""

    key: str
    version_id: str
    data: Data | None
    modified: datetime

    @property
    def size_bytes(self) -> int:
        return 0 if self.data is None else len(self.data)

    @cached_property
    def etag(self) -> str:
        """S3's quoted ETag: the MD5 of the bytes; of a `Pattern`, of its description."""
        data = self.data if isinstance(self.data, bytes) else repr(self.data).encode()
        return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


class _Index:
    """Rows in the listing's order, and where to begin: both found by bisection."""

    def __init__(self, rows: list[StoredVersion]) -> None:
        self.rows = rows
        self.keys = [row.key.encode() for row in rows]

    def below(self, prefix: str, *, after_key: str = "", after_version_id: str = "") -> Iterator[StoredVersion]:
        wanted, after = prefix.encode(), after_key.encode()
        position = bisect.bisect_left(self.keys, wanted)
        if after:
            position = max(position, bisect.bisect_right(self.keys, after))
            first = bisect.bisect_left(self.keys, after)
            ids = [row.version_id for row in self.rows[first:position]]
            if after_version_id in ids:
                position = first + ids.index(after_version_id) + 1
        while position < len(self.rows) and self.keys[position].startswith(wanted):
            yield self.rows[position]
            position += 1


class MemoryStore:
    """A bucket. Rows come in S3's order: by the key's UTF-8 bytes, then the newest version first.

    May be used from several threads.
    """

    def __init__(self, bucket: str = "data-bucket") -> None:
        self.bucket = bucket
        self._lock = threading.Lock()  # protects all of these
        self._by_key: dict[str, list[StoredVersion]] = {}  # the newest version last
        self._count = 0
        self._all: _Index | None = None  # made when first asked for after a change
        self._current: _Index | None = None

    def put(self, key: str, data: Data, *, version_id: str | None = None, modified: datetime | None = None) -> str:
        """Store a new version, now the current one; its version id. Without `modified`, a second per put."""
        return self._add(key, data, version_id, modified)

    def delete(self, key: str, *, version_id: str | None = None, modified: datetime | None = None) -> str:
        """Put a delete marker on top of a key; its version id. Older versions stay."""
        return self._add(key, None, version_id, modified)

    def remove(self, key: str, version_id: str) -> None:
        """Take one version away for good (S3: DELETE with a version id)."""
        with self._lock:
            self._by_key[key] = [row for row in self._by_key[key] if row.version_id != version_id]
            self._all = self._current = None

    def get(self, key: str, version_id: str | None = None) -> StoredVersion | None:
        """A version, or the current one, which may be a delete marker. None where there is none."""
        with self._lock:
            rows = self._by_key.get(key, [])
            if version_id is None:
                return rows[-1] if rows else None
            return next((row for row in rows if row.version_id == version_id), None)

    def data(self, key: str, version_id: str | None = None) -> bytes:
        """All bytes of a version."""
        row = self.get(key, version_id)
        assert row is not None
        assert row.data is not None
        return row.data[: len(row.data)]

    def objects(self, prefix: str = "", *, after_key: str = "") -> Iterator[StoredVersion]:
        """The current versions, without deleted ones, as ListObjectsV2 gives them."""
        return self._indices()[1].below(prefix, after_key=after_key)

    def versions(
        self, prefix: str = "", *, after_key: str = "", after_version_id: str = ""
    ) -> Iterator[StoredVersion]:
        """All versions and delete markers, as ListObjectVersions gives them."""
        return self._indices()[0].below(prefix, after_key=after_key, after_version_id=after_version_id)

    def is_latest(self, row: StoredVersion) -> bool:
        """Whether a version is the current one of its key."""
        return self.get(row.key) is row

    def _add(self, key: str, data: Data | None, version_id: str | None, modified: datetime | None) -> str:
        with self._lock:
            self._count += 1
            made = hashlib.blake2b(f"{self._count} {key}".encode(), digest_size=16).hexdigest()
            row = StoredVersion(
                key, version_id or made, data, modified or _FIRST_MODIFIED + timedelta(seconds=self._count)
            )
            kept = [old for old in self._by_key.get(key, []) if old.version_id != row.version_id]
            self._by_key[key] = [*kept, row]
            self._all = self._current = None
            return row.version_id

    def _indices(self) -> tuple[_Index, _Index]:
        with self._lock:
            if self._all is None or self._current is None:
                keys = sorted(self._by_key, key=str.encode)
                self._all = _Index([row for key in keys for row in reversed(self._by_key[key])])
                newest = [self._by_key[key][-1] for key in keys if self._by_key[key]]
                self._current = _Index([row for row in newest if row.data is not None])
            return self._all, self._current

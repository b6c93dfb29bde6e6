"""Where the histories of contents are stored, for all processes, without a lock.

    the first 64 bytes of a content's `checksums`       its history, while it is in the cache
    blocks-v2/<scope>/.evicted                          those of 8,192 contents that were evicted, 64 bytes each

A record ends in a checksum that is seeded with the content's id. A torn one, or another content's, is no record: the
content then counts as new. An evicted content's place in `.evicted` follows from its id, and the next one with the
same place replaces it. So the file needs no index and does not grow.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import xxhash

from vbnfs.cache.content_folder import FORMAT
from vbnfs.cache.eviction_policy import History
from vbnfs.host.disk_space import allocated_bytes
from vbnfs.host.places import Place, for_looking, open_file
from vbnfs.host.positioned import read_at, write_at

RECORD_BYTES: Final = 64
EVICTED: Final = ".evicted"
_SLOTS: Final = 8192  # more contents than a version has files; half a MiB
_MAGIC: Final = b"vbnfs-2q"
_BODY_BYTES: Final = 56
_MOST: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Evicted:
    """A content's history when it was evicted, and when it had been used last (nanoseconds since 1970)."""

    history: History
    used_ns: int


def encode(content_id: str, history: History, *, used_ns: int) -> bytes:
    """The record of a content, of 64 bytes."""
    numbers = ((history.began_ns, 8), (used_ns, 8), (min(history.periods, _MOST), 4), (history.is_back, 4))
    body = _MAGIC + b"".join(max(0, number).to_bytes(size, "little") for number, size in numbers)
    body = body.ljust(_BODY_BYTES, b"\0")
    return body + _check(content_id, body)


def decode(content_id: str, record: bytes) -> Evicted | None:
    """What a record says; None if it is not a whole one of this content."""
    body = record[:_BODY_BYTES]
    if not body.startswith(_MAGIC) or record[_BODY_BYTES:] != _check(content_id, body):
        return None
    began_ns, used_ns, periods, is_back = (
        int.from_bytes(body[start:stop], "little") for start, stop in ((8, 16), (16, 24), (24, 28), (28, 32))
    )
    return Evicted(History(began_ns, periods, is_back=bool(is_back)), used_ns)


def read_history(checksums: int, content_id: str) -> History | None:
    """The history in an open `checksums` file; None if it has none. Raises `OSError`."""
    found = decode(content_id, read_at(checksums, RECORD_BYTES, 0))
    return None if found is None else found.history


def write_history(checksums: int, content_id: str, history: History) -> None:
    """Store it there. Raises `OSError`."""
    write_at(checksums, encode(content_id, history, used_ns=history.began_ns), 0)


def note_period(checksums: int, content_id: str, now_ns: int) -> None:
    """Note a use, if it begins a period. Raises `OSError`."""
    before = read_history(checksums, content_id)
    after = History(now_ns) if before is None else before.after_use(now_ns)
    if after is not before:
        write_history(checksums, content_id, after)


def begin_history(checksums: int, content_id: str, *, scope: Place, now_ns: int) -> None:
    """Give a content that was made just now its history: a new one, or that of its return. Raises `OSError`."""
    evicted = recall_evicted(scope, content_id)
    history = History(now_ns)
    if evicted is not None:
        history = evicted.history.after_return(now_ns, used_ns=evicted.used_ns)
    write_history(checksums, content_id, history)


def remember_evicted(scope: Place, content_id: str, evicted: Evicted) -> None:
    """Note the history of a content that is evicted. It is no error where that fails."""
    with suppress(OSError):
        descriptor = (scope / EVICTED).open(os.O_WRONLY | os.O_CREAT)
        try:
            write_at(descriptor, encode(content_id, evicted.history, used_ns=evicted.used_ns), _offset(content_id))
        finally:
            os.close(descriptor)


def recall_evicted(scope: Place, content_id: str) -> Evicted | None:
    """What was noted when a content was evicted; None if nothing is known any more."""
    with suppress(OSError), scope.opened() as folder:
        descriptor = open_file(folder, EVICTED, for_looking(folder), owners=scope.owners)
        try:
            return decode(content_id, read_at(descriptor, RECORD_BYTES, _offset(content_id)))
        finally:
            os.close(descriptor)
    return None


def allocated_by_evicted(directory: Place) -> int:
    """What the histories of evicted contents take on the disk of a cache directory, of all scopes."""
    found = 0
    for parts, _, entries in (directory / FORMAT).walk(depth=1):
        for entry in entries if parts else ():
            if entry.name == EVICTED:
                with suppress(OSError):
                    found += allocated_bytes(entry.stat(follow_symlinks=False))
    return found


def _offset(content_id: str) -> int:
    return xxhash.xxh3_64_intdigest(content_id.encode()) % _SLOTS * RECORD_BYTES


def _check(content_id: str, body: bytes) -> bytes:
    return xxhash.xxh3_64_digest(body + content_id.encode())

"""Block digests: what each block of a file has to be, by the file's hash.

    digests-v1/proven/<2 hex>/<file hash>       made here, of bytes that have this hash
    digests-v1/imported/<2 hex>/<file hash>     made elsewhere: a claim, until the file has been hashed here

They are about bytes, whichever server these come from. So neither scope nor content id is in their names. The folder
alone says whether they are proven: the files are the same, and docs/digests.md has their layout. They stand beside
the blocks, and are not evicted.

A file that is torn, damaged or another file's counts as none: then blocks come unchecked, as they do without digests.
"""

import io
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import structlog
from cachetools import TTLCache

from vbnfs.blocks import DIGEST_BYTES
from vbnfs.cache.sets import HEAD_BYTES, Head, Imported, Kind, encode_set, read_set_of
from vbnfs.errors import DigestsError
from vbnfs.host.atomic import replace_file
from vbnfs.host.places import Place, folder_at
from vbnfs.objects import Content

log = structlog.get_logger()

FORMAT: Final = "digests-v1"
KIND: Final = Kind(b"vbnfsdg1", "digests", DigestsError)
_PROVEN: Final = "proven"
_IMPORTED: Final = "imported"
_HASH_BYTES: Final = 64
_REMEMBERED_BYTES: Final = 16 << 20  # of digests: those of 256 GiB of files
_REMEMBERED_SECONDS: Final = 60.0
_ABSENT_SECONDS: Final = 5.0  # another process may make some, or import them
_MOST_ABSENT: Final = 4096


@dataclass(frozen=True, slots=True)
class DigestSet:
    """The digests of all blocks of the file with this hash (128 hex digits), one behind the other."""

    file_hash: str
    size_bytes: int
    digests: bytes

    def of_block(self, index: int) -> bytes:
        """The digest of a block, 16 bytes."""
        return self.digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]

    def encode(self) -> bytes:
        """The set as it is stored and exported (docs/digests.md)."""
        return encode_set(KIND, Head(self.file_hash, self.size_bytes), self.digests)


def read_set(file: BinaryIO) -> DigestSet | None:
    """The next set of a file; None at its end. Raises `DigestsError` for bytes that are none, `OSError`."""
    found = read_set_of(KIND, file, lambda head: head.blocks * DIGEST_BYTES)
    return None if found is None else DigestSet(found[0].file_hash, found[0].size_bytes, found[1])


@dataclass(frozen=True, slots=True)
class KnownDigests:
    """What is known of a file's blocks. `are_proven`: the file was hashed here, and had its hash."""

    digests: DigestSet
    are_proven: bool


def contradiction(where: str, index: int, *, found: bytes, wanted: bytes) -> str:
    """In words: a block that came from `where` has another digest than the one that it should have."""
    about = f"{where}: block {index:,} came as blake2b-128:{found.hex()}"
    return f"{about}, and is {wanted.hex()} in the released file"


class DigestStore:
    """The digests that this cache directory has, for all of its datasets and processes.

    Methods without `_nowait` read or write the disk: call them from a thread. All may be called from any thread.
    """

    def __init__(self, directory: Path | Place) -> None:
        self._directory = folder_at(directory) / FORMAT
        self._lock = threading.Lock()  # of what follows
        self._known: TTLCache[str, KnownDigests] = TTLCache(
            _REMEMBERED_BYTES, _REMEMBERED_SECONDS, time.monotonic, getsizeof=_length
        )
        self._absent: TTLCache[str, None] = TTLCache(_MOST_ABSENT, _ABSENT_SECONDS)
        self._doubted: set[str] = set()  # hashes of which what was imported contradicts what comes

    def of_nowait(self, content: Content) -> KnownDigests | None:
        """Like `of`, but raises `KeyError` where the disk was not asked lately."""
        with self._lock:
            if content.file_hash is None or content.file_hash in self._absent:
                return None
            return _fitting(self._known[content.file_hash], content)

    def of(self, content: Content) -> KnownDigests | None:
        """The digests of a content, as they were some seconds ago; None if there are none."""
        file_hash = content.file_hash
        if file_hash is None:
            return None
        with suppress(KeyError):
            return self.of_nowait(content)
        known = self._read(file_hash, _PROVEN)
        if known is None and file_hash not in self._doubted:
            known = self._read(file_hash, _IMPORTED)
        self._remember(file_hash, known)
        return _fitting(known, content)

    def keep_proven(self, digests: DigestSet) -> None:
        """Keep the digests of bytes that were hashed and have their hash. A disk that takes nothing is no error."""
        self._remember(digests.file_hash, KnownDigests(digests, are_proven=True))
        try:
            replace_file(self._place(digests.file_hash, _PROVEN), digests.encode())
        except OSError as error:
            log.warning("digests of a file cannot be kept", reason=str(error))
        else:
            self._delete_imported(digests.file_hash)

    def disprove(self, digests: DigestSet) -> None:
        """Bytes with these digests do not have the hash: what was imported and says so is deleted."""
        known = self._read(digests.file_hash, _IMPORTED)
        if known is not None and known.digests == digests:
            self._delete_imported(digests.file_hash)
            self._forget(digests.file_hash)

    def doubt(self, file_hash: str) -> None:
        """Do without what was imported of a file, in this process: what comes is other bytes, again and again."""
        with self._lock:
            self._doubted.add(file_hash)
        self._forget(file_hash)

    def take_in(self, digests: DigestSet) -> Imported:
        """Keep what was made elsewhere, as a claim. Raises `OSError`."""
        proven = self._read(digests.file_hash, _PROVEN)
        if proven is not None:
            return Imported.KNOWN if proven.digests == digests else Imported.REFUSED
        before = self._read(digests.file_hash, _IMPORTED)
        if before is not None and before.digests == digests:
            return Imported.KNOWN
        replace_file(self._place(digests.file_hash, _IMPORTED), digests.encode())
        self._forget(digests.file_hash)
        return Imported.NEW

    def proven(self, file_hash: str) -> DigestSet | None:
        """The digests of a file that was hashed here."""
        known = self._read(file_hash, _PROVEN)
        return None if known is None else known.digests

    def proven_hashes(self) -> Iterator[str]:
        """The hashes of all files that have proven digests, in no order."""
        for _, _, entries in (self._directory / _PROVEN).walk(depth=1):
            yield from (entry.name for entry in entries if len(entry.name) == 2 * _HASH_BYTES)

    def _read(self, file_hash: str, kind: str) -> KnownDigests | None:
        try:
            file = io.BytesIO(self._place(file_hash, kind).read_bytes())
            found = read_set(file)
        except (OSError, DigestsError):
            return None
        if found is None or found.file_hash != file_hash or file.read(1):
            return None
        return KnownDigests(found, are_proven=kind == _PROVEN)

    def _remember(self, file_hash: str, known: KnownDigests | None) -> None:
        with self._lock:
            self._known.pop(file_hash, None)
            self._absent.pop(file_hash, None)
            if known is None:
                self._absent[file_hash] = None
                return
            with suppress(ValueError):  # larger than all that is remembered
                self._known[file_hash] = known

    def _forget(self, file_hash: str) -> None:
        with self._lock:
            self._known.pop(file_hash, None)
            self._absent.pop(file_hash, None)

    def _delete_imported(self, file_hash: str) -> None:
        with suppress(OSError):
            self._place(file_hash, _IMPORTED).unlink(missing_ok=True)

    def _place(self, file_hash: str, kind: str) -> Place:
        return self._directory / kind / file_hash[:2] / file_hash


def _length(known: KnownDigests) -> int:
    return len(known.digests.digests) + HEAD_BYTES


def _fitting(known: KnownDigests | None, content: Content) -> KnownDigests | None:
    """None for a content of another size: what manifests and listings say of it does not agree."""
    return known if known is not None and known.digests.size_bytes == content.size_bytes else None

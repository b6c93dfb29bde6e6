"""A file that is somewhere else on this machine becomes a whole content of the cache, if it has the manifest's hash.

It is shared with the original by a reflink, or copied. What is hashed is what the cache then has, not the original:
so it does not matter who writes to that meanwhile, or later. It is never a hard link, for other programs write to
their files in place. The content's folder is made beside its place, as always (content_folder.py), and gets its name
when all of it is proven and on the disk. A process that dies before leaves what the next scan deletes.
"""

import hashlib
import os
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from vbnfs.blocks import BLOCK_BYTES, CHECKSUM_BYTES, checksum, digest
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.content_folder import (
    CHECKSUMS,
    DATA,
    HEADER_BYTES,
    NEW_PREFIX,
    PARTIAL,
    WHOLE,
    move_folder,
    new_folder,
    remove_folder,
)
from vbnfs.cache.digests import DigestSet, DigestStore
from vbnfs.cache.histories import begin_history
from vbnfs.cache.in_place import IN_PLACE, Entry
from vbnfs.cache.verdict import Fingerprint, Verdict
from vbnfs.cache.verdicts import Verdicts
from vbnfs.cache.whole_file import Seal
from vbnfs.host.atomic import replace_file, temporary_file
from vbnfs.host.copying import clone_file
from vbnfs.host.folders import Folder
from vbnfs.host.places import open_file
from vbnfs.host.positioned import read_at, write_all
from vbnfs.objects import Content

_STEP_BYTES: Final = 16 * BLOCK_BYTES
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL


class SourceError(Exception):
    """The original cannot be read; the message is the reason."""


def can_share(cache: BlockCache, source: int) -> bool:
    """Whether the cache can have a file by a reflink, which takes no room. Raises no error, and leaves no trace."""
    with (
        suppress(OSError),
        cache.directory.opened(make=True) as folder,
        temporary_file(folder, prefix=NEW_PREFIX) as (descriptor, _),
    ):
        return clone_file(source, descriptor)
    return False


class _Import:
    """The file with descriptor `source`, on its way into `cache` as `content`, which has a hash.

    Iterating does the work, some MiB at a time, and gives how many bytes are done. It raises `OSError` where the
    cache takes no more, and `SourceError`; then nothing is left of it. At the end `found_hash` is the blake2b of the
    bytes, in hex. If it `is_right`, the cache has the content. Steps may be taken in any thread, one after the other.
    """

    def __init__(
        self, cache: BlockCache, verdicts: Verdicts, digests: DigestStore, content: Content, source: int
    ) -> None:
        self.found_hash = ""
        self._cache, self._verdicts, self._digests = cache, verdicts, digests
        self._content = content
        self._source = source
        self._fingerprint = Fingerprint()
        self._found_digests = bytearray()

    @property
    def is_right(self) -> bool:
        """Whether the bytes are the content's."""
        return self.found_hash == self._content.file_hash

    def _hash(self, parts: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        """The checksums of each part's blocks, and where the part begins."""
        whole = hashlib.blake2b()
        for start, part in parts:
            whole.update(part)
            view, records = memoryview(part), []
            for number, offset in enumerate(range(0, len(part), BLOCK_BYTES), start // BLOCK_BYTES):
                data = view[offset : offset + BLOCK_BYTES]
                records.append(checksum(self._content.content_id, number, data))
                self._fingerprint.add(records[-1])
                self._found_digests += digest(data)
            yield start, b"".join(records)
        self.found_hash = whole.hexdigest()

    def _stop(self, start: int) -> int:
        """Where the part ends that begins there."""
        return min(start + _STEP_BYTES, self._content.size_bytes)

    def _read(self, count_bytes: int, start: int) -> bytes:
        try:
            return read_at(self._source, count_bytes, start)
        except OSError as error:
            raise SourceError(error.strerror) from error

    def _judge(self) -> None:
        """Note what was found, beside the content; blocks that were there before are not needed any more."""
        content, now = self._content, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with suppress(OSError), self._cache.places.of(content.content_id, PARTIAL).parent.opened() as above:
            remove_folder(above, content.content_id)
        self._cache.forget_deleted()
        self._digests.keep_proven(DigestSet(self.found_hash, content.size_bytes, bytes(self._found_digests)))
        verdict = Verdict(self.found_hash, self._fingerprint.text(), now)
        self._verdicts.judge(content, verdict, before=self._verdicts.last(content), cache=self._cache)


class Adoption(_Import):
    """The cache gets the bytes of the file, shared or copied, as a whole content."""

    def __iter__(self) -> Generator[int]:
        content_id = self._content.content_id
        with (
            self._cache.places.of(content_id, WHOLE).parent.opened(make=True) as above,
            new_folder(above) as (folder, name),
        ):
            yield from self._make(folder)
            if not self.is_right:
                return
            if not move_folder(above, name, above, content_id) and not self._cache.is_whole(self._content):
                remove_folder(above, content_id)  # it is damaged
                move_folder(above, name, above, content_id)
            above.sync()
        self._judge()

    def _make(self, folder: Folder) -> Generator[int]:
        """Write the two files of the content."""
        data = open_file(folder, DATA, _NEW)
        try:
            checksums = open_file(folder, CHECKSUMS, _NEW)
            try:
                write_all(checksums, [bytes(HEADER_BYTES)], 0)
                for start, records in self._hash(self._copy(data)):
                    write_all(checksums, [records], HEADER_BYTES + start // BLOCK_BYTES * CHECKSUM_BYTES)
                    yield self._stop(start)
                if self.is_right:
                    self._begin_history(checksums)
                    os.fsync(data)
                    os.fsync(checksums)
            finally:
                os.close(checksums)
        finally:
            os.close(data)

    def _begin_history(self, checksums: int) -> None:
        scope = self._cache.places.of(self._content.content_id, WHOLE).parent.parent.parent
        with suppress(OSError):
            begin_history(checksums, self._content.content_id, scope=scope, now_ns=time.time_ns())

    def _copy(self, data: int) -> Iterator[tuple[int, bytes]]:
        """What `data` has of the file now, and from which byte on. It ends early where the file was cut short."""
        size_bytes = self._content.size_bytes
        is_shared = clone_file(self._source, data)
        for start in range(0, size_bytes, _STEP_BYTES):
            wanted_bytes = min(_STEP_BYTES, size_bytes - start)
            part = read_at(data, wanted_bytes, start) if is_shared else self._read(wanted_bytes, start)
            if len(part) < wanted_bytes:
                return
            if not is_shared:
                write_all(data, [part], start)
            yield start, part
        if is_shared:
            os.ftruncate(data, size_bytes)  # it may have become longer since its length was read


class Registration(_Import):
    """The cache notes where the file is, at `path`, and reads it there: see in_place.py."""

    def __init__(
        self,
        cache: BlockCache,
        verdicts: Verdicts,
        digests: DigestStore,
        content: Content,
        source: int,
        *,
        path: Path,
    ) -> None:
        super().__init__(cache, verdicts, digests, content, source)
        self._path = path

    def __iter__(self) -> Generator[int]:
        seal = Seal.of(self._source)
        stored = bytearray(HEADER_BYTES)
        for start, records in self._hash(self._look()):
            stored += records
            yield self._stop(start)
        if Seal.of(self._source) != seal:
            self.found_hash = ""  # of bytes that may be others by now
        if self.is_right:
            place = self._cache.places.of(self._content.content_id, IN_PLACE)
            replace_file(place, bytes(stored) + Entry(self._path, seal).line())
            self._judge()

    def _look(self) -> Iterator[tuple[int, bytes]]:
        for start in range(0, self._content.size_bytes, _STEP_BYTES):
            yield start, self._read(min(_STEP_BYTES, self._content.size_bytes - start), start)

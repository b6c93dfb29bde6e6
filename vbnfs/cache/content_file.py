"""A content in the cache: a folder with its bytes in one plain file, and the checksums of its blocks in another.

    <content id>/data         the object's bytes from offset 0, at full length; sparse where blocks are missing
    <content id>/checksums    64 bytes for eviction (see histories.py), then 16 bytes a block: its checksum, or zeros

A block is written at its natural place, then its record, so a block counts when its record is there *and* its bytes
match it. The checksum is XXH3-128 seeded with the content's id and the block's number, so a content under another's
name does not match either. Nothing is locked, and nothing synced before `flush`: writers of the same block write the
same bytes, and a torn or lost write does not match its record. A block that is recorded is not written again: so the
bytes of a file that is complete stay as they were when it was hashed.

The folder appears with both files at full length, and goes as a whole: it is made beside its place and renamed
(rename(2)), and renamed before it is deleted. `data` that was cut short is never made longer: a process that has it
mapped must not see holes where there were verified bytes.

Read bytes are a view of a mapping: no copy in Python. The pages are populated first (madvise(2),
MADV_POPULATE_READ, Linux 5.14), which turns a file that was truncated, or a disk that fails, into an error that can
be caught; a plain access would be a SIGBUS. The mapping lives as long as the view.
"""

import errno
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.cache.block_checks import BadBlockError, BlockChecks, WrongDigestError
from vbnfs.cache.content_blocks import ContentBlocks
from vbnfs.cache.content_folder import CHECKSUMS, OpenFiles, Shape, make_folder, open_files
from vbnfs.cache.digests import DigestSet
from vbnfs.cache.histories import begin_history, note_period
from vbnfs.cache.holdings import Held
from vbnfs.cache.whole_file import Seal
from vbnfs.host.disk_space import allocated_bytes
from vbnfs.host.mapping import forget_pages, map_populated, read_in_memory
from vbnfs.host.places import Place
from vbnfs.host.positioned import read_at, read_into
from vbnfs.host.syncing import sync_data, touch
from vbnfs.objects import ByteRange

_MAPPED_BYTES: Final = 64 << 10  # making a mapping costs 8 µs: as much as copying so many bytes
_CHECKED_AT_ONCE: Final = 5  # blocks, of 50 µs each: those of a read of 1 MiB; none that has a digest, of 0.3 ms
_TOUCH_SECONDS: Final = 60.0  # st_mtime, by which eviction chooses, is at most so old for a content in use


class ContentFile:
    """The two open files of a content. Any thread may read and write; they are closed with the last user."""

    def __init__(
        self, place: Place, files: OpenFiles, *, identity: str, data_bytes: int, may_map: bool = True
    ) -> None:
        self._place = place
        self._data, self._checksums, self._is_writable, self._is_shared = files
        self._identity = identity
        self._shape = Shape(data_bytes)
        self._may_map = may_map
        count = -(-data_bytes // BLOCK_BYTES)
        self._blocks = ContentBlocks(files, identity=identity, data_bytes=data_bytes)
        self._records = self._blocks.records
        self._checks = BlockChecks(identity, str(place), count)
        self._judging = threading.Lock()
        self._touched = -_TOUCH_SECONDS
        self._is_used = False

    @classmethod
    def open(
        cls, place: Place, *, identity: str, data_bytes: int, may_map: bool = True, may_write: bool = True
    ) -> "ContentFile | None":
        """The content in the folder `place`; None if there is none, or it is of another length.

        A longer one was made when the content was believed to have more bytes than now.

        `identity` is the content's id; without `may_map` bytes are copied, without `may_write` nothing is written.
        Raises `OSError`, also for another user's files, a link, or what is not a regular file.
        """
        try:
            files = open_files(place, may_write=may_write)
        except FileNotFoundError:
            return None
        content = cls(place, files, identity=identity, data_bytes=data_bytes, may_map=may_map)
        return content if Shape(data_bytes).is_of(files) else None

    @classmethod
    def create(cls, place: Place, *, identity: str, data_bytes: int, may_map: bool = True) -> "ContentFile":
        """The content in the folder `place`, made if need be; one of another shape is replaced. Raises `OSError`."""
        content = cls.open(place, identity=identity, data_bytes=data_bytes, may_map=may_map)
        while content is None:
            make_folder(place, Shape(data_bytes))
            content = cls.open(place, identity=identity, data_bytes=data_bytes, may_map=may_map)
        return content

    @property
    def data_bytes(self) -> int:
        """The content's length."""
        return self._shape.data_bytes

    def synced_seal(self) -> Seal:
        """By which its data are known again, once all of them are on the disk. Raises `OSError`."""
        sync_data(self._data)
        return Seal.of(self._data)

    def held(self) -> Held:
        """What an evictor has to know of it. Raises `OSError`."""
        data = os.fstat(self._data)
        return Held(data.st_ino, allocated_bytes(data), self._identity)

    @property
    def path(self) -> Path:
        """Where its folder was when it was opened: for messages."""
        return self._place.path

    @property
    def is_writable(self) -> bool:
        """False where the disk could only be read when it was opened: opened again it may take blocks."""
        return self._is_writable

    @property
    def is_intact(self) -> bool:
        """False once it was deleted or cut short: what is left can be read, but no block may be added."""
        return self._blocks.are_intact

    @property
    def writable(self) -> ContentBlocks | None:
        """Its files, to write blocks; None where the disk could only be read when they were opened."""
        return self._blocks if self._is_writable else None

    @property
    def digests(self) -> DigestSet | None:
        """Against which blocks are checked."""
        return self._checks.digests

    def check_against(self, digests: DigestSet | None) -> None:
        """Hold blocks against these digests, too, from now on; those that were used before are checked again."""
        if digests is not self._checks.digests:
            with self._judging:  # two threads that make new checks would lose what one of them finds
                self._checks = self._checks.with_digests(digests)

    def read(self, byte_range: ByteRange, *, may_write: bool = True) -> memoryview | None:
        """Verified bytes of a non-empty range within the content; None if a block of it is not here.

        May wait for the disk. A block that is not what it should be loses its record, so that it will be written
        again: `BadBlockError`; without `may_write` it keeps it. Raises `OSError` where the disk fails.
        """
        unchecked = self._checks.unchecked(blocks_of(byte_range))
        if unchecked and (data := self._checked_in_place(byte_range, unchecked)) is not None:
            return data
        for index in self._checks.unchecked(unchecked):
            if self._checked(index, may_write=may_write) is None:
                return None
        self._is_used = True
        return self._view(byte_range.start, len(byte_range))

    def _checked_in_place(self, byte_range: ByteRange, unchecked: Sequence[int]) -> memoryview | None:
        """A view of a range with `unchecked` blocks: they are checked in the mapping that it is a view of.

        So no byte is copied. None where that does not do, for whatever reason: then `_checked` says what is wrong. A
        file that another program cuts short in the microseconds while this reads it is a SIGBUS (mmap(2)).
        """
        if not self._may_map or len(byte_range) < _MAPPED_BYTES:
            return None
        blocks = blocks_of(byte_range)
        start = blocks.start * BLOCK_BYTES
        stop = min(blocks.stop * BLOCK_BYTES, self._shape.data_bytes)
        records = self._records.table(blocks.start, len(blocks))
        try:
            view = map_populated(self._data, start, stop - start)
        except (OSError, ValueError):  # cut short, a kernel before 5.14, no descriptor left, a disk that fails
            return None
        for index in unchecked:
            record, at = records[index - blocks.start], index * BLOCK_BYTES - start
            if record is None or index in self._checks.wrong:
                return None
            try:
                self._checks.check(index, view[at : at + BLOCK_BYTES], record)
            except BadBlockError:
                return None
        self._is_used = True
        return view[byte_range.start - start : byte_range.stop - start]

    def read_bytes(self, offset: int, size: int) -> bytes | None:
        """A copy of verified bytes, a range that is not empty; None if a block of it is not here.

        May wait for the disk; other threads run while bytes are read. Writes nothing: a block that is not what it
        should be keeps its record. Raises `BadBlockError` for it, and `OSError` where the disk fails.
        """
        if not self._are_ready(offset, size):
            return None
        data = read_at(self._data, size, offset)
        return data if len(data) == size else None

    def read_into(self, buffer: memoryview, offset: int) -> bool:
        """Like `read_bytes`, into memory that is there already; False if a block is not here."""
        return self._are_ready(offset, len(buffer)) and read_into(self._data, buffer, offset) == len(buffer)

    def _are_ready(self, offset: int, size: int) -> bool:
        """Whether the blocks of a range are here and right; those that were not used yet are checked."""
        blocks = range(offset // BLOCK_BYTES, -(-(offset + size) // BLOCK_BYTES))
        for index in self._checks.unchecked(blocks):
            if self._checked(index, may_write=False) is None:
                return False
        self._is_used = True
        return True

    def read_checked(self, byte_range: ByteRange, *, may_write: bool = True) -> memoryview | None:
        """Like `read`, but every block of the range is read and checked now: the very bytes that are returned.

        So what happens to the file afterwards, or happened since the first check, does not matter.
        """
        blocks = blocks_of(byte_range)
        parts: list[bytes] = []
        for index in blocks:
            data = self._checked(index, may_write=may_write)
            if data is None:
                return None
            parts.append(data)
        self._is_used = True
        start = byte_range.start - blocks.start * BLOCK_BYTES
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        return memoryview(whole)[start : start + len(byte_range)]

    def refresh(self) -> None:
        """See `Records.refresh`. Raises `OSError`."""
        self._records.refresh()

    def records(self) -> Iterator[bytes | None]:
        """The checksum of each block; None for those that are not here, or wrong. Read a part at a time."""
        wrong, records = self._checks.wrong, self._records.all()
        return (None if index in wrong else record for index, record in enumerate(records)) if wrong else records

    def recorded(self) -> Iterator[int]:
        """The numbers of the blocks that are here. Costs as much as is here, however large the content is."""
        return (index for index in self._records.recorded() if index not in self._checks.wrong)

    def holds(self, index: int) -> bool:
        """Whether a block is recorded, and not known to be wrong. Its bytes are not checked."""
        return index not in self._checks.wrong and self._records.of(index) is not None

    def is_known_missing(self, byte_range: ByteRange) -> bool:
        """Whether a block of the range is certainly not here, as far as pages in memory show."""
        unchecked = self._checks.unchecked(blocks_of(byte_range))
        wrong, is_missing = self._checks.wrong, self._records.is_known_missing
        return bool(unchecked) and any(index in wrong or is_missing(index) for index in unchecked)

    def is_in_page_cache(self, byte_range: ByteRange) -> bool:
        """Whether `read` needs neither the disk nor long computing, as far as a cheap check shows."""
        positions = {byte_range.start, byte_range.stop - 1}
        unchecked = self._checks.unchecked(blocks_of(byte_range))
        if unchecked and len(unchecked) > (_CHECKED_AT_ONCE if self.digests is None else 0):
            return False
        for index in unchecked:
            positions |= {index * BLOCK_BYTES, index * BLOCK_BYTES + max(0, self._block_bytes(index) - 1)}
        return all(read_in_memory(self._data, 1, position) is not None for position in positions)

    def write(self, index: int, *parts: bytes | memoryview) -> None:
        """See `ContentBlocks.write`. Raises `OSError`, also where the disk could only be read when it was opened."""
        if not self._is_writable:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self._place))
        self._blocks.write(index, *parts)

    def _checked(self, index: int, *, may_write: bool = True) -> bytes | None:
        """A block that is what it should be; None if there is no record, or it is known to be wrong.

        None as well where another thread has found it bad meanwhile: each bad block is reported once.
        """
        checks, record = self._checks, self._records.of(index)
        if record is None or index in checks.wrong:
            return None
        try:
            return self._read_and_check(index, record)
        except BadBlockError as error:
            if (data := self._checked_afresh(index)) is not None:
                return data
            with self._judging:
                if self._records.of(index) != record or index in self._checks.wrong:
                    return None
                if not (may_write and self._is_erased(index)) and isinstance(error, WrongDigestError):
                    self._checks.wrong.add(index)
            raise

    def _checked_afresh(self, index: int) -> bytes | None:
        """A block that is what it should be at the server, where other hosts write, too; else None.

        The kernel reads ahead. So it may have had its pages before another host wrote them, or those that it forgets
        now are on their way, and come as they were then: the second time none of these is left.
        """
        for _ in range(2 if self._is_shared else 0):
            with suppress(BadBlockError, OSError):
                self.refresh()
                forget_pages(self._data, index * BLOCK_BYTES, BLOCK_BYTES)
                record = self._records.of(index)
                if record is not None:
                    return self._read_and_check(index, record)
        return None

    def _read_and_check(self, index: int, record: bytes) -> bytes:
        """Read, not mapped: the file may be cut short while the checksum is being computed."""
        try:
            data = read_at(self._data, self._block_bytes(index), index * BLOCK_BYTES)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise self._checks.unreadable(index) from error
        self._checks.check(index, data, record)
        return data

    def _is_erased(self, index: int) -> bool:
        """Have a block lose its record, so that it will be written again; False where the disk takes no write."""
        with suppress(OSError):  # a read-only cache stays as it is
            self._records.erase(index)
            return True
        return False

    def _block_bytes(self, index: int) -> int:
        return max(0, min(BLOCK_BYTES, self._shape.data_bytes - index * BLOCK_BYTES))

    def _view(self, offset: int, length: int) -> memoryview | None:
        """Part of the file; None if it does not reach that far, or the disk fails."""
        if self._may_map and length >= _MAPPED_BYTES:
            # Cut short, a kernel before 5.14, no descriptor left: then reading fails or serves.
            with suppress(OSError, ValueError):
                return map_populated(self._data, offset, length)
        with suppress(OSError):
            return self._copy(offset, length)
        return None

    def _copy(self, offset: int, length: int) -> memoryview | None:
        data = read_at(self._data, length, offset)
        return memoryview(data) if len(data) == length else None

    def note_use(self) -> None:
        """Note for eviction that this was read since the last note, at most once a minute.

        Reads leave that to a thread of its own: a disk that takes no writes, such as a frozen one, delays none.
        """
        now = time.monotonic()
        if self._is_used and now - self._touched > _TOUCH_SECONDS:
            self._is_used, self._touched = False, now
            with suppress(OSError):
                note_period(self._checksums, self._identity, time.time_ns())
                touch(self._checksums, self._place.path / CHECKSUMS)

    def mark_used(self) -> None:
        """Have the next `note_use` note a use: a program opened it, whose reads the kernel may answer."""
        self._is_used = True

    def begin_history(self, scope: Place) -> None:
        """Note for eviction that this content is new in the folder `scope`. It is no error where that fails."""
        with suppress(OSError):
            begin_history(self._checksums, self._identity, scope=scope, now_ns=time.time_ns())

"""A segment file: 1,024 consecutive blocks of one content, and a checksum for each.

    0                 1,024 records of 16 bytes: the checksum of the block with that number, or zeros
    16 KiB            block 0
    16 KiB + n * 256 KiB   block n; the content's last block may be shorter

The file is sparse: a block is written at its natural place, then its record, so a block counts when its record
is there *and* its bytes match it. The checksum is XXH3-128 seeded with the content's id and the block's number,
so a whole segment under another's name does not match either. Nothing is locked, and nothing synced before `flush`:
writers of the same block write the same bytes, and a torn or lost write does not match its record.

Read bytes are a view of a mapping: no copy in Python. The pages are populated first (madvise(2),
MADV_POPULATE_READ, Linux 5.14), which turns a file that was truncated, or a disk that fails, into an error that can
be caught; a plain access would be a SIGBUS. The mapping lives as long as the view. A file that was cut short is never
made longer: it would show holes where there were verified bytes.
"""

import errno
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from vbnfs.blocks import BLOCK_BYTES, CHECKSUM_BYTES, blocks_of, checksum
from vbnfs.host.atomic import temporary_file
from vbnfs.host.mapping import map_populated, read_in_memory
from vbnfs.host.places import Place
from vbnfs.objects import ByteRange

SEGMENT_BLOCKS: Final = 1024
SEGMENT_BYTES: Final = SEGMENT_BLOCKS * BLOCK_BYTES
TEMPORARY_PREFIX: Final = ".new-"
TABLE_BYTES: Final = SEGMENT_BLOCKS * CHECKSUM_BYTES

_NO_RECORD: Final = bytes(CHECKSUM_BYTES)
_MAPPED_BYTES: Final = 64 << 10  # making a mapping costs 8 µs: as much as copying so many bytes
_CHECKED_AT_ONCE: Final = 5  # blocks, of 50 µs each: those of a read of 1 MiB
_TOUCH_SECONDS: Final = 60.0  # st_mtime, by which eviction chooses, is at most so old for a segment in use


class Segment:
    """One open segment file. Any thread may read and write; the descriptor is closed with the last user."""

    def __init__(
        self, place: Place, opened: "_Opened", *, identity: str, data_bytes: int, may_map: bool = True
    ) -> None:
        self._place = place
        self._descriptor, self._is_writable = opened
        self._identity = identity
        self._data_bytes = data_bytes
        self._may_map = may_map
        self._verified = bytearray(SEGMENT_BLOCKS)
        self._touched = -_TOUCH_SECONDS
        self._is_used = False

    @classmethod
    def open(cls, place: Place, *, identity: str, data_bytes: int, may_map: bool = True) -> "Segment | None":
        """The segment at `place`; None if there is none, or its length is not that of one with `data_bytes`.

        A longer one was made when the content was believed to have more bytes than now.

        `identity` names content and segment number; without `may_map` bytes are copied. Raises `OSError`, also for
        another user's file, a link, or what is not a regular file.
        """
        try:
            opened = _open(place)
        except FileNotFoundError:
            return None
        segment = cls(place, opened, identity=identity, data_bytes=data_bytes, may_map=may_map)
        return segment if os.fstat(opened[0]).st_size == TABLE_BYTES + data_bytes else None

    @classmethod
    def create(cls, place: Place, *, identity: str, data_bytes: int, may_map: bool = True) -> "Segment":
        """The segment at `place`, made if need be; one of another length is replaced. Raises `OSError`.

        It appears under its name with its full length, so a shorter one has been damaged. It is not made longer:
        a process that has it mapped must not see holes where there were verified bytes.
        """
        segment = cls.open(place, identity=identity, data_bytes=data_bytes, may_map=may_map)
        while segment is None:
            _make(place, TABLE_BYTES + data_bytes)
            segment = cls.open(place, identity=identity, data_bytes=data_bytes, may_map=may_map)
        return segment

    def __del__(self) -> None:
        os.close(self._descriptor)

    @property
    def path(self) -> Path:
        """Where it was when its folder was checked: for messages."""
        return self._place.path

    @property
    def is_whole(self) -> bool:
        """False once the file was evicted or cut short: what is left can be read, but no block may be added."""
        try:
            status = os.fstat(self._descriptor)
        except OSError:  # ESTALE of a network file system, a disk that fails
            return False
        return status.st_nlink > 0 and status.st_size >= TABLE_BYTES + self._data_bytes

    def read(self, byte_range: ByteRange) -> memoryview | None:
        """Verified bytes of a non-empty range within the segment's data; None if a block of it is not here.

        May wait for the disk. A block that does not match loses its record, so that it will be written again:
        `DamagedBlockError`. Raises `OSError` where the disk fails.
        """
        for index in blocks_of(byte_range):
            if not self._verified[index] and not self._verify(index):
                return None
        self._is_used = True
        return self._view(TABLE_BYTES + byte_range.start, len(byte_range))

    def read_checked(self, byte_range: ByteRange) -> memoryview | None:
        """Like `read`, but every block of the range is read and checked now: the very bytes that are returned.

        So what happens to the file afterwards, or happened since the first check, does not matter.
        """
        blocks = blocks_of(byte_range)
        parts: list[bytes] = []
        for index in blocks:
            data = self._checked(index)
            if data is None:
                return None
            parts.append(data)
        self._is_used = True
        start = byte_range.start - blocks.start * BLOCK_BYTES
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        return memoryview(whole)[start : start + len(byte_range)]

    def holds(self, index: int) -> bool:
        """Whether a block is recorded. Its bytes are not checked."""
        return self._record(index) != _NO_RECORD

    def is_known_missing(self, byte_range: ByteRange) -> bool:
        """Whether a block of the range is certainly not here, as far as pages in memory show."""
        unchecked = (index for index in blocks_of(byte_range) if not self._verified[index])
        records = (read_in_memory(self._descriptor, CHECKSUM_BYTES, index * CHECKSUM_BYTES) for index in unchecked)
        return any(record == _NO_RECORD for record in records)

    def is_in_page_cache(self, byte_range: ByteRange) -> bool:
        """Whether `read` needs neither the disk nor long computing, as far as a cheap check shows."""
        positions = {byte_range.start, byte_range.stop - 1}
        unchecked = [index for index in blocks_of(byte_range) if not self._verified[index]]
        for index in unchecked:
            positions |= {index * BLOCK_BYTES, index * BLOCK_BYTES + max(0, self._block_bytes(index) - 1)}
        return len(unchecked) <= _CHECKED_AT_ONCE and all(
            read_in_memory(self._descriptor, 1, TABLE_BYTES + position) is not None for position in positions
        )

    def write(self, index: int, *blocks: bytes | memoryview) -> None:
        """Store adjacent blocks of a segment that `is_whole`: first their bytes, then their records.

        Raises `OSError`.
        """
        if not self._is_writable:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self._place))
        offset, views = TABLE_BYTES + index * BLOCK_BYTES, [memoryview(data) for data in blocks]
        while views:
            written = os.pwritev(self._descriptor, views, offset)
            offset += written
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if views:
                views[0] = views[0][written:]
        records = (checksum(self._identity, number, data) for number, data in enumerate(blocks, index))
        os.pwrite(self._descriptor, b"".join(records), index * CHECKSUM_BYTES)

    def records(self) -> list[bytes | None]:
        """The checksum of each block; None for those that are not here."""
        count = -(-self._data_bytes // BLOCK_BYTES)
        table = os.pread(self._descriptor, count * CHECKSUM_BYTES, 0).ljust(count * CHECKSUM_BYTES, b"\0")
        records = (table[at : at + CHECKSUM_BYTES] for at in range(0, len(table), CHECKSUM_BYTES))
        return [None if record == _NO_RECORD else record for record in records]

    def held_bytes(self) -> int:
        """How many of the data's bytes are recorded."""
        return sum(self._block_bytes(i) for i, record in enumerate(self.records()) if record is not None)

    def _verify(self, index: int) -> bool:
        return self._checked(index) is not None

    def _checked(self, index: int) -> bytes | None:
        """A block that matches its record; None if there is no record."""
        record = self._record(index)
        if record == _NO_RECORD:
            return None
        # Read, not mapped: the file may be cut short while the checksum is being computed.
        data = os.pread(self._descriptor, self._block_bytes(index), TABLE_BYTES + index * BLOCK_BYTES)
        if checksum(self._identity, index, data) != record:
            self._verified[index] = 0
            with suppress(OSError):  # a read-only cache stays as it is
                os.pwrite(self._descriptor, _NO_RECORD, index * CHECKSUM_BYTES)
            raise DamagedBlockError(f"{self._place}: block {index} does not match its checksum")
        self._verified[index] = 1
        return data

    def _record(self, index: int) -> bytes:
        return os.pread(self._descriptor, CHECKSUM_BYTES, index * CHECKSUM_BYTES).ljust(CHECKSUM_BYTES, b"\0")

    def _block_bytes(self, index: int) -> int:
        return max(0, min(BLOCK_BYTES, self._data_bytes - index * BLOCK_BYTES))

    def _view(self, offset: int, length: int) -> memoryview | None:
        """Part of the file; None if it does not reach that far, or the disk fails."""
        if self._may_map and length >= _MAPPED_BYTES:
            # Cut short, a kernel before 5.14, no descriptor left: then reading fails or serves.
            with suppress(OSError, ValueError):
                return map_populated(self._descriptor, offset, length)
        with suppress(OSError):
            return self._copy(offset, length)
        return None

    def _copy(self, offset: int, length: int) -> memoryview | None:
        data = os.pread(self._descriptor, length, offset)
        return memoryview(data) if len(data) == length else None

    def note_use(self) -> None:
        """Note for eviction that this was read since the last note, at most once a minute.

        Reads leave that to a thread of its own: a disk that takes no writes, such as a frozen one, delays none.
        """
        now = time.monotonic()
        if self._is_used and now - self._touched > _TOUCH_SECONDS:
            self._is_used, self._touched = False, now
            with suppress(OSError):
                os.utime(self._descriptor)


class DamagedBlockError(Exception):
    """A recorded block whose bytes do not match. A miss for the reader, and worth a counter."""


def flush(place: Place) -> None:
    """Have the disk take what was written to a segment, so that a power cut does not undo it. Raises `OSError`."""
    (descriptor, _) = _open(place)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


_Opened = tuple[int, bool]  # a descriptor, and whether it may be written to


def _open(place: Place) -> _Opened:
    try:
        return place.open(os.O_RDWR), True
    except OSError as error:
        if error.errno not in {errno.EROFS, errno.EACCES}:
            raise
        return place.open(os.O_RDONLY), False  # a cache that can only be read still serves


def _make(place: Place, length: int) -> None:
    with place.parent.opened(make=True) as folder:
        _unlink_unless(folder, place.name, length)
        with temporary_file(folder, prefix=TEMPORARY_PREFIX) as (descriptor, temporary):
            os.ftruncate(descriptor, length)
            with suppress(FileExistsError):  # another process was first: its file serves as well
                os.link(temporary, place.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)


def _unlink_unless(folder: int, name: str, length: int) -> None:
    """Make room for a new file, but not by taking away one that another process has just made."""
    with suppress(FileNotFoundError):
        if os.stat(name, dir_fd=folder, follow_symlinks=False).st_size != length:
            os.unlink(name, dir_fd=folder)

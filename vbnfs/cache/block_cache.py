"""Blocks on disk, shared by dataset versions, mounts and processes.

    blocks-v1/<scope>/<2 hex>/<content id>.<segment number>      see segment.py for what is in one

`scope` is where the bytes came from (`aws`, or the endpoint), so that what one server sends is never used for
another. The format's version stands in the path; there is no index, no journal and no lock.
Any block may be missing or damaged at any moment: that is a miss, and costs one GET.

Methods without `_nowait` may wait for the disk: call them from a thread. All of them may be called from any
thread.
"""

import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Final, TypedDict

import structlog
import trio
from cachetools import LRUCache

from vbnfs.blocks import BLOCK_BYTES, checksum
from vbnfs.cache.eviction import SegmentFile
from vbnfs.cache.segment import SEGMENT_BLOCKS, SEGMENT_BYTES, TEMPORARY_PREFIX, DamagedBlockError, Segment, flush
from vbnfs.host import limits
from vbnfs.host.atomic import temporary_file
from vbnfs.host.descriptors import NO_DESCRIPTOR
from vbnfs.host.places import Place, folder_at
from vbnfs.logs import WARN_AGAIN_SECONDS, WarnOnce
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content

log = structlog.get_logger()

FORMAT: Final = "blocks-v1"
_OPEN_SEGMENTS: Final = 256  # 64 GiB in reach without an open(2), well below the usual limit of 1,024 files
_PART_OF_FILE_LIMIT: Final = 4  # where fewer files may be open: connections and mappings need some, too
_TRIED_BYTES: Final = 4 << 20  # what a GET brings may be written at once
_FEW_SEGMENTS: Final = 64  # of 16 GiB; for a larger content it is less work to list which files there are

_Name = tuple[str, int]  # content id, segment number


class _Shape(TypedDict):
    identity: str
    data_bytes: int


class BlockCache:
    """The blocks below `directory` (which holds the other scopes, too) that came from `scope`.

    A block is checked when this process uses it for the first time; with `check_every_read`, at each read.
    `is_local` False: other hosts may change the directory (see segment.py).
    """

    def __init__(
        self,
        directory: Path | Place,
        *,
        scope: str,
        metrics: Metrics,
        check_every_read: bool = False,
        is_local: bool = True,
    ) -> None:
        self.directory = folder_at(directory) / FORMAT
        self._scope = scope
        self._metrics = metrics
        self._checks_every_read = check_every_read
        self.is_local: Final = is_local
        self._lock = threading.Lock()  # of what follows; held for no system call
        self._open: LRUCache[_Name, Segment] = LRUCache(_most_open_segments())
        self._unflushed: Counter[_Name] = Counter()  # bytes
        self._allocated: Counter[str] = Counter()  # by content id; as the last scan found it, and what was put since
        self._changed: set[str] = set()  # the contents of which `allocated_bytes` has changed
        self._warn_once = WarnOnce(again_after_seconds=WARN_AGAIN_SECONDS)
        self.failure: OSError | None = None  # why the disk did not take the last blocks; None if it did

    def read_nowait(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """Like `read`, but raises `trio.WouldBlock` where disk or first checks might take long.

        Where another host may have to be asked, it always does: no system call shows whether it would wait.
        """
        if not self.is_local:
            raise trio.WouldBlock
        number = byte_range.start // SEGMENT_BYTES
        segment = self._known((content.content_id, number))
        if segment is None or byte_range.stop > (number + 1) * SEGMENT_BYTES:
            raise trio.WouldBlock
        part = _within(byte_range, number)
        if segment.is_known_missing(part):
            return None
        if not segment.is_in_page_cache(part):
            raise trio.WouldBlock
        return self._read_segment(content, number, part)

    def read(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """A non-empty range of a content, verified; None if a block of it is not here.

        A view of the file, without a copy; a small range is read, and one that lies in two segments is joined.
        """
        parts: list[memoryview] = []
        for number in range(byte_range.start // SEGMENT_BYTES, -(-byte_range.stop // SEGMENT_BYTES)):
            data = self._read_segment(content, number, _within(byte_range, number))
            if data is None:
                return None
            parts.append(data)
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))

    def missing(self, content: Content, indices: Sequence[int]) -> list[int]:
        """Those of the blocks that are not recorded."""
        missing: list[int] = []
        for number, of_segment in groupby(indices, lambda index: index // SEGMENT_BLOCKS):
            missing += self._missing(content, number, list(of_segment))
        return missing

    def put(self, content: Content, index: int, *blocks: bytes | memoryview) -> int:
        """Keep whole blocks, adjacent ones from `index` on. Returns the bytes written.

        They are fewer than there were, or 0, where blocks could not be kept, which is no error.
        """
        room = SEGMENT_BLOCKS - index % SEGMENT_BLOCKS
        written = self._put(content, index, blocks[:room])
        return written + self.put(content, index + room, *blocks[room:]) if blocks[room:] else written

    def _put(self, content: Content, index: int, blocks: Sequence[bytes | memoryview]) -> int:
        number, local = divmod(index, SEGMENT_BLOCKS)
        name = (content.content_id, number)
        try:
            segment = self._known(name)
            if segment is None or not segment.is_whole:
                segment = self._remember(name, self._create(name, content))
            segment.write(local, *blocks)
        except OSError as error:
            self._metrics.cache_write_errors += len(blocks)
            self.failure = error
            self._let_go_of_descriptors(error)
            self._warn_once("blocks cannot be kept; reads go on without", key=error.strerror, reason=str(error))
            return 0
        if self.failure is not None:
            self.failure = None
            log.info("blocks are kept again")
        count_bytes = sum(map(len, blocks))
        with self._lock:
            self._allocated[content.content_id] += count_bytes
            self._changed.add(content.content_id)
            self._unflushed[name] += count_bytes
        self._metrics.kept_bytes += count_bytes
        return count_bytes

    def flush(self) -> None:
        """Have the disk take what was put by now: a power cut costs what was put since, and no more."""
        with self._lock:
            unflushed, self._unflushed = self._unflushed, Counter()
        for name, count_bytes in unflushed.items():
            with suppress(OSError):  # evicted; a disk that fails is logged where blocks are read and written
                flush(self._place(name))
            self._metrics.flushed_bytes += count_bytes

    def try_again(self) -> None:
        """If the disk did not take the last blocks: find out whether it would now, without a trace of it."""
        if self.failure is None:
            return
        try:
            with (
                self.directory.opened() as folder,
                temporary_file(folder, prefix=TEMPORARY_PREFIX) as (descriptor, name),
            ):
                os.unlink(name, dir_fd=folder)  # a process that is killed now leaves nothing
                os.posix_fallocate(descriptor, 0, _TRIED_BYTES)
        except FileNotFoundError:  # the folder is gone; it is made when the next block is kept
            return
        except OSError as error:
            self.failure = error
        else:
            self.failure = None
            log.info("blocks can be kept again")

    def checked_block(self, content: Content, index: int) -> bytes | None:
        """A block that is read from the disk and checked now; None if it is not here, or damaged."""
        number = index // SEGMENT_BLOCKS
        part = _within(block_range(content, index), number)
        data = self._read_segment(content, number, part, is_checked_now=True)
        return None if data is None else bytes(data)

    def records(self, content: Content) -> Iterator[bytes | None]:
        """The checksum with which each block is kept; None for those that are not here."""
        return (record for number in _numbers(content) for record in self._records(content, number))

    def record_of(self, content: Content, index: int, data: bytes | memoryview) -> bytes:
        """The checksum with which a block of these bytes is kept."""
        number, local = divmod(index, SEGMENT_BLOCKS)
        return checksum(_shape(content, number)["identity"], local, data)

    def drop(self, content: Content) -> None:
        """Delete all that is kept of a content. A process with a segment open reads it on, until `forget_deleted`."""
        for number in self._numbers_here(content):
            with suppress(OSError):  # not there, or it cannot be deleted: then nothing can be kept either
                self._place((content.content_id, number)).unlink()
        self.forget_deleted()

    def cached_bytes(self, content: Content) -> int:
        """How many bytes of a content are here. Costs as much as is here, however large the content is."""
        return sum(self._held_bytes(content, number) for number in self._numbers_here(content))

    def take_stock(self, found: Sequence[SegmentFile]) -> None:
        """Take note of the files that there are (see `Evictor`), for `allocated_bytes`."""
        allocated: Counter[str] = Counter()
        scope = f"{self._scope}/"
        for file in found:
            if file.path.startswith(scope):
                allocated[file.path.rpartition("/")[2].partition(".")[0]] += file.allocated_bytes
        with self._lock:
            before, self._allocated = self._allocated, allocated.copy()
        changed = {name for name in before.keys() | allocated.keys() if before[name] != allocated[name]}
        with self._lock:
            self._changed |= changed

    def allocated_bytes(self, content: Content) -> int:
        """What a content's segment files take on the disk, as far as it is known: without asking the disk."""
        return self._allocated[content.content_id]

    def take_changed(self) -> set[str]:
        """The ids of the contents for which `allocated_bytes` has changed since this was asked last."""
        with self._lock:
            changed, self._changed = self._changed, set()
        return changed

    def forget_deleted(self) -> None:
        """Close segments that were cut short, or evicted, by any process: only then is the space free."""
        with self._lock:
            known = list(self._open.items())
        for name, segment in known:
            if not segment.is_whole:
                self._forget(name, segment)

    def note_uses(self) -> None:
        """Note for eviction what was read lately. Waits for a disk that takes no writes, as long as that lasts."""
        with self._lock:
            known = list(self._open.values())
        for segment in known:
            segment.note_use()

    def _read_segment(
        self, content: Content, number: int, part: ByteRange, *, is_checked_now: bool = False
    ) -> memoryview | None:
        try:
            segment = self._segment(content, number)
            if segment is None:
                return None
            return segment.read_checked(part) if is_checked_now or self._checks_every_read else segment.read(part)
        except DamagedBlockError as error:
            self._metrics.corrupt_blocks += 1
            log.warning("cached block damaged; fetching it again", reason=str(error))
        except OSError as error:
            self._warn_once("cache cannot be read; fetching instead", key=error.strerror, reason=str(error))
            self._let_go_of_descriptors(error)
        return None

    def _records(self, content: Content, number: int) -> list[bytes | None]:
        count = -(-_shape(content, number)["data_bytes"] // BLOCK_BYTES)
        with suppress(OSError):
            segment = self._segment(content, number)
            if segment is not None and segment.is_whole:
                return segment.records()
        return [None] * count

    def _missing(self, content: Content, number: int, indices: list[int]) -> list[int]:
        """Those of a segment's blocks that are not recorded. The segment is looked up once."""
        with suppress(OSError):
            segment = self._segment(content, number)
            if segment is not None:
                return [index for index in indices if not segment.holds(index % SEGMENT_BLOCKS)]
        return indices

    def _let_go_of_descriptors(self, error: OSError) -> None:
        """Where no file can be opened any more, connections to S3 matter more than open segments."""
        if error.errno in NO_DESCRIPTOR:
            with self._lock:
                let_go, self._open = self._open, LRUCache(self._open.maxsize)
            del let_go

    def _held_bytes(self, content: Content, number: int) -> int:
        try:
            segment = self._segment(content, number)
            return 0 if segment is None else segment.held_bytes()
        except OSError:
            return 0

    def _segment(self, content: Content, number: int) -> Segment | None:
        name = (content.content_id, number)
        segment = self._known(name)
        if segment is None:
            segment = Segment.open(self._place(name), **_shape(content, number), may_map=self.is_local)
            if segment is not None:
                segment = self._remember(name, segment)
        return segment

    def _create(self, name: _Name, content: Content) -> Segment:
        return Segment.create(self._place(name), **_shape(content, name[1]), may_map=self.is_local)

    def _known(self, name: _Name) -> Segment | None:
        with self._lock:
            return self._open.get(name)

    def _remember(self, name: _Name, segment: Segment) -> Segment:
        with self._lock:
            let_go = [self._open.pop(name, None)]
            while len(self._open) >= self._open.maxsize:
                let_go.append(self._open.popitem()[1])
            self._open[name] = segment
        del let_go  # closing frees an evicted file's space, or asks another host: not under the lock
        return segment

    def _forget(self, name: _Name, segment: Segment) -> None:
        with self._lock:
            if self._open.get(name) is segment:
                del self._open[name]

    def _numbers_here(self, content: Content) -> Sequence[int]:
        """The segments of which there may be files."""
        numbers = _numbers(content)
        if len(numbers) <= _FEW_SEGMENTS:
            return numbers
        prefix = f"{content.content_id}."
        try:
            with self._place((content.content_id, 0)).parent.opened() as folder:
                names = os.listdir(folder)
        except OSError:
            return ()
        ends = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        return sorted(number for end in ends if end.isdecimal() and (number := int(end)) in numbers)

    def _place(self, name: _Name) -> Place:
        content_id, number = name
        return self.directory / self._scope / content_id[:2] / f"{content_id}.{number}"


def _most_open_segments() -> int:
    limit = limits.open_files()
    return _OPEN_SEGMENTS if limit is None else max(1, min(_OPEN_SEGMENTS, limit // _PART_OF_FILE_LIMIT))


def _numbers(content: Content) -> range:
    return range(-(-content.size_bytes // SEGMENT_BYTES))


def _within(byte_range: ByteRange, number: int) -> ByteRange:
    """The part of a content's range that lies in segment `number`, counted from the segment's start."""
    start = number * SEGMENT_BYTES
    return ByteRange(max(byte_range.start - start, 0), min(byte_range.stop - start, SEGMENT_BYTES))


def _shape(content: Content, number: int) -> _Shape:
    return {
        "identity": f"{content.content_id}.{number}",
        "data_bytes": min(SEGMENT_BYTES, content.size_bytes - number * SEGMENT_BYTES),
    }


def block_range(content: Content, index: int) -> ByteRange:
    """The bytes of block `index`; the last one may be shorter than the others."""
    return ByteRange(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES).clip(content.size_bytes)

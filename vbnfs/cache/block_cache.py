"""Blocks on disk, shared by dataset versions, mounts and processes.

    blocks-v2/<scope>/partial/<2 hex>/<content id>/     see content_file.py for what is in one
    blocks-v2/<scope>/whole/<2 hex>/<content id>/       complete, and hashed if there is a hash: `data` is the file

`scope` is where the bytes came from (`aws`, or the endpoint), so that what one server sends is never used for
another. The format's version stands in the path; there is no index, no journal and no lock.
Any block may be missing or damaged at any moment: that is a miss, and costs one GET. A content is not whole any more
once a block of it proves damaged.

Methods without `_nowait` or `_at_once` may wait for the disk: call them from a thread. All of them may be called from
any thread.
"""

import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog
import trio

from vbnfs.blocks import BLOCK_BYTES, checksum
from vbnfs.cache.behind import Behind
from vbnfs.cache.content_file import DamagedBlockError
from vbnfs.cache.content_folder import FORMAT, NEW_PREFIX
from vbnfs.cache.content_places import ContentPlaces
from vbnfs.cache.holdings import Holdings
from vbnfs.cache.inventory import CachedContent
from vbnfs.cache.open_contents import OpenContents
from vbnfs.cache.whole_file import Seal
from vbnfs.host.atomic import temporary_file
from vbnfs.host.descriptors import NO_DESCRIPTOR
from vbnfs.host.places import Place, folder_at
from vbnfs.logs import WARN_AGAIN_SECONDS, WarnOnce
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content

log = structlog.get_logger()

_TRIED_BYTES: Final = 4 << 20  # what a GET brings may be written at once


class BlockCache:
    """The blocks below `directory` (which holds the other scopes, too) that came from `scope`.

    A block is checked when this process uses it for the first time; with `check_every_read`, at each read.
    `is_local` False: other hosts may change the directory (see content_file.py). `places`: where contents stand, if
    that is not as drawn above. `behind`: where else blocks are.
    """

    def __init__(
        self,
        directory: Path | Place,
        *,
        scope: str,
        metrics: Metrics,
        check_every_read: bool = False,
        is_local: bool = True,
        places: ContentPlaces | None = None,
        behind: Behind | None = None,
    ) -> None:
        top = folder_at(directory)
        self.directory = top / FORMAT
        self._scope = scope
        self._metrics = metrics
        self._checks_every_read = check_every_read
        self.is_local: Final = is_local
        self._behind = behind or Behind()
        self.places = places or ContentPlaces(self.directory / scope, may_map=is_local)
        self._open = OpenContents(self.places, Holdings(top))
        self._lock = threading.Lock()  # of what follows; held for no system call
        self._unflushed: Counter[str] = Counter()  # bytes, by content id
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
        if not self._behind:
            return self._own_nowait(content, byte_range)
        is_elsewhere = self.is_known_absent(content)
        data = None if is_elsewhere else self._own_nowait(content, byte_range)
        return self._behind.read_nowait(content, byte_range) if data is None else data

    def is_known_absent(self, content: Content) -> bool:
        """Whether nothing was here of a content when it was looked for last, and nothing was put since."""
        return self._open.is_known_absent(content)

    def _own_nowait(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        file = self._open.known(content)
        if file is None:
            raise trio.WouldBlock
        if file.is_known_missing(byte_range):
            return None
        if not file.is_in_page_cache(byte_range):
            raise trio.WouldBlock
        try:
            if self._checks_every_read:
                return file.read_checked(byte_range, may_write=False)
            return file.read(byte_range, may_write=False)
        except (DamagedBlockError, OSError) as error:  # what has to be done about it may wait for the disk
            raise trio.WouldBlock from error

    def read(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """A non-empty range of a content, verified; None if a block of it is not here.

        A view of the file, without a copy; a small range is read.
        """
        data = self._read(content, byte_range, is_checked_now=self._checks_every_read)
        return self._behind.read(content, byte_range) if data is None else data

    def _read(self, content: Content, byte_range: ByteRange, *, is_checked_now: bool) -> memoryview | None:
        try:
            file = self._open.get(content)
            if file is None:
                return None
            return file.read_checked(byte_range) if is_checked_now else file.read(byte_range)
        except DamagedBlockError as error:
            self._metrics.corrupt_blocks += 1
            log.warning("cached block damaged; fetching it again", reason=str(error))
            with suppress(OSError):
                self.places.demote(content)
        except OSError as error:
            self._warn_once("cache cannot be read; fetching instead", key=error.strerror, reason=str(error))
            self._let_go_of_descriptors(error)
        return None

    def missing(self, content: Content, indices: Iterable[int]) -> list[int]:
        """Those of the blocks that are not recorded."""
        left = list(indices)
        with suppress(OSError):
            file = self._open.get(content)
            if file is not None:
                left = [index for index in left if not file.holds(index)]
        return self._behind.missing(content, left)

    def put(self, content: Content, index: int, *blocks: bytes | memoryview) -> int:
        """Keep whole blocks, adjacent ones from `index` on. Returns how many of their bytes are kept now.

        They are fewer than there were, or 0, where blocks could not be kept, which is no error.
        """
        try:
            self._open.for_writing(content).write(index, *blocks)
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
            self._unflushed[content.content_id] += count_bytes
        self._metrics.kept_bytes += count_bytes
        return count_bytes

    def flush(self) -> None:
        """Have the disk take what was put by now: a power cut costs what was put since, and no more."""
        with self._lock:
            unflushed, self._unflushed = self._unflushed, Counter()
        for content_id, count_bytes in unflushed.items():
            self.places.flush(content_id)
            self._metrics.flushed_bytes += count_bytes

    def complete(self, content: Content) -> bool:
        """Have a content be whole of which all blocks are here, and right as far as that can be known.

        Its bytes are synced before: what is whole is whole after a power cut. Returns whether it is whole now. A
        content that cannot be made whole, on a disk that fails or can only be read, stays as it is.
        """
        try:
            if self.places.has_whole(content):
                return True
            if None in self._own_records(content):
                return False
            self.places.promote(content)
            self._open.forget_if_deleted(content.content_id)
        except FileNotFoundError:  # evicted meanwhile, or made whole by another process
            pass
        except OSError as error:
            self._warn_once("a complete file cannot be kept as one", key=error.strerror, reason=str(error))
        try:
            return self.places.has_whole(content)
        except OSError:
            return False

    def seal(self, content: Content) -> Seal | None:
        """The seal of the file that blocks of a content are read from now; None if there is none.

        What was written is synced first: a page of another program's mapping that is dirty already could change again
        without giving the file a new time (mmap(2), MAP_SHARED).
        """
        with suppress(OSError):
            if (file := self._open.get(content)) is not None:
                return file.synced_seal()
        return None

    def open_whole(self, content: Content) -> int | None:
        """A descriptor of a whole content's file, to be read only, which the caller closes; None if it is not whole.

        Raises `OSError`.
        """
        return self.places.open_whole(content)

    def open_whole_at_once(self, content: Content) -> int | None:
        """Like `open_whole`, without waiting: None where the disk would have to be asked. Raises nothing."""
        return self.places.open_whole_at_once(content)

    def is_whole(self, content: Content) -> bool:
        """Whether a content is whole, as far as that is known without reading it."""
        try:
            descriptor = self.open_whole(content)
        except OSError:
            return False
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is not None

    def try_again(self) -> None:
        """If the disk did not take the last blocks: find out whether it would now, without a trace of it."""
        if self.failure is None:
            return
        try:
            with (
                self.directory.opened() as folder,
                temporary_file(folder, prefix=NEW_PREFIX) as (descriptor, name),
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
        data = self._read(content, block_range(content, index), is_checked_now=True)
        return self._behind.checked_block(content, index) if data is None else bytes(data)

    def records(self, content: Content) -> Iterator[bytes | None]:
        """The checksum with which each block is kept; None for those that are not here."""
        return self._behind.records(content, self._own_records(content))

    def _own_records(self, content: Content) -> Iterator[bytes | None]:
        file = None
        with suppress(OSError):
            file = self._open.get(content)
        if file is not None and file.is_intact:
            with suppress(OSError):
                yield from file.records()
                return
        if content.size_bytes:
            yield None

    def record_of(self, content: Content, index: int, data: bytes | memoryview) -> bytes:
        """The checksum with which a block of these bytes is kept."""
        return checksum(content.content_id, index, data)

    def drop(self, content: Content) -> None:
        """Delete all that is kept of a content. A process that has it open reads it on, until `forget_deleted`."""
        self.places.remove(content)
        self._behind.refuse(content)
        self.forget_deleted()

    def cached_bytes(self, content: Content) -> int:
        """How many bytes of a content are here. Costs as much as is here, however large the content is."""
        own_bytes = 0
        with suppress(OSError):
            file = self._open.get(content)
            own_bytes = 0 if file is None else file.held_bytes()
        return self._behind.cached_bytes(content, own_bytes)

    def take_stock(self, found: Sequence[CachedContent]) -> None:
        """Take note of the contents that there are (see `Evictor`), for `allocated_bytes`."""
        allocated: Counter[str] = Counter()
        for one in found:
            if one.scope == self._scope and one.path.startswith(f"{FORMAT}/"):
                allocated[one.content_id] += one.allocated_bytes
        with self._lock:
            before, self._allocated = self._allocated, allocated.copy()
        changed = {name for name in before.keys() | allocated.keys() if before[name] != allocated[name]}
        with self._lock:
            self._changed |= changed

    def allocated_bytes(self, content: Content) -> int:
        """What a content's files take on the disk, as far as it is known: without asking the disk."""
        return self._allocated[content.content_id]

    def take_changed(self) -> set[str]:
        """The ids of the contents for which `allocated_bytes` has changed since this was asked last."""
        with self._lock:
            changed, self._changed = self._changed, set()
        return changed

    def forget_deleted(self) -> None:
        """Close contents that were cut short, or evicted, by any process: only then is the space free."""
        self._open.forget_deleted()
        self._behind.forget_deleted()

    def publish_held(self) -> None:
        """Show other processes which contents this one has open."""
        self._open.publish()

    def note_opened(self, content: Content) -> None:
        """Have the next `note_uses` count this as a use: the kernel may answer all that is read of it then."""
        self._open.note_opened(content)

    def note_uses(self) -> None:
        """Note for eviction what was used lately, and what is open.

        Waits for a disk that takes no writes, as long as that lasts: nothing that a reader waits for does this.
        """
        self._open.note_uses()
        self._open.publish()

    def _let_go_of_descriptors(self, error: OSError) -> None:
        """Where no file can be opened any more, connections to S3 matter more than open contents."""
        if error.errno in NO_DESCRIPTOR:
            self._open.let_go_of_all()


def block_range(content: Content, index: int) -> ByteRange:
    """The bytes of block `index`; the last one may be shorter than the others."""
    return ByteRange(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES).clip(content.size_bytes)

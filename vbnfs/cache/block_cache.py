"""Blocks on disk, shared by dataset versions, mounts and processes.

    blocks-v2/<scope>/partial/<2 hex>/<content id>/     see content_file.py for what is in one
    blocks-v2/<scope>/whole/<2 hex>/<content id>/       complete, and hashed if there is a hash: `data` is the file

`scope` is where the bytes came from (`aws`, or the endpoint), so that what one server sends is never used for
another. The format's version stands in the path; there is no index, no journal and no lock.
Any block may be missing or damaged at any moment: that is a miss, and costs one GET. A content is not whole any more
once a block of it proves damaged.

Methods without `_nowait` may wait for the disk: call them from a thread. All of them may be called from any
thread.
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
from cachetools import LRUCache

from vbnfs.blocks import BLOCK_BYTES, checksum
from vbnfs.cache.behind import Behind
from vbnfs.cache.content_file import ContentFile, DamagedBlockError, flush
from vbnfs.cache.content_folder import DATA, FORMAT, KINDS, NEW_PREFIX, PARTIAL, WHOLE, move_folder, remove_folder
from vbnfs.cache.holdings import Held, Holdings
from vbnfs.cache.inventory import CachedContent
from vbnfs.cache.whole_file import Seal
from vbnfs.host import limits
from vbnfs.host.atomic import temporary_file
from vbnfs.host.descriptors import NO_DESCRIPTOR
from vbnfs.host.places import Place, folder_at
from vbnfs.logs import WARN_AGAIN_SECONDS, WarnOnce
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content

log = structlog.get_logger()

_OPEN_CONTENTS: Final = 128  # two files each, well below the usual limit of 1,024 files
_PART_OF_FILE_LIMIT: Final = 8  # where fewer files may be open: connections and mappings need some, too
_TRIED_BYTES: Final = 4 << 20  # what a GET brings may be written at once


class BlockCache:
    """The blocks below `directory` (which holds the other scopes, too) that came from `scope`.

    A block is checked when this process uses it for the first time; with `check_every_read`, at each read.
    `is_local` False: other hosts may change the directory (see content_file.py). `behind`: where else blocks are.
    """

    def __init__(
        self,
        directory: Path | Place,
        *,
        scope: str,
        metrics: Metrics,
        check_every_read: bool = False,
        is_local: bool = True,
        behind: Behind | None = None,
    ) -> None:
        top = folder_at(directory)
        self.directory = top / FORMAT
        self._scope = scope
        self._metrics = metrics
        self._checks_every_read = check_every_read
        self.is_local: Final = is_local
        self._behind = behind or Behind()
        self._lock = threading.Lock()  # of what follows; held for no system call
        self._open: LRUCache[str, ContentFile] = LRUCache(_most_open_contents())  # by content id
        self._absent: set[str] = set()  # the contents of which nothing was here, since `forget_deleted`
        self._unflushed: Counter[str] = Counter()  # bytes, by content id
        self._allocated: Counter[str] = Counter()  # by content id; as the last scan found it, and what was put since
        self._opened: dict[str, Content] = {}  # by a program, since uses were noted; by content id
        self._changed: set[str] = set()  # the contents of which `allocated_bytes` has changed
        self._holdings = Holdings(top)
        self._publishing = threading.Lock()
        self._read_by_kernel: dict[str, Held] = {}  # by content id
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
        return content.content_id in self._absent

    def _own_nowait(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        file = self._known(content)
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
            file = self._file(content)
            if file is None:
                return None
            return file.read_checked(byte_range) if is_checked_now else file.read(byte_range)
        except DamagedBlockError as error:
            self._metrics.corrupt_blocks += 1
            log.warning("cached block damaged; fetching it again", reason=str(error))
            self._demote(content)
        except OSError as error:
            self._warn_once("cache cannot be read; fetching instead", key=error.strerror, reason=str(error))
            self._let_go_of_descriptors(error)
        return None

    def missing(self, content: Content, indices: Iterable[int]) -> list[int]:
        """Those of the blocks that are not recorded."""
        left = list(indices)
        with suppress(OSError):
            file = self._file(content)
            if file is not None:
                left = [index for index in left if not file.holds(index)]
        return self._behind.missing(content, left)

    def put(self, content: Content, index: int, *blocks: bytes | memoryview) -> int:
        """Keep whole blocks, adjacent ones from `index` on. Returns how many of their bytes are kept now.

        They are fewer than there were, or 0, where blocks could not be kept, which is no error.
        """
        try:
            file = self._known(content)
            if file is None or not file.is_intact:
                file = self._remember(content, self._open_or_create(content))
            file.write(index, *blocks)
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
            self._flush(content_id)
            self._metrics.flushed_bytes += count_bytes

    def _flush(self, content_id: str) -> None:
        for kind in KINDS:
            with suppress(OSError):  # evicted; a disk that fails is logged where blocks are read and written
                flush(self.place_of(content_id, kind))

    def complete(self, content: Content) -> bool:
        """Have a content be whole of which all blocks are here, and right as far as that can be known.

        Its bytes are synced before: what is whole is whole after a power cut. Returns whether it is whole now. A
        content that cannot be made whole, on a disk that fails or can only be read, stays as it is.
        """
        whole = self.place_of(content.content_id, WHOLE)
        try:
            if self._is_at(content, whole):
                return True
            if None in self._own_records(content):
                return False
            self._flush(content.content_id)
            self._promote(content)
        except FileNotFoundError:  # evicted meanwhile, or made whole by another process
            pass
        except OSError as error:
            self._warn_once("a complete file cannot be kept as one", key=error.strerror, reason=str(error))
        return self._is_at(content, whole)

    def _demote(self, content: Content) -> None:
        """A block of a content is not what it was: the content is not whole any more."""
        name = content.content_id
        with suppress(OSError), self.place_of(name, WHOLE).parent.opened() as above:
            os.stat(name, dir_fd=above, follow_symlinks=False)  # there is one, which matters more than a partial one
            with self.place_of(name, PARTIAL).parent.opened(make=True) as to:
                remove_folder(to, name)
                move_folder(above, name, to, name)

    def _promote(self, content: Content) -> None:
        """Give a content its place among those that are whole. Raises `OSError`."""
        name, whole = content.content_id, self.place_of(content.content_id, WHOLE)
        with self.place_of(name, PARTIAL).parent.opened() as above, whole.parent.opened(make=True) as to:
            if not move_folder(above, name, to, name):
                if self._is_at(content, whole):  # another process was first
                    remove_folder(above, name)
                else:
                    remove_folder(to, name)
                    move_folder(above, name, to, name)
            os.fsync(to)
        self._forget_if_deleted(name)

    def _is_at(self, content: Content, place: Place) -> bool:
        return ContentFile.open(place, identity=content.content_id, data_bytes=content.size_bytes) is not None

    def seal(self, content: Content) -> Seal | None:
        """The seal of the file that blocks of a content are read from now; None if there is none."""
        with suppress(OSError):
            if (file := self._file(content)) is not None:
                return file.seal()
        return None

    def open_whole(self, content: Content) -> int | None:
        """A descriptor of a whole content's file, to be read only, which the caller closes; None if it is not whole.

        Raises `OSError`.
        """
        place = self.place_of(content.content_id, WHOLE) / DATA
        try:
            descriptor = place.open(os.O_RDONLY)
        except FileNotFoundError:
            return None
        if os.fstat(descriptor).st_size == content.size_bytes:
            return descriptor
        os.close(descriptor)
        return None

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
            file = self._file(content)
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
        for kind in KINDS:
            with suppress(OSError):  # not there, or it cannot be deleted: then nothing can be kept either
                place = self.place_of(content.content_id, kind)
                with place.parent.opened() as above:
                    remove_folder(above, place.name)
        self._behind.refuse(content)
        self.forget_deleted()

    def cached_bytes(self, content: Content) -> int:
        """How many bytes of a content are here. Costs as much as is here, however large the content is."""
        own_bytes = 0
        with suppress(OSError):
            file = self._file(content)
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
        with self._lock:
            known = list(self._open)
            self._absent = set()
        deleted = [content_id for content_id in known if self._forget_if_deleted(content_id)]
        if deleted:
            self.publish_held()
        self._behind.forget_deleted()

    def hold(self, held: Held) -> None:
        """The kernel reads a content itself from now on, though it may be deleted, until `let_go`."""
        with self._lock:
            self._read_by_kernel[held.content_id] = held
        self.publish_held()

    def let_go(self, content_id: str) -> None:
        """The kernel does not read a content any more."""
        with self._lock:
            self._read_by_kernel.pop(content_id, None)
        self.publish_held()

    def publish_held(self) -> None:
        """Show other processes which contents this one has open."""
        with self._publishing:
            with self._lock:
                known, held = list(self._open.values()), list(self._read_by_kernel.values())
            for file in known:
                with suppress(OSError):
                    held.append(file.held())
            self._holdings.publish(held)

    def _forget_if_deleted(self, content_id: str) -> bool:
        with self._lock:
            file = self._open.get(content_id)
        is_deleted = file is not None and not file.is_intact
        if is_deleted:
            with self._lock:
                if self._open.get(content_id) is file:
                    del self._open[content_id]
        return is_deleted

    def note_opened(self, content: Content) -> None:
        """Have the next `note_uses` count this as a use: the kernel may answer all that is read of it then."""
        with self._lock:
            self._opened[content.content_id] = content

    def note_uses(self) -> None:
        """Note for eviction what was used lately, and what is open.

        Waits for a disk that takes no writes, as long as that lasts: nothing that a reader waits for does this.
        """
        with self._lock:
            opened, self._opened = self._opened, {}
        for content in opened.values():
            with suppress(OSError):
                if (file := self._file(content)) is not None:
                    file.mark_used()
        with self._lock:
            known = list(self._open.values())
        for file in known:
            file.note_use()
        self.publish_held()

    def _let_go_of_descriptors(self, error: OSError) -> None:
        """Where no file can be opened any more, connections to S3 matter more than open contents."""
        if error.errno in NO_DESCRIPTOR:
            with self._lock:
                let_go, self._open = self._open, LRUCache(self._open.maxsize)
            del let_go

    def _file(self, content: Content) -> ContentFile | None:
        file = self._known(content)
        if file is None:
            file = self._open_any(content)
            if file is None:
                self._absent.add(content.content_id)
            else:
                file = self._remember(content, file)
        return file

    def _open_any(self, content: Content) -> ContentFile | None:
        """A content that is moved while it is looked for is there at the second look."""
        for kind in (*KINDS, *KINDS):
            place = self.place_of(content.content_id, kind)
            file = ContentFile.open(
                place, identity=content.content_id, data_bytes=content.size_bytes, may_map=self.is_local
            )
            if file is not None:
                return file
        return None

    def _open_or_create(self, content: Content) -> ContentFile:
        file = self._open_any(content)
        if file is not None:
            return file
        place = self.place_of(content.content_id, PARTIAL)
        file = ContentFile.create(
            place, identity=content.content_id, data_bytes=content.size_bytes, may_map=self.is_local
        )
        file.begin_history(self.directory / self._scope)
        return file

    def _known(self, content: Content) -> ContentFile | None:
        with self._lock:
            file = self._open.get(content.content_id)
        return file if file is not None and file.data_bytes == content.size_bytes else None

    def _remember(self, content: Content, file: ContentFile) -> ContentFile:
        with self._lock:
            let_go = [self._open.pop(content.content_id, None)]
            while len(self._open) >= self._open.maxsize:
                let_go.append(self._open.popitem()[1])
            self._open[content.content_id] = file
            self._absent.discard(content.content_id)
        del let_go  # closing frees an evicted file's space, or asks another host: not under the lock
        return file

    def place_of(self, content_id: str, kind: str) -> Place:
        """The folder of a content among the whole or the partial ones, whether it is there or not."""
        return self.directory / self._scope / kind / content_id[:2] / content_id


def _most_open_contents() -> int:
    limit = limits.open_files()
    return _OPEN_CONTENTS if limit is None else max(1, min(_OPEN_CONTENTS, limit // _PART_OF_FILE_LIMIT))


def block_range(content: Content, index: int) -> ByteRange:
    """The bytes of block `index`; the last one may be shorter than the others."""
    return ByteRange(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES).clip(content.size_bytes)

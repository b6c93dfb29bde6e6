"""Blocks on our disk, shared by dataset versions, mounts and processes: read, added, and deleted.

What is below a cache directory, and how it is read, says stored_blocks.py. A content is not whole any more once a
block of it proves damaged. Blocks that are not here may be in other places (behind.py).
"""

import errno
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from vbnfs.blocks import BLOCK_BYTES, blocks_of, checksum
from vbnfs.cache.behind import Behind
from vbnfs.cache.content_blocks import ContentBlocks
from vbnfs.cache.content_folder import FORMAT, NEW_PREFIX, WHOLE
from vbnfs.cache.content_places import ContentPlaces
from vbnfs.cache.digests import DigestStore
from vbnfs.cache.holdings import Holdings
from vbnfs.cache.stock import Stock
from vbnfs.cache.stored_blocks import StoredBlocks
from vbnfs.cache.whole_file import Seal
from vbnfs.host.atomic import delete_at_once, temporary_file
from vbnfs.host.folders import RENAMES_OPEN_FILES
from vbnfs.host.places import Place, folder_at
from vbnfs.host.sparse import take_space
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content

log = structlog.get_logger()

_TRIED_BYTES: Final = 4 << 20  # what a GET brings may be written at once


class BlockCache(StoredBlocks):
    """The blocks below `directory` that came from `scope`, and those that are `behind`, in other places.

    Each method that reads looks there for what is not here. `stock` counts what is put: this scope's alone if none is
    given. See `StoredBlocks` for the rest.
    """

    def __init__(
        self,
        directory: Path | Place,
        *,
        scope: str,
        metrics: Metrics,
        check_every_read: bool = False,
        is_local: bool = True,
        digests: DigestStore | None = None,
        behind: Behind | None = None,
        stock: Stock | None = None,
    ) -> None:
        top = folder_at(directory)
        super().__init__(
            top,
            scope=scope,
            metrics=metrics,
            check_every_read=check_every_read,
            is_local=is_local,
            places=ContentPlaces(top / FORMAT / scope, may_map=is_local),
            holdings=Holdings(top),
            digests=digests,
        )
        self.stock: Final = stock or Stock({scope})
        self.failure: OSError | None = None  # why the disk did not take the last blocks; None if it did
        self._behind = behind or Behind()
        self._lock = threading.Lock()  # of what follows; held for no system call
        self._unflushed: Counter[str] = Counter()  # bytes, by content id

    # Reading: here first, then behind

    def read_nowait(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """See `StoredBlocks`."""
        if not self._behind:
            return super().read_nowait(content, byte_range)
        data = None if self.is_known_absent(content) else super().read_nowait(content, byte_range)
        return self._behind.read_nowait(content, byte_range) if data is None else data

    def read(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """See `StoredBlocks`."""
        data = super().read(content, byte_range)
        return self._behind.read(content, byte_range) if data is None else data

    def read_anew(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """Like `read`, of a content that may have been evicted, and made anew, since it was opened here."""
        self._open.forget_if_deleted(content.content_id)
        return self.read(content, byte_range)

    def checked_block(self, content: Content, index: int) -> bytes | None:
        """See `StoredBlocks`."""
        data = super().checked_block(content, index)
        return self._behind.checked_block(content, index) if data is None else data

    def missing(self, content: Content, indices: Iterable[int]) -> list[int]:
        """See `StoredBlocks`."""
        return self._behind.missing(content, self.missing_here(content, indices))

    def missing_here(self, content: Content, indices: Iterable[int]) -> list[int]:
        """Those of the blocks that are not recorded here, wherever else they are."""
        return super().missing(content, indices)

    def records(self, content: Content) -> Iterator[bytes | None]:
        """See `StoredBlocks`."""
        return self._behind.records(content, super().records(content))

    def recorded(self, content: Content) -> Set[int]:
        """See `StoredBlocks`."""
        here = super().recorded(content)
        if len(here) == len(blocks_of(ByteRange(0, content.size_bytes))):
            return here
        return here | self._behind.recorded(content)

    def refresh(self, content: Content) -> None:
        """Where other hosts add blocks, too, have what is asked next of a content be as it is now."""
        if not self.is_local:
            with suppress(OSError):
                if (file := self._open.known(content)) is not None:
                    file.refresh()

    def record_of(self, content: Content, index: int, data: bytes | memoryview) -> bytes:
        """The checksum with which a block of these bytes is kept."""
        return checksum(content.content_id, index, data)

    # Adding blocks

    def put(self, content: Content, index: int, *parts: bytes | memoryview) -> int:
        """Keep whole blocks, adjacent ones from `index` on, cut anywhere into parts. Returns how many bytes are kept.

        They are fewer than there were, or 0, where blocks could not be kept, which is no error.
        """
        count_bytes = sum(map(len, parts))
        try:
            self._write(content, index, parts)
        except OSError as error:
            self._metrics.cache_write_errors += -(-count_bytes // BLOCK_BYTES)
            self.failure = error
            self._let_go_of_descriptors(error)
            self._warn_once("blocks cannot be kept; reads go on without", key=error.strerror, reason=str(error))
            return 0
        self.note_kept(content, count_bytes)
        return count_bytes

    def _write(self, content: Content, index: int, parts: Sequence[bytes | memoryview]) -> None:
        """Raises `OSError`."""
        try:
            self._open.for_writing(content).write(index, *parts)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            self._open.let_go_of(content)  # another host has deleted it: it is made anew
            self._open.for_writing(content).write(index, *parts)

    def note_kept(self, content: Content, count_bytes: int) -> None:
        """So much of a content is kept now: `put` has written it, or another process by `for_storing`."""
        if self.failure is not None:
            self.failure = None
            log.info("blocks are kept again")
        self.stock.add(content, count_bytes)
        with self._lock:
            self._unflushed[content.content_id] += count_bytes
        self._metrics.kept_bytes += count_bytes

    def for_storing(self, content: Content) -> ContentBlocks | None:
        """The open files of a content, made if need be, for a process that receives blocks of it.

        None where they cannot be written: `put` finds out why, and says it.
        """
        try:
            return self._open.for_writing(content).writable
        except OSError:
            return None

    def flush(self) -> None:
        """Have the disk take what was put by now: a power cut costs what was put since, and no more."""
        with self._lock:
            unflushed, self._unflushed = self._unflushed, Counter()
        for content_id, count_bytes in unflushed.items():
            self.places.flush(content_id)
            self._metrics.flushed_bytes += count_bytes
        self._behind.flush()

    def try_again(self) -> None:
        """If the disk did not take the last blocks: find out whether it would now, without a trace of it."""
        if self.failure is None:
            return
        try:
            with (
                self.directory.opened() as folder,
                temporary_file(folder, prefix=NEW_PREFIX) as (descriptor, name),
            ):
                delete_at_once(folder, name)
                take_space(descriptor, _TRIED_BYTES)
        except FileNotFoundError:  # the folder is gone; it is made when the next block is kept
            return
        except OSError as error:
            self.failure = error
        else:
            self.failure = None
            log.info("blocks can be kept again")

    # Whole contents

    def complete(self, content: Content) -> bool:
        """Have a content be whole of which all blocks are here, and right as far as that can be known.

        Its bytes are synced before: what is whole is whole after a power cut. Returns whether it is whole now. A
        content that cannot be made whole, on a disk that fails or can only be read, stays as it is.
        """
        try:
            if self.places.is_whole(content):
                return True
            if None in super().records(content):
                return False
            if not RENAMES_OPEN_FILES:
                self._open.let_go_of(content)
            self.places.promote(content)
            self._open.forget_if_deleted(content.content_id)
        except FileNotFoundError:  # evicted meanwhile, or made whole by another process
            pass
        except OSError as error:
            self._warn_once("a complete file cannot be kept as one", key=error.strerror, reason=str(error))
        return self.is_whole(content)

    def cached_bytes_of(self, contents: Iterable[Content]) -> dict[str, int]:
        """How many bytes of each content are here or behind, by its id: of ours by one look at their folders."""
        contents = list(contents)
        partial = self.places.recorded_bytes({} if self._behind else {c.content_id: c.size_bytes for c in contents})
        whole = self.places.names(WHOLE)  # after the others: one that becomes whole meanwhile is in one of them

        def bytes_of(content: Content) -> int:
            if content.content_id in whole:
                return content.size_bytes
            counted = partial.get(content.content_id, 0)
            is_asked = self._behind or counted is None or (counted and self._open.known(content) is not None)
            return self.cached_bytes(content) if is_asked or counted is None else counted

        return {content.content_id: bytes_of(content) for content in contents}

    def whole_seals(self, content_ids: Set[str]) -> dict[str, Seal]:
        """See `ContentPlaces.whole_seals`."""
        return self.places.whole_seals(content_ids)

    def whole_ids(self) -> set[str]:
        """The ids of all contents that are whole, as far as their places say."""
        return self.places.names(WHOLE)

    def is_whole(self, content: Content) -> bool:
        """Whether a content is whole (see `ContentPlaces.is_whole`). False where the disk does not say."""
        try:
            return self.places.is_whole(content)
        except OSError:
            return False

    def whole_path(self, content: Content) -> Path:
        """Where a whole content's file stands, if there is one."""
        return self.places.whole_path(content)

    def open_whole(self, content: Content) -> int | None:
        """A descriptor of a whole content's file, to be read only, which the caller closes; None if it is not whole.

        Raises `OSError`.
        """
        return self.places.open_whole(content)

    def open_whole_at_once(self, content: Content) -> int | None:
        """Like `open_whole`, without waiting: None where the disk would have to be asked. Raises nothing."""
        return self.places.open_whole_at_once(content)

    def seal(self, content: Content) -> Seal | None:
        """The seal of the file that blocks of a content are read from now; None if there is none here.

        What was written is synced first: a page of another program's mapping that is dirty already could change again
        without giving the file a new time (mmap(2), MAP_SHARED).
        """
        with suppress(OSError):
            if (file := self._open.get(content)) is not None:
                return file.synced_seal()
        return None

    # Letting go, and showing what is used and held

    def drop(self, content: Content) -> None:
        """Delete all that is kept of a content. A process that has it open reads it on, until `forget_deleted`."""
        self.places.remove(content)
        self._behind.drop(content)
        self.forget_deleted()

    def forget_deleted(self) -> None:
        """See `StoredBlocks`."""
        super().forget_deleted()
        self._behind.forget_deleted()

    def note_opened(self, content: Content) -> None:
        """Have the next `note_uses` count this as a use: the kernel may answer all that is read of it then."""
        self._open.note_opened(content)

    def note_uses(self) -> None:
        """Note for eviction what was used lately, and show other processes what is open.

        Waits for a disk that takes no writes, as long as that lasts: nothing that a reader waits for does this.
        """
        self._open.note_uses()
        self._open.publish()
        self._behind.note_uses()

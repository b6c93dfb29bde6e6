"""Blocks that stand in a cache directory, to be read: our own (block_cache.py), a lab's, one on another disk.

    blocks-v2/<scope>/partial/<2 hex>/<content id>/     see content_file.py for what is in one
    blocks-v2/<scope>/whole/<2 hex>/<content id>/       complete, and hashed if there is a hash: `data` is the file

`scope` is where the bytes came from (`aws`, or the endpoint), so that what one server sends is never used for
another. The format's version stands in the path; there is no index, no journal and no lock.
Any block may be missing or damaged at any moment: that is a miss, and costs one GET.

Methods without `_nowait` or `_at_once` may wait for the disk: call them from a thread. All of them may be called from
any thread.
"""

import errno
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog
import trio

from vbnfs.blocks import BLOCK_BYTES, bytes_of_blocks
from vbnfs.cache.block_checks import BadBlockError, DamagedBlockError, WrongDigestError
from vbnfs.cache.content_file import ContentFile
from vbnfs.cache.content_folder import FORMAT
from vbnfs.cache.content_places import ContentPlaces
from vbnfs.cache.digests import DigestSet, DigestStore, KnownDigests
from vbnfs.cache.holdings import Holdings
from vbnfs.cache.open_contents import OpenContents
from vbnfs.host.descriptors import NO_DESCRIPTOR
from vbnfs.host.places import Place, folder_at
from vbnfs.logs import WARN_AGAIN_SECONDS, WarnOnce
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content

log = structlog.get_logger()


class StoredBlocks:
    """The blocks below `directory` (which holds the other scopes, too) that came from `scope`. None is written.

    A block is checked when this process uses it for the first time; with `check_every_read`, at each read.
    `is_local` False: other hosts may change the directory (see content_file.py). `places`: where contents stand. If
    none are given they are as drawn above, and bytes are copied out of their files, not mapped: another user's may be
    cut short at any moment. `holdings`: where it is shown what is open. `digests`: where they are known, a block is
    held against its digest, too, when it is used first, and one that contradicts is not used.
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
        holdings: Holdings | None = None,
        digests: DigestStore | None = None,
    ) -> None:
        self.directory = folder_at(directory) / FORMAT
        self.is_local: Final = is_local
        self.places = places or ContentPlaces(self.directory / scope, may_map=False, may_write=False)
        self._digests = digests
        self._metrics = metrics
        self._checks_every_read = check_every_read
        self._open = OpenContents(self.places, holdings)
        self._warn_once = WarnOnce(again_after_seconds=WARN_AGAIN_SECONDS)

    # Reading

    def read_nowait(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """Like `read`, but raises `trio.WouldBlock` where disk or first checks might take long.

        Where another host may have to be asked, it always does: no system call shows whether it would wait.
        """
        if not self.is_local:
            raise trio.WouldBlock
        file = self._open.known(content)
        if file is None or not self._is_checked_by_what_is_known(file, content):
            raise trio.WouldBlock
        if file.is_known_missing(byte_range):
            return None
        if not file.is_in_page_cache(byte_range):
            raise trio.WouldBlock
        try:
            if self._checks_every_read:
                return file.read_checked(byte_range, may_write=False)
            return file.read(byte_range, may_write=False)
        except (BadBlockError, OSError) as error:  # what has to be done about it may wait for the disk
            raise trio.WouldBlock from error

    def read(self, content: Content, byte_range: ByteRange) -> memoryview | None:
        """A non-empty range of a content, verified; None if a block of it is not here.

        A view of the file, without a copy; a small range is read.
        """
        return self._read(content, byte_range, is_checked_now=self._checks_every_read)

    def opened(self, content: Content) -> ContentFile | None:
        """The open file of a content, whose blocks are held against what is known of them now.

        None where nothing of it is here, where the disk fails, and where every read is to be checked. It is kept open
        only as long as the cache keeps it: hold it for one read.
        """
        if self._checks_every_read:
            return None
        with suppress(OSError):
            if (file := self._open.get(content)) is not None:
                if self._digests is not None:
                    file.check_against(_set_of(self._digests.of(content)))
                return file
        return None

    def checked_block(self, content: Content, index: int) -> bytes | None:
        """A block that is read from the disk and checked now; None if it is not here, or damaged."""
        data = self._read(content, block_range(content, index), is_checked_now=True)
        return None if data is None else bytes(data)

    def _read(self, content: Content, byte_range: ByteRange, *, is_checked_now: bool) -> memoryview | None:
        try:
            file = self._open.get(content)
            if file is None:
                return None
            if self._digests is not None:
                file.check_against(_set_of(self._digests.of(content)))
            return file.read_checked(byte_range) if is_checked_now else file.read(byte_range)
        except DamagedBlockError as error:
            self._metrics.corrupt_blocks += 1
            log.warning("cached block damaged; fetching it again", reason=str(error))
            with suppress(OSError):
                self.places.demote(content)
        except WrongDigestError as error:
            self._metrics.wrong_blocks += 1
            self._warn_once("a block came wrong; fetching it again", key=content.content_id, reason=str(error))
        except OSError as error:
            if error.errno == errno.ESTALE:  # another host has deleted it; there may be a new one
                self._open.let_go_of(content)
                return None
            self._warn_once("cache cannot be read; fetching instead", key=error.strerror, reason=str(error))
            self._let_go_of_descriptors(error)
        return None

    def _is_checked_by_what_is_known(self, file: ContentFile, content: Content) -> bool:
        """Whether blocks of an open content are held against the digests that are known now, if this may."""
        if self._digests is None:
            return True
        with suppress(KeyError):
            known = _set_of(self._digests.of_nowait(content))
            return known == file.digests and (known is None or not self._checks_every_read)
        return False

    # What is here

    def is_known_absent(self, content: Content) -> bool:
        """Whether nothing was here of a content when it was looked for last, and nothing was put since."""
        return self._open.is_known_absent(content)

    def missing(self, content: Content, indices: Iterable[int]) -> list[int]:
        """Those of the blocks that are not recorded."""
        left = list(indices)
        with suppress(OSError):
            file = self._open.get(content)
            if file is not None:
                left = [index for index in left if not file.holds(index)]
        return left

    def records(self, content: Content) -> Iterator[bytes | None]:
        """The checksum with which each block is kept; None for those that are not here."""
        file = None
        with suppress(OSError):
            file = self._open.get(content)
        if file is not None and file.is_intact:
            with suppress(OSError):
                yield from file.records()
                return
        if content.size_bytes:
            yield None

    def recorded(self, content: Content) -> Set[int]:
        """The numbers of the blocks that are recorded. Costs as much as is here, however large the content is."""
        with suppress(OSError):
            if (file := self._open.get(content)) is not None:
                return set(file.recorded())
        return set()

    def cached_bytes(self, content: Content) -> int:
        """How many bytes of a content are here."""
        return bytes_of_blocks(content.size_bytes, self.recorded(content))

    # Letting go

    def drop(self, content: Content) -> None:
        """Use nothing of a content any more that is here: it is wrong."""
        self._open.refuse(content)

    def forget_deleted(self) -> None:
        """Close contents that were cut short, or evicted, by any process: only then is the space free."""
        self._open.forget_deleted()

    def flush(self) -> None:
        """Have the disk take what was put by now, where blocks are put."""

    def note_uses(self) -> None:
        """Note what was used lately and what is open, where that is noted."""

    def _let_go_of_descriptors(self, error: OSError) -> None:
        """Where no file can be opened any more, connections to S3 matter more than open contents."""
        if error.errno in NO_DESCRIPTOR:
            self._open.let_go_of_all()


def block_range(content: Content, index: int) -> ByteRange:
    """The bytes of block `index`; the last one may be shorter than the others."""
    return ByteRange(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES).clip(content.size_bytes)


def _set_of(known: KnownDigests | None) -> DigestSet | None:
    return None if known is None else known.digests

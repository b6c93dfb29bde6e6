"""Reads of what is here, in the thread of the program that reads: no event loop is asked, and no byte waits for one.

A reader finds the open file of its content in the cache, checks blocks that this process has not used yet, and reads.
What is not on the disk may just have come, and be in memory. What is neither has to be fetched (file_reader.py).

What reads say about the next ones is for the event loop's advisor. So reads are put together, as the kernel's
pages would do it, and handed on when a run of them comes to another block.
"""

import time
import weakref
from collections import deque
from contextlib import suppress
from typing import Final

from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.block_checks import BadBlockError
from vbnfs.cache.content_file import ContentFile
from vbnfs.cache.verdicts import Verdicts
from vbnfs.objects import ByteRange, Content
from vbnfs.reading.block_source import BlockSource

_PAGE_BYTES: Final = 4096
_MOST_RUNS: Final = 32
_ASK_AGAIN_SECONDS: Final = 1.0  # whether the cache has the content still, and what is known of its blocks


class AnsweredReads:
    """Reads that the advisor does not know of yet, put together where they are on one page or the next.

    Thread-safe, and for signal handlers, which may come within a read: there is no lock. Each step is one operation
    of a deque. Where two threads meet, a run is in two pieces.
    """

    def __init__(self) -> None:
        self._runs: deque[tuple[int, int]] = deque(maxlen=_MOST_RUNS)

    def add(self, start: int, stop: int) -> bool:
        """One more read; whether a run of them has come to another block, so that what lies ahead may be wanted."""
        try:
            first, last = self._runs.pop()
        except IndexError:
            self._runs.append((start, stop))
            return False
        if first <= start <= last + _PAGE_BYTES:
            self._runs.append((first, max(stop, last)))
            return stop > last and (stop - 1) // BLOCK_BYTES != (last - 1) // BLOCK_BYTES
        self._runs.extend(((first, last), (start, stop)))
        return False

    def take(self) -> list[ByteRange]:
        """All of them, in order; none is left."""
        runs = list[ByteRange]()
        with suppress(IndexError):
            while len(runs) < _MOST_RUNS:
                runs.append(ByteRange(*self._runs.popleft()))
        return runs


class LocalReader:
    """Reads of one content what the cache has on the disk, or in memory. Thread-safe; raises nothing.

    It keeps nothing open: the cache closes what it evicts. Within a second it uses what was found out since about
    the content's blocks. Nothing is read where every read is to be checked, or the content is refused: that is for
    the event loop's reader.
    """

    def __init__(self, content: Content, cache: BlockCache, source: BlockSource, verdicts: Verdicts) -> None:
        self._content = content
        self._cache = cache
        self._source = source
        self._verdicts = verdicts
        self._found: tuple[float, weakref.ref[ContentFile] | None] = (0.0, None)  # until when it is not asked again

    @property
    def is_refused(self) -> bool:
        """Whether the content is known to be wrong: then nothing of it is read here."""
        return self._verdicts.bad(self._content) is not None

    def read(self, offset: int, size: int) -> bytes | None:
        """A non-empty range of the content; None if not all of it is here."""
        file = self._file()
        if file is not None:
            try:
                data = file.read_bytes(offset, size)
            except (BadBlockError, OSError):  # seen to by the reader that fetches
                return None
            if data is not None:
                return data
        return b"".join(pieces) if (pieces := self._from_memory(offset, size)) else None

    def read_into(self, buffer: memoryview, offset: int) -> bool:
        """Fill a buffer, which is not empty, with the bytes from `offset` on; False if not all of them are here."""
        file = self._file()
        if file is not None:
            try:
                if file.read_into(buffer, offset):
                    return True
            except (BadBlockError, OSError):
                return False
        pieces = self._from_memory(offset, len(buffer))
        at = 0
        for piece in pieces:
            buffer[at : at + len(piece)] = piece
            at += len(piece)
        return bool(pieces)

    def _file(self) -> ContentFile | None:
        if self.is_refused:
            return None
        until, known = self._found
        file = None if known is None else known()
        if file is None or time.monotonic() > until:
            file = self._cache.opened(self._content)
            self._found = time.monotonic() + _ASK_AGAIN_SECONDS, None if file is None else weakref.ref(file)
        return file

    def _from_memory(self, offset: int, size: int) -> list[memoryview]:
        """The range in pieces, of blocks that came just now; none unless all of them did."""
        pieces, stop = list[memoryview](), offset + size
        if self.is_refused:
            return pieces
        for index in blocks_of(ByteRange(offset, stop)):
            data = self._source.in_memory(self._content, index)
            if data is None:
                return []
            start = index * BLOCK_BYTES
            pieces.append(memoryview(data)[max(0, offset - start) : stop - start])
        return pieces

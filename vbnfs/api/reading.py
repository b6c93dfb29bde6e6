"""How the bytes of an open file are had: from the disk or memory by the caller's own thread, else by the event loop.

A read of what is here costs microseconds, and other threads run while its bytes move. What is lacking comes in one
wave, up to 64 MiB at a time; then the caller's thread takes it from where it came to.

A program that reads the eight bytes by which HDF5 files are known, and no more, is about to read one.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import trio

from vbnfs.api.connection import CLOSED, Connection, Parts
from vbnfs.api.small_reads import MOST_BYTES, SmallReads, Window
from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.errors import StorageError
from vbnfs.hdf5.signature import SIGNATURE
from vbnfs.host.forking import LockOfProcess
from vbnfs.objects import ByteRange, Content
from vbnfs.reading.file_reader import FileReader
from vbnfs.reading.local_reads import AnsweredReads, LocalReader

_WAVE_BLOCKS: Final = (64 << 20) // BLOCK_BYTES  # of ranges that are asked for together
_PIECE_BYTES: Final = 16 << 20  # of one range

Blocks = Mapping[int, bytes | memoryview]  # that came just now, by number


@dataclass(frozen=True, slots=True)
class Here:
    """What reads a content in this process: `parts` are those that it is of.

    `quiet` is for ranges, which say nothing about what will be read next. `is_whole`: nothing can be lacking.
    """

    parts: Parts
    content: Content
    reader: FileReader
    quiet: FileReader
    local: LocalReader
    is_whole: bool
    answered: AnsweredReads = field(default_factory=AnsweredReads)

    def check_is_of(self, parts: Parts) -> None:
        """Raises `ValueError` where another thread has closed the dataset meanwhile, and opened it again."""
        if self.parts is not parts:
            raise ValueError(CLOSED)

    def note(self, start: int, stop: int) -> bool:
        """A read was answered; whether the event loop's reader should hear of it and others now."""
        return not self.is_whole and self.answered.add(start, stop)

    def hand_on(self) -> None:
        """In the event loop's thread: have its reader know which reads were answered."""
        with suppress(RuntimeError):  # the dataset is just being closed
            self.reader.note_answered(self.answered.take())


class Reading:
    """Reads one content, for any thread, also in a child process. Raises a `StorageError`."""

    def __init__(self, connection: Connection, content: Content) -> None:
        self.connection: Final = connection
        self._content = content
        self._here: Here | None = None
        self._opening = LockOfProcess()
        self._expecting: Here | None = None  # that has its structure come
        self._small = SmallReads()
        self._window: Window | None = None

    def read(self, offset: int, size: int) -> bytes:
        """A range of the content, which is not empty."""
        here = self.now()
        if offset == 0 and size == len(SIGNATURE):
            self.expect_structure()
        if size <= _PIECE_BYTES and (data := here.local.read(offset, size)) is not None:
            self._note(here, offset, offset + size)
            return data
        return filled(size, lambda buffer: self.read_into(buffer, offset))

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer with the bytes from `offset` on: as many as the content has, and no more."""
        here = self.now()
        if offset == 0 and len(buffer) == len(SIGNATURE):
            self.expect_structure()
        if self._copy_small(here, buffer, offset):
            return
        for start in range(0, len(buffer), _PIECE_BYTES):
            piece, at = buffer[start : start + _PIECE_BYTES], offset + start
            if here.local.read_into(piece, at):
                self._note(here, at, at + len(piece))
            else:
                came = self.connection.run(_bring, here, ByteRange(at, at + len(piece)))
                self.take(here, piece, at, came)

    def copy(self, buffer: memoryview, offset: int) -> bool:
        """Fill a small buffer if its bytes are those of the block in which small reads go on."""
        window, here = self._window, self._here
        if window is None or here is None or len(buffer) > MOST_BYTES or here.local.is_refused:
            return False
        return window.copy(buffer, offset)

    def _copy_small(self, here: Here, buffer: memoryview, offset: int) -> bool:
        """The same, of a block that small reads have come to; False: it is another read, or its block is not here."""
        if (before := self._window) is not None:
            self._window = None
            self._note(here, before.first, before.last)
        if not self._small.goes_on(offset, len(buffer)):
            return False
        start = offset - offset % BLOCK_BYTES
        stop = min(start + BLOCK_BYTES, self._content.size_bytes)
        data = here.local.read(start, stop - start)
        if data is None:
            return False
        window = Window(start, stop, memoryview(data), offset, offset)
        window.copy(buffer, offset)
        self._window = window
        return True

    def read_ranges(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of ranges within the content. What is lacking comes in waves."""
        [found] = read_many([(self, ranges)])
        if isinstance(found, StorageError):
            raise found
        return found

    def expect_structure(self) -> None:
        """A program is about to read the structure of an HDF5 file. Once is enough."""
        here = self.now()
        if not here.is_whole and self._expecting is not here:
            self._expecting = here
            self.connection.run(_expect_structure, here)

    def close(self) -> None:
        """No more will be read."""
        if self._here is not None:
            self.connection.soon(self._here.reader.close)

    def now(self) -> Here:
        """Anew in a child process, and after the dataset was closed."""
        parts, here = self.connection.value, self._here
        if here is None or here.parts is not parts:
            with self._opening():  # one of the threads that begin to read at once
                here = self._here
                if here is None or here.parts is not parts:
                    here = self._here = self.connection.run(_open, self._content)
        return here

    def _note(self, here: Here, start: int, stop: int) -> None:
        if here.note(start, stop):
            self.connection.soon(here.hand_on)

    def take(self, here: Here, buffer: memoryview, offset: int, came: Blocks) -> None:
        """Fill a buffer block by block, so that other threads run between two of them."""
        for index, part in _by_block(ByteRange(offset, offset + len(buffer))):
            target = buffer[part.start - offset : part.stop - offset]
            if (data := came.get(index)) is not None:
                begin = part.start - index * BLOCK_BYTES
                target[:] = memoryview(data)[begin : begin + len(part)]
            elif not here.local.read_into(target, part.start):  # lost, or wrong: the event loop's reader sees to it
                target[:] = self.connection.run(_read, here, part)


@dataclass(eq=False, slots=True)
class _Ranges:
    """Ranges of one content: what is found of them, and buffers for those of which not all is here."""

    reading: Reading
    here: Here
    ranges: Sequence[ByteRange]
    found: list[bytes | None]
    buffers: dict[int, io.BytesIO]
    parts: dict[int, list[tuple[int, ByteRange]]]  # by block: which ranges it has parts of, and these
    came: Blocks = field(default_factory=dict)
    failure: StorageError | None = None

    @classmethod
    def of(cls, reading: Reading, ranges: Sequence[ByteRange]) -> "_Ranges":
        """With what is here of them. Large ones are put together piece by piece."""
        here, parts = reading.now(), dict[int, list[tuple[int, ByteRange]]]()
        found = [_small(here, one) for one in ranges]
        lacking = [number for number, data in enumerate(found) if data is None]
        for number in lacking:
            for index, part in _by_block(ranges[number]):
                parts.setdefault(index, []).append((number, part))
        buffers = {number: io.BytesIO(bytes(len(ranges[number]))) for number in lacking}
        return cls(reading, here, ranges, found, buffers, parts)

    async def bring(self, blocks: Sequence[int]) -> None:
        """In the event loop: have blocks come, as far as ranges need them."""
        try:
            self.came = await self.here.quiet.bring([_hull(part for _, part in self.parts[one]) for one in blocks])
        except StorageError as error:
            self.failure = error

    def take(self, blocks: Sequence[int]) -> None:
        """Fill the buffers from blocks that came."""
        came, self.came = self.came, {}
        for number, part in (one for index in blocks for one in self.parts[index]):
            begin = part.start - self.ranges[number].start
            with self.buffers[number].getbuffer() as buffer:
                self.reading.take(self.here, buffer[begin : begin + len(part)], part.start, came)

    def result(self) -> list[bytes] | StorageError:
        """The bytes of each range, or why they cannot be had."""
        pairs = enumerate(self.found)
        return self.failure or [self.buffers[number].getvalue() if data is None else data for number, data in pairs]


def read_many(
    wanted: Sequence[tuple[Reading, Sequence[ByteRange]]], *, stops: bool = False
) -> list[list[bytes] | StorageError]:
    """The bytes of ranges of contents of one dataset; what is lacking comes in waves of all of them.

    An error stands in the place of a content. With `stops` nothing more is fetched after one.
    """
    works = [_Ranges.of(reading, ranges) for reading, ranges in wanted]
    for wave in _waves(works):
        wanted[0][0].connection.run(_bring_all, wave)
        for work, blocks in wave.items():
            try:
                if work.failure is None:
                    work.take(blocks)
            except StorageError as error:
                work.failure = error
        if stops and any(work.failure for work in wave):
            break
    return [work.result() for work in works]


def _waves(works: Sequence[_Ranges]) -> Iterator[dict[_Ranges, list[int]]]:
    """The blocks that are wanted, in groups."""
    pairs = [(work, index) for work in works for index in sorted(work.parts)]
    for first in range(0, len(pairs), _WAVE_BLOCKS):
        wave = dict[_Ranges, list[int]]()
        for work, index in pairs[first : first + _WAVE_BLOCKS]:
            wave.setdefault(work, []).append(index)
        yield wave


def _small(here: Here, wanted: ByteRange) -> bytes | None:
    """A range of which all is here; None for a large one."""
    if not wanted:
        return b""
    return here.local.read(wanted.start, len(wanted)) if len(wanted) <= _PIECE_BYTES else None


def _by_block(wanted: ByteRange) -> Iterator[tuple[int, ByteRange]]:
    """The part of a range that is of each block."""
    for index in blocks_of(wanted):
        start, stop = index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES
        yield index, ByteRange(max(start, wanted.start), min(stop, wanted.stop))


def filled(size: int, fill: Callable[[memoryview], object]) -> bytes:
    """So many bytes, which `fill` writes into a buffer. CPython gives out that buffer: no byte is copied."""
    stream = io.BytesIO(bytes(size))
    with stream.getbuffer() as buffer:
        fill(buffer)
    return stream.getvalue()


def _hull(parts: Iterable[ByteRange]) -> ByteRange:
    """The range from the first to the last byte of some that are not empty."""
    starts, stops = zip(*((one.start, one.stop) for one in parts), strict=True)
    return ByteRange(min(starts), max(stops))


async def _open(parts: Parts, content: Content) -> Here:
    files = parts.files
    readers = files.reader(content), files.readers.reader(content, advises=False)
    return Here(parts, content, *readers, files.readers.local_reader(content), await files.is_whole(content))


async def _bring(parts: Parts, here: Here, wanted: ByteRange) -> Blocks:
    here.check_is_of(parts)
    here.hand_on()
    return await here.reader.bring([wanted])


async def _bring_all(parts: Parts, wave: Mapping[_Ranges, Sequence[int]]) -> None:
    for work in wave:
        work.here.check_is_of(parts)
    async with trio.open_nursery() as nursery:
        for work, blocks in wave.items():
            nursery.start_soon(work.bring, blocks)


async def _read(parts: Parts, here: Here, wanted: ByteRange) -> bytes | memoryview:
    here.check_is_of(parts)
    return await here.quiet.read(wanted.start, len(wanted))


async def _expect_structure(parts: Parts, here: Here) -> None:
    here.check_is_of(parts)
    await parts.files.expect_structure(here.reader)

"""Walking ahead of programs that read the structure of HDF5 files: all its branches at once, before they ask.

A walk begins when a program that has read a file's beginning lacks a block elsewhere. It goes as far as the blocks go
that are there, and fetches nothing, as long as the program has lacked none to which the structure leads. Then its
waves are fetched, behind readers and behind what is read ahead for them. Another process parses (walker.py), so no
file can hold up the event loop. While the program reads the data of an array, its walk rests.

Which blocks a walk came to is recorded in the structure index (cache/structure_index.py), with what programs lacked
besides. Where the index has a file already, all of these blocks are requested at once, as soon as a program follows
the structure. The walk then goes through what has come: it finds the arrays, and what the index lacks.

A walk ends at its bounds (of bytes and seconds), when all programs that it is for have closed the file, when the file
is found wrong, and with the mount. Where one fails, programs read on as if there were none. What it has found of the
file's arrays stays.
"""

import itertools
from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog
import trio
from cachetools import LRUCache

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.stored_blocks import block_range
from vbnfs.cache.structure_index import StructureIndex
from vbnfs.cache.structure_sets import MOST_BLOCKS, StructureSet, walked_set
from vbnfs.cache.verdicts import Verdicts
from vbnfs.hdf5.signature import is_hdf5
from vbnfs.hdf5.structure import Extent
from vbnfs.metrics import Metrics
from vbnfs.objects import Content
from vbnfs.reading.arrays import Arrays
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.fetches import Bytes
from vbnfs.reading.planner import follows_structure
from vbnfs.reading.prefetch_queue import Rank
from vbnfs.reading.walker import Step, new_walker
from vbnfs.reading.walker_words import BOUNDED_BYTES, BOUNDED_SECONDS

log = structlog.get_logger()

_MOST_WALKS: Final = 4  # at a time; each has up to `BOUNDED_BYTES` in the process's memory,
_MOST_RESTING: Final = 12  # and so has each of those that wait for their program
_KERNEL_BLOCKS: Final = 8  # so far behind what a program wants may the kernel read by itself
_REMEMBERED_FILES: Final = 32  # whose arrays are known
_SUFFIXES: Final = (".nwb", ".h5", ".hdf5", ".nc")  # of files that may well be HDF5's
_NO_ARRAYS: Final = Arrays()


@dataclass(slots=True, eq=False)
class _Walk:
    """The walk of a content. `readers` are those that it is for, `lacked` what they lacked of the structure.

    `known` is what the index has. Of `lacked`, `lacked_within` was lacked by reads that were not of the file's end.
    """

    content: Content
    number: int
    known: StructureSet | None = None
    readers: set[object] = field(default_factory=set)
    resting: set[object] = field(default_factory=set)  # those of them that read data now
    lacked: set[int] = field(default_factory=set)
    lacked_within: set[int] = field(default_factory=set)
    led_to: set[int] = field(default_factory=set)  # by the structure
    waves: list[frozenset[int]] = field(default_factory=list)
    has_all: bool = False
    beside: tuple[int, ...] = ()
    outstanding: set[int] = field(default_factory=set)
    fetched: set[int] = field(default_factory=set)
    known_is_asked: bool = False
    is_expected: bool = False  # a program has said that it will read the structure
    left_seconds: float = BOUNDED_SECONDS
    noted: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def was_followed(self) -> bool:
        """Whether a program has read what the walk reads, or that to which the file's beginning leads."""
        if self.is_expected:
            return True
        nearest = () if self.known is None else self.known.nearest
        has_followed_index = not self.lacked_within.isdisjoint(number for number in nearest if number)
        return has_followed_index or follows_structure(self.lacked, self.led_to, self.content.size_bytes)

    @property
    def is_followed(self) -> bool:
        """Whether one does that now."""
        return not self.readers <= self.resting and self.was_followed


class Walks:
    """The walks of a mount, in tasks of `nursery`: one for each content, once.

    `index` has the blocks in which the structure of a content is known to be: when a program follows that, all of
    them are fetched at once. It gets those that a walk, and the programs that it was for, have read.
    """

    def __init__(
        self,
        cache: BlockCache,
        source: BlockSource,
        verdicts: Verdicts,
        index: StructureIndex,
        *,
        metrics: Metrics,
        nursery: trio.Nursery,
    ) -> None:
        self._cache = cache
        self._source = source
        self._verdicts = verdicts
        self._metrics = metrics
        self._nursery = nursery
        self._index = index
        self._walker = new_walker()
        self._numbers = itertools.count()
        self._turns = trio.CapacityLimiter(_MOST_WALKS)
        self._threads = trio.CapacityLimiter(_MOST_WALKS)  # none of those that readers need
        self._under_way: dict[str, _Walk] = {}  # by content id
        self._waiting: dict[_Walk, None] = {}  # for their programs, in order
        self._walked: set[str] = set()
        self._followed: set[str] = set()
        self._unbegun: set[str] = set()  # files of which no program has read the beginning
        self._arrays: LRUCache[str, Arrays] = LRUCache(_REMEMBERED_FILES)

    @property
    def process(self) -> int | None:
        """The process that parses, if there is one."""
        return self._walker.process

    @property
    def waiting(self) -> int:
        """How many walks wait for their programs to go on."""
        return len(self._waiting)

    def prepare(self, content: Content) -> None:
        """A program lacks a file's first block: have the process there by the time that a walk may begin."""
        self._unbegun.discard(content.content_id)
        if self._walker.process is None:
            self._nursery.start_soon(self._prepare, content)

    def note(self, reader: object, content: Content, lacked: range, *, is_end: bool = False) -> None:
        """A program that begins to read elsewhere in a file lacks blocks. Returns at once.

        `is_end`: it reads up to the end of the file, as programs do that find out what a file is.
        """
        walk = self._walk_of(content)
        if walk is None:
            return
        walk.readers.add(reader)
        if self._arrays_of(content).have(lacked):
            walk.resting.add(reader)
            return
        walk.resting.discard(reader)
        walk.lacked.update(lacked)
        walk.lacked_within.update(() if is_end else lacked)
        walk.noted.set()
        if walk.is_followed:
            self._followed.add(content.content_id)
            self._fetch_known(walk)

    def expect(self, reader: object, content: Content) -> None:
        """A program is about to read a file's structure: have it come before the program lacks any of it."""
        self.prepare(content)
        walk = self._walk_of(content)
        if walk is not None:
            walk.is_expected = True
            walk.readers.add(reader)
            walk.resting.discard(reader)
            walk.noted.set()
            self._followed.add(content.content_id)
            self._fetch_known(walk)

    def _walk_of(self, content: Content) -> _Walk | None:
        """The walk of a content, begun if need be; None if it is over, or there is no room for one."""
        walk = self._under_way.get(content.content_id)
        if walk is None:
            is_done = content.content_id in self._walked or content.content_id in self._unbegun
            if is_done or self._source.room_bytes < BOUNDED_BYTES:
                return None
            walk = _Walk(content, next(self._numbers), self._index.of_nowait(content))
            self._under_way[content.content_id] = walk
            self._nursery.start_soon(self._run, walk)
        return walk

    def rest(self, reader: object, content: Content) -> None:
        """A program reads in a row: it does not go through the structure now. Its walk goes on when it does again."""
        walk = self._under_way.get(content.content_id)
        if walk is not None and reader in walk.readers:
            walk.resting.add(reader)

    def array_at(self, content: Content, offset: int) -> Extent | None:
        """The array of a content that has a byte, as far as walks have found them."""
        return self._arrays_of(content).at(offset)

    def end_of_structure(self, content: Content, offset: int) -> int | None:
        """Where the blocks of structure end that stand in a row, of which one has byte `offset` or is just before it.

        The kernel reads ahead behind the last one that a program wants. None where there is none of them, as far as
        is known, and where no program has followed the structure.
        """
        if content.content_id not in self._followed:
            return None
        walk, known = self._under_way.get(content.content_id), self._index.of_nowait(content)
        blocks = {*(() if known is None else known.blocks), *(() if walk is None else walk.led_to)}
        index = offset // BLOCK_BYTES
        last = next((number for number in range(index, index - _KERNEL_BLOCKS - 1, -1) if number in blocks), None)
        if last is None:
            return None
        return BLOCK_BYTES * next(number for number in itertools.count(last) if number not in blocks)

    def is_followed(self, content: Content) -> bool:
        """Whether some program has followed the structure of a content, and not only read at random."""
        return content.content_id in self._followed

    def is_walked(self, content: Content) -> bool:
        """Whether blocks of a content are fetched by its structure now, so that nothing has to be guessed."""
        walk = self._under_way.get(content.content_id)
        return walk is not None and bool(walk.fetched)

    def leave(self, reader: object, content: Content) -> None:
        """A program has closed a file. A walk that was for no other one ends; the next program begins it anew."""
        walk = self._under_way.get(content.content_id)
        if walk is not None and reader in walk.readers:
            walk.readers.discard(reader)
            walk.resting.discard(reader)
            if not walk.readers:
                walk.scope.cancel()

    def close(self) -> None:
        """End the process. The tasks end with their nursery."""
        self._walker.close()

    def _arrays_of(self, content: Content) -> Arrays:
        arrays: Arrays | None = self._arrays.get(content.content_id)
        return _NO_ARRAYS if arrays is None else arrays

    async def _prepare(self, content: Content) -> None:
        with suppress(OSError, RuntimeError):  # no process or no thread to be had: a walk will find that, too
            if content.source.key.endswith(_SUFFIXES) or await self._is_hdf5(content):
                await trio.to_thread.run_sync(self._walker.start, abandon_on_cancel=True, limiter=self._threads)

    async def _is_hdf5(self, content: Content) -> bool | None:
        """Whether a file begins as HDF5 files do; None if its beginning is not here."""
        await self._source.settled(content, 0)
        data = self._source.in_memory(content, 0)
        if data is None:
            first = block_range(content, 0)
            data = await trio.to_thread.run_sync(
                self._cache.read_anew, content, first, abandon_on_cancel=True, limiter=self._threads
            )
        return None if data is None else is_hdf5(data)

    async def _run(self, walk: _Walk) -> None:
        try:
            with walk.scope:
                if walk.is_expected:
                    await self._fetch_missing(walk, (0,))
                is_one = await self._is_hdf5(walk.content)
                if is_one is None:
                    self._unbegun.add(walk.content.content_id)
                    return
                if is_one:
                    await self._go_through(walk)
                self._walked.add(walk.content.content_id)
        except Exception as error:  # no process, no thread, or a defect: a walk is no reader's concern
            log.info("a file's structure is not read ahead", object=str(walk.content.source), reason=repr(error))
            self._walked.add(walk.content.content_id)
        finally:
            self._waiting.pop(walk, None)
            del self._under_way[walk.content.content_id]
        with suppress(RuntimeError):  # no thread to be had
            await trio.to_thread.run_sync(self._end, walk, abandon_on_cancel=True, limiter=self._threads)

    def _end(self, walk: _Walk) -> None:
        """In a thread: have the process forget a walk, and the index know what it has come to."""
        self._walker.end(walk.number)
        content, arrays = walk.content, self._arrays_of(walk.content)
        if content.file_hash is None or not walk.waves or not (walk.has_all or walk.was_followed):
            return
        lacked = [index for index in walk.lacked if not arrays.have(range(index, index + 1))]
        beside = (*lacked, *walk.beside)
        found = walked_set(content.file_hash, content.size_bytes, walk.waves, beside, is_whole=walk.has_all)
        if found is not None:
            self._index.record(found)

    async def _go_through(self, walk: _Walk) -> None:
        while not await self._take_turn(walk):
            await self._wait_for_program(walk)

    async def _take_turn(self, walk: _Walk) -> bool:
        """Go on until no program follows. Returns whether the walk is over."""
        async with self._turns:
            began, is_over = trio.current_time(), True
            with trio.move_on_after(walk.left_seconds):
                is_over = await self._walk(walk)
            walk.left_seconds -= trio.current_time() - began
            return is_over

    async def _wait_for_program(self, walk: _Walk) -> None:
        """Of many walks that wait, the first one ends: it begins anew when its program goes on."""
        self._waiting[walk] = None
        if len(self._waiting) > _MOST_RESTING:
            next(iter(self._waiting)).scope.cancel()
        await walk.noted.wait()
        walk.noted = trio.Event()
        del self._waiting[walk]

    async def _walk(self, walk: _Walk) -> bool:
        """Returns whether it is over; else no program follows it."""
        while self._verdicts.bad(walk.content) is None:
            here, step = await self._go_on(walk)
            walk.led_to |= step.wave
            walk.has_all, walk.beside = step.has_all, step.beside
            walk.waves += [step.wave] if step.wave and not step.is_of_indexes else []
            if walk.was_followed:
                self._followed.add(walk.content.content_id)
            if step.is_over:
                return True
            walk.outstanding = (walk.outstanding - here) | step.wave
            if here or step.wave:
                continue
            if not walk.is_followed:
                return False
            if not await self._bring(walk):
                return True
        return True

    async def _go_on(self, walk: _Walk) -> tuple[Set[int], Step]:
        """Have it go on with those of its blocks that are here. Returns their numbers, too."""
        blocks = {index: self._source.in_memory(walk.content, index) for index in sorted(walk.outstanding)}
        step = partial(self._step, walk, blocks)
        here, done = await trio.to_thread.run_sync(step, abandon_on_cancel=True, limiter=self._threads)
        if done.extents:
            self._arrays[walk.content.content_id] = self._arrays_of(walk.content).with_more(done.extents)
        return here, done

    def _step(self, walk: _Walk, blocks: dict[int, Bytes | None]) -> tuple[Set[int], Step]:
        """In a thread. `blocks` have the bytes of those that are in memory; others may be on the disk."""
        here: set[int] = set()

        def present() -> Iterator[tuple[int, Bytes]]:
            for index, data in blocks.items():
                found = (
                    self._cache.read_anew(walk.content, block_range(walk.content, index)) if data is None else data
                )
                if found is not None:
                    here.add(index)
                    yield index, found

        step = self._walker.go_on(walk.number, walk.content.size_bytes, present())
        return here, step

    async def _bring(self, walk: _Walk) -> bool:
        """Have blocks come that it lacks. False: they do not come."""
        lacking = sorted(walk.outstanding - walk.fetched)
        coming = [index for index in walk.outstanding if self._source.is_coming(walk.content, index)]
        if not lacking and not coming:
            return False
        self._fetch(walk, lacking)
        for index in (*lacking, *coming):
            await self._source.settled(walk.content, index)
        return True

    def _fetch_known(self, walk: _Walk) -> None:
        """What is known of the structure comes in one wave, with the block that the program waits for."""
        if walk.known is not None and not walk.known_is_asked:
            self._nursery.start_soon(self._fetch_missing, walk, walk.known.blocks)
        walk.known_is_asked = True

    async def _fetch_missing(self, walk: _Walk, known: Sequence[int]) -> None:
        look = partial(self._cache.missing, walk.content, known)
        try:
            missing = await trio.to_thread.run_sync(look, abandon_on_cancel=True, limiter=self._threads)
            lacking = [index for index in missing if not self._source.is_coming(walk.content, index)]
            most_bridged = MOST_BLOCKS - len(known)
            fetched = self._source.fetch_wave(walk.content, lacking, most_bridged=most_bridged, rank=Rank.STRUCTURE)
        except Exception as error:  # no thread, a disk's error, or a defect: no reader's concern, as in `_run`
            log.info("a file's index is not used", object=str(walk.content.source), reason=repr(error))
            return
        walk.fetched.update(fetched)
        self._metrics.index_waves += bool(fetched)
        self._metrics.indexed_blocks += len(fetched)

    def _fetch(self, walk: _Walk, lacking: list[int]) -> None:
        self._metrics.walks += not walk.fetched
        self._metrics.walked_blocks += sum(not self._source.is_coming(walk.content, index) for index in lacking)
        walk.fetched.update(lacking)
        self._source.prefetch(walk.content, lacking, rank=Rank.STRUCTURE)

"""Walking ahead of programs that read the structure of HDF5 files: all its branches at once, before they ask.

A walk begins when a program that has read a file's beginning lacks a block elsewhere. It goes as far as the blocks go
that are there, and fetches nothing, as long as the program has lacked none to which the structure leads. Then its
waves are fetched behind readers. Another process parses (walker.py), so no file can hold up the event loop.

A walk ends at its bounds (of bytes and seconds), when all programs that it is for have closed the file, when the file
is found wrong, and with the mount. Where one fails, programs read on as if there were none.
"""

import itertools
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog
import trio

from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.stored_blocks import block_range
from vbnfs.cache.verdicts import Verdicts
from vbnfs.metrics import Metrics
from vbnfs.objects import Content
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.fetches import Bytes
from vbnfs.reading.planner import follows_structure
from vbnfs.reading.walker import BOUNDED_BYTES, BOUNDED_SECONDS, Step, Walker

log = structlog.get_logger()

_MOST_WALKS: Final = 2  # at a time: each has up to `BOUNDED_BYTES` in the process's memory


@dataclass(slots=True, eq=False)
class _Walk:
    """The walk of a content. `readers` are those that it is for, `lacked` what they lacked."""

    content: Content
    number: int
    readers: set[object] = field(default_factory=set)
    lacked: set[int] = field(default_factory=set)
    led_to: set[int] = field(default_factory=set)  # by the structure
    fetched: set[int] = field(default_factory=set)
    noted: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def is_followed(self) -> bool:
        """Whether a program reads what the walk reads."""
        return follows_structure(self.lacked, self.led_to, self.content.size_bytes)


class Walks:
    """The walks of a mount, in tasks of `nursery`: one for each content, once."""

    def __init__(
        self, cache: BlockCache, source: BlockSource, verdicts: Verdicts, *, metrics: Metrics, nursery: trio.Nursery
    ) -> None:
        self._cache = cache
        self._source = source
        self._verdicts = verdicts
        self._metrics = metrics
        self._nursery = nursery
        self._walker = Walker()
        self._numbers = itertools.count()
        self._turns = trio.CapacityLimiter(_MOST_WALKS)
        self._threads = trio.CapacityLimiter(_MOST_WALKS)  # none of those that readers need
        self._under_way: dict[str, _Walk] = {}  # by content id
        self._walked: set[str] = set()

    @property
    def process(self) -> int | None:
        """The process that parses, if there is one."""
        return self._walker.process

    def note(self, reader: object, content: Content, lacked: range) -> None:
        """A program that begins to read elsewhere in a file lacks blocks. Returns at once."""
        walk = self._under_way.get(content.content_id)
        if walk is None:
            if content.content_id in self._walked or self._source.room_bytes < BOUNDED_BYTES:
                return
            walk = self._under_way[content.content_id] = _Walk(content, next(self._numbers))
            self._nursery.start_soon(self._run, walk)
        walk.readers.add(reader)
        walk.lacked.update(lacked)
        walk.noted.set()

    def is_walked(self, content: Content) -> bool:
        """Whether blocks of a content are fetched by its structure now, so that nothing has to be guessed."""
        walk = self._under_way.get(content.content_id)
        return walk is not None and bool(walk.fetched)

    def leave(self, reader: object, content: Content) -> None:
        """A program has closed a file. A walk that was for no other one ends; the next program begins it anew."""
        walk = self._under_way.get(content.content_id)
        if walk is not None and reader in walk.readers:
            walk.readers.discard(reader)
            if not walk.readers:
                walk.scope.cancel()

    def close(self) -> None:
        """End the process. The tasks end with their nursery."""
        self._walker.close()

    async def _run(self, walk: _Walk) -> None:
        try:
            with walk.scope:
                async with self._turns:
                    with trio.move_on_after(BOUNDED_SECONDS):
                        await self._walk(walk)
                    self._walked.add(walk.content.content_id)
        except Exception as error:  # no process, no thread, or a defect: a walk is no reader's concern
            log.info("a file's structure is not read ahead", object=str(walk.content.source), reason=repr(error))
            self._walked.add(walk.content.content_id)
        finally:
            del self._under_way[walk.content.content_id]
        with suppress(RuntimeError):  # no thread to be had
            end = partial(self._walker.end, walk.number)
            await trio.to_thread.run_sync(end, abandon_on_cancel=True, limiter=self._threads)

    async def _walk(self, walk: _Walk) -> None:
        outstanding: Set[int] = frozenset()
        while self._verdicts.bad(walk.content) is None:
            here, step = await self._go_on(walk, outstanding)
            if step.is_over:
                return
            walk.led_to |= step.wave
            outstanding = (outstanding - here) | step.wave
            if not here and not step.wave and not await self._bring(walk, outstanding):
                return

    async def _go_on(self, walk: _Walk, outstanding: Set[int]) -> tuple[Set[int], Step]:
        """Have it go on with those of its blocks that are here. Returns their numbers, too."""
        blocks = {index: self._source.in_memory(walk.content, index) for index in sorted(outstanding)}
        step = partial(self._step, walk, blocks)
        return await trio.to_thread.run_sync(step, abandon_on_cancel=True, limiter=self._threads)

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

    async def _bring(self, walk: _Walk, outstanding: Set[int]) -> bool:
        """Have blocks come, once a program follows the structure; until then, wait. False: they do not come."""
        if not walk.is_followed:
            await walk.noted.wait()
            walk.noted = trio.Event()
            return True
        lacking = sorted(outstanding - walk.fetched)
        if not lacking:
            return False
        self._metrics.walks += not walk.fetched
        self._metrics.walked_blocks += sum(not self._source.is_coming(walk.content, index) for index in lacking)
        walk.fetched.update(lacking)
        self._source.prefetch(walk.content, lacking)
        for index in lacking:
            await self._source.settled(walk.content, index)
        return True

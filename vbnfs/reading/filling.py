"""Contents, or portions of them, brought to the disk one after the other, as fast as the connections go.

Readers go first. Several contents are under way at a time, so that small ones and the ends of large ones leave no
connection idle. What comes is on the disk when it is reported, or the disk did not take it. A content that cannot be
had is passed over: its verification finds out why.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog
import trio

from vbnfs.blocks import Portion
from vbnfs.cache.block_cache import BlockCache
from vbnfs.errors import StorageError
from vbnfs.objects import Content
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.planner import LONG_GET_BLOCKS

log = structlog.get_logger()

_AHEAD_BLOCKS: Final = 8 * LONG_GET_BLOCKS  # that are asked for at a time, of all contents together


class Filler:
    """Fills `cache` from `source`.

    `on_came` is called with how many bytes have come, `on_filled` with the content of each portion when that is here
    or given up.
    """

    def __init__(
        self,
        cache: BlockCache,
        source: BlockSource,
        *,
        on_came: Callable[[int], None] = lambda count_bytes: None,
        on_filled: Callable[[Content], None] = lambda content: None,
    ) -> None:
        self._cache = cache
        self._source = source
        self._on_came, self._on_filled = on_came, on_filled
        self._room = trio.Semaphore(_AHEAD_BLOCKS // LONG_GET_BLOCKS)

    async def fill(self, portions: Iterable[Portion]) -> None:
        """Bring what is missing of all of them. Returns when all that can be had has come.

        Files that another process has condemned or evicted count as missing, though this one has them open.
        """
        await trio.to_thread.run_sync(self._cache.forget_deleted, abandon_on_cancel=True)
        async with trio.open_nursery() as nursery:
            for portion in portions:
                content, indices = portion.content, portion.blocks
                stretches = [indices[at : at + LONG_GET_BLOCKS] for at in range(0, len(indices), LONG_GET_BLOCKS)]
                one = _Filling(content, len(stretches))
                for stretch in stretches:
                    await self._room.acquire()
                    nursery.start_soon(self._bring, one, stretch)
                nursery.start_soon(self._end, one)

    async def _bring(self, one: "_Filling", stretch: Sequence[int]) -> None:
        try:
            if not one.has_failed:
                await self._fetch(one.content, stretch)
        except StorageError as error:
            one.has_failed = True
            log.info("a file cannot be filled now", object=str(one.content.source), reason=str(error))
        finally:
            self._room.release()
            one.note_end()

    async def _fetch(self, content: Content, stretch: Sequence[int]) -> None:
        """The disk is asked what it lacks just before that is fetched: others may have brought it."""
        missing = await trio.to_thread.run_sync(self._cache.missing, content, stretch, abandon_on_cancel=True)
        if missing:
            await self._source.fetch(content, missing, on_came=self._on_came)

    async def _end(self, one: "_Filling") -> None:
        await one.has_ended.wait()
        await self._source.writer.written(one.content)
        self._on_filled(one.content)


class _Filling:
    """A content that is being filled, in so many stretches."""

    def __init__(self, content: Content, stretches: int) -> None:
        self.content = content
        self.has_failed = False
        self.has_ended = trio.Event()
        self._left = stretches
        self._check_end()

    def note_end(self) -> None:
        """One of its stretches has come, or will not come."""
        self._left -= 1
        self._check_end()

    def _check_end(self) -> None:
        if not self._left:
            self.has_ended.set()

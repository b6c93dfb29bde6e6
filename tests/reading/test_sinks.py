"""Which GETs are stored as they come, and that there is room on the disk before they begin."""

import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.eviction import Evictor
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content, ObjectVersion
from vbnfs.reading import storing
from vbnfs.reading.storing import Sinks

GIB = 1 << 30
BLOCKS = 8
LENGTH = BLOCKS * BLOCK_BYTES
DATA = bytes(range(256)) * (LENGTH // 256)
CONTENT = Content("ab12", LENGTH, ObjectVersion("key", "v1"))
WHOLE = ByteRange(0, LENGTH)


class Floor:
    """Sinks over a cache of `limit_bytes`."""

    def __init__(self, directory: Path, *, limit_bytes: int = GIB) -> None:
        self.directory = directory
        self.cache = BlockCache(directory, scope="test", metrics=Metrics())
        self.evictor = Evictor(directory, limit_bytes=limit_bytes, metrics=Metrics())
        self.sinks = Sinks(self.cache, self.evictor)

    @property
    def announced_bytes(self) -> int:
        """What is to be written, as far as the evictor knows: nothing is there yet."""
        return self.evictor.usage_bytes

    async def is_stored(self, byte_range: ByteRange = WHOLE, *, kept_in: BlockCache | None = None) -> bool:
        async with self.sinks.of(CONTENT, byte_range, kept_in=kept_in, digests=None) as sink:
            return sink is not None


async def test_short_gets_come_through_memory(tmp_path: Path) -> None:
    """A reader waits for them; from a MiB on they are stored as they come."""
    floor = Floor(tmp_path)
    assert not await floor.is_stored(ByteRange(0, 4 * BLOCK_BYTES - 1))
    assert await floor.is_stored(ByteRange(3 * BLOCK_BYTES, 7 * BLOCK_BYTES))


async def test_a_cache_with_little_room_gets_all_through_memory(tmp_path: Path) -> None:
    """Less than 256 MiB until something in use is deleted, which is half of the limit before the first scan."""
    assert not await Floor(tmp_path, limit_bytes=GIB // 2 - 2).is_stored()


async def test_a_disk_that_failed_gets_all_through_memory(tmp_path: Path) -> None:
    """Until it takes blocks again. What counts is the cache to which the blocks come."""
    floor = Floor(tmp_path)
    other = BlockCache(tmp_path, scope="mirror", metrics=Metrics())
    floor.cache.failure = OSError("full")
    assert not await floor.is_stored()
    assert await floor.is_stored(kept_in=other)
    floor.cache.failure, other.failure = None, OSError("full")
    assert await floor.is_stored()
    assert not await floor.is_stored(kept_in=other)


async def test_blocks_go_where_they_are_to_be_kept(tmp_path: Path) -> None:
    """What comes from a mirror, and nothing has proven, is kept in a scope of its own."""
    floor, other = Floor(tmp_path), BlockCache(tmp_path, scope="mirror", metrics=Metrics())
    async with floor.sinks.of(CONTENT, WHOLE, kept_in=other, digests=None) as sink:
        assert sink is not None
        assert sink.store(0, [DATA])
    assert floor.cache.missing(CONTENT, range(BLOCKS)) == list(range(BLOCKS))
    assert other.missing(CONTENT, range(BLOCKS)) == []


@pytest.mark.parametrize("stored_blocks", [0, 3, BLOCKS])
@pytest.mark.parametrize("is_broken", [False, True])
async def test_room_that_was_not_used_is_given_back(tmp_path: Path, stored_blocks: int, is_broken: bool) -> None:
    """All of it is announced before the GET begins, and what came to the disk stays so, however the GET ends."""
    floor = Floor(tmp_path)
    with pytest.raises(ZeroDivisionError) if is_broken else trio.CancelScope():
        async with floor.sinks.of(CONTENT, WHOLE, kept_in=None, digests=None) as sink:
            assert floor.announced_bytes == LENGTH
            assert sink is not None
            if stored_blocks:
                assert sink.store(0, [DATA[: stored_blocks * BLOCK_BYTES]])
            if is_broken:
                raise ZeroDivisionError
    assert floor.announced_bytes == stored_blocks * BLOCK_BYTES


async def test_what_comes_twice_is_counted_once(tmp_path: Path) -> None:
    """A range that is asked for a second time, since the first one stalled, may bring blocks that are stored."""
    floor = Floor(tmp_path)
    async with floor.sinks.of(CONTENT, WHOLE, kept_in=None, digests=None) as sink:
        assert sink is not None
        assert sink.store(0, [DATA[: 3 * BLOCK_BYTES]])
        assert sink.store(BLOCK_BYTES, [DATA[BLOCK_BYTES:]])
        sink.note_stored(0, 2 * BLOCK_BYTES)
    assert floor.announced_bytes == LENGTH


async def test_without_room_it_comes_through_memory(tmp_path: Path) -> None:
    """The disk has less free than the reserve: nothing is stored, and nothing stays announced."""
    floor = Floor(tmp_path)
    floor.evictor = Evictor(tmp_path, limit_bytes=GIB, metrics=Metrics(), reserve_bytes=1 << 60)
    floor.sinks = Sinks(floor.cache, floor.evictor)
    assert not await floor.is_stored()
    assert floor.announced_bytes == 0


async def test_without_a_thread_it_comes_through_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that can have no more threads reads as ever."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    floor = Floor(tmp_path)
    monkeypatch.setattr("trio._threads.start_thread_soon", refuse)
    assert not await floor.is_stored()
    assert floor.announced_bytes == 0


async def test_a_disk_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """One second for the first GET; those that come then have no sink at once, until some seconds have gone by.

    Threads that hang are few, however long it lasts.
    """
    floor, goes_on, waiting = Floor(tmp_path), threading.Event(), list[int]()
    make_room = floor.evictor.make_room

    def hang(count_bytes: int) -> bool:
        waiting.append(count_bytes)
        goes_on.wait(30)
        return make_room(count_bytes)

    monkeypatch.setattr(floor.evictor, "make_room", hang)
    autojump_clock.autojump_threshold = 0.01  # threads that hang do not count as something that goes on
    try:
        began = trio.current_time()
        assert not await floor.is_stored()
        assert trio.current_time() - began == pytest.approx(storing._PATIENCE_SECONDS, abs=0.1)
        before = trio.current_time()
        assert not await floor.is_stored()
        assert trio.current_time() == before
        for _ in range(2 * storing._THREADS):
            await trio.sleep(storing._REST_SECONDS)
            assert not await floor.is_stored()
        assert len(waiting) == storing._THREADS
    finally:
        goes_on.set()
    monkeypatch.undo()
    for _ in range(1000):  # the threads end, soon
        await trio.sleep(storing._REST_SECONDS)
        if await floor.is_stored():
            return
    pytest.fail("the disk answers, and gets nothing")

"""Whole contents, because a person asked for them: all of them come, once, behind readers and prefetches."""

import random
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.reading.bench import Bench, bench
from vbnfs.blocks import BLOCK_BYTES, Portion
from vbnfs.errors import TransportError
from vbnfs.objects import Content
from vbnfs.reading import block_source
from vbnfs.reading.filling import Filler

DATA = random.Random(6).randbytes(70 * BLOCK_BYTES + 5)


class Filled:
    """Fills, and notes what is said of it."""

    def __init__(self, floor: Bench) -> None:
        self.came_bytes = 0
        self.contents: list[Content] = []
        self._floor = floor

    async def fill(self, *contents: Content) -> None:
        await self.fill_portions(*map(Portion.whole, contents))

    async def fill_portions(self, *portions: Portion) -> None:
        def on_came(count_bytes: int) -> None:
            self.came_bytes += count_bytes

        await Filler(self._floor.cache, self._floor.source, on_came=on_came, on_filled=self.contents.append).fill(
            portions
        )


async def test_all_of_it_comes_once(tmp_path: Path) -> None:
    """Large and small ones, an empty one, one that is here in part: each is on the disk when it is said to be."""
    async with bench(tmp_path) as floor:
        large, small = floor.add("a", DATA), [floor.add(f"b{n}", DATA[: 1000 + n]) for n in range(30)]
        empty = floor.add("c", b"")
        await floor.source.get(large, [3, 64])
        await floor.settled()
        before, filled = sum(map(len, floor.client.ranges())), Filled(floor)
        await filled.fill(large, *small, empty)
        assert {one.content_id for one in filled.contents} == {one.content_id for one in (large, empty, *small)}
        assert all(floor.cache.cached_bytes(one) == one.size_bytes for one in filled.contents)
        came_bytes = sum(map(len, floor.client.ranges())) - before
        assert filled.came_bytes == came_bytes == sum(one.size_bytes for one in (large, *small)) - 2 * BLOCK_BYTES
        await filled.fill(large, *small)  # which are here
        assert sum(map(len, floor.client.ranges())) == before + came_bytes


async def test_just_a_portion_of_it_comes(tmp_path: Path) -> None:
    """Of some files certain blocks, far apart and the short last one, and of others all; no other block comes."""
    async with bench(tmp_path) as floor:
        part, whole = floor.add("a", DATA), floor.add("b", DATA[:1000])
        await floor.source.get(part, [3])
        await floor.settled()
        before, filled = sum(map(len, floor.client.ranges())), Filled(floor)
        portion = Portion(part, [0, 3, 40, 41, 70])
        assert (portion.count_bytes, portion.is_whole) == (4 * BLOCK_BYTES + 5, False)
        await filled.fill_portions(portion, Portion.whole(whole))
        assert {one.content_id for one in filled.contents} == {part.content_id, whole.content_id}
        assert floor.cache.missing(part, range(71)) == [one for one in range(71) if one not in portion.blocks]
        assert floor.cache.cached_bytes(whole) == whole.size_bytes == Portion.whole(whole).count_bytes
        assert filled.came_bytes == sum(map(len, floor.client.ranges())) - before == 3 * BLOCK_BYTES + 5 + 1000


async def test_what_cannot_be_had_is_passed_over(tmp_path: Path) -> None:
    """The others come; the one is reported like them, without all of its bytes."""
    async with bench(tmp_path) as floor:
        bad, good = floor.add("a", DATA), floor.add("b", DATA)
        floor.client.fail_when(lambda request: TransportError("no") if request.name == "a" else None)
        filled = Filled(floor)
        await filled.fill(bad, good)
        assert sorted(one.content_id for one in filled.contents) == sorted([bad.content_id, good.content_id])
        assert floor.cache.cached_bytes(good) == good.size_bytes
        assert floor.cache.cached_bytes(bad) == 0


async def test_readers_and_prefetches_go_first(tmp_path: Path) -> None:
    """While it waits for connections, a reader's block is asked for at once, and what was advised before its rest."""
    async with bench(tmp_path, prefetch_gets=2, gets=2) as floor:
        filling, read = floor.add("a", DATA), floor.add("b", DATA)
        gate = floor.client.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Filled(floor).fill, filling)
            await gate.wait_arrived(2)
            floor.source.prefetch(read, [40])
            nursery.start_soon(floor.source.get, read, [10])
            await gate.wait_arrived(3)
            gate.open()
        await floor.settled()
        names = [request.name for request in floor.client.requests]
        assert names[:4] == ["a", "a", "b", "b"]
        assert floor.cache.missing(read, [10, 40]) == []


async def test_beside_readers_it_takes_a_quarter_of_the_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as readers wait for S3, and some seconds after; then it takes all that prefetches may."""
    async with bench(tmp_path, prefetch_gets=8, gets=9) as floor:
        filling, read = floor.add("a", DATA), floor.add("b", DATA)
        await floor.source.get(read, [0])
        gate = floor.client.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Filled(floor).fill, filling)
            await gate.wait_arrived(2)
            await trio.testing.wait_all_tasks_blocked()
            assert floor.client.in_flight == 2
            monkeypatch.setattr(block_source, "_READERS_SECONDS", -1.0)
            gate.open()
        assert floor.client.most_in_flight > 2


async def test_an_end_meanwhile(tmp_path: Path) -> None:
    """What no GET has begun to bring is not fetched any more; it can be asked for again, and then it comes."""
    async with bench(tmp_path, prefetch_gets=2, gets=2) as floor:
        content, gate = floor.add("a", DATA), floor.client.hold()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Filled(floor).fill, content)
                await gate.wait_arrived(2)
                scope.cancel()
        gate.open()
        await floor.settled()
        begun = floor.client.count()
        assert begun <= 3
        filled = Filled(floor)
        await filled.fill(content)
        assert floor.cache.cached_bytes(content) == content.size_bytes
        assert sum(map(len, floor.client.ranges())) == content.size_bytes

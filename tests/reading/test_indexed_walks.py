"""Walks of files that the structure index has, and what walks leave in it: real blocks, and a real process."""

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.fakes.client import Gate
from tests.reading.bench import Bench, bench
from tests.reading.test_walks import (
    DATA,
    ELSEWHERE,
    NO_STRUCTURE,
    PATIENCE_SECONDS,
    STRUCTURE,
    WALKED,
    ended,
    fetched,
    read,
)
from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.sets import Imported
from vbnfs.cache.structure_sets import StructureSet
from vbnfs.objects import Content
from vbnfs.reading.planner import tail_of

HASH = hashlib.blake2b(DATA).hexdigest()
NEAREST = tuple(sorted(WALKED.waves[1]))
WHOLE = StructureSet(HASH, len(DATA), tuple(sorted(STRUCTURE)), NEAREST, is_whole=True)
WRONG = StructureSet(
    HASH,
    len(DATA),
    tuple(sorted((0, ELSEWHERE, NO_STRUCTURE))),
    tuple(sorted((ELSEWHERE, NO_STRUCTURE))),
    is_whole=True,
)


def put(floor: Bench, data: bytes = DATA) -> Content:
    return floor.add("a", data, file_hash=hashlib.blake2b(data).hexdigest())


def check_whole(floor: Bench) -> None:
    """The index has all of the structure, and little besides: what programs read along."""
    found = floor.index.of_nowait(put(floor))
    assert found is not None
    assert (found.nearest, found.is_whole) == (NEAREST, True)
    assert set(found.blocks) >= STRUCTURE
    assert all({number, number - 1} & STRUCTURE for number in found.blocks)


async def test_what_was_walked_is_recorded(tmp_path: Path) -> None:
    """A walk to its end is recorded as all; then all of it comes at once, with what the program waits for."""
    async with bench(tmp_path / "one") as floor:
        await read(floor.open(put(floor)), 0, ELSEWHERE)
        await ended(floor)
        check_whole(floor)
    async with bench(tmp_path / "two", prefetch_gets=40) as floor:
        floor.index.record(WHOLE)
        content = put(floor)
        gate = floor.client.hold(lambda request: request.name == "a" and request.byte_range.start > 0)
        async with trio.open_nursery() as readers:
            readers.start_soon(read, floor.open(content), 0, ELSEWHERE)
            with trio.fail_after(PATIENCE_SECONDS):
                while fetching(gate) < STRUCTURE - {0}:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            gate.open()
        await ended(floor)
        assert fetched(floor, content) == STRUCTURE
        assert floor.metrics.index_waves == 1
        assert 0 < floor.metrics.indexed_blocks <= len(STRUCTURE)
        assert floor.metrics.walks == 0
        await read(floor.open(content), 0, ELSEWHERE)
        assert floor.metrics.index_waves == 1


def fetching(gate: Gate) -> set[int]:
    """The blocks that were asked for and wait at a gate."""
    ranges = [request.byte_range for request in gate.arrived if request.byte_range is not None]
    return {index for each in ranges for index in blocks_of(each)}


async def test_what_takes_samples_has_no_index_followed(tmp_path: Path) -> None:
    """The beginning, a block of the structure further on, and the end of a file have nothing more fetched."""
    async with bench(tmp_path) as floor:
        floor.index.record(WHOLE)
        content = put(floor)
        reader = floor.open(content)
        sampled = max(STRUCTURE - set(NEAREST))
        await read(reader, 0, sampled)
        size = len(DATA)
        assert bytes(await reader.read(size - 4096, 4096)) == DATA[size - 4096 :]
        reader.close()
        await ended(floor)
        assert floor.metrics.index_waves == 0
        assert fetched(floor, content) <= {0, sampled - 1, sampled, sampled + 1, *tail_of(size)}


@pytest.mark.parametrize("follows", [True, False])
async def test_reading_ahead_ends_with_the_structure(tmp_path: Path, *, follows: bool) -> None:
    """Blocks of the structure that stand in a row have nothing behind them fetched, for a program that follows it.

    Whether it reads on is known as soon as it does. One that reads the file in a row is read ahead all the time.
    """
    data = DATA[: ELSEWHERE * BLOCK_BYTES].ljust(96 * BLOCK_BYTES, b".")  # which cannot be walked to its end
    cluster, behind = range(40, 48), set(range(48, 94))
    known = StructureSet(hashlib.blake2b(data).hexdigest(), len(data), (0, ELSEWHERE, *cluster), (ELSEWHERE,))
    async with bench(tmp_path) as floor:
        floor.index.record(known)
        content = put(floor, data)
        reader = floor.open(content)
        await read(reader, 0, *[ELSEWHERE] * follows, data=data)
        await ended(floor)
        await read(reader, *cluster, data=data, count_bytes=BLOCK_BYTES)
        await ended(floor)
        assert bool(fetched(floor, content) & behind) is not follows
        await read(reader, *range(48, 56), data=data, count_bytes=BLOCK_BYTES)  # as the kernel may by itself
        await ended(floor)
        assert bool(fetched(floor, content) & set(range(56, 94))) is not follows
        await read(reader, 56, data=data, count_bytes=BLOCK_BYTES)
        await ended(floor)
        assert fetched(floor, content) >= {57, 58, 59, 60}


async def test_what_readers_lacked_is_recorded(tmp_path: Path) -> None:
    """Of a file that cannot be walked to its end, what readers lacked is recorded, too."""
    damaged = DATA[: ELSEWHERE * BLOCK_BYTES] + bytes(BLOCK_BYTES) + DATA[(ELSEWHERE + 1) * BLOCK_BYTES :]
    async with bench(tmp_path) as floor:
        content = put(floor, damaged)
        reader = floor.open(content)
        await read(reader, 0, ELSEWHERE, 1, data=damaged)
        await ended(floor)
        found = floor.index.proven(str(content.file_hash))
        assert found is not None
        assert not found.is_whole
        assert {0, 1, ELSEWHERE} <= set(found.blocks)


async def test_a_claim_is_replaced_by_what_is_walked(tmp_path: Path) -> None:
    """What others say comes at once; then the file is walked, and what that finds is recorded."""
    async with bench(tmp_path) as floor:
        assert floor.index.take_in(WRONG) is Imported.NEW
        content = put(floor)
        await read(floor.open(content), 0, ELSEWHERE)
        await ended(floor)
        assert fetched(floor, content) == STRUCTURE | {NO_STRUCTURE}
        assert floor.metrics.index_waves == 1
        check_whole(floor)
        assert floor.index.proven(HASH) == floor.index.of_nowait(content)


async def test_a_hostile_index_costs_some_blocks(tmp_path: Path) -> None:
    """Its blocks of the file that is read come; readers get the bytes that there are, also behind such a wave."""
    long = DATA + bytes(100 * BLOCK_BYTES)
    hostile = StructureSet(hashlib.blake2b(long).hexdigest(), len(long), tuple(range(20, 76)), (30,), is_whole=True)
    other = StructureSet(HASH, len(DATA) + 1, (0, 1), is_whole=True)  # another content's, by its size
    async with bench(tmp_path) as floor:
        floor.index.hand_in("given", hostile.encode() + other.encode() + b"\xff" * 1000)
        content = put(floor, long)
        assert floor.index.of(floor.add("b", DATA, file_hash=HASH)) is None
        reader = floor.open(content)
        await read(reader, 0, 30, *range(0, 110, 9), ELSEWHERE, data=long)
        reader.close()
        await ended(floor)
        assert floor.metrics.indexed_blocks <= 56
        assert set(hostile.blocks) <= fetched(floor, content)


async def test_a_file_without_structure_is_not_walked(tmp_path: Path) -> None:
    """A file that is known to be no HDF5 has no walk, and no process."""
    data = b"no HDF5".ljust(len(DATA), b".")
    async with bench(tmp_path) as floor:
        content = put(floor, data)
        floor.index.record(StructureSet(str(content.file_hash), len(data), (), is_whole=True))
        await read(floor.open(content), 0, ELSEWHERE, data=data)
        await ended(floor)
        assert fetched(floor, content) == {0, ELSEWHERE}
        assert floor.walks.process is None


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_disk_that_fails_ends_no_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, hangs: bool
) -> None:
    """Which blocks of an index are here cannot be found out: readers go on, and the mount's end does not wait."""
    asked, goes_on = threading.Event(), threading.Event()

    missing_at_other_times = BlockCache.missing

    def missing(cache: BlockCache, content: Content, indices: Sequence[int]) -> list[int]:
        if indices != WHOLE.blocks:
            return missing_at_other_times(cache, content, indices)
        asked.set()
        if hangs:
            goes_on.wait(PATIENCE_SECONDS)
        raise OSError("the disk failed")

    async with bench(tmp_path) as floor:
        monkeypatch.setattr(BlockCache, "missing", missing)
        floor.index.record(WHOLE)
        reader = floor.open(put(floor))
        with trio.fail_after(PATIENCE_SECONDS / 2):
            await read(reader, 0, ELSEWHERE)
            while not asked.is_set():
                await trio.testing.wait_all_tasks_blocked(0.01)
            await read(reader, *STRUCTURE)
        assert floor.metrics.index_waves == 0
        reader.close()
        ending = trio.current_time()
    assert trio.current_time() - ending < PATIENCE_SECONDS / 2
    goes_on.set()

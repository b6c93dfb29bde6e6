"""One open file: the right bytes, and each of them fetched once."""

import mmap
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import trio

from tests.fakes.client import MemoryClient
from tests.fakes.store import MemoryStore, Pattern
from tests.reading.bench import KIB, MIB, bench
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.content_folder import DATA as DATA_FILE
from vbnfs.cache.content_folder import FORMAT
from vbnfs.errors import TransportError
from vbnfs.objects import ByteRange
from vbnfs.reading.file_reader import FileReader

DATA = random.Random(8).randbytes(10 * MIB + 3)
STEP = 128 * KIB
SIZES = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * MIB, 10 * MIB + 3]


def sequential(size: int, *, step: int = STEP) -> list[int]:
    return list(range(0, size, step))


def in_swapped_pairs(size: int) -> list[int]:
    """As the kernel's readahead may arrive: each second request before the first."""
    offsets = sequential(size)
    return [at for start in range(0, len(offsets), 2) for at in reversed(offsets[start : start + 2])]


async def check(reader: FileReader, data: bytes, offsets: Iterable[int], *, step: int = STEP) -> None:
    for offset in offsets:
        assert await reader.read(offset, step) == data[offset : offset + step]


def spoil_directory(tmp_path: Path) -> None:
    """A cache directory that takes nothing."""
    (tmp_path / FORMAT).touch()


def allocated(path: Path) -> int:
    """What a file takes on the disk; nothing, if it is being evicted at this moment."""
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


# Each byte once


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", [sequential, in_swapped_pairs])
async def test_a_file_read_to_its_end_is_fetched_exactly_once(
    tmp_path: Path, size: int, order: Callable[[int], list[int]]
) -> None:
    """In 128 KiB requests, in order or nearly: as many bytes travel as the file has, and none beyond."""
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA[:size])
        await check(floor.open(content), DATA[:size], order(size))
        await floor.settled()
        assert floor.client.sent_bytes == size
        assert floor.cache.cached_bytes(content) == size


@pytest.mark.parametrize("step", [4 * KIB, MIB, 3 * MIB + 1])
async def test_other_request_sizes_fetch_each_byte_once_too(tmp_path: Path, step: int) -> None:
    """Small ones, large ones, and odd ones."""
    async with bench(tmp_path) as floor:
        await check(floor.open(floor.add("a", DATA)), DATA, sequential(len(DATA), step=step), step=step)
        await floor.settled()
        assert floor.client.sent_bytes == len(DATA)


async def test_a_reader_that_tells_nothing(tmp_path: Path) -> None:
    """Of a handle whose reads say nothing about the next ones, nothing is fetched ahead, in order as it may be."""
    async with bench(tmp_path) as floor:
        reader = floor.open(floor.add("a", DATA), advises=False)
        await check(reader, DATA, sequential(3 * MIB, step=BLOCK_BYTES), step=BLOCK_BYTES)
        await floor.settled()
        assert floor.client.sent_bytes == 3 * MIB


async def test_readers_side_by_side_fetch_each_byte_once(tmp_path: Path) -> None:
    """Five handles on one file, at the same time: none of them fetches what another has."""
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        async with trio.open_nursery() as readers:
            for _ in range(5):
                readers.start_soon(check, floor.open(content), DATA, sequential(len(DATA)))
        await floor.settled()
        assert floor.client.sent_bytes == len(DATA)


async def test_a_disk_that_takes_nothing_still_serves_and_fetches_nothing_twice(tmp_path: Path) -> None:
    """Two requests of 128 KiB share a block, and what was fetched ahead is still in memory when it is read."""
    spoil_directory(tmp_path)
    async with bench(tmp_path) as floor:
        await check(floor.open(floor.add("a", DATA)), DATA, sequential(len(DATA)))
        await floor.settled()
        assert floor.client.sent_bytes == len(DATA)
        assert floor.metrics.cache_write_errors > 0


async def test_what_the_disk_did_not_take_is_kept_when_it_can_be(tmp_path: Path) -> None:
    """Offered again, one by one until one is refused; all of it when there is room, and no byte is fetched again."""
    spoil_directory(tmp_path)
    async with bench(tmp_path) as floor:
        content, gone = floor.add("a", DATA), floor.add("b", DATA)
        for one in (content, gone):
            await check(floor.open(one), DATA, sequential(len(DATA)))
        await floor.settled()
        floor.source.forget(gone.content_id)
        before = floor.metrics.cache_write_errors
        await floor.source.writer.keep_again()
        assert floor.metrics.cache_write_errors == before + 1
        (tmp_path / FORMAT).unlink()
        await floor.source.writer.keep_again()
        assert floor.cache.cached_bytes(content) == len(DATA)
        assert floor.cache.cached_bytes(gone) == 0
        assert floor.client.sent_bytes == 2 * len(DATA)
        before = floor.metrics.kept_bytes
        await floor.source.writer.keep_again()
        assert floor.metrics.kept_bytes == before


async def test_a_long_file_from_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    """64 MiB, more than memory keeps: fetching ahead stays within what memory keeps."""
    spoil_directory(tmp_path)
    data = random.Random(9).randbytes(64 * MIB)
    async with bench(tmp_path) as floor:
        await check(floor.open(floor.add("a", data)), data, sequential(len(data)))
        await floor.settled()
        assert floor.client.sent_bytes == len(data)


async def test_a_file_larger_than_the_cache_is_fetched_once_and_the_limit_is_kept(tmp_path: Path) -> None:
    """48 MiB through a cache of 8 MiB: it is deleted and begun anew again and again, unread bytes are not."""
    data = random.Random(10).randbytes(48 * MIB)
    async with bench(tmp_path, limit_bytes=8 * MIB) as floor:
        reader = floor.open(floor.add("a", data))
        for offset in sequential(len(data)):
            assert await reader.read(offset, STEP) == data[offset : offset + STEP]
            assert allocated(tmp_path / FORMAT / "test" / "partial" / "a" / "a" / DATA_FILE) <= 8 * MIB * 1.05
        await floor.settled()
        assert floor.client.sent_bytes == len(data)
        assert floor.metrics.evicted_contents > 4


@pytest.mark.parametrize("memory_bytes", [16 * MIB, 64 * MIB, 256 * MIB])
@pytest.mark.parametrize(
    ("limit_bytes", "readers"), [(4 * MIB, 1), (16 * MIB, 1), (40 * MIB, 1), (100 * MIB, 1), (60 * MIB, 2)]
)
async def test_what_is_fetched_ahead_evicts_nothing_unread(
    tmp_path: Path, limit_bytes: int, readers: int, memory_bytes: int
) -> None:
    """120 MiB through caches of 4 to 100 MiB, by one or two readers, with much or little memory: each byte once."""
    data = random.Random(10).randbytes(MIB) * (120 // readers)
    async with bench(tmp_path, limit_bytes=limit_bytes, memory_bytes=memory_bytes, prefetch_gets=15) as floor:
        async with trio.open_nursery() as nursery:
            for name in "ab"[:readers]:
                nursery.start_soon(check, floor.open(floor.add(name, data)), data, sequential(len(data)))
        await floor.settled()
        assert floor.client.sent_bytes == 120 * MIB


# How much is fetched


async def test_a_reader_who_is_slower_than_the_network_has_few_gets(tmp_path: Path) -> None:
    """96 MiB, where all that is fetched ahead has come before each read: GETs grow with the window all the same."""
    async with bench(tmp_path, prefetch_gets=15) as floor:
        reader = floor.open(floor.add("a", bytes(96 * MIB)))
        for offset in range(0, 96 * MIB, MIB):
            await reader.read(offset, MIB)
            await floor.settled()
        assert floor.client.sent_bytes == 96 * MIB
        assert len(floor.client.ranges()) <= 90


async def test_random_small_reads_fetch_at_most_one_block_each(tmp_path: Path) -> None:
    """4 KiB at random, more than 1 MiB apart: no byte is fetched ahead."""
    order = random.Random(11)
    async with bench(tmp_path) as floor:
        content = floor.add("a", Pattern(400 * MIB))
        reader = floor.open(content)
        places = order.sample(range(0, 400 * MIB, 2 * MIB), 40)
        offsets = [place + order.randrange(MIB // 2 // (4 * KIB)) * 4 * KIB for place in places]
        for offset in offsets:
            assert await reader.read(offset, 4 * KIB) == Pattern(400 * MIB)[offset : offset + 4 * KIB]
        await floor.settled()
        assert floor.client.sent_bytes == len({offset // BLOCK_BYTES for offset in offsets}) * BLOCK_BYTES


async def test_a_read_near_an_earlier_one_brings_one_block_more_on_each_side(tmp_path: Path) -> None:
    """Within 1 MiB, where neither was there; and at once, so that adjacent blocks cost no round trip of their own."""
    async with bench(tmp_path) as floor:
        reader = floor.open(floor.add("a", DATA))
        await reader.read(20 * BLOCK_BYTES, 1)
        await floor.settled()
        assert floor.client.count() == 1
        gate = floor.client.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.read, 24 * BLOCK_BYTES, 1)
            await gate.wait_arrived(3)
            gate.open()
        await floor.settled()
        assert sorted(one.start // BLOCK_BYTES for one in floor.client.ranges()) == [20, 23, 24, 25]
        await reader.read(30 * BLOCK_BYTES, 1)
        await floor.settled()
        assert floor.client.count() == 5


async def test_requests_for_one_block_have_no_other_fetched(tmp_path: Path) -> None:
    """However many there are, one after the other or side by side: a block is not adjacent to itself."""
    async with bench(tmp_path) as floor:
        reader, place = floor.open(floor.add("a", DATA)), 20 * BLOCK_BYTES
        async with trio.open_nursery() as nursery:
            for offset in range(0, BLOCK_BYTES, 16 * KIB):
                nursery.start_soon(reader.read, place + offset, 16)
        await reader.read(place + 5, 16)
        await floor.settled()
        assert floor.client.ranges() == [ByteRange(place, place + BLOCK_BYTES)]


@pytest.mark.parametrize("offset", [-1, -BLOCK_BYTES - 1])
async def test_who_reads_at_the_end_of_a_file_has_the_two_parts_of_its_tail_at_once(
    tmp_path: Path, offset: int
) -> None:
    """What comes after the last whole block and that block, whichever was asked for: one round trip, not two."""
    async with bench(tmp_path) as floor:
        content, gate = floor.add("a", DATA), floor.client.hold()
        reader, end = floor.open(content), len(DATA)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.read, end + offset, 1)
            await gate.wait_arrived(2)
            gate.open()
        await floor.settled()
        last = end // BLOCK_BYTES
        assert sorted(one.start // BLOCK_BYTES for one in floor.client.ranges()) == [last - 1, last]


async def test_ten_seconds_of_one_lfp_channel_fetch_less_than_12_mb(tmp_path: Path) -> None:
    """12,500 samples of 4 bytes, 384 bytes apart, reach vbnfs as 4.8 MB in requests of 128 KiB."""
    async with bench(tmp_path) as floor:
        reader = floor.open(floor.add("a", bytes(64 * MIB)))
        for offset in sequential(4_800_000):
            await reader.read(offset, STEP)
        await floor.settled()
        assert 4_800_000 <= floor.client.sent_bytes <= 12_000_000


async def test_sequential_reading_is_fetched_ahead_with_many_gets_at_once(tmp_path: Path) -> None:
    """A reader that goes on finds connections busy for it, and never waits for a block at a time."""
    async with bench(tmp_path, prefetch_gets=8) as floor:
        data = bytes(64 * MIB)
        await check(floor.open(floor.add("a", data)), data, sequential(9 * MIB))
        await floor.settled()
        assert floor.client.sent_bytes > 32 * MIB
        assert floor.client.count() < 64


# Right bytes


async def test_reads_at_and_beyond_the_end(tmp_path: Path) -> None:
    """Fewer bytes at the end, none beyond it; and no request for none."""
    async with bench(tmp_path) as floor:
        reader = floor.open(floor.add("a", DATA))
        assert await reader.read(len(DATA), 10) == b""
        assert await reader.read(len(DATA) + MIB, 10) == b""
        assert await reader.read(5, 0) == b""
        assert floor.client.count() == 0
        assert await reader.read(len(DATA) - 3, 4096) == DATA[-3:]
        assert await reader.read(len(DATA) - MIB, 4 * MIB) == DATA[-MIB:]


async def test_cached_bytes_are_a_view_of_a_mapping(tmp_path: Path) -> None:
    """From the cache to the reply nothing is copied in Python."""
    async with bench(tmp_path) as floor:
        reader = floor.open(floor.add("a", DATA))
        await check(reader, DATA, sequential(len(DATA)))
        await floor.settled()
    async with bench(tmp_path, client=floor.client) as floor:
        reader = floor.open(floor.add("a", DATA))
        for _ in range(2):
            data = await reader.read(MIB + 5, STEP)
            assert isinstance(data, memoryview)
            assert isinstance(data.obj, mmap.mmap)
            assert data == DATA[MIB + 5 : MIB + 5 + STEP]


async def test_what_came_just_now_is_read_from_memory(tmp_path: Path) -> None:
    """Blocks that are in memory still are neither looked for on the disk nor checked again."""
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        reader = floor.open(content)
        await reader.read(0, STEP)
        await floor.settled()
        floor.cache.drop(content)
        assert reader.read_nowait(5, STEP - 5) == DATA[5:STEP]


async def test_a_range_partly_on_the_disk_fetches_only_the_rest(tmp_path: Path) -> None:
    """Blocks from disk and network are joined in order."""
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        for index in (21, 22, 24):
            floor.cache.put(content, index, DATA[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES])
        start = 20 * BLOCK_BYTES + 100
        assert await floor.open(content).read(start, 5 * BLOCK_BYTES) == DATA[start : start + 5 * BLOCK_BYTES]
        assert sorted(one.start // BLOCK_BYTES for one in floor.client.ranges()) == [20, 23, 25]
        assert floor.client.sent_bytes == 3 * BLOCK_BYTES


async def test_a_damaged_block_is_one_get_and_right_bytes(tmp_path: Path) -> None:
    """It is counted, fetched again, and whole afterwards."""
    client = MemoryClient(MemoryStore())
    async with bench(tmp_path, client=client) as floor:
        content = floor.add("a", DATA)
        await check(floor.open(content), DATA, sequential(len(DATA)))
    (path,) = tmp_path.rglob(DATA_FILE)
    with open(path, "r+b") as file:  # noqa: ASYNC230
        file.seek(5 * BLOCK_BYTES + 17)
        file.write(b"damage")
    for _ in range(2):
        before = client.count()
        async with bench(tmp_path, client=client) as floor:
            assert await floor.open(content).read(0, len(DATA)) == DATA
            await floor.settled()
            damaged = floor.metrics.corrupt_blocks
        assert (client.count() - before, damaged) in {(1, 1), (0, 0)}
    assert client.count() == before
    assert client.sent_bytes == len(DATA) + BLOCK_BYTES


async def test_a_restart_fetches_nothing_again(tmp_path: Path) -> None:
    """What was read once is read without a network."""
    client = MemoryClient(MemoryStore())
    async with bench(tmp_path, client=client) as floor:
        content = floor.add("a", DATA)
        await check(floor.open(content), DATA, sequential(len(DATA)))
    client.fail_when(lambda request: TransportError("offline"))
    async with bench(tmp_path, client=client) as floor:
        await check(floor.open(content), DATA, sequential(len(DATA)))


async def test_a_failure_is_raised_as_it_is_and_passes(tmp_path: Path) -> None:
    """Not in a group, not wrapped; the next read is answered."""
    async with bench(tmp_path) as floor:
        reader = floor.open(floor.add("a", DATA))
        floor.client.fail(TransportError("no route"))
        with pytest.raises(TransportError, match="no route"):
            await reader.read(0, 10)
        assert await reader.read(0, 10) == DATA[:10]


async def test_a_small_file_that_is_read_in_a_row_comes_whole(tmp_path: Path) -> None:
    """Of 10 MiB, once 512 KiB were read: all of the rest, in one GET for each connection."""
    async with bench(tmp_path, prefetch_gets=16) as floor:
        reader = floor.open(floor.add("a", DATA))
        await check(reader, DATA, [0], step=MIB // 2)
        await floor.settled()
        assert floor.client.sent_bytes == len(DATA)
        assert floor.client.count() <= 1 + 16


async def test_a_reader_never_waits_for_what_is_fetched_ahead(tmp_path: Path) -> None:
    """While readahead is stuck, the read that advised it and reads elsewhere are answered."""
    async with bench(tmp_path, prefetch_gets=1) as floor:
        reader = floor.open(floor.add("a", DATA + DATA))
        await check(reader, DATA, sequential(MIB // 2 - STEP))
        gate = floor.client.hold(
            lambda request: request.byte_range is not None and request.byte_range.start < 5 * MIB
        )
        last = MIB // 2 - STEP
        assert await reader.read(last, STEP) == DATA[last : last + STEP]
        await gate.wait_arrived()
        assert await reader.read(8 * MIB, 100) == DATA[8 * MIB : 8 * MIB + 100]
        gate.open()
        await floor.settled()

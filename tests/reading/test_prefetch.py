"""Advice becomes GETs for exactly what the disk lacks."""

import random
from pathlib import Path

from tests.reading.bench import bench
from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.errors import TransportError
from vbnfs.objects import ByteRange

DATA = random.Random(6).randbytes(12 * BLOCK_BYTES)


async def test_only_what_the_disk_lacks_is_fetched(tmp_path: Path) -> None:
    """Blocks that are there make holes in the plan; the ends of the range are whole blocks."""
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        for index in (2, 3, 7):
            floor.cache.put(content, index, DATA[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES])
        floor.prefetcher.advise(content, blocks_of(ByteRange(BLOCK_BYTES + 5, 9 * BLOCK_BYTES + 1)))
        await floor.settled()
        assert sorted(index for one in floor.client.ranges() for index in blocks_of(one)) == [1, 4, 5, 6, 8, 9]
        assert floor.cache.missing(content, range(12)) == [0, 10, 11]


async def test_advice_about_nothing_does_nothing(tmp_path: Path) -> None:
    """An empty range is no block."""
    async with bench(tmp_path) as floor:
        floor.prefetcher.advise(floor.add("a", DATA), blocks_of(ByteRange(5, 5)))
        await floor.settled()
        assert floor.client.count() == 0


async def test_a_failure_is_left_to_the_readers(tmp_path: Path) -> None:
    """Without a network, advice is lost, and nothing else."""
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        floor.client.fail(TransportError("offline"))
        floor.prefetcher.advise(content, blocks_of(ByteRange(0, BLOCK_BYTES)))
        await floor.settled()
        assert bytes(await floor.open(content).read(0, 100)) == DATA[:100]


async def test_what_a_reader_has_passed_meanwhile_is_not_fetched(tmp_path: Path) -> None:
    """Of ten blocks that were advised, the reader is at the sixth by the time that the disk has been asked."""
    async with bench(tmp_path) as floor:
        content = floor.add("a", bytes(10 * BLOCK_BYTES))
        floor.prefetcher.advise(
            content, blocks_of(ByteRange(0, content.size_bytes)), position=lambda: 5 * BLOCK_BYTES + 1
        )
        await floor.settled()
        assert floor.cache.missing(content, range(10)) == [0, 1, 2, 3, 4]

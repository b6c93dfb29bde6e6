"""What is fetched ahead of a program that reads an array of a real HDF5 file, whose arrays a walk has found."""

import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import trio

from tests.hdf5.running import Waves
from tests.reading.bench import KIB, MIB, Bench, bench
from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.objects import ByteRange, Content
from vbnfs.reading.file_reader import FileReader

ROWS = [0, 90_000, 90_010, 170_000, 200_000, 700_000]


def written() -> bytes:
    """A file with an LFP of 32 MiB, ragged spike times, a small array, and data behind each of these."""
    stream, random = io.BytesIO(), np.random.default_rng(17)
    with h5py.File(stream, "w") as file:
        for name, shape, kind in (
            ("lfp", (16 * MIB // 96, 96), "i2"),
            ("behind", (300_000,), "f8"),
            ("small", (110_000,), "f8"),
            ("units/spike_times", (ROWS[-1],), "f8"),
            ("last", (2_000_000,), "f8"),
        ):
            file[name] = random.integers(0, 100, shape).astype(kind)
        file["units/spike_times_index"] = np.array(ROWS, "<u4")
    return stream.getvalue()


DATA = written()
WALKED = Waves(DATA)
with h5py.File(io.BytesIO(DATA)) as _file:
    PLACES = {
        name: ByteRange(at := _file[name].id.get_offset(), at + _file[name].nbytes)
        for name in ("lfp", "behind", "small", "units/spike_times", "units/spike_times_index", "last")
    }
LFP, SPIKES, INDEX = PLACES["lfp"], PLACES["units/spike_times"], PLACES["units/spike_times_index"]


@asynccontextmanager
async def walked(tmp_path: Path) -> AsyncIterator[tuple[Bench, Content, FileReader]]:
    """A reader of that file, when a walk has found its arrays."""
    async with bench(tmp_path, prefetch_gets=12) as floor:
        content = floor.add("a", DATA)
        first = floor.open(content)
        for index in sorted(WALKED.structure.blocks):
            await first.read(index * BLOCK_BYTES, 10)
        await floor.settled()
        first.close()
        assert floor.walks.array_at(content, LFP.start) is not None
        reader = floor.open(content)
        yield floor, content, reader
        reader.close()


async def read(reader: FileReader, *ranges: ByteRange) -> None:
    for each in ranges:
        assert bytes(await reader.read(each.start, len(each))) == DATA[each.start : each.stop]


def lacking(floor: Bench, content: Content, part: ByteRange) -> list[int]:
    return floor.cache.missing(content, blocks_of(part))


def of_the_kernel(start: int, stop: int) -> Iterator[ByteRange]:
    """What the kernel asks for when a program reads some bytes of each row."""
    at, pages = start // 4096 * 4096, 1
    while at < stop:
        yield ByteRange(at, at + pages * 4096)
        at, pages = at + pages * 4096, min(32, pages * 4 if pages == 1 else pages * 2)


def in_a_row(part: ByteRange, step: int = 128 * KIB) -> Iterator[ByteRange]:
    return (ByteRange(at, min(at + step, part.stop)) for at in range(part.start, part.stop, step))


@pytest.mark.parametrize("name", ["lfp", "units/spike_times"])
async def test_readahead_ends_with_the_array(tmp_path: Path, name: str) -> None:
    """All of an array is read in a row: it comes once, and of the next array only what lies in its last block."""
    async with walked(tmp_path) as (floor, content, reader):
        part = PLACES[name]
        await read(reader, *in_a_row(part))
        await floor.settled()
        behind = (blocks_of(part)[-1] + 1) * BLOCK_BYTES
        assert lacking(floor, content, part) == []
        assert len(lacking(floor, content, ByteRange(behind, behind + MIB))) == 4
        asked = [index for each in floor.client.ranges() for index in blocks_of(each)]
        assert len(asked) == len(set(asked))


async def test_a_program_that_reads_the_file_is_read_ahead_through_all_of_it(tmp_path: Path) -> None:
    """Where arrays end is no end for a program that came from far before them."""
    async with walked(tmp_path) as (floor, content, reader):
        await read(reader, *in_a_row(ByteRange(0, PLACES["behind"].start + MIB)))
        await floor.settled()
        assert lacking(floor, content, ByteRange(0, SPIKES.start + 4 * MIB)) == []
        await read(reader, *in_a_row(ByteRange(PLACES["behind"].start + MIB, len(DATA))))
        await floor.settled()
        assert floor.cache.cached_bytes(content) == len(DATA)


async def test_one_column_of_rows_comes_in_two_waves(tmp_path: Path) -> None:
    """The block in which it begins, and five MiB at once; when more of it was read, as much again."""
    async with walked(tmp_path) as (floor, content, reader):
        start = LFP.start + 7 * MIB
        await read(reader, *of_the_kernel(start, start + 100 * KIB))
        await floor.settled()
        assert lacking(floor, content, ByteRange(start, start + 5 * MIB - 4096)) == []
        beyond = ByteRange(start + 6 * MIB, start + 8 * MIB)
        assert lacking(floor, content, beyond) == [*blocks_of(beyond)]
        before = floor.client.count("get_range")
        await read(reader, *of_the_kernel(start + 128 * KIB, start + 2 * MIB))
        await floor.settled()
        assert floor.client.count("get_range") <= before + 4  # of the next wave, not one for each block


async def test_much_that_is_read_at_once_has_nothing_fetched_ahead(tmp_path: Path) -> None:
    """A second of all channels, 480 KB, comes in reads of the kernel's largest size."""
    async with walked(tmp_path) as (floor, content, reader):
        start = LFP.start + 9 * MIB
        await read(reader, *in_a_row(ByteRange(start, start + 384 * KIB)))
        await floor.settled()
        assert (
            len(lacking(floor, content, ByteRange(start, LFP.stop))) >= len(blocks_of(ByteRange(start, LFP.stop))) - 3
        )


async def test_equal_steps_bring_the_blocks_of_the_next_reads(tmp_path: Path) -> None:
    """One page of each 700 KB: after three reads those of the next twenty are here, and nothing between them."""
    async with walked(tmp_path) as (floor, content, reader):
        starts = [LFP.start + number * 700_000 // 4096 * 4096 for number in range(40)]
        pages = [ByteRange(start, start + 4096) for start in starts]
        await read(reader, *pages[:3])
        await floor.settled()
        before = floor.cache.cached_bytes(content)
        ranges = floor.client.count("get_range")
        await read(reader, *pages[3:12])
        assert floor.client.count("get_range") <= ranges + 1 + 20  # none of these nine, perhaps the next wave
        await floor.settled()
        await read(reader, *pages[12:])
        await floor.settled()
        assert floor.cache.cached_bytes(content) - before <= 60 * BLOCK_BYTES


async def test_equal_steps_by_chance_are_guessed_from_once(tmp_path: Path) -> None:
    """Three reads with equal steps, and then elsewhere: five MiB come the first time, and no more the next times."""
    async with walked(tmp_path) as (floor, content, reader):
        for number, (first, distance) in enumerate(((0, 900), (21_000, 1300), (21_300, 1700))):
            starts = [LFP.start + (first + step * distance) * KIB for step in range(3)]
            before = floor.cache.cached_bytes(content)
            await read(reader, *(ByteRange(start, start + 4096) for start in starts))
            await floor.settled()
            guessed = (floor.cache.cached_bytes(content) - before) // BLOCK_BYTES - len(starts)
            assert guessed > 5 if number == 0 else guessed <= 0


async def test_a_row_comes_at_once(tmp_path: Path) -> None:
    """The index was read, then a row is begun: the rest of that row comes with its first block, and no other one."""
    async with walked(tmp_path) as (floor, content, reader):
        await read(reader, INDEX)
        row = ByteRange(SPIKES.start + 8 * ROWS[4], SPIKES.start + 8 * ROWS[5])
        gate = floor.client.hold()
        async with trio.open_nursery() as readers:
            readers.start_soon(read, reader, ByteRange(row.start, row.start + 64 * KIB))
            await gate.wait_arrived(2)
            gate.open()
        await floor.settled()
        assert lacking(floor, content, row) == []
        before = ByteRange(SPIKES.start, blocks_of(row).start * BLOCK_BYTES - BLOCK_BYTES)
        assert len(lacking(floor, content, before)) >= len(blocks_of(before)) - 2


async def test_a_small_array_comes_whole(tmp_path: Path) -> None:
    """A few bytes of one of 880 KB were read: all of it comes, and nothing of what lies beside it."""
    async with walked(tmp_path) as (floor, content, reader):
        small = PLACES["small"]
        await read(reader, ByteRange(small.start + 300_000, small.start + 300_100))
        await floor.settled()
        assert lacking(floor, content, small) == []
        stored = floor.cache.cached_bytes(content) // BLOCK_BYTES
        assert stored <= len(WALKED.structure.blocks) + 5

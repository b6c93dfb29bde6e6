"""What is fetched ahead of a program that reads a compressed array, whose chunks a walk has found."""

import io
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.hdf5.running import Waves
from tests.reading.bench import KIB, MIB, Bench, bench
from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.hdf5.branches import Wanted
from vbnfs.hdf5.structure import Extent
from vbnfs.objects import ByteRange, Content
from vbnfs.reading.chunks import ChunkWalk, chunk_read
from vbnfs.reading.file_reader import FileReader

_STEP_BYTES = 512 * KIB  # what the kernel asks for at a time, when a program reads much


def store(file: Any, name: str, chunks: tuple[int, int], shape: tuple[int, int]) -> None:
    """An array in compressed chunks of differing sizes, whose bytes are noise."""
    random = np.random.default_rng(17)
    made = file.create_dataset(name, shape, "f4", chunks=chunks, compression="gzip")
    whole_bytes = 4 * chunks[0] * chunks[1]
    for row in range(0, shape[0], chunks[0]):
        for column in range(0, shape[1], chunks[1]):
            made.id.write_direct_chunk((row, column), random.bytes(whole_bytes - int(random.integers(0, 100_000))))


def written() -> bytes:
    """A file with an LFP in chunks of 3 MiB of whole rows, and one in chunks of 1 MiB with a sixth of each row."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["before"] = np.zeros(3 * MIB, "u1")
        store(file, "rows", (8192, 96), (10 * 8192, 96))
        file["between"] = np.zeros(3 * MIB, "u1")
        store(file, "columns", (16_384, 16), (8 * 16_384, 96))
        file["behind"] = np.zeros(3 * MIB, "u1")
    return stream.getvalue()


DATA = written()
WALKED = Waves(DATA, wanted=Wanted(places=True))


def places(name: str) -> list[ByteRange]:
    """Where h5py says that the chunks are, in the order in which they were stored."""
    with h5py.File(io.BytesIO(DATA)) as file:
        chunks = (file[name].id.get_chunk_info(number) for number in range(file[name].id.get_num_chunks()))
        found = [ByteRange(chunk.byte_offset, chunk.byte_offset + chunk.size) for chunk in chunks]
    return sorted(found, key=lambda place: place.start)


ROWS, COLUMNS = places("rows"), places("columns")


@asynccontextmanager
async def walked(tmp_path: Path) -> AsyncIterator[tuple[Bench, Content, FileReader]]:
    """A reader of that file, when a walk has found its arrays. What was asked for until then is forgotten."""
    async with bench(tmp_path, prefetch_gets=12) as floor:
        content = floor.add("a", DATA)
        first = floor.open(content)
        for index in sorted(WALKED.structure.blocks):
            await first.read(index * BLOCK_BYTES, 10)
        await floor.settled()
        assert floor.walks.array_at(content, ROWS[5].start) is not None
        first.close()
        reader = floor.open(content)
        yield floor, content, reader
        reader.close()


def of_the_kernel(*chunks: ByteRange) -> Iterator[ByteRange]:
    """What the kernel asks for when a program reads chunks that lie side by side, and some of what follows."""
    at, stop = chunks[0].start // 4096 * 4096, chunks[-1].stop
    while at < stop + _STEP_BYTES:
        yield ByteRange(at, at + _STEP_BYTES)
        at += _STEP_BYTES


async def read(floor: Bench, reader: FileReader, ranges: Iterable[ByteRange]) -> list[int]:
    """Read these. Returns the blocks that were asked for from then on, which are there."""
    before = len(floor.client.ranges())
    for each in ranges:
        assert bytes(await reader.read(each.start, len(each))) == DATA[each.start : each.stop]
    await floor.settled()
    return [index for each in floor.client.ranges()[before:] for index in blocks_of(each)]


@pytest.mark.parametrize("count", [1, 2])
async def test_one_or_two_chunks_come_alone(tmp_path: Path, count: int) -> None:
    """One unit's spikes or ten seconds of a channel: the chunks that have them, and what the kernel reads behind."""
    async with walked(tmp_path) as (floor, _, reader):
        chunks = ROWS[4 : 4 + count]
        asked = await read(floor, reader, of_the_kernel(*chunks))
        needed = ByteRange(chunks[0].start, chunks[-1].stop + 2 * _STEP_BYTES)
        assert {*blocks_of(ByteRange(needed.start, chunks[-1].stop))} <= {*asked} <= {*blocks_of(needed)}
        assert len(asked) == len(set(asked))


async def test_a_chunk_comes_at_once(tmp_path: Path) -> None:
    """Its first page brings all of it, as nothing of it can be decompressed without the rest, and no more."""
    async with walked(tmp_path) as (floor, _, reader):
        page = ROWS[6].start // 4096 * 4096
        assert {*await read(floor, reader, [ByteRange(page, page + 4096)])} == {*blocks_of(ROWS[6])}


async def test_chunks_in_a_row_come_ahead_when_three_were_begun(tmp_path: Path) -> None:
    """From then on as many come ahead as were read behind the second one: all of an array is read in few rounds."""
    async with walked(tmp_path) as (floor, content, reader):
        await read(floor, reader, of_the_kernel(*ROWS[:3]))
        assert floor.cache.missing(content, blocks_of(ROWS[3])) == []
        assert floor.cache.missing(content, blocks_of(ROWS[5])) != []
        await read(floor, reader, of_the_kernel(*ROWS[3:6]))
        assert floor.cache.missing(content, blocks_of(ByteRange(ROWS[6].start, ROWS[8].stop))) == []


async def test_chunks_in_steps_come_ahead(tmp_path: Path) -> None:
    """One channel is in every sixth chunk: after three of them the next ones come, and none of those between."""
    async with walked(tmp_path) as (floor, content, reader):
        for chunk in COLUMNS[1:19:6]:
            await read(floor, reader, [ByteRange(chunk.start // 4096 * 4096, chunk.stop)])
        assert floor.cache.missing(content, blocks_of(COLUMNS[19])) == []
        asked = {index for each in floor.client.ranges() for index in blocks_of(each)}
        between = ByteRange(COLUMNS[20].start + BLOCK_BYTES, COLUMNS[22].stop)
        assert asked.isdisjoint(blocks_of(between))


ARRAY = Extent(10 * MIB, 40 * MIB, 0, None, tuple(range(10 * MIB, 40 * MIB, 3 * MIB)), is_filtered=True)


def at(number: int, offset: int = 0, size: int = _STEP_BYTES) -> ByteRange:
    start = ARRAY.chunks[number] + offset
    return ByteRange(start, start + size)


def test_steps_from_chunk_to_chunk() -> None:
    """Equal ones count; a longer one begins anew, one back has no step, and within a chunk nothing changes."""
    walk = ChunkWalk()
    for number, step, count in ((0, 0, 0), (0, 0, 0), (2, 2, 1), (4, 2, 2), (6, 2, 3), (9, 3, 1), (1, 0, 0)):
        walk = walk.after(ARRAY, at(number, 4096))
        assert (walk.last, walk.step, walk.count) == (number, step, count)
    assert ChunkWalk().strided_blocks(ARRAY) == []
    assert ChunkWalk(4, 2, 3).strided_blocks(ARRAY) == [*blocks_of(at(6, 0, 3 * MIB)), *blocks_of(at(8, 0, 3 * MIB))]


def test_what_the_kernel_reads_behind_a_chunk_does_not_begin_the_next() -> None:
    """A read that goes on there does, when it is further behind."""
    walk = ChunkWalk().after(ARRAY, at(3)).after(ARRAY, at(3, 3 * MIB - _STEP_BYTES))
    behind = walk.after(ARRAY, at(4))
    assert behind.last == 3
    assert behind.end(ARRAY) == ARRAY.chunks[4]
    begun = behind.after(ARRAY, at(4, _STEP_BYTES))
    assert begun.last == 4
    assert begun.end(ARRAY) == ARRAY.chunks[5]
    assert ChunkWalk(9, 1, 7).end(ARRAY) == ARRAY.stop


def test_chunks_that_are_read_whole() -> None:
    """Compressed ones of up to 16 MiB, others of up to 1 MiB, which is what HDF5 keeps in memory."""
    assert chunk_read(ARRAY, ARRAY.chunks[2] - 100) == at(2, 0, 3 * MIB)
    assert chunk_read(ARRAY._replace(is_filtered=False), ARRAY.start) is None
    assert chunk_read(ARRAY._replace(chunks=()), ARRAY.start) is None
    small = Extent(0, 2 * MIB, 0, None, (0, MIB))
    assert chunk_read(small, MIB) == ByteRange(MIB, 2 * MIB)
    assert chunk_read(Extent(0, 17 * MIB, 0, None, (0,), is_filtered=True), 0) is None

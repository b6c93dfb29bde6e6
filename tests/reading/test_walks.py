"""Walks ahead of readers: real blocks, and a real process that parses them."""

import os
import resource
import signal
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.hdf5.running import Waves, structured
from tests.reading.bench import Bench, bench
from vbnfs.blocks import BLOCK_BYTES, blocks_of
from vbnfs.cache.verdict import Verdict
from vbnfs.errors import HashMismatchError
from vbnfs.objects import ByteRange, Content
from vbnfs.reading.file_reader import FileReader
from vbnfs.reading.planner import follows_structure, tail_of
from vbnfs.reading.walker import Walker

DATA = structured()
WALKED = Waves(DATA)
STRUCTURE = WALKED.structure.blocks
ELSEWHERE = min(index for index in WALKED.waves[1] if index > 5)
NO_STRUCTURE = next(index for index in range(6, len(DATA) // BLOCK_BYTES - 1) if index not in STRUCTURE)
PATIENCE_SECONDS = 20.0


async def read(reader: FileReader, *indices: int, data: bytes = DATA, count_bytes: int = 100) -> None:
    """Read a little of each of these blocks, and check it."""
    for index in indices:
        offset = index * BLOCK_BYTES
        assert bytes(await reader.read(offset, count_bytes)) == data[offset : offset + count_bytes]


async def ended(floor: Bench) -> None:
    """Wait until no walk is under way."""
    with trio.fail_after(PATIENCE_SECONDS):
        await floor.settled()


def fetched(floor: Bench, content: Content) -> set[int]:
    blocks = range(-(-content.size_bytes // BLOCK_BYTES))
    return set(blocks) - set(floor.cache.missing(content, blocks))


async def test_all_of_the_structure_comes_and_nothing_else(tmp_path: Path) -> None:
    """A block of the structure was read: the rest of it comes, once, and a second reader has no other walk.

    The process that parses is behind all others for the processor.
    """
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        reader = floor.open(content)
        await read(reader, 0, ELSEWHERE)
        await ended(floor)
        assert fetched(floor, content) == STRUCTURE
        assert floor.metrics.walks == 1
        assert floor.walks.process is not None
        assert os.getpriority(os.PRIO_PROCESS, floor.walks.process) == 19
        assert floor.metrics.walked_blocks == len(STRUCTURE - {0, ELSEWHERE})
        await read(floor.open(content), NO_STRUCTURE, 0, ELSEWHERE)
        await ended(floor)
        array = floor.walks.array_at(content, NO_STRUCTURE * BLOCK_BYTES)
        assert array is not None
        assert fetched(floor, content) == STRUCTURE | set(blocks_of(ByteRange(array.start, array.stop)))
        assert floor.metrics.walks == 1


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3), (0, 2, 3, 1)])
async def test_a_program_that_reads_in_a_row_is_no_reason(tmp_path: Path, order: tuple[int, ...]) -> None:
    """Also where the kernel's requests, of up to 1 MiB, come out of order: none of them is a read elsewhere."""
    requests = [(0, 1), (1, 3), (3, 7), (7, 11)]  # in blocks
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        reader = floor.open(content)
        async with trio.open_nursery() as nursery:
            for start, stop in (requests[number] for number in order):
                nursery.start_soon(reader.read, start * BLOCK_BYTES, (stop - start) * BLOCK_BYTES)
                await trio.testing.wait_all_tasks_blocked()
        await ended(floor)
        assert reader.run_bytes == sum(requests[number][1] - requests[number][0] for number in order) * BLOCK_BYTES
        assert floor.metrics.walks == 0


async def test_what_is_read_elsewhere_is_no_reason(tmp_path: Path) -> None:
    """A block that is no structure, and the tail, have nothing fetched; a walk that nobody wants ends at closing."""
    async with bench(tmp_path) as floor:
        content, other = floor.add("a", DATA), floor.add("b", b"no HDF5".ljust(len(DATA), b"."))
        reader, second = floor.open(content), floor.open(other)
        await read(reader, 0, NO_STRUCTURE, tail_of(len(DATA)).start)
        await read(second, 0, ELSEWHERE, data=bytes(floor.client.store.get("b").data))  # type: ignore
        reader.close()
        second.close()
        await ended(floor)
        assert fetched(floor, content) == {0, NO_STRUCTURE, *tail_of(len(DATA))}
        assert fetched(floor, other) == {0, ELSEWHERE}
        assert (floor.metrics.walks, floor.metrics.walked_blocks) == (0, 0)


async def test_a_walk_that_ended_with_its_reader_begins_anew(tmp_path: Path) -> None:
    """A program closes a file before its structure has come: the next one has it walked to its end."""
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        first = floor.open(content)
        await read(first, 0, NO_STRUCTURE)
        first.close()
        await ended(floor)
        await read(floor.open(content), ELSEWHERE)
        await ended(floor)
        assert fetched(floor, content) == STRUCTURE | {NO_STRUCTURE}


async def test_a_process_that_is_killed(tmp_path: Path) -> None:
    """Reads go on without the walk, and the next file has a new process."""
    async with bench(tmp_path) as floor:
        content, other = floor.add("a", DATA), floor.add("b", DATA)
        reader = floor.open(content)
        await read(reader, 0, NO_STRUCTURE)
        while (process := floor.walks.process) is None:
            await trio.testing.wait_all_tasks_blocked(0.01)
        os.kill(process, signal.SIGKILL)
        await read(reader, ELSEWHERE)
        await ended(floor)
        assert floor.metrics.failed_answers == 0
        await read(floor.open(other), 0, ELSEWHERE)
        await ended(floor)
        assert fetched(floor, other) == STRUCTURE


def test_a_process_that_wants_much_memory() -> None:
    """It gets 512 MiB, and the system ends it first. Beyond that it and its walks end, and another one comes."""
    walker, first = Walker(), (0, DATA[:BLOCK_BYTES])
    try:
        begun = walker.go_on(1, len(DATA), [first])
        process = walker.process
        assert process is not None
        assert resource.prlimit(process, resource.RLIMIT_DATA) == (512 << 20, 512 << 20)
        assert Path(f"/proc/{process}/oom_score_adj").read_text() == "1000\n"
        with pytest.raises(OSError, match=r"ended|EPIPE|Broken pipe|reset"):
            walker.go_on(2, len(DATA), [(0, bytes(600 << 20))])
        assert not Path(f"/proc/{process}").exists()
        assert walker.go_on(1, len(DATA), [first]) == begun
        assert walker.process not in {None, process}
    finally:
        walker.close()


async def test_a_file_that_is_found_wrong(tmp_path: Path) -> None:
    """Nothing is walked of a file that is refused, and its readers get what they get without a walk."""
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA, file_hash="0" * 128)
        reader = floor.open(content)
        await read(reader, 0, NO_STRUCTURE)
        floor.verdicts.keep(content, Verdict("1" * 128, "", "", mismatches=1))
        with pytest.raises(HashMismatchError):
            await reader.read(ELSEWHERE * BLOCK_BYTES, 100)
        reader.close()
        await ended(floor)
        assert floor.metrics.walked_blocks == 0


@pytest.mark.parametrize("where", [8, 600, 2000, ELSEWHERE * BLOCK_BYTES])
async def test_damaged_structure_changes_no_byte(tmp_path: Path, where: int) -> None:
    """Whatever the structure says, readers get the bytes that there are, and no more than the bound is fetched."""
    damaged = DATA[:where] + os.urandom(500) + DATA[where + 500 :]
    async with bench(tmp_path) as floor:
        content = floor.add("a", damaged)
        reader = floor.open(content)
        await read(reader, 0, ELSEWHERE, *sorted(STRUCTURE), data=damaged)
        reader.close()
        await ended(floor)


async def test_a_mount_with_little_memory_has_no_walks(tmp_path: Path) -> None:
    """Where what is walked could be forgotten before it is read, nothing is."""
    async with bench(tmp_path, memory_bytes=16 << 20, limit_bytes=8 << 20) as floor:
        content = floor.add("a", DATA)
        await read(floor.open(content), 0, ELSEWHERE)
        await ended(floor)
        assert fetched(floor, content) == {0, ELSEWHERE}


DEEP = structured(8, data_bytes=3 << 20, is_deep=True)
DEEP_WAVES = Waves(DEEP).waves


async def test_a_walk_rests_while_its_program_reads_data(tmp_path: Path) -> None:
    """A wave that is on its way comes, and no other one, until the program reads structure again."""
    async with bench(tmp_path) as floor:
        content, reader = floor.add("a", DEEP), floor.open(floor.add("a", DEEP))
        array = Waves(DEEP).extents[0]
        third = min(DEEP_WAVES[3])
        gate = floor.client.hold(lambda request: third in blocks_of(request.byte_range or ByteRange(0, 0)))
        await read(reader, 0, min(DEEP_WAVES[1]), data=DEEP)
        await gate.wait_arrived()
        for offset in range(array.start, array.start + (1 << 20), 128 << 10):
            assert bytes(await reader.read(offset, 128 << 10)) == DEEP[offset : offset + (128 << 10)]
        gate.open()
        await ended(floor)
        assert floor.walks.waiting == 1
        deepest = set.union(*map(set, DEEP_WAVES[6:]))
        assert not deepest & fetched(floor, content)
        await read(reader, min(deepest), data=DEEP)
        await ended(floor)
        assert deepest <= fetched(floor, content)
        assert floor.walks.waiting == 0
        reader.close()


async def test_many_files_are_walked_side_by_side(tmp_path: Path) -> None:
    """The structure of each of fifty files comes, whichever was opened first; few walks have memory at a time."""
    async with bench(tmp_path) as floor:
        contents = [floor.add(f"{number}", DATA) for number in range(50)]

        async def go_through(content: Content) -> None:
            await read(floor.open(content), 0, ELSEWHERE)

        async with trio.open_nursery() as readers:
            for content in contents:
                readers.start_soon(go_through, content)
        await ended(floor)
        assert all(fetched(floor, content) == STRUCTURE for content in contents)
        assert floor.metrics.walks == len(contents)


async def test_of_many_files_that_wait_for_their_programs_the_first_are_let_go(tmp_path: Path) -> None:
    """Twelve wait; a program whose walk was let go has it begun anew when it goes on."""
    async with bench(tmp_path) as floor:
        contents = [floor.add(f"{number}", DATA) for number in range(20)]
        readers = [floor.open(content) for content in contents]
        for reader in readers:
            await read(reader, 0, NO_STRUCTURE)
            await ended(floor)
        assert floor.walks.waiting == 12
        await read(readers[0], max(WALKED.waves[1] - set(tail_of(len(DATA)))))
        await ended(floor)
        assert fetched(floor, contents[0]) >= STRUCTURE
        for reader in readers:
            reader.close()
        await ended(floor)
        assert floor.walks.waiting == 0


async def test_a_file_whose_beginning_was_not_read_has_no_walk(tmp_path: Path) -> None:
    """Random reads have none, and no process; nor has a file that is none of HDF5's."""
    async with bench(tmp_path) as floor:
        content, other = floor.add("a", DATA), floor.add("b", b"no HDF5".ljust(len(DATA), b"."))
        reader, second = floor.open(content), floor.open(other)
        await read(reader, NO_STRUCTURE)
        await read(second, 0, ELSEWHERE, data=b"no HDF5".ljust(len(DATA), b"."))
        await ended(floor)
        assert floor.walks.process is None
        await read(reader, 0)
        await read(reader, ELSEWHERE)
        await ended(floor)
        assert fetched(floor, content) >= STRUCTURE


def test_which_blocks_show_that_structure_is_followed() -> None:
    """One to which it led; not the first one, and not the tail."""
    size = 100 * BLOCK_BYTES + 1
    assert follows_structure({50}, {50, 60}, size)
    assert not follows_structure({51}, {50, 60}, size)
    assert not follows_structure({0, 99, 100}, {0, 99, 100}, size)

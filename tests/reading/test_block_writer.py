"""Blocks to the disk: what that does not take is remembered within limits, and offered again."""

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from tests.reading.bench import MIB, Bench, bench
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.claims import Claims
from vbnfs.cache.content_folder import FORMAT
from vbnfs.objects import Content
from vbnfs.reading import block_writer

DATA = random.Random(15).randbytes(4 * BLOCK_BYTES)
BLOCKS = 60
LONG = random.Random(16).randbytes(BLOCKS * BLOCK_BYTES)


async def fetch_with_a_full_disk(floor: Bench, content: Content, *indices: int) -> None:
    """Have blocks come while the disk takes none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floor.cache, "put", lambda *_: 0)
        for index in indices:
            await floor.source.get(content, [index])
            await floor.settled()
    assert floor.cache.missing(content, indices) == list(indices)


async def test_of_what_the_disk_did_not_take_the_last_blocks_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many, whatever memory has still: a full disk must not make a list without end."""
    monkeypatch.setattr(block_writer, "_MOST_UNSTORED", 2)
    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        await fetch_with_a_full_disk(floor, content, 0, 1, 2)
        await floor.source.writer.keep_again()
        assert floor.cache.missing(content, range(3)) == [0]


async def test_the_block_that_the_disk_refuses_again_is_offered_last(tmp_path: Path) -> None:
    """One that cannot be written for a reason of its own does not hold the others up."""
    async with bench(tmp_path) as floor:
        content, offered = floor.add("a", DATA), list[int]()
        await fetch_with_a_full_disk(floor, content, 0, 1)

        def refuse(_: Content, index: int, *__: object) -> int:
            offered.append(index)
            return 0

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(floor.cache, "put", refuse)
            for _ in range(3):
                await floor.source.writer.keep_again()
        assert offered == [0, 1, 0]


@pytest.mark.parametrize("is_taken", [True, False])
async def test_a_block_that_is_fetched_anew_while_it_is_offered_again(tmp_path: Path, *, is_taken: bool) -> None:
    """The later one counts: it is on the disk, and is not offered again, whatever becomes of the earlier one."""
    async with bench(tmp_path) as floor:
        content, put = floor.add("a", DATA), floor.cache.put
        hangs, goes_on = threading.Event(), threading.Event()
        await fetch_with_a_full_disk(floor, content, 0, 1)

        def hang_once(content: Content, index: int, *blocks: bytes | memoryview) -> int:
            patch.setattr(floor.cache, "put", put)
            hangs.set()
            goes_on.wait(30)
            return put(content, index, *blocks) if is_taken else 0

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(floor.cache, "put", hang_once)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(floor.source.writer.keep_again)
                await trio.to_thread.run_sync(hangs.wait, 30)
                floor.source.forget(content.content_id)
                await floor.source.get(content, range(2))
                await floor.settled()
                assert floor.cache.missing(content, range(2)) == []
                goes_on.set()
            offered = list[int]()
            patch.setattr(floor.cache, "put", lambda _, index, *__: offered.append(index))
            await floor.source.writer.keep_again()
        assert offered == []


# A disk that does not answer


@contextmanager
def hanging(floor: Bench) -> Iterator[threading.Event]:
    """The disk does not answer before the event is set, or this is left."""
    put, goes_on = floor.cache.put, threading.Event()

    def hang(content: Content, index: int, *blocks: bytes | memoryview) -> int:
        assert goes_on.wait(30)
        return put(content, index, *blocks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floor.cache, "put", hang)
        try:
            yield goes_on
        finally:
            goes_on.set()


async def read_all(floor: Bench, content: Content, data: bytes) -> None:
    """Each block by a read of its own."""
    for index in range(len(data) // BLOCK_BYTES):
        with trio.fail_after(20):
            found = await floor.source.get(content, [index])
        assert found == {index: data[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]}


async def test_what_waits_for_a_disk_gives_its_room_to_fetches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that hangs costs each block its place in the cache, and no reader its bytes; memory keeps its limit.

    What is being written stays, a quarter of the room at the most. What gave its room up is not claimed any more, and
    comes to the disk when it is read again.
    """
    monkeypatch.setattr(block_writer, "PATIENCE_SECONDS", 0.05)
    claims = Claims(tmp_path / FORMAT / "test")
    async with bench(tmp_path, memory_bytes=8 * MIB) as floor:
        content, room = floor.add("a", LONG), floor.memory.blocks
        with hanging(floor) as goes_on:
            await read_all(floor, content, LONG)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert room.most_bytes <= room.limit_bytes
            assert len(claims.take(content.content_id, range(BLOCKS))) >= BLOCKS - room.limit_bytes // BLOCK_BYTES
            claims.drop(content.content_id, range(BLOCKS))
            assert floor.source.writer.room_bytes == 0
            goes_on.set()
            await floor.settled()
        assert room.held_bytes == 0
        missing = floor.cache.missing(content, range(BLOCKS))
        assert BLOCKS - room.limit_bytes // BLOCK_BYTES <= len(missing) < BLOCKS
        await read_all(floor, content, LONG)
        await floor.settled()
        await floor.source.writer.keep_again()
        assert floor.cache.missing(content, range(BLOCKS)) == []


async def test_what_is_written_at_once_is_a_part_of_the_room(tmp_path: Path) -> None:
    """The rest of the room is left, while a disk does not answer: at least three quarters of it."""
    async with bench(tmp_path, memory_bytes=8 * MIB, keeps_blocks=False) as floor:
        content, room, writer = floor.add("a", LONG), floor.memory.blocks, floor.source.writer
        for index in range(12):
            await floor.source.get(content, [index])
        batch = writer._next_batch()
        assert sum(len(one.blocks) for one in batch) * BLOCK_BYTES <= room.limit_bytes // 4 < 12 * BLOCK_BYTES
        floor.start_keeping()


async def test_what_has_room_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no fetch waits for room, nothing is given up, however long the disk does not answer."""
    monkeypatch.setattr(block_writer, "PATIENCE_SECONDS", 0.0)
    async with bench(tmp_path) as floor:
        content = floor.add("a", LONG)
        with hanging(floor) as goes_on:
            await read_all(floor, content, LONG)
            goes_on.set()
            await floor.settled()
        assert floor.cache.missing(content, range(BLOCKS)) == []


async def test_the_end_does_not_wait_for_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount ends, and the log says what that costs; blocks that were waiting hold no room."""
    monkeypatch.setattr(block_writer, "_LAST_SECONDS", 0.05)
    with ExitStack() as stack, capture_logs() as lines, trio.fail_after(20):
        async with bench(tmp_path) as floor:
            content = floor.add("a", LONG)
            stack.enter_context(hanging(floor))
            await read_all(floor, content, LONG)
    assert [line["event"] for line in lines] == ["the disk does not answer; what was fetched last is not kept"]
    assert floor.memory.blocks.held_bytes == 0


async def test_the_end_does_not_wait_for_a_disk_that_does_not_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All blocks are there; the log says what a power cut would cost."""
    monkeypatch.setattr(block_writer, "_LAST_SECONDS", 0.05)
    goes_on = threading.Event()
    try:
        with capture_logs() as lines, trio.fail_after(20):
            async with bench(tmp_path) as floor:
                content = floor.add("a", DATA)
                await floor.source.get(content, range(4))
                await floor.settled()
                monkeypatch.setattr(floor.cache, "flush", lambda: goes_on.wait(30))
    finally:
        goes_on.set()
    assert [line["event"] for line in lines] == ["what was written last is not safe from a power cut yet"]
    assert floor.cache.missing(content, range(4)) == []


async def test_without_a_thread_the_last_blocks_are_not_synced_and_the_mount_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log says so; what was written is there all the same."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    with capture_logs() as lines:
        async with bench(tmp_path) as floor:
            content = floor.add("a", DATA)
            await floor.source.get(content, range(4))
            await floor.settled()
            monkeypatch.setattr("trio._threads.start_thread_soon", refuse)
    assert [line["event"] for line in lines] == ["what was written last is not safe from a power cut yet"]
    monkeypatch.undo()
    assert floor.cache.missing(content, range(4)) == []

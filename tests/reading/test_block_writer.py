"""Blocks to the disk: what that does not take is remembered within limits, and offered again."""

import random
import threading
from pathlib import Path

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from tests.reading.bench import Bench, bench
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.objects import Content
from vbnfs.reading import block_writer

DATA = random.Random(15).randbytes(4 * BLOCK_BYTES)


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

"""Which files are given to the kernel, without a kernel: when it refuses, when a file proves wrong or is gone."""

import errno
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.fakes.cache_files import content_folders
from tests.reading.bench import Bench, add, bench
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.content_folder import DATA, FORMAT
from vbnfs.cache.holdings import Holdings, all_held
from vbnfs.cache.verdict import Verdict
from vbnfs.errors import HashMismatchError
from vbnfs.filesystem.passthrough import NEEDS_ROOT, Passthrough
from vbnfs.fuse.operations import Backing, is_later
from vbnfs.host.places import folder_at
from vbnfs.objects import Content
from vbnfs.reading.checked_files import CheckedFiles
from vbnfs.reading.fetches import Bytes

DATA_OF_FILE = bytes(range(256)) * 2048  # two blocks
INODE = 7


@dataclass
class Kernel:
    """Takes files, or refuses them with an errno."""

    refusal: int | None = None
    agreed: trio.Event = field(default_factory=trio.Event)
    given: dict[Backing, int] = field(default_factory=dict)  # the inode of each file
    last: int = 0

    def open_backing(self, descriptor: int) -> Backing:
        if self.refusal is not None:
            raise OSError(self.refusal, os.strerror(self.refusal))
        self.last += 1
        self.given[Backing(self.last)] = os.fstat(descriptor).st_ino
        return Backing(self.last)

    def close_backing(self, backing: Backing) -> None:
        del self.given[backing]


@dataclass
class World:
    floor: Bench
    content: Content
    kernel: Kernel
    passthrough: Passthrough
    folder: Path

    async def start(self) -> None:
        self.kernel.agreed.set()
        await self.passthrough.start(self.kernel)

    async def open(self) -> Backing | None:
        answer: Any = self.passthrough.open(INODE, self.content)
        return await answer if is_later(answer) else answer  # type: ignore[no-any-return]

    async def until_checked(self) -> None:
        with trio.fail_after(60):
            while not self.passthrough.files.has(self.content):  # noqa: ASYNC110 - the disk says not when
                await trio.sleep(0.01)

    @property
    def data(self) -> Path:
        (folder,) = content_folders(self.folder)
        return folder / DATA


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A content that is whole."""
    async with bench(tmp_path) as floor:
        content = add(floor.client.store, "file", DATA_OF_FILE)
        blocks: list[Bytes] = [DATA_OF_FILE[:BLOCK_BYTES], DATA_OF_FILE[BLOCK_BYTES:]]
        floor.cache.put(content, 0, *blocks)
        assert floor.cache.complete(content)
        files = CheckedFiles(floor.cache, floor.verdicts, floor.metrics)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(files.run)
            passthrough = Passthrough(files, Holdings(folder_at(tmp_path)), floor.metrics)
            yield World(floor, content, Kernel(), passthrough, tmp_path)
            nursery.cancel_scope.cancel()


async def test_a_file_is_given_when_it_was_checked(world: World) -> None:
    """The first reader is the daemon's; when it has closed the file, the next ones are the kernel's."""
    await world.start()
    assert await world.open() is None
    await world.until_checked()
    assert await world.open() is None  # beside the first one
    world.passthrough.release(INODE)
    world.passthrough.release(INODE)
    backing = await world.open()
    assert backing is not None
    assert await world.open() == backing
    assert world.kernel.given == {backing: world.data.stat().st_ino}
    assert world.passthrough.is_passed(INODE)
    world.passthrough.release(INODE)
    world.passthrough.release(INODE)
    assert world.kernel.given == {}
    assert world.floor.metrics.passthrough_opens == 2
    assert world.floor.metrics.checked_bytes == len(DATA_OF_FILE)


async def test_opening_again_waits_for_no_thread(world: World) -> None:
    """A checked file whose path the kernel has in memory is given at once; one that changed is not."""
    await world.start()
    await world.open()
    await world.until_checked()
    world.passthrough.release(INODE)
    backing = world.passthrough.open(INODE, world.content)
    assert isinstance(backing, Backing)
    assert world.kernel.given == {backing: world.data.stat().st_ino}
    world.passthrough.release(INODE)
    os.utime(world.data)
    later: Any = world.passthrough.open(INODE, world.content)
    assert is_later(later)
    assert await later is None


async def test_two_who_open_it_at_the_same_time(world: World) -> None:
    """Both get the same number; the file that was given for the second is given back."""
    await world.start()
    await world.open()
    await world.until_checked()
    world.passthrough.release(INODE)
    got: list[Backing | None] = []

    async def open_one() -> None:
        got.append(await world.passthrough._open_later(INODE, world.content))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_one)
        nursery.start_soon(open_one)
    assert got[0] is not None
    assert got[0] == got[1]
    assert list(world.kernel.given) == [got[0]]


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EPERM, NEEDS_ROOT), (errno.ELOOP, "stacked"), (errno.ENOTSUP, "not supported")],
    ids=["EPERM", "ELOOP", "ENOTSUP"],
)
async def test_a_kernel_that_refuses(world: World, number: int, reason: str) -> None:
    """The reason is known as soon as the mount is there, and no file is read to be checked."""
    world.kernel.refusal = number
    await world.start()
    assert world.passthrough.reason is not None
    assert reason in world.passthrough.reason
    assert await world.open() is None
    await trio.testing.wait_all_tasks_blocked()
    assert world.floor.metrics.checked_bytes == 0


async def test_a_kernel_that_refuses_the_first_file(world: World) -> None:
    """Where only files of the cache are refused, the daemon reads that one, too."""
    await world.start()
    await world.open()
    await world.until_checked()
    world.passthrough.release(INODE)
    world.kernel.refusal = errno.ELOOP
    assert await world.open() is None
    assert "stacked" in str(world.passthrough.reason)


async def test_a_file_that_is_not_taken_now(world: World) -> None:
    """A refusal that may pass (no memory, too many files) is one of this open; the daemon reads it."""
    await world.start()
    await world.open()
    await world.until_checked()
    world.passthrough.release(INODE)
    world.kernel.refusal = errno.ENFILE
    assert await world.open() is None
    world.passthrough.release(INODE)
    world.kernel.refusal = None
    assert await world.open() is not None


async def test_an_inode_that_has_another_content_by_now(world: World) -> None:
    """Nobody opens it and gets the bytes of the content that others have open."""
    await world.start()
    await world.open()
    await world.until_checked()
    world.passthrough.release(INODE)
    await world.open()
    other = add(world.floor.client.store, "other", b"other")
    with pytest.raises(HashMismatchError):
        world.passthrough.open(INODE, other)


async def test_what_has_proved_wrong_is_given_to_nobody(world: World) -> None:
    """From the verdict on. While programs read it by the kernel nobody else can open it; then the daemon serves."""
    await world.start()
    await world.open()
    await world.until_checked()
    world.passthrough.release(INODE)
    assert await world.open() is not None
    world.floor.verdicts.keep(world.content, Verdict("00", "", "", 1))
    world.passthrough.files.forget(world.content.content_id)
    world.passthrough.condemn(INODE)
    with pytest.raises(HashMismatchError, match="close it there"):
        await world.open()
    world.passthrough.release(INODE)
    assert world.kernel.given == {}
    assert await world.open() is None


async def test_a_file_that_is_not_what_was_checked(world: World) -> None:
    """One that was written to, or that is gone, is read by the daemon, and checked anew."""
    await world.start()
    await world.open()
    await world.until_checked()
    world.passthrough.release(INODE)
    os.utime(world.data)
    assert await world.open() is None
    world.passthrough.release(INODE)
    await world.until_checked()
    assert world.floor.metrics.checked_bytes == 2 * len(DATA_OF_FILE)
    shutil.rmtree(world.data.parent)
    assert await world.open() is None


async def test_others_know_what_is_held(world: World) -> None:
    """What the kernel reads is shown to other processes for as long as it is open, whether it has a name or not."""
    directory = folder_at(world.folder)

    def shown() -> list[str]:
        return [one.content_id for one in all_held(directory) if one.is_read_by_kernel]

    async def until_given(*wanted: int) -> None:
        with trio.fail_after(60):
            while [*world.kernel.given.values()] != [*wanted]:  # noqa: ASYNC110 - after a thread
                await trio.sleep(0.01)

    async def until_shown(*wanted: str) -> None:
        with trio.fail_after(60):
            while shown() != [*wanted]:  # noqa: ASYNC110 - a thread writes it
                await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.passthrough.publish)
        await world.start()
        await world.open()
        await world.until_checked()
        world.passthrough.release(INODE)
        await world.open()
        await until_shown(world.content.content_id)
        shutil.rmtree(world.data.parent)
        assert await world.open() is not None
        await until_shown(world.content.content_id)
        [file] = (world.folder / FORMAT / ".held").iterdir()
        await until_given(world.passthrough._held[INODE].inode, file.stat().st_ino)  # with its lock
        world.passthrough.release(INODE)
        world.passthrough.release(INODE)
        await until_shown()
        await until_given()
        nursery.cancel_scope.cancel()

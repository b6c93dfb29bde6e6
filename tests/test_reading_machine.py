"""The whole reading floor against plain bytes: whatever happens to cache and network, no byte is ever wrong.

Hypothesis makes up lives of one cache directory: two mounts read from it (and write to it) while segments are
evicted, cut short, damaged and swapped, mounts are restarted and the network comes and goes. Verified blocks are
trusted by the process that verified them, so bytes are changed only while no mount runs; evicting and cutting
short happen under running mounts.
"""

import os
import random
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import trio
import trio.testing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.fakes.client import MemoryClient
from tests.fakes.damage import KINDS, damage
from tests.fakes.store import MemoryStore
from tests.reading.bench import KIB, MIB, Bench, add, bench
from vbnfs.errors import StorageError, TransportError
from vbnfs.metrics import Metrics
from vbnfs.reading.file_reader import FileReader
from vbnfs.storage.block_cache import FORMAT
from vbnfs.storage.eviction import Evictor
from vbnfs.storage.segment import BLOCK_BYTES, TABLE_BYTES

SIZES: Final = (0, 1, 100_001, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES - 1, 2 * MIB + 17)
PLAIN: Final = [random.Random(f"plain {size}").randbytes(size) for size in SIZES]
MOUNTS: Final = 2
LIMIT_BYTES: Final = 3 * MIB  # less than all contents together: mounts evict, too
MEMORY_BYTES: Final = 2 * MIB  # so that one block is remembered: the disk is asked, not the memory of what came last

files = st.integers(0, len(SIZES) - 1)
mounts = st.integers(0, MOUNTS - 1)
where = st.floats(0, 1, exclude_max=True)


class Loop:
    """A trio run in a thread of its own, in which mounts live from one rule to the next."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.client = MemoryClient(MemoryStore(), piece_bytes=100_000)
        self.contents = [add(self.client.store, f"{n:02}-{len(data)}", data) for n, data in enumerate(PLAIN)]
        self.floors: list[Bench] = []
        self.readers: dict[tuple[int, int, int], FileReader] = {}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,))
        self._thread.start()
        self._ready.wait()
        self.run(self.mount)

    async def _main(self) -> None:
        self._token, self._end = trio.lowlevel.current_trio_token(), trio.Event()
        async with trio.open_nursery() as self._nursery:
            self._ready.set()
            await self._end.wait()

    def run(self, function: Callable[..., Awaitable[Any]], *arguments: object) -> Any:
        return trio.from_thread.run(function, *arguments, trio_token=self._token)

    async def mount(self) -> None:
        self._unmount, self._ended = trio.Event(), []
        for _ in range(MOUNTS):
            floor, ended = await self._nursery.start(self._mounted)
            self.floors.append(floor)
            self._ended.append(ended)

    async def _mounted(self, task_status: trio.TaskStatus[tuple[Bench, trio.Event]]) -> None:
        ended = trio.Event()
        async with bench(
            self.directory, client=self.client, limit_bytes=LIMIT_BYTES, prefetch_gets=2, memory_bytes=MEMORY_BYTES
        ) as floor:
            task_status.started((floor, ended))
            await self._unmount.wait()
        ended.set()

    async def unmount(self) -> None:
        self._unmount.set()
        for ended in self._ended:
            await ended.wait()
        self.floors.clear()
        self.readers.clear()

    async def settle(self) -> None:
        """Until nothing is on its way any more, and all blocks that were fetched are on the disk."""
        await trio.testing.wait_all_tasks_blocked(0.005)
        while any(floor.source.is_busy for floor in self.floors):
            await trio.testing.wait_all_tasks_blocked(0.001)

    async def read(self, mount: int, handle: int, number: int, offset: int, size: int) -> bytes:
        key = (mount, handle, number)
        reader = self.readers.setdefault(key, self.floors[mount].open(self.contents[number]))
        return bytes(await reader.read(offset, size))

    async def stop(self) -> None:
        await self.unmount()
        self._end.set()

    def join(self) -> None:
        self.run(self.stop)
        self._thread.join()


class ReadingMachine(RuleBasedStateMachine):
    """Rules are what happens; the plain bytes are what must come."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="vbnfs-machine-"))
        self.loop = Loop(self.directory)
        self.is_offline = False

    def teardown(self) -> None:
        try:
            self.go_online()
            for number, plain in enumerate(PLAIN):
                self.check(0, 0, number, 0, len(plain) + 1)
        finally:
            self.loop.join()
            shutil.rmtree(self.directory)

    def segment(self, number: int) -> Path:
        name = self.loop.contents[number].content_id
        return self.directory / FORMAT / "test" / name[:2] / f"{name}.0"

    def check(self, mount: int, handle: int, number: int, offset: int, size: int) -> None:
        try:
            data = self.loop.run(self.loop.read, mount, handle, number, offset, size)
        except StorageError:
            assert self.is_offline, "a read failed while the network was there"
        else:
            assert data == PLAIN[number][offset : offset + size]

    @initialize(number=files)
    def begin_with_something(self, number: int) -> None:
        self.check(0, 0, number, 0, SIZES[number])

    @rule(mount=mounts, handle=st.integers(0, 1), number=files, at=where, size=st.integers(0, 700_000))
    def read(self, mount: int, handle: int, number: int, at: float, size: int) -> None:
        self.check(mount, handle, number, int(at * (SIZES[number] + 10)), size)

    @rule(mount=mounts, number=files, step=st.sampled_from([4 * KIB * 9, 128 * KIB, MIB]))
    def read_in_a_row(self, mount: int, number: int, step: int) -> None:
        for offset in range(0, SIZES[number], step):
            self.check(mount, 2, number, offset, step)

    @rule(number=files)
    def read_side_by_side(self, number: int) -> None:
        """All mounts at once, several requests each."""
        answers: list[tuple[int, bytes]] = []

        async def read(mount: int, offset: int) -> None:
            try:
                answers.append((offset, await self.loop.read(mount, 3, number, offset, 300_000)))
            except StorageError:
                assert self.is_offline

        async def all_at_once() -> None:
            async with trio.open_nursery() as nursery:
                for mount in range(MOUNTS):
                    for offset in range(0, SIZES[number], 250_000):
                        nursery.start_soon(read, mount, offset)

        self.loop.run(all_at_once)
        assert all(data == PLAIN[number][offset : offset + 300_000] for offset, data in answers)

    @rule()
    def go_offline(self) -> None:
        self.is_offline = True
        self.loop.client.heal()
        self.loop.client.fail_when(lambda request: TransportError("offline"))

    @rule()
    def go_online(self) -> None:
        self.loop.run(self.loop.settle)  # what fails, fails before
        self.is_offline = False
        self.loop.client.heal()

    @rule(number=files)
    def evict(self, number: int) -> None:
        """Another process deletes a segment, at any moment."""
        self.segment(number).unlink(missing_ok=True)

    @rule(mount=mounts, number=files, length=where)
    def cut_short(self, mount: int, number: int, length: float) -> None:
        """Somebody truncates a segment that mounts have open and verified; they go on reading, the end first."""
        for _ in range(2):  # from S3, and from the disk, where it is verified
            self.check(mount, 0, number, 0, SIZES[number])
            self.loop.run(self.loop.settle)
        with suppress(FileNotFoundError), open(self.segment(number), "r+b") as file:
            file.truncate(int(length * file.seek(0, os.SEEK_END)))
        for offset in reversed(range(0, SIZES[number], BLOCK_BYTES)):
            self.check(mount, 0, number, offset, BLOCK_BYTES)
            self.loop.run(self.loop.settle)

    @rule()
    def restart(self) -> None:
        self.loop.run(self.loop.unmount)
        self.loop.run(self.loop.mount)

    @rule(
        number=files,
        other=files,
        at=where,
        kind=st.sampled_from(KINDS),
        seed=st.integers(0, 1 << 16),
    )
    def restart_with_damage(self, number: int, other: int, at: float, kind: str, seed: int) -> None:
        """While nothing runs, the disk, a crash or a person changes what is in the cache."""
        self.loop.run(self.loop.unmount)
        paths = self.segment(number), self.segment(other)
        if all(path.exists() for path in paths):
            damage(*paths, at, kind, seed)
            # Foreign bytes take room that holes did not: a daemon looks when it starts.
            Evictor(self.directory / FORMAT, limit_bytes=LIMIT_BYTES, metrics=Metrics()).look()
        self.loop.run(self.loop.mount)
        for one in (number, other):
            self.check(seed % MOUNTS, 1, one, 0, SIZES[one])

    @invariant()
    def the_cache_keeps_within_its_size(self) -> None:
        self.loop.run(self.loop.settle)
        usage = sum(path.stat().st_blocks * 512 for path in self.directory.rglob("*.0"))
        assert usage <= LIMIT_BYTES + MOUNTS * (BLOCK_BYTES + TABLE_BYTES)


TestReadingMachine = ReadingMachine.TestCase
TestReadingMachine.__doc__ = "Every byte that any mount answers, in any life of the cache, is the plain byte."
TestReadingMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)

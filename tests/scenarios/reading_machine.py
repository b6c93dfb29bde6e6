"""What the reading machine drives: mounts of one cache that live from one step to the next, and one that gets killed.

All of it is real but for FUSE: cache, client, and a server that fails as it is instructed.
"""

import multiprocessing
import os
import random
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final, cast
from unittest.mock import patch

import structlog
import trio
import trio.testing

from tests.fakes.client import MemoryClient
from tests.fakes.relay import Relay
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import MemoryStore
from tests.reading.bench import MIB, Bench, add, bench
from vbnfs.access.opening import make_client, make_reading_client
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.adoption import Adoption
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.digests import DigestStore
from vbnfs.cache.eviction import Evictor
from vbnfs.cache.verdicts import Verdicts
from vbnfs.config.sources import load_config
from vbnfs.metrics import Metrics
from vbnfs.objects import Content
from vbnfs.reading.file_reader import FileReader
from vbnfs.s3 import breaker, retry
from vbnfs.s3.breaker import BreakerClient

SIZES: Final = (0, 1, 100_001, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES - 1, 2 * MIB + 17)
PLAIN: Final = [random.Random(f"plain {size}").randbytes(size) for size in SIZES]
MOUNTS: Final = 2
LIMIT_BYTES: Final = 3 * MIB  # less than all contents together: mounts evict, too
_MEMORY_BYTES: Final = 2 * MIB  # so that one block is remembered: the disk is asked, not the memory of what came last
_NO_WAITS: Final = {"_FIRST_WAIT_SECONDS": 0.0, "_LONGEST_WAIT_SECONDS": 0.0}  # of s3/retry.py
_OFFLINE: Final = {"_GRACE_SECONDS": 0.05, "_AGAIN_SECONDS": 0.01, "_SOON_SECONDS": 0.02}  # so that it is soon known
_KILL_SECONDS: Final = 60.0
# Of os, by which the cache is changed.
CHANGES: Final = ("mkdir", "ftruncate", "rename", "unlink", "rmdir", "pwritev", "pwrite")


def fill(store: MemoryStore) -> list[Content]:
    """The contents, with their hashes, as manifests would have them: each stands in the bucket under two keys."""
    contents: list[Content] = []
    for number, data in enumerate(PLAIN):
        content = add(store, f"{number:02}-{len(data)}", data, file_hash=blake2b(data).hexdigest())
        copy = add(store, f"copy-of-{number}", data)
        contents.append(replace(content, others=copy.sources))
    return contents


@asynccontextmanager
async def _clients(endpoint_url: str) -> AsyncIterator[tuple[BreakerClient, MemoryClient]]:
    """The client of a mount, and the part of it that knows whether there is a network."""
    config = load_config(command_line={"endpoint_url": endpoint_url, "bucket": "data-bucket"}, environ={})
    metrics = Metrics()
    async with make_client(config, metrics) as link:
        client, _ = make_reading_client(config, link, metrics)
        yield link, cast(MemoryClient, client)


_bench = partial(bench, limit_bytes=LIMIT_BYTES, prefetch_gets=2, memory_bytes=_MEMORY_BYTES)


class Loop:
    """A trio run in a thread of its own, in which mounts live from one rule to the next."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._open = ExitStack()
        self._open.enter_context(patch.multiple(breaker, **_OFFLINE))
        self.server = self._open.enter_context(FakeS3Server(MemoryStore()))
        self._relay = self._open.enter_context(Relay(self.server.endpoint_url))
        self.contents = fill(self.server.store)
        self.floors: list[Bench] = []
        self.readers: dict[tuple[int, int, int], FileReader] = {}
        self._open.enter_context(patch.multiple(retry, **_NO_WAITS))
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,))
        self._thread.start()
        self._ready.wait()
        self.run(self.mount)

    async def _main(self) -> None:
        self._token, self._end = trio.lowlevel.current_trio_token(), trio.Event()
        async with (
            _clients(self._relay.endpoint_url) as (self._link, self._client),
            trio.open_nursery() as self._nursery,
        ):
            self._nursery.start_soon(self._link.watch)
            self._ready.set()
            await self._end.wait()
            self._nursery.cancel_scope.cancel()

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
        async with _bench(self.directory, client=self._client) as floor:
            task_status.started((floor, ended))
            await self._unmount.wait()
        ended.set()

    async def unmount(self) -> None:
        self._unmount.set()
        for ended in self._ended:
            await ended.wait()
        self.floors.clear()
        self.readers.clear()

    def lose_network(self) -> None:
        """Break all connections and refuse new ones; returns when the mounts know that they are offline."""
        self._relay.cut()
        self.run(self._find_out, True)

    def find_network(self) -> None:
        """Let connections be made again, if they are not; returns when the mounts know."""
        if self._link.is_offline:
            self._relay = self._open.enter_context(Relay(self.server.endpoint_url, port=self._relay.port))
            self.run(self._find_out, False)

    async def _find_out(self, is_offline: bool) -> None:
        self._link.suspect()
        while self._link.is_offline is not is_offline:
            await trio.testing.wait_all_tasks_blocked(0.005)

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
        self._open.close()


# One that imports a file


def import_file(directory: Path, content: Content, data: bytes | bytearray, *, gives_up: bool = False) -> bool:
    """Whether another process takes a file with these bytes for a content. `gives_up`: it ends in the middle."""
    cache = BlockCache(directory, scope="test", metrics=Metrics())
    Evictor(directory, limit_bytes=LIMIT_BYTES, metrics=Metrics()).make_room(content.size_bytes)
    with TemporaryFile() as file:
        file.write(data)
        file.flush()
        verdicts, digests = Verdicts(directory, scope="test"), DigestStore(directory)
        adoption = Adoption(cache, verdicts, digests, content, file.fileno())
        steps = iter(adoption)
        if gives_up:
            next(steps, None)
            steps.close()
            return False
        for _ in steps:
            pass
    return adoption.is_right


# One that gets killed

_processes: Final = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["__main__", __name__])


def read_until_killed(
    directory: Path, endpoint_url: str, number: int, change: int, part: float, *, changes: Sequence[str] = CHANGES
) -> int:
    """Another mount reads content `number`, then the others; SIGKILL meets it in its `change`th call of `changes`.

    Of a write, `part` is done by then. Returns the exit status: -SIGKILL, or 0 if there were not as many calls.
    """
    arguments = (directory, endpoint_url, [number, *range(len(PLAIN))], change, part, changes)
    process = _processes.Process(target=_read_and_die, args=arguments)
    process.start()
    process.join(_KILL_SECONDS)
    assert process.exitcode is not None, "it neither ended nor was killed"
    return process.exitcode


def _read_and_die(
    directory: Path, endpoint_url: str, order: Sequence[int], change: int, part: float, changes: Sequence[str]
) -> None:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    patch.multiple(retry, **_NO_WAITS).start()
    _die_in(change, part, changes)
    trio.run(_read_all, directory, endpoint_url, order)


async def _read_all(directory: Path, endpoint_url: str, order: Sequence[int]) -> None:
    contents = fill(MemoryStore())
    async with _clients(endpoint_url) as (_, client), _bench(directory, client=client) as floor:
        for number in order:
            reader = floor.open(contents[number])
            for offset in range(0, SIZES[number], BLOCK_BYTES):
                assert await reader.read(offset, BLOCK_BYTES) == PLAIN[number][offset : offset + BLOCK_BYTES]
            await floor.settled()


def _die_in(change: int, part: float, changes: Sequence[str]) -> None:
    """Have this process kill itself in its so many-th system call that changes a file, or what there is of them."""
    left, lock, pwrite = [change], threading.Lock(), os.pwrite

    def is_last() -> bool:
        with lock:
            left[0] -= 1
            return left[0] == 0

    def dying(name: str) -> None:
        call = getattr(os, name)

        def call_or_die(*arguments: Any, **more: Any) -> Any:
            if not is_last():
                return call(*arguments, **more)
            if name in {"pwrite", "pwritev"}:
                descriptor, data, offset = arguments
                whole = data if name == "pwrite" else b"".join(data)
                pwrite(descriptor, whole[: int(part * len(whole))], offset)
            elif part >= 0.5:
                call(*arguments, **more)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        setattr(os, name, call_or_die)

    for name in changes:
        dying(name)

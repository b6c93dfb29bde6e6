"""What was fetched is kept, however that ends for which it was fetched: in order, by a failure, by Ctrl-C."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from vbnfs.access import opening as clients
from vbnfs.access.versions import Versions
from vbnfs.access.whole_files import whole_files
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.inventory import scan
from vbnfs.cli import verify
from vbnfs.cli.asked import place_of
from vbnfs.cli.running import run_with_versions
from vbnfs.config.settings import Config
from vbnfs.config.sources import load_config
from vbnfs.daemon.mount import serve
from vbnfs.daemon.systemd import SystemdNotifier
from vbnfs.objects import Content
from vbnfs.reading.block_writer import BlockWriter

NAME = "ecephys_sessions/one.nwb"
PATTERN = Pattern(20_000_001)
PLAIN = PATTERN[: len(PATTERN)]


@pytest.fixture
def dataset() -> FakeDataset:
    """A session."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", {NAME: PATTERN})
    return dataset


@pytest.fixture
def config(dataset: FakeDataset) -> Iterator[Config]:
    """Settings for a server of the dataset."""
    with FakeS3Server(dataset.store) as server:
        yield load_config(command_line={"endpoint_url": server.endpoint_url, "foreground": "true"})


@dataclass
class Disk:
    """A disk that takes nothing until `go_on` is set. `flushes` counts how often all was written for good."""

    directory: Path
    go_on: threading.Event = field(default_factory=threading.Event)
    flushes: int = 0

    @property
    def usage_bytes(self) -> int:
        """What the blocks take."""
        return sum(one.allocated_bytes for one in scan(self.directory))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Disk]:
    """The disk of all caches of the test."""
    disk, put, flush = Disk(tmp_path / "cache"), BlockCache.put, BlockCache.flush

    def put_at_last(cache: BlockCache, *what: Any) -> int:
        disk.go_on.wait(60)
        return put(cache, *what)

    def counted_flush(cache: BlockCache) -> None:
        disk.flushes += 1
        flush(cache)

    monkeypatch.setattr(BlockCache, "put", put_at_last)
    monkeypatch.setattr(BlockCache, "flush", counted_flush)
    yield disk
    disk.go_on.set()


@pytest.fixture(autouse=True)
def _private_files() -> Iterator[None]:
    """Commands set the umask of their process, which here is the tests'."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_ctrl_c_while_files_are_verified(config: Config, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that `vbnfs verify --fetch` has fetched by then is on the disk, and synced."""
    all_has_come, written = threading.Event(), BlockWriter.written

    async def wait_for_the_disk(writer: BlockWriter, content: Content) -> None:
        all_has_come.set()  # and was hashed
        await written(writer, content)

    monkeypatch.setattr(BlockWriter, "written", wait_for_the_disk)

    def interrupt() -> None:
        assert all_has_come.wait(60)
        assert disk.usage_bytes == 0
        os.kill(os.getpid(), signal.SIGINT)
        disk.go_on.set()

    where = place_of(config, [Path(NAME)], given=set())
    with ThreadPoolExecutor(1) as threads:
        interrupting = threads.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            verify.run(where, fetch=True, show=print)
        interrupting.result()
    assert disk.usage_bytes >= len(PLAIN)
    assert disk.flushes == 1


def test_ctrl_c_while_versions_are_compared(config: Config, disk: Disk) -> None:
    """All that `vbnfs diff` has read by then is on the disk, and synced."""

    async def read_and_interrupt(versions: Versions) -> None:
        [file] = versions.manifest(None).files
        async with whole_files(versions) as read:
            assert await read(file) == PLAIN
            assert disk.usage_bytes == 0
            disk.go_on.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_with_versions(config, read_and_interrupt, warn=print)
    assert disk.usage_bytes >= len(PLAIN)
    assert disk.flushes == 1


def test_a_mount_that_fails(config: Config, disk: Disk, mountpoint: Path) -> None:
    """All that was read from a mount is on the disk, and synced, when something ends it out of order."""
    announced = trio.Event()

    async def mount() -> None:
        await serve(config, mountpoint, SystemdNotifier(None), lambda warnings: announced.set())

    async def read_and_fail() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mount)
            await announced.wait()
            assert await trio.to_thread.run_sync((mountpoint / NAME).read_bytes) == PLAIN
            assert disk.usage_bytes == 0
            disk.go_on.set()
            disk.flushes = 0
            raise RuntimeError("a defect")

    with pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
        trio.run(read_and_fail)
    assert disk.usage_bytes >= len(PLAIN)
    assert disk.flushes >= 1


async def test_a_disk_that_hangs_does_not_hold_a_failure_up(autojump_clock: MockClock) -> None:
    """What a disk has not taken in some seconds is lost, after a failure; an orderly end waits for it."""
    source = _Hanging()
    with pytest.RaisesGroup(RuntimeError):
        async with clients.keeping() as keep:
            keep(source)  # type: ignore[arg-type]
            await source.has_begun.wait()
            raise RuntimeError("a defect")
    assert (source.is_closed, source.is_done) == (True, False)
    with trio.fail_after(120):
        async with clients.keeping() as keep, trio.open_nursery() as nursery:
            source = _Hanging()
            keep(source)  # type: ignore[arg-type]
            nursery.start_soon(source.has_begun.wait)
        assert source.is_done


class _Hanging:
    """A source whose blocks the disk takes after a minute: longer than anybody waits after a failure."""

    def __init__(self) -> None:
        self.has_begun = trio.Event()
        self.is_closed = False
        self.is_done = False

    async def keep_blocks(self) -> None:
        self.has_begun.set()
        await trio.sleep(60)
        self.is_done = True

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("is_local", [True, False])
def test_commands_map_nothing_where_others_may_delete(
    config: Config, monkeypatch: pytest.MonkeyPatch, is_local: bool
) -> None:
    """On a file system that may be another host's `vbnfs diff` copies what the cache has, elsewhere it maps it."""
    monkeypatch.setattr(clients, "is_local", lambda path: is_local)
    kept, mapped = f"{config.cache_dir}/", list[bool]()

    def note(*_progress: object) -> None:  # what has just been read is still there
        mapped.append(kept in Path("/proc/self/maps").read_text())

    async def read(versions: Versions) -> None:
        [file] = versions.manifest(None).files
        async with whole_files(versions) as read:
            assert await read(file) == PLAIN
        async with whole_files(versions, progress=note) as read:
            assert await read(file) == PLAIN

    run_with_versions(config, read, warn=print)
    assert mapped[-1] is is_local

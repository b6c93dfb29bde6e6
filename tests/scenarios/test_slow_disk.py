"""A cache on a disk that takes no writes for a while, or takes long for each: reads go on all the same.

A read that is not answered within --io-timeout fails here with ETIMEDOUT: so that it went well is the gate.
"""

import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.disks import freezable_disk, freeze, slow_disk, thaw
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mount, Mounts, run_vbnfs, until
from tests.scenarios.test_ends import threads_of
from tests.scenarios.test_memory import anonymous_bytes
from vbnfs.host.mountinfo import find_mount

MIB = 1 << 20
LONG, SHORT = "ecephys_sessions/one.nwb", "ecephys_sessions/two.nwb"
BYTES = {LONG: random.Random(1).randbytes(200 * MIB + 5), SHORT: random.Random(2).randbytes(48 * MIB)}
SMALL_READS = 150
IO_TIMEOUT_SECONDS = 8
WRITE_SECONDS = 0.3
DISK_BYTES = 800 * MIB
MEMORY_BYTES = 64 * MIB

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def server() -> Iterator[FakeS3Server]:
    """Has two files."""
    with serve({"0.1.0": BYTES}) as server:
        yield server


def new_mount(mounts: Mounts, server: FakeS3Server, disk: Path, *options: str) -> Mount:
    """The kernel reads no file itself: the daemon is what is tested."""
    always = ("--passthrough", "no", "--io-timeout", str(IO_TIMEOUT_SECONDS))
    return mounts(server.endpoint_url, "--cache-dir", disk / "cache", *always, *options)


def read_in_a_row(mount: Mount, name: str) -> None:
    """Read a whole file."""
    with open(mount.path / name, "rb", buffering=0) as file:
        at = 0
        while data := file.read(MIB):
            assert data == BYTES[name][at : at + len(data)]
            at += len(data)
        assert at == len(BYTES[name])


def read_at_random(mount: Mount, name: str) -> None:
    """Small reads, one after the other."""
    order = random.Random(3)
    with open(mount.path / name, "rb", buffering=0) as file:
        for _ in range(SMALL_READS):
            at, length = order.randrange(len(BYTES[name])), order.choice([100, 5_000, 100_000])
            assert os.pread(file.fileno(), length, at) == BYTES[name][at : at + length]


def read_under_load(mount: Mount) -> None:
    """Cold bytes: a long file in a row, and small reads of another one meanwhile."""
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(read_in_a_row, mount, LONG), threads.submit(read_at_random, mount, SHORT)]:
            done.result()


def requests_to_read_anew(mount: Mount, name: str) -> int:
    """How many GETs it takes to read a file by another mount, which has nothing in memory."""
    mount.umount()
    mount.mount()
    read_in_a_row(mount, name)
    return mount.range_requests()


@contextmanager
def memory_within(mount: Mount, limit_bytes: int) -> Iterator[None]:
    """While entered, the daemon takes no more of memory than so much, beside what it had before."""
    pid = mount.status()["pid"]
    before, most, ends = anonymous_bytes(pid), [0], threading.Event()

    def watch() -> None:
        while not ends.wait(0.01):
            most[0] = max(most[0], anonymous_bytes(pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        ends.set()
        watching.join()
    assert most[0] - before <= limit_bytes, f"{(most[0] - before) / MIB:.0f} MiB"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk to freeze."""
    with freezable_disk(tmp_path / "disk", DISK_BYTES) as disk:
        yield disk


@pytest.fixture
def mount(mounts: Mounts, server: FakeS3Server, disk: Path) -> Iterator[Mount]:
    """A mount whose cache's disk takes no writes from now on."""
    mount = new_mount(mounts, server, disk)
    freeze(disk)
    yield mount
    thaw(disk)
    if mount.is_mounted:
        mount.umount()


def test_reads_go_on_while_the_disk_is_frozen(disk: Path, mounts: Mounts, server: FakeS3Server) -> None:
    """A file that is larger than the memory is read, and small reads beside it; memory stays within its limit.

    The disk gets what had room, when it thaws, and the rest when that is read again.
    """
    mount = new_mount(mounts, server, disk, "--memory-limit", str(MEMORY_BYTES))
    freeze(disk)
    with memory_within(mount, MEMORY_BYTES * 5 // 4):
        read_under_load(mount)
    thaw(disk)
    assert requests_to_read_anew(mount, LONG) > 0
    assert requests_to_read_anew(mount, LONG) == 0
    mount.umount()


def test_what_has_room_in_memory_is_kept_when_the_disk_thaws(mount: Mount, disk: Path) -> None:
    """A disk that is frozen for a moment, as by a snapshot, costs no second GET."""
    read_in_a_row(mount, SHORT)
    thaw(disk)
    assert requests_to_read_anew(mount, SHORT) == 0


def test_unmounting_from_a_frozen_disk(mount: Mount, disk: Path) -> None:
    """The mount goes; the command says that a disk keeps the daemon, which is gone when the disk thaws."""
    pid = mount.status()["pid"]
    read_in_a_row(mount, SHORT)
    done = run_vbnfs("umount", mount.path)
    assert (done.returncode, "waits for the cache's disk, which does not answer" in done.stderr) == (1, True), done
    assert "vbnfs: unmounted; waiting for its daemon (process " in done.stderr
    mount.is_mounted = False
    assert find_mount(mount.path) is None
    assert threads_of(pid)
    thaw(disk)
    until(lambda: not threads_of(pid))


def test_reads_go_on_while_the_disk_is_slow(tmp_path: Path, mounts: Mounts, server: FakeS3Server) -> None:
    """Each write of a block takes 300 ms, some of them many times that: neither reads nor the end wait for all."""
    with slow_disk(tmp_path / "disk", DISK_BYTES) as disk:
        mount = new_mount(mounts, server, disk.path, "--memory-limit", str(MEMORY_BYTES))
        disk.be_slow(WRITE_SECONDS)
        with memory_within(mount, MEMORY_BYTES * 5 // 4):
            read_under_load(mount)
        disk.be_slow(0)
        requests_to_read_anew(mount, LONG)
        assert requests_to_read_anew(mount, LONG) == 0
        mount.umount()

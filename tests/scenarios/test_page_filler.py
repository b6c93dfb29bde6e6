"""Real mounts of which small parts are read again and again, so that the kernel is made to read whole blocks."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from errno import ECONNABORTED, ENOTCONN
from functools import partial
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from tests.children import children_of
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, drop_pages, until
from vbnfs.filesystem import page_filler_program
from vbnfs.host.mountinfo import find_mount

SESSION = "ecephys_sessions/ecephys_session_1044.nwb"
SIZE_BYTES = 6_000_001
DATA = Pattern(SIZE_BYTES)
PAGE, BLOCK_BYTES = 4096, 256 << 10
BLOCKS = -(-SIZE_BYTES // BLOCK_BYTES)
SPAWN = multiprocessing.get_context("spawn")
MOST_SECONDS = 10  # until a mount has ended, on a machine that runs all tests at once


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with one session."""
    with serve({"0.1.0": {"project_metadata/units.csv": b"unit_id\n1\n", SESSION: DATA}}) as server:
        yield server


@pytest.fixture
def mount(mounts: Mounts, server: FakeS3Server) -> Mount:
    """A mount whose files are cached, and not in the kernel's memory."""
    mount = mounts(server.endpoint_url, "--passthrough", "no")
    assert (mount.path / SESSION).read_bytes() == DATA[:]
    drop_pages(mount.path / SESSION)
    return mount


def metric(mount: Mount, name: str) -> int:
    count: int = mount.status()["metrics"][name]
    return count


def helpers_of(pid: int) -> list[int]:
    """The processes that read ahead for a daemon, as long as it lives."""
    found = []
    for child in children_of(pid):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            if str(page_filler_program.__file__) in Path(f"/proc/{child}/cmdline").read_text().split("\0"):
                found.append(child)
    return found


def is_gone(pid: int) -> bool:
    """Whether a process is not there, or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def read_at_random(path: Path, *, seed: int) -> None:
    """Read each page once, in some order; compare."""
    pages = list(range(SIZE_BYTES // PAGE + 1))
    random.Random(seed).shuffle(pages)
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for page in pages:
            assert os.pread(file.fileno(), PAGE, page * PAGE) == DATA[page * PAGE : (page + 1) * PAGE]


def read_again_and_again(path: Path, *, seed: int, seconds: float, drops: bool) -> None:
    """Compare bytes at random until the time is up; now and then have the kernel forget pages of the file."""
    rng, deadline = random.Random(seed), time.monotonic() + seconds
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    while time.monotonic() < deadline:
        size = rng.choice([1, 17, PAGE, PAGE, PAGE, 3 * PAGE + 1, BLOCK_BYTES, 300_000])
        offset = rng.randrange(SIZE_BYTES) if size % PAGE else rng.randrange(SIZE_BYTES) // PAGE * PAGE
        data = os.pread(descriptor, size, offset)
        assert data == DATA[offset : min(offset + size, SIZE_BYTES)], f"wrong bytes at {offset}"
        if drops and rng.random() < 0.02:
            start = rng.randrange(SIZE_BYTES)
            os.posix_fadvise(descriptor, start, rng.randrange(SIZE_BYTES), os.POSIX_FADV_DONTNEED)
    assert os.fstat(descriptor).st_size == SIZE_BYTES


def readers(path: Path, count: int, *, seed: int, seconds: float) -> list[SpawnProcess]:
    """So many processes that read at random."""
    arguments = [{"seed": seed + number, "seconds": seconds, "drops": number % 2 == 0} for number in range(count)]
    found = [SPAWN.Process(target=read_again_and_again, args=[path], kwargs=each) for each in arguments]
    for process in found:
        process.start()
    return found


def test_small_parts_bring_whole_blocks(mount: Mount) -> None:
    """After two pages of a block, of the last one, too, the kernel has all of it, and S3 was not asked."""
    before, ranges = metric(mount, "read_bytes"), mount.range_requests()
    wanted = [0, 7, BLOCKS - 1]
    with (mount.path / SESSION).open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)

        def check(start: int) -> None:
            assert os.pread(file.fileno(), PAGE, start) == DATA[start : min(start + PAGE, SIZE_BYTES)]

        for block in wanted:
            check(block * BLOCK_BYTES + 20 * PAGE)
            check(block * BLOCK_BYTES + 5 * PAGE)
        until(lambda: metric(mount, "read_bytes") - before == 2 * BLOCK_BYTES + SIZE_BYTES % BLOCK_BYTES)
        requests = metric(mount, "read_requests")
        for block in wanted:
            for start in range(block * BLOCK_BYTES, min((block + 1) * BLOCK_BYTES, SIZE_BYTES), PAGE):
                check(start)
    assert metric(mount, "read_requests") - requests < len(wanted)  # whose memory is short may have lost a page
    assert mount.range_requests() == ranges


@pytest.mark.parametrize("step", [PAGE, 100_000, 1 << 20])
def test_reading_in_order_needs_no_help(mount: Mount, step: int) -> None:
    """Who reads from the beginning to the end has the kernel read ahead anyhow; no process is started for that."""
    with (mount.path / SESSION).open("rb", buffering=0) as file:
        while file.read(step):
            pass
    assert metric(mount, "whole_blocks") == 0
    assert helpers_of(mount.status()["pid"]) == []


def test_a_file_that_is_not_cached(mounts: Mounts, server: FakeS3Server) -> None:
    """Small parts of some blocks bring these blocks from S3, each once, and no others."""
    mount = mounts(server.endpoint_url, "--passthrough", "no")
    wanted = [2, 3, 4, 9, 17]
    with (mount.path / SESSION).open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for page in (0, 20, 40, 60):
            for block in wanted:
                start = block * BLOCK_BYTES + page * PAGE
                assert os.pread(file.fileno(), PAGE, start) == DATA[start : start + PAGE]
    until(lambda: metric(mount, "whole_blocks") >= len(wanted))
    assert metric(mount, "received_bytes") == len(wanted) * BLOCK_BYTES


def test_every_byte_while_pages_come_and_go(mount: Mount) -> None:
    """Several processes read parts of any size anywhere, while pages are forgotten: no byte is wrong, ever."""
    for process in readers(mount.path / SESSION, 5, seed=100, seconds=8.0):
        process.join()
        assert process.exitcode == 0
    assert metric(mount, "whole_blocks") > BLOCKS


def test_a_daemon_that_is_stopped_for_a_while(mount: Mount) -> None:
    """Requests that wait for a stopped daemon, the helper's among them, are answered when it goes on."""
    pid = mount.status()["pid"]
    running = readers(mount.path / SESSION, 4, seed=200, seconds=5.0)
    until(lambda: metric(mount, "whole_blocks") > 0)
    os.kill(pid, signal.SIGSTOP)
    goes_on = time.monotonic() + 3
    until(lambda: time.monotonic() > goes_on)
    os.kill(pid, signal.SIGCONT)
    for process in running:
        process.join()
        assert process.exitcode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_under_readers(mount: Mount, number: int) -> None:
    """Ended in the midst of it, again and again: no reader hangs, the mount point is free, and the helper is gone."""
    for seed in range(3):
        pid = mount.status()["pid"]
        running = readers(mount.path / SESSION, 8, seed=300 + seed, seconds=600.0)
        until(lambda: metric(mount, "whole_blocks") > 20)
        [helper] = helpers_of(pid)
        os.kill(pid, number)
        for reader in running:
            reader.join(MOST_SECONDS)
            assert reader.exitcode == 1, "a reader hangs, or got no error"
        until(lambda: is_free(mount.path), seconds=MOST_SECONDS)
        for process in (pid, helper):
            until(partial(is_gone, process), seconds=MOST_SECONDS)
        mount.mount()
        drop_pages(mount.path / SESSION)


def is_free(path: Path) -> bool:
    """Whether a mount is gone, or its daemon is, and nobody has to wait who looks at it."""
    try:
        os.statvfs(path)
    except OSError as error:
        return error.errno in {ENOTCONN, ECONNABORTED}
    return find_mount(path) is None


def test_a_helper_that_is_killed(mount: Mount) -> None:
    """Without it everything is read as ever, in small parts; no other is started."""
    pid = mount.status()["pid"]
    read_at_random(mount.path / SESSION, seed=2)
    [helper] = helpers_of(pid)
    os.kill(helper, signal.SIGKILL)
    until(lambda: is_gone(helper))
    before = metric(mount, "whole_blocks")
    for seed in (3, 4):
        drop_pages(mount.path / SESSION)
        read_at_random(mount.path / SESSION, seed=seed)
    assert metric(mount, "whole_blocks") == before
    assert [one for one in helpers_of(pid) if not is_gone(one)] == []


def test_a_helper_that_hangs(mount: Mount) -> None:
    """What it does not take is dropped: nobody waits for it, and the mount ends without it."""
    pid = mount.status()["pid"]
    read_at_random(mount.path / SESSION, seed=5)
    [helper] = helpers_of(pid)
    os.kill(helper, signal.SIGSTOP)
    try:
        for seed in range(6, 12):
            drop_pages(mount.path / SESSION)
            read_at_random(mount.path / SESSION, seed=seed)
        os.kill(pid, signal.SIGTERM)
        until(lambda: find_mount(mount.path) is None)
        until(lambda: is_gone(pid))
    finally:
        os.kill(helper, signal.SIGCONT)
    until(lambda: is_gone(helper))


def test_unmounting_as_soon_as_it_was_read(mount: Mount) -> None:
    """A user who has read at random can unmount at once, and the mount is not busy: no file is kept open."""
    for seed in range(3):
        drop_pages(mount.path / SESSION)
        read_at_random(mount.path / SESSION, seed=seed)
        mount.umount()
        mount.mount()

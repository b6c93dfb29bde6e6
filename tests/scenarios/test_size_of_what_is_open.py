"""The cache's size on a disk of its own, while the kernel reads a file that may be deleted meanwhile."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.disks import loop_disk, used_bytes
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, drop_pages, run_vbnfs, until

UNIT = 1_000_000
LIMIT_BYTES = 50 * UNIT
DISK_BYTES = 150 * UNIT
MOST_BYTES = 1.05 * LIMIT_BYTES
LARGE, OTHER = (f"ecephys_sessions/ecephys_session_{number}.nwb" for number in (1044, 1045))
SIZES = {LARGE: 47 * UNIT, OTHER: 30 * UNIT}

pytestmark = pytest.mark.root


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of two sessions: one nearly as large as the cache, one that has no room beside it."""
    with serve({"0.1.0": {name: Pattern(size, seed=size) for name, size in SIZES.items()}}) as server:
        yield server


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 of its own."""
    with loop_disk(tmp_path / "disk", ["mkfs.ext4", "-q"], DISK_BYTES) as disk:
        yield disk


def read_and_measure(path: Path, disk: Path) -> int:
    """Read a file in a row; the most that the disk had given meanwhile."""
    most, count = 0, 0
    drop_pages(path)
    with path.open("rb") as file:
        while part := file.read(UNIT):
            most, count = max(most, used_bytes(disk)), count + len(part)
    assert count == path.stat().st_size
    return most


def requests_of(mount: Mount, path: Path) -> int:
    """How many ranges are fetched for a file that is read now, its pages not in memory."""
    before = mount.range_requests()
    drop_pages(path)
    path.read_bytes()
    return mount.range_requests() - before


def until_shown(disk: Path) -> None:
    """Other processes know that the kernel reads a file."""
    until(lambda: any(b"kernel" in file.read_bytes() for file in disk.rglob("cache/blocks-v2/.held/*")))


def test_what_the_kernel_reads_counts(mounts: Mounts, server: FakeS3Server, disk: Path) -> None:
    """One mount has a file of 94 % of the limit open, and another one reads a second file: both keep within it.

    So do they when the file is deleted from the cache: it takes its room until the program has closed it.
    """
    empty_bytes = used_bytes(disk)
    options = ["--cache-dir", str(disk / "cache"), "--cache-size", str(LIMIT_BYTES), "--memory-limit", "16M"]
    one, two = (mounts(server.endpoint_url, *options, name=name) for name in ("one", "two"))
    large, other = one.path / LARGE, two.path / OTHER
    large.read_bytes()
    until(lambda: os.getxattr(large, "user.vbnfs.read_by") == b"kernel", seconds=60)
    with large.open("rb") as opened:
        until_shown(disk)
        assert read_and_measure(other, disk) <= empty_bytes + MOST_BYTES
        assert os.getxattr(large, "user.vbnfs.cached") == b"%d" % SIZES[LARGE]
        assert run_vbnfs("clean", large).returncode == 0
        until(lambda: os.getxattr(large, "user.vbnfs.cached") == b"0")
        assert used_bytes(disk) > empty_bytes + SIZES[LARGE]
        assert read_and_measure(other, disk) <= empty_bytes + MOST_BYTES
        assert len(opened.read()) == SIZES[LARGE]
    until(lambda: used_bytes(disk) < empty_bytes + SIZES[LARGE])
    until(lambda: requests_of(two, other) == 0)
    for mount in (one, two):
        mount.umount()


def test_what_the_kernel_reads_counts_after_kill_9(mounts: Mounts, server: FakeS3Server, disk: Path) -> None:
    """A daemon is killed while a program has a file open, and the folder is mounted anew: all is as if it lived.

    The first mount is in no list of mounts any more. When the program closes the file, its room is free.
    """
    empty_bytes = used_bytes(disk)
    options = ["--cache-dir", str(disk / "cache"), "--cache-size", str(LIMIT_BYTES), "--memory-limit", "16M"]
    mount = mounts(server.endpoint_url, *options)
    large, other = mount.path / LARGE, mount.path / OTHER
    large.read_bytes()
    until(lambda: os.getxattr(large, "user.vbnfs.read_by") == b"kernel", seconds=60)
    with large.open("rb") as opened:
        until_shown(disk)
        os.kill(mount.status()["pid"], signal.SIGKILL)
        mount.mount()
        assert read_and_measure(other, disk) <= empty_bytes + MOST_BYTES
        assert os.getxattr(large, "user.vbnfs.cached") == b"%d" % SIZES[LARGE]
        assert run_vbnfs("clean", large).returncode == 0
        assert used_bytes(disk) > empty_bytes + SIZES[LARGE]
        assert mount.status()["cache_usage_bytes"] >= SIZES[LARGE]
        assert read_and_measure(other, disk) <= empty_bytes + MOST_BYTES
        assert len(opened.read()) == SIZES[LARGE]
    until(lambda: used_bytes(disk) < empty_bytes + SIZES[LARGE])
    assert mount.status()["cache_usage_bytes"] < SIZES[LARGE]
    until(lambda: requests_of(mount, other) == 0)
    mount.umount()

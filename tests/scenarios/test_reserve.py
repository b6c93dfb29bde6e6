"""The cache is a guest on its disk: when another process fills that, the cache gives way."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.disks import loop_disk
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mounts, run_vbnfs, until

MIB = 1 << 20
EXT4 = ("mkfs.ext4", "-q", "-m", "0")
RESERVE_BYTES = 300 * MIB
RESTORED_SECONDS = 10.0
NAMES = [f"ecephys_sessions/ecephys_session_{number}.nwb" for number in range(20)]
# Writes 200 MB a second, until so much is written, and no faster after it had to wait. Prints what it was refused.
FILLER = """
import os, sys, time
descriptor, left, due, written = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), int(sys.argv[2]), time.monotonic(), 0
while written < left:
    due = max(due + (2 << 20) / 200e6, time.monotonic())
    time.sleep(max(0, due - time.monotonic()))
    try:
        written += os.write(descriptor, bytes(2 << 20))
    except OSError as error:
        print(error.strerror)
        break
"""


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of twenty sessions of 20 MB."""
    with serve({"0.1.0": {name: Pattern(20 * MIB, seed=seed) for seed, name in enumerate(NAMES)}}) as server:
        yield server


def free_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


@pytest.mark.root
def test_others_fill_the_disk(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """Another process gets all the room that it wants, 20 MB of the cache's and all of the reserve, 200 MB a second.

    Ten seconds later the reserve is free again, although two mounts have all files open. What is left in the cache is
    read as before, and the rest from S3.
    """
    disk = tmp_path / "disk"
    with loop_disk(disk, EXT4, 900 * MIB), ExitStack() as stack:
        options = ["--cache-dir", str(disk / "cache"), "--cache-reserve", "300M", "--memory-limit", "16M"]
        one, other = (mounts(server.endpoint_url, *options, name=name) for name in ("one", "other"))
        for mount in (one, other):
            for name in NAMES:
                file = stack.enter_context((mount.path / name).open("rb"))
                assert len(file.read()) == 20 * MIB
        assert run_vbnfs("prefetch", one.path / "ecephys_sessions").returncode == 0  # what a slow disk did not take
        # What "other" has added shows within half a minute.
        until(lambda: one.status()["cache_usage_bytes"] > 390 * MIB, seconds=60)
        wanted = free_bytes(disk) + 20 * MIB
        command = [sys.executable, "-c", FILLER, disk / "of another program", str(wanted)]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == ""
        ended = time.monotonic()
        until(lambda: free_bytes(disk) >= RESERVE_BYTES)
        assert time.monotonic() - ended <= RESTORED_SECONDS
        assert one.status()["cache_problem"] is None
        for name in NAMES:
            assert len((one.path / name).read_bytes()) == 20 * MIB
            assert free_bytes(disk) >= RESERVE_BYTES
        stack.close()
        one.umount()
        other.umount()


@pytest.mark.root
def test_a_disk_with_less_free_than_the_reserve(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """`vbnfs mount` and `vbnfs status` say so, with the remedy; reads go on, nothing is kept, df shows no room."""
    disk = tmp_path / "disk"
    with loop_disk(disk, EXT4, 100 * MIB):
        mount = mounts(server.endpoint_url, "--cache-dir", disk / "cache", "--cache-reserve", "1T")
        shown = run_vbnfs("status", mount.path).stdout
        for text in (mount.warnings, shown):
            assert "the disk has less free than the reserve (0.1 GiB of 1024.0 GiB)" in text
            assert "--cache-reserve" in text
        assert "of which it leaves 1.0 TiB" in shown
        assert len((mount.path / NAMES[0]).read_bytes()) == 20 * MIB
        assert os.statvfs(mount.path).f_bavail == 0
        status = mount.status()
        assert status["cache_usage_bytes"] == 0
        assert (status["cache_reserve_bytes"], status["metrics"]["cache_write_errors"]) == (1 << 40, 0)
        mount.umount()


@pytest.mark.root
def test_a_small_disk_is_used_by_half(
    mounts: Mounts, server: FakeS3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a setting, on a disk of 100 MB: files are cached, and half of the disk stays free."""
    monkeypatch.delenv("VBNFS_CACHE_RESERVE")
    disk = tmp_path / "disk"
    with loop_disk(disk, EXT4, 100 * MIB):
        mount = mounts(server.endpoint_url, "--cache-dir", disk / "cache")
        for name in NAMES[:5]:
            assert len((mount.path / name).read_bytes()) == 20 * MIB
            assert free_bytes(disk) >= mount.status()["cache_reserve_bytes"] > 40 * MIB
        assert mount.status()["cache_usage_bytes"] > 10 * MIB
        mount.umount()

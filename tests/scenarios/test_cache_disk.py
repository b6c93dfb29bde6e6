"""What `vbnfs status` and df tell of the disk below the cache is so when they are asked."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.fakes.cache_files import FILES, content_folders, place_of
from tests.fakes.dataset import serve
from tests.fakes.disks import memory_disk, remount
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, run_vbnfs, until
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.cache_disk import CacheDisk
from vbnfs.cache.eviction import Evictor
from vbnfs.cache.inventory import scan
from vbnfs.metrics import Metrics

MIB = 1 << 20
NAME, LARGE = "ecephys_sessions/ecephys_session_1.nwb", "ecephys_sessions/ecephys_session_2.nwb"


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of two sessions."""
    with serve({"0.1.0": {NAME: Pattern(3 * MIB), LARGE: Pattern(24 * MIB, seed=2)}}) as server:
        yield server


def kept_bytes(tmp_path: Path) -> int:
    return sum(one.allocated_bytes for one in scan(tmp_path / "cache"))


def warning(mount: Mount) -> str:
    """The line of `vbnfs status` about a disk that takes nothing; '' if there is none."""
    lines = run_vbnfs("status", mount.path).stdout.splitlines()
    return "".join(line for line in lines if line.startswith("    not kept "))


def available_bytes(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


@pytest.mark.root
def test_a_full_disk_shows(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """Reason and remedy stand in `status` as long as the disk takes nothing; usage is what the disk has, df's too."""
    cache = tmp_path / "cache"
    with memory_disk(cache, "size=12m"):
        mount = mounts(server.endpoint_url, "--memory-limit", "16M")  # less than the file is remembered
        assert (mount.status()["cache_problem"], warning(mount)) == (None, "")
        assert len((mount.path / LARGE).read_bytes()) == 24 * MIB
        until(lambda: mount.status()["cache_problem"] is not None)
        for part in ("No space left on device", str(cache), "free some", "--cache-dir"):
            assert part in warning(mount)
        for_readers = (mount.path / ".vbnfs" / "status.json").read_text()
        assert ("is not kept now" in for_readers, str(tmp_path) in for_readers) == (True, False)
        assert mount.status()["cache_usage_bytes"] == kept_bytes(tmp_path) <= 12 * MIB
        status = os.statvfs(mount.path)
        assert (status.f_blocks - status.f_bfree) * status.f_frsize <= 12 * MIB
        assert available_bytes(mount.path) <= available_bytes(cache)
        remount(cache, "size=100m")
        assert (mount.status()["cache_problem"], warning(mount)) == (None, "")
        assert 80 * MIB < available_bytes(mount.path) <= available_bytes(cache)
        mount.umount()


@pytest.mark.root
def test_a_read_only_disk_shows(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """From mounting on, before anything is read, and until it can be written to."""
    with memory_disk(tmp_path / "cache", "size=100m"):
        mount = mounts(server.endpoint_url)
        assert mount.warnings == ""
        mount.umount()
        remount(tmp_path / "cache", "ro")
        mount.mount()
        assert "read-only" in mount.warnings
        assert "read-only" in warning(mount)
        remount(tmp_path / "cache", "rw")
        assert warning(mount) == ""
        mount.umount()


@pytest.mark.root
def test_df_tells_what_is_left(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """Available is the smaller of what --cache-size leaves and what the disk has free."""
    with memory_disk(tmp_path / "cache", "size=50m"):
        free_bytes = available_bytes(tmp_path / "cache")
        large = mounts(server.endpoint_url, "--cache-size", "1G", name="large")
        until(lambda: 0 < available_bytes(large.path) <= free_bytes)
        assert os.statvfs(large.path).f_blocks * os.statvfs(large.path).f_frsize == 1 << 30
        small = mounts(server.endpoint_url, "--cache-size", "10M", name="small")
        assert 9 * MIB < available_bytes(small.path) <= 10 * MIB
        small.umount()
        large.umount()


def test_what_others_have_cached_shows_at_once(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """`status` right after another process has fetched, or deleted, tells what is on the disk then."""
    mount = mounts(server.endpoint_url)
    assert run_vbnfs("verify", "--fetch", mount.path / NAME).returncode == 0
    assert mount.status()["cache_usage_bytes"] == kept_bytes(tmp_path) > 3 * MIB
    for folder in content_folders(tmp_path / "cache"):
        shutil.rmtree(folder)
    assert mount.status()["cache_usage_bytes"] == 0


async def test_many_askers_share_a_check(tmp_path: Path) -> None:
    """Of fifty who ask at the same time none waits for more than two looks, and each sees what was there then."""
    looks = 0

    def note(contents: object) -> None:
        nonlocal looks
        looks += 1

    metrics = Metrics()
    cache = BlockCache(tmp_path, scope="aws", metrics=metrics)
    folder = place_of(tmp_path, "00ab", scope="aws")
    folder.mkdir(parents=True, mode=0o700)
    disk = CacheDisk(cache, Evictor(tmp_path, limit_bytes=MIB, metrics=metrics, on_scan=note))
    for name in FILES:
        (folder / name).write_bytes(bytes(8192))
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(disk.check)
    assert disk.usage_bytes == 2 * 8192 + folder.stat().st_blocks * 512
    assert looks <= 2


def test_offline_by_wish(mounts: Mounts, server: FakeS3Server) -> None:
    """`status` tells a mount that is not to ask anybody from one whose server cannot be reached."""
    mount = mounts(server.endpoint_url)
    mount.umount()
    mount.options.append("--offline")
    mount.mount()
    shown = run_vbnfs("status", mount.path).stdout
    assert "--offline" in shown
    assert "not reached" not in shown
    mount.umount()

"""A cache on a disk that loses power: a real ext4 that is shut down without writing what it has in memory."""

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, until
from vbnfs.storage.segment import TABLE_BYTES

SYNCED = "ecephys_sessions/synced.nwb"
LATER = "ecephys_sessions/later.nwb"
FILES = {SYNCED: Pattern(12_000_001, seed=1), LATER: Pattern(9_000_001, seed=2)}
BLOCKS = 46  # of SYNCED, 256 KiB each

pytestmark = pytest.mark.root


def run(*command: str | Path) -> str:
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, timeout=60).stdout


@dataclass
class Disk:
    """An ext4 in a file, which writes nothing by itself for ten minutes but the data that is old."""

    image: Path
    path: Path

    def mount(self) -> None:
        run("mount", "-o", "loop,commit=600", self.image, self.path)

    def lose_power(self) -> None:
        """What was not synced is gone, and nothing can be read or written until it is mounted again."""
        run("xfs_io", "-x", "-c", "shutdown", self.path)

    def is_on_disk(self, segment: Path) -> bool:
        """Whether every extent of a file has its place on the disk: the kernel decides it when it writes them."""
        return "delalloc" not in run("filefrag", "-v", segment)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """The disk, mounted as the test's cache directory."""
    disk = Disk(tmp_path / "disk.img", tmp_path / "cache")
    with open(disk.image, "wb") as file:
        file.truncate(128 << 20)
    run("mkfs.ext4", "-q", disk.image)
    disk.path.mkdir()
    disk.mount()
    disk.path.chmod(0o700)
    run("sync", "-f", disk.path)
    yield disk
    run("umount", "--lazy", disk.path)


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of the two sessions."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", FILES)
    with FakeS3Server(dataset.store) as server:
        yield server


def read(mount: Mount, name: str) -> None:
    pattern = FILES[name]
    assert (mount.path / name).read_bytes() == pattern[: len(pattern)]
    assert int(os.getxattr(mount.path / name, "user.vbnfs.cached")) == len(pattern)  # all of it is written


def test_what_was_synced_before_the_power_went_is_used(mounts: Mounts, server: FakeS3Server, disk: Disk) -> None:
    """The daemon syncs blocks by itself; 95 % of them are used after the power cut, what came later is right anew."""
    mount = mounts(server.endpoint_url)
    read(mount, SYNCED)
    (segment,) = (disk.path / "blocks-v1").rglob("*.0")
    assert segment.stat().st_size == TABLE_BYTES + len(FILES[SYNCED])
    until(lambda: disk.is_on_disk(segment))  # the daemon's sync has begun; nothing else writes so early
    run("sync", "-f", disk.path)  # and has ended
    left = segment.parent / ".new-left"
    left.touch()
    run("sync", "-f", disk.path)
    read(mount, LATER)
    pid = mount.status()["pid"]
    disk.lose_power()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists())
    run("umount", disk.path)
    disk.mount()
    assert left.exists()
    mount.mount()
    server.forget_requests()
    read(mount, SYNCED)
    again = sum("synced" in request.key for request in server.requests if request.kind == "get_range")
    assert again <= BLOCKS * 0.05
    read(mount, LATER)
    until(lambda: not list((disk.path / "blocks-v1").rglob(".new-*")))
    mount.umount()

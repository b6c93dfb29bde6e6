"""A cache on a disk that loses power: a real one, which is shut down without writing what it has in memory."""

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.cache_files import content_folders, leave_unfinished
from tests.fakes.dataset import serve
from tests.fakes.disks import make_image, mount_copy
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, until
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.content_folder import DATA

SYNCED = "ecephys_sessions/synced.nwb"
LATER = "ecephys_sessions/later.nwb"
FILES = {SYNCED: Pattern(12_000_001, seed=1), LATER: Pattern(9_000_001, seed=2)}

pytestmark = pytest.mark.root


def run(*command: str | Path) -> str:
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, timeout=60).stdout


@dataclass
class Disk:
    """A file system in a file, which writes what it has in memory by itself only after a long time."""

    image: Path
    path: Path
    options: str

    def mount(self) -> None:
        run("mount", "-o", f"loop,{self.options}", self.image, self.path)

    def lose_power(self) -> None:
        """What was not synced is gone, and nothing can be read or written any more."""
        run("xfs_io", "-x", "-c", "shutdown", self.path)

    def mount_again(self) -> None:
        """The power is back."""
        self.image = mount_copy(self.path, self.image, f"loop,{self.options}")


@pytest.fixture(params=["ext4", "xfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """The disk, mounted as the test's cache directory."""
    # xfs: 30 s, and no such option; the copy has the UUID of the image, which may be mounted elsewhere still
    options = {"ext4": "commit=600", "xfs": "nouuid"}[request.param]
    image = make_image(tmp_path / "disk.img", [f"mkfs.{request.param}", "-q"], 320 << 20)
    disk = Disk(image, tmp_path / "cache", options)
    disk.path.mkdir()
    disk.mount()
    disk.path.chmod(0o700)
    run("sync", "-f", disk.path)
    yield disk
    run("umount", "--lazy", disk.path)


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of the two sessions."""
    with serve({"0.1.0": FILES}) as server:
        yield server


def read(mount: Mount, name: str) -> None:
    pattern = FILES[name]
    assert (mount.path / name).read_bytes() == pattern[: len(pattern)]
    assert int(os.getxattr(mount.path / name, "user.vbnfs.cached")) == len(pattern)  # all of it is written


def blocks_asked_for(server: FakeS3Server, name: str) -> int:
    """How many blocks of a file were fetched, one by one or in runs."""
    ranges = [r.headers["range"].removeprefix("bytes=") for r in server.requests if r.key.endswith(name)]
    ends = [map(int, text.split("-")) for text in ranges]
    return sum(last // BLOCK_BYTES - first // BLOCK_BYTES + 1 for first, last in ends)


def test_what_the_daemon_has_synced_is_used(mounts: Mounts, server: FakeS3Server, disk: Disk) -> None:
    """The daemon syncs by itself, some seconds after writing: 95 % of that are used after a power cut.

    What it wrote later is right, from the disk or anew; what was left unfinished is gone.
    """
    mount = mounts(server.endpoint_url)
    read(mount, SYNCED)

    def is_synced() -> bool:
        metrics = mount.status()["metrics"]
        return metrics["flushed_bytes"] == metrics["kept_bytes"] >= len(FILES[SYNCED])

    until(is_synced)
    read(mount, LATER)
    pid = mount.status()["pid"]
    disk.lose_power()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists())
    disk.mount_again()
    folders = content_folders(disk.path)
    [folder] = (one for one in folders if (one / DATA).stat().st_size == len(FILES[SYNCED]))
    left = leave_unfinished(folder.parent)
    mount.mount()
    server.forget_requests()
    read(mount, SYNCED)
    assert blocks_asked_for(server, SYNCED) <= 0.05 * len(FILES[SYNCED]) / BLOCK_BYTES
    read(mount, LATER)
    until(lambda: not any(folder.exists() for folder in left))
    mount.umount()


def test_after_unmounting_the_power_may_go(mounts: Mounts, server: FakeS3Server, disk: Disk) -> None:
    """When `vbnfs umount` has returned, all that was kept is on the disk for good, however lately it was written."""
    mount = mounts(server.endpoint_url)
    read(mount, SYNCED)
    mount.umount()
    disk.lose_power()
    disk.mount_again()
    mount.mount()
    server.forget_requests()
    read(mount, SYNCED)
    assert blocks_asked_for(server, SYNCED) == 0
    mount.umount()

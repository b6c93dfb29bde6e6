"""A cache on a file system that is not known to be this machine's: a real one in user space stands for NFS.

bindfs passes everything on to a folder. It has what is relied upon (link, rename, unlink, writing in place), and
vbnfs cannot know whose disk is behind it.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mounts, drop_pages, until
from vbnfs.mount import mountpoint
from vbnfs.mount.mountpoint import is_local

NAME = "ecephys_sessions/one.nwb"
PATTERN = Pattern(5_000_001)
PLAIN = PATTERN[: len(PATTERN)]


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of two sessions."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", {NAME: PATTERN, "ecephys_sessions/two.nwb": Pattern(4_000_001, seed=2)})
    with FakeS3Server(dataset.store) as server:
        yield server


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Path]:
    """The folder behind the cache directory of the test."""
    behind, cache = tmp_path / "behind", tmp_path / "cache"
    for folder in (behind, cache):
        folder.mkdir(mode=0o700)
    subprocess.run(["bindfs", "--no-allow-other", behind, cache], check=True)
    yield behind
    subprocess.run(["fusermount3", "-u", "-z", cache], check=True)


def test_a_cache_that_may_be_another_hosts(mounts: Mounts, server: FakeS3Server, far: Path, tmp_path: Path) -> None:
    """Blocks are kept, shared, used again after SIGKILL, and evicted, by the other host, too; the log tells of it."""
    one, other = (mounts(server.endpoint_url, name=name) for name in ("one", "other"))
    assert (one.path / NAME).read_bytes() == PLAIN
    until(lambda: os.getxattr(one.path / NAME, "user.vbnfs.verified").startswith(b"blake2b:"))
    assert (other.path / NAME).read_bytes() == PLAIN
    assert other.range_requests() == 0
    os.kill(one.status()["pid"], signal.SIGKILL)
    one.mount()
    assert (one.path / NAME).read_bytes() == PLAIN
    assert one.range_requests() == 0
    for segment in far.rglob("*.0"):
        segment.unlink()  # as another host evicts
    drop_pages(other.path / NAME)
    assert (other.path / NAME).read_bytes() == PLAIN
    small = mounts(server.endpoint_url, "--cache-size", "2M", name="small")
    (small.path / "ecephys_sessions/two.nwb").read_bytes()
    until(lambda: small.status()["metrics"]["evicted_segments"] > 0)
    whole, _, _ = (tmp_path / "vbnfs.log").read_text().rpartition("\n")
    events = [json.loads(line)["event"] for line in whole.splitlines()]
    assert sum("another host" in event for event in events) == 4  # one for each time that it was mounted


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("nfs", False), ("nfs4", False), ("cifs", False), ("fuse.sshfs", False), ("ceph", False), ("ext4", True)],
)
def test_what_is_local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, expected: bool) -> None:
    """A cache is local if the kernel's table says that it is on a disk's file system; what is not known is not."""
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 0:1 / / rw - ext4 /dev/root rw\n2 1 0:2 / {tmp_path} rw - {kind} host:/export rw\n")
    monkeypatch.setattr(mountpoint, "_MOUNTINFO", table)
    assert is_local(tmp_path / "cache") is expected

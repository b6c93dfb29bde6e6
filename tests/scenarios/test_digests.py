"""Real mounts that know the digests of a file's blocks: what comes wrong is found at once."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.faults import Damaged
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, until
from vbnfs.blocks import BLOCK_BYTES

NAME = "ecephys_sessions/ecephys_session_1044.nwb"
PATTERN = Pattern(3_000_001)
PLAIN = PATTERN[: len(PATTERN)]
AT = 1_000_000  # in block 3


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with a session."""
    with serve({"0.1.0": {NAME: PATTERN}}) as server:
        yield server


def lose_blocks(tmp_path: Path) -> None:
    """Everything is evicted."""
    for folder in (tmp_path / "cache").glob("blocks-v*"):
        shutil.rmtree(folder)


@pytest.fixture
def mount(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> Mount:
    """A mount that has hashed the session, and has lost its blocks since."""
    mount = mounts(server.endpoint_url, "--cache-dir", tmp_path / "cache")
    assert (mount.path / NAME).read_bytes() == PLAIN
    until(lambda: os.getxattr(mount.path / NAME, "user.vbnfs.verified").startswith(b"blake2b:"))
    mount.umount()
    lose_blocks(tmp_path)
    return mount.mount()


def test_a_wrong_block_is_found_at_once(mount: Mount, server: FakeS3Server) -> None:
    """A wrong byte in a sound reply reaches no program: the block is fetched again, and the file is good at once."""
    server.behaviours.append(Damaged(NAME, at=AT, times=1))
    assert (mount.path / NAME).read_bytes() == PLAIN
    metrics = mount.status()["metrics"]
    assert (metrics["wrong_blocks"], metrics["mismatched_files"]) == (1, 0)


def test_a_block_that_is_wrong_each_time(mount: Mount, server: FakeS3Server) -> None:
    """Reads of it fail with EIO, the reason and the remedy; other blocks are read, and it is not stored."""
    damage = Damaged(NAME, at=AT, times=1_000)
    server.behaviours.append(damage)
    descriptor = os.open(mount.path / NAME, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            os.pread(descriptor, 4096, AT)
        reason = os.getxattr(mount.path / NAME, "user.vbnfs.last_error").decode()
        assert f"block {AT // BLOCK_BYTES} came as blake2b-128:" in reason
        assert "check --endpoint-url" in reason
        assert os.pread(descriptor, 4096, 2_000_000) == PLAIN[2_000_000:2_004_096]
    finally:
        os.close(descriptor)
    damage.times = 0
    mount.umount()  # the kernel's pages, and all memory
    mount.mount()
    assert (mount.path / NAME).read_bytes() == PLAIN

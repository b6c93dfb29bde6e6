"""A cache on a disk that takes no writes for a while and does not say so: fsfreeze(8), as snapshots do it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.disks import freezable_disk, freeze, thaw
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mounts, run_vbnfs

NAMES = ("ecephys_sessions/one.nwb", "ecephys_sessions/two.nwb")
SESSION = Pattern(3_000_001)
IO_TIMEOUT_SECONDS = 4.0
AT_ONCE_SECONDS = 3.0  # less than IO_TIMEOUT_SECONDS, of a machine that is busy


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 of its own."""
    with freezable_disk(tmp_path / "disk", 64 << 20) as disk:
        yield disk


@pytest.mark.root
def test_a_frozen_disk(disk: Path, mounts: Mounts) -> None:
    """Cached data is read at once, what is not cached within --io-timeout; when it thaws, all goes on."""
    with serve({"0.1.0": {NAMES[0]: SESSION, NAMES[1]: Pattern(3_000_002, seed=2)}}) as server:
        limit = f"{IO_TIMEOUT_SECONDS:g}"
        mount = mounts(server.endpoint_url, "--cache-dir", disk / "cache", "--io-timeout", limit)
        assert (mount.path / NAMES[0]).read_bytes() == SESSION[:]
        mount.umount()
        mount.mount()  # so that nothing is in memory
        freeze(disk)
        began = time.monotonic()
        assert (mount.path / NAMES[0]).read_bytes() == SESSION[:]
        assert time.monotonic() - began < AT_ONCE_SECONDS
        assert len((mount.path / NAMES[1]).read_bytes()) == 3_000_002  # else a read had failed with ETIMEDOUT
        assert run_vbnfs("status", mount.path).returncode == 0
        thaw(disk)
        mount.umount()

"""What script/scale --nfs says where it cannot run."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.nfs.__main__ import _WITHIN
from tests.fakes.dataset import serve
from tests.fixtures_mount import Mounts


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """Without its programs it names each of them, and how to install them; nothing is started."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.nfs"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("script/scale --nfs: it lacks linux.uml, unshare, ip, ")
    assert "'script/setup nfs'" in done.stderr


@pytest.mark.root
def test_it_keeps_no_mount_of_others(mounts: Mounts) -> None:
    """Its mount namespace has no copy of a mount that is there: that one's daemon could not end meanwhile."""
    with serve({"0.1.0": {"project_metadata/units.csv": b"unit_id\n1\n"}}) as server:
        mount = mounts(server.endpoint_url)
        found = ["findmnt", "--noheadings", "--types", "fuse.vbnfs"]
        assert str(mount.path) in subprocess.run(found, capture_output=True, text=True, check=True).stdout
        within = subprocess.run([*_WITHIN, *found], capture_output=True, text=True, check=False).stdout
        assert within == ""
        mount.umount()

"""script/scale --nfs in small: one cache folder for two hosts, each a kernel of its own, on a kernel's NFS server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.slow]
ROUNDS = ("two-hosts", "host-dies", "two-users")


def test_one_folder_for_two_hosts(tmp_path: Path) -> None:
    """Each byte leaves S3 once; a host that dies costs the other nothing; other users, and root, are refused."""
    command = [sys.executable, "-m", "benchmarks.nfs", *(word for name in ROUNDS for word in ("--only", name))]
    done = subprocess.run(
        command, env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\nok ") > 15

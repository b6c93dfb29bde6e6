"""script/scale --nfs in small: one cache folder for two hosts, each a kernel of its own, on a kernel's NFS server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.slow]
ROUNDS = ("two-hosts", "server-stops", "host-dies")


def test_one_folder_for_two_hosts(tmp_path: Path) -> None:
    """Each byte leaves S3 once, also while the server is restarted; when a host dies the other reads on."""
    command = [sys.executable, "-m", "benchmarks.nfs", *(word for name in ROUNDS for word in ("--only", name))]
    done = subprocess.run(
        command, env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=400, check=False
    )
    # How long reads waited is for people: the busy machine of a test run decides that.
    wrong = [line for line in done.stdout.splitlines() if line.startswith("NOT") and " waits " not in line]
    assert wrong == [], done.stdout + done.stderr
    assert done.stdout.count("\nok ") >= 16, done.stdout + done.stderr

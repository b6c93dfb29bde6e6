"""What script/scale --nfs says where it cannot run."""

import subprocess
import sys
from pathlib import Path


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

"""Slurm itself, with one node: the jobs and the epilog of docs/other-hosts.md, as they stand."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import until
from tests.scenarios.hosts.recipes import block
from tests.scenarios.hosts.slurm import Cluster, cluster
from vbnfs.host.mountinfo import find_mount

SESSION = "ecephys_sessions/ecephys_session_1044.nwb"
DATA = Pattern(3_000_001)
BIN = Path(sys.executable).parent
PROGRAM = f"""
import pathlib, sys, time
print(len(pathlib.Path(sys.argv[1], {SESSION!r}).read_bytes()), flush=True)
time.sleep(SECONDS)
"""

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with one session."""
    with serve({"0.1.0": {SESSION: DATA}}) as server:
        yield server


@pytest.fixture
def slurm(server: FakeS3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster with the document's epilog, whose users have vbnfs in their PATH."""
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    epilog = tmp_path / "epilog"
    epilog.write_text(block("Slurm", "sh", 2).replace("/opt/vbnfs/bin", str(BIN)))
    epilog.chmod(0o755)
    with cluster(tmp_path / "slurm", more=f"Epilog={epilog}") as slurm:
        yield slurm


def submit(slurm: Cluster, folder: Path, script: str, *options: str, seconds: int = 0) -> Path:
    """Submit a job, whose output goes to the file `out`; where it mounts."""
    (folder / "spikes.py").write_text(PROGRAM.replace("SECONDS", str(seconds)))
    (folder / "job.sh").write_text(script)
    job = slurm.run("sbatch", "--parsable", "--output=out", *options, "job.sh", cwd=folder).strip()
    return Path(f"/tmp/vbn-{job}")


def wait_for(path: Path, out: Path, expected: Callable[[str], bool]) -> None:
    """Wait until a job has printed something, and has left no mount and no folder behind."""
    until(lambda: out.exists() and expected(out.read_text()), seconds=60)
    until(lambda: find_mount(path) is None and not path.exists(), seconds=60)


def test_jobs(slurm: Cluster, tmp_path: Path) -> None:
    """A job's mount goes with it: at its end, when it is cancelled, and by the epilog when it was killed."""
    jobs, number, out = block("Slurm", "sh", 0), str(len(DATA)), tmp_path / "out"
    path = submit(slurm, tmp_path, jobs)
    wait_for(path, out, lambda text: text == f"mounted 0.1.0 at {path}\n{number}\n")
    path = submit(slurm, tmp_path, jobs, seconds=1000)
    until(lambda: out.read_text() == f"mounted 0.1.0 at {path}\n{number}\n", seconds=60)
    slurm.run("scancel", path.name.removeprefix("vbn-"))
    wait_for(path, out, lambda text: True)
    path = submit(slurm, tmp_path, "#!/bin/sh\nvbnfs mount /tmp/vbn-$SLURM_JOB_ID\n")
    wait_for(path, out, lambda text: text == f"mounted 0.1.0 at {path}\n")
    path = submit(slurm, tmp_path, block("Slurm", "sh", 1))
    wait_for(path, out, lambda text: number in text.split())

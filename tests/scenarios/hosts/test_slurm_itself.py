"""Slurm itself, with one node: the jobs of docs/slurm.md as they stand, and the epilog of deploy/slurm."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import until
from tests.scenarios.hosts.slurm import Cluster, cluster
from tests.scenarios.readers.recipes import sections
from vbnfs.host.mountinfo import find_mount

ROOT = Path(__file__).parents[3]
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
    """A cluster with the epilog, whose users have vbnfs in their PATH."""
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    epilog = tmp_path / "epilog"
    epilog.write_text((ROOT / "deploy/slurm/epilog").read_text().replace("/opt/vbnfs/bin", str(BIN)))
    epilog.chmod(0o755)
    with cluster(tmp_path / "slurm", more=f"Epilog={epilog}") as slurm:
        yield slurm


class Job:
    """A job that was submitted, of the file `spikes.py` beside it."""

    def __init__(self, slurm: Cluster, folder: Path, script: str, *, seconds: int = 0) -> None:
        folder.mkdir()
        (folder / "spikes.py").write_text(PROGRAM.replace("SECONDS", str(seconds)))
        (folder / "job.sh").write_text(script)
        self.number = slurm.run("sbatch", "--parsable", "--output=out", "job.sh", cwd=folder).strip()
        self.path = Path(f"/tmp/vbn-{self.number}")
        self._out = folder / "out"

    def wait(self, *lines: str) -> None:
        """Wait until it has printed these lines, among others."""
        until(lambda: self._out.exists() and {*lines} <= {*self._out.read_text().splitlines()}, seconds=60)

    def is_clean(self) -> bool:
        """Whether it has left no mount, and no folder."""
        return find_mount(self.path) is None and not self.path.exists()


def test_jobs(slurm: Cluster, tmp_path: Path) -> None:
    """A job's mount goes with it: at its end, when it is cancelled, and by the epilog when it was killed."""
    found = {one.title: one.blocks for one in sections(ROOT / "docs" / "slurm.md")}
    (_, itself), (_, steps) = found["A job that mounts for itself"]
    number = str(len(DATA))
    ends = Job(slurm, tmp_path / "ends", itself)
    cancelled = Job(slurm, tmp_path / "cancelled", itself, seconds=1000)
    killed = Job(slurm, tmp_path / "killed", "#!/bin/sh\nvbnfs mount /tmp/vbn-$SLURM_JOB_ID\n")
    stepwise = Job(slurm, tmp_path / "stepwise", steps)
    cancelled.wait(f"mounted 0.1.0 at {cancelled.path}", number)
    assert find_mount(cancelled.path) is not None
    slurm.run("scancel", cancelled.number)
    ends.wait(f"mounted 0.1.0 at {ends.path}", number)
    killed.wait(f"mounted 0.1.0 at {killed.path}")
    stepwise.wait(number)
    until(lambda: all(job.is_clean() for job in (ends, cancelled, killed, stepwise)), seconds=60)

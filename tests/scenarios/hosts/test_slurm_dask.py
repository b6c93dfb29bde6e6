"""A Dask cluster in a job of Slurm, which has one node: the script of docs/dask.md, as it stands."""

import os
import sys
from pathlib import Path

import pytest

from tests.api.release import serving
from tests.code_blocks import blocks_of
from tests.fixtures_mount import until
from tests.scenarios.hosts.slurm import Cluster, cluster

BIN = Path(sys.executable).parent


def is_completed(slurm: Cluster, number: str) -> bool:
    return "COMPLETED" in slurm.run("scontrol", "show", "job", number)


@pytest.mark.root
@pytest.mark.slow
def test_a_job_with_a_cluster_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job's workers fetch and hash all files of a query into the job's cache, and end with the job."""
    [script] = [block.code for block in blocks_of("docs/dask.md") if "#SBATCH" in block.code]
    fewer = {
        "--nodes=4": "--nodes=1",
        "--ntasks-per-node=2": "--ntasks-per-node=1",
        "--dask-workers 8": "--dask-workers 1",
        "VBNFS_CACHE_SIZE=150G": "VBNFS_CACHE_SIZE=1G",
    }
    for several, one in fewer.items():
        assert several in script
        script = script.replace(several, one)
    (tmp_path / "job.sh").write_text(script)
    out = tmp_path / "out"
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with serving(tmp_path) as server, cluster(tmp_path / "slurm") as slurm:
        monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        number = slurm.run("sbatch", "--parsable", f"--output={out}", "job.sh", cwd=tmp_path).strip()
        until(lambda: out.exists() and out.read_text().count("6 of 6 files good") == 2, seconds=240)
        until(lambda: is_completed(slurm, number), seconds=60)
    assert (tmp_path / f"vbnfs-{number}" / "blocks-v2").is_dir()

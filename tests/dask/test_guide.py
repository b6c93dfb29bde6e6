"""docs/dask.md does what it says: its program, on a cluster of this machine."""

import contextlib
import io
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.release import SESSION_ID, serving
from tests.code_blocks import blocks_of
from tests.dask.clusters import in_this_process
from vbnfs.dask import worker

DOCUMENT = "docs/dask.md"


@pytest.mark.filterwarnings("ignore")  # what Dask and its libraries warn of
def test_the_guide_of_dask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of the page, as one program, prints what the release has."""
    monkeypatch.chdir(tmp_path)
    said = io.StringIO()
    with serving(tmp_path) as server, in_this_process() as client:
        monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
        code = "".join(block.code for block in blocks_of(DOCUMENT) if block.language == "python")
        assert code.count("tcp://node1:8786") == 1
        program = tmp_path / "program.py"
        program.write_text(code.replace("tcp://node1:8786", client.scheduler.address))
        with contextlib.redirect_stdout(said):
            runpy.run_path(str(program), run_name="__main__")["client"].close()
        worker._opened.cache_clear()
    first, second, *table, failed, last = said.getvalue().splitlines()
    assert (first, second, failed, last) == ("['good']", "['good']", "0", f"[{SESSION_ID}] []")
    assert table[0].split() == ["spikes", "early"]
    assert table[-1].split() == [str(SESSION_ID), "1000", "20"]


def test_the_recipe_of_slurm() -> None:
    """dask-jobqueue makes a job of the page's recipe in which workers have the node's own disk for their cache.

    A process of its own imports it: what imports it ends at Ctrl-C otherwise than before.
    """
    [recipe] = [block.code for block in blocks_of(DOCUMENT) if block.language == "py"]
    made, scaled, _ = recipe.partition("cluster.scale(jobs=16)")
    assert scaled
    made = made.replace("cores=8", 'cores=8, scheduler_options={"dashboard": False}')
    program = f"{made}\nwith cluster:\n    print(cluster.job_script())\n"
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], stdout=subprocess.PIPE, text=True, check=True, timeout=240
    )
    lines = shown.stdout.splitlines()
    assert {"#SBATCH --cpus-per-task=8", "#SBATCH -t 04:00:00", "export VBNFS_CACHE_DIR=$TMPDIR/vbnfs"} <= {*lines}
    [worker_line] = [line for line in lines if "dask_worker" in line]
    assert "--nworkers 2" in worker_line
    assert "--local-directory $TMPDIR" in worker_line

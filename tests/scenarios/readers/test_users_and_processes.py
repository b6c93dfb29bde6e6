"""Who reads: users other than root, and processes that have come of one."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fixtures_mount import Mount, Mounts
from tests.scenarios.readers.recipes import run_as_user
from tests.scenarios.readers.truth import Truth
from vbnfs.demo.server import SeaweedServer

NOBODY = 65534
UNKNOWN = 54321  # has no entry in passwd

# The parent has the file open; its children read by its handle, all at once.
INHERITED = """
import sys
from multiprocessing import get_context

import h5py

FILE = h5py.File(sys.argv[1])

def spikes_of(unit):
    start, end = ([0, *FILE["units/spike_times_index"]][unit : unit + 2])
    return FILE["units/spike_times"][start:end].tolist()

with get_context("fork").Pool(4) as pool:
    print(pool.map(spikes_of, [unit % 4 for unit in range(32)], chunksize=1))
"""


def as_users() -> list[list[str]]:
    """How to become the users who read: what stands before their command. Who is not root can be nobody else."""
    if os.geteuid() != 0:
        return [[]]
    return [["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] for uid in (NOBODY, UNKNOWN)]


def test_a_user_who_is_not_root(mounts: Mounts, seaweed: SeaweedServer, truth: Truth) -> None:
    """Who is not root lists, copies and reads a mount that root has made with allow_other, or their own."""
    options = ["--allow-other"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        mount = mounts(seaweed.endpoint_url, *options, name=f"{folder}/vbn")
        session = mount.path / truth.session_path
        original = truth.originals[truth.session_path]
        for index, become in enumerate(as_users()):
            found = command(*become, "find", mount.path / "manifests" / "v0.5.0", "-name", "*.nwb", "-readable")
            assert str(mount.path / "manifests" / "v0.5.0" / truth.session_path) in found.splitlines()
            assert command(*become, "md5sum", session).split()[0] == command("md5sum", original).split()[0]
            dumped = command(*become, "h5dump", "-d", "/units/spike_times", session)
            assert dumped == command("h5dump", "-d", "/units/spike_times", original).replace(
                str(original), str(session)
            )
            copied = Path(folder) / f"copied-{index}"
            copied.mkdir(mode=0o777)
            copied.chmod(0o777)
            command(*become, "cp", "-r", mount.path / "project_metadata", copied)
            table = copied / "project_metadata" / "units.csv"
            assert table.read_bytes() == truth.originals["project_metadata/units.csv"].read_bytes()
        mount.umount()


def command(*words: str | Path) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_children_read_by_an_inherited_handle(mount: Mount, truth: Truth, tmp_path: Path) -> None:
    """Forked processes read by the HDF5 handle that their parent had opened, all at once, and get their values."""
    (tmp_path / "inherited.py").write_text(INHERITED)
    program = (sys.executable, "inherited.py", mount.path / truth.session_path)
    read = json.loads(run_as_user(*program, home=tmp_path, folder=tmp_path))
    assert read == [truth.spike_times(unit % 4).tolist() for unit in range(32)]

"""Every dataset of a session and of an LFP file, through the HDF5 libraries that people have.

MATLAB reads by libhdf5 1.10 to 1.14. Here are the system's (1.10 in Debian 12), 1.14 and 2.
"""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from tests.fixtures_mount import Mount
from tests.scenarios.readers.recipes import run_as_user
from tests.scenarios.readers.truth import Truth

HERE = Path(__file__).parent
HDF5_1_14 = HERE.parents[2] / ".venv-hdf5-1.14" / "bin" / "python"


def datasets(path: Path) -> set[str]:
    """The names of a file's datasets."""
    names: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return set(names)


@pytest.mark.parametrize("locking", ["true", "false"])
@pytest.mark.parametrize(
    ("python", "library"),
    [
        pytest.param(sys.executable, "2.", id="2"),
        pytest.param(HDF5_1_14, "1.14.", id="1.14", marks=pytest.mark.slow),
    ],
)
def test_h5py_reads_everything(
    python: str | Path, library: str, locking: str, mount: Mount, truth: Truth, tmp_path: Path
) -> None:
    """h5py with HDF5 1.14 and with 2, with file locking and without, reads every dataset as from the original."""
    for path in (truth.session_path, truth.lfp_path):
        digests = []
        for folder in (mount.path / path, truth.originals[path]):
            program = (python, HERE / "read_everything.py", folder, locking)
            report = json.loads(run_as_user(*program, home=tmp_path, folder=tmp_path))
            assert report["library"].startswith(library)
            digests.append(report["digests"])
        assert digests[0] == digests[1]
        assert set(digests[0]) == datasets(truth.originals[path])


def test_libhdf5_reads_everything(mount: Mount, truth: Truth, tmp_path: Path) -> None:
    """A C program on the system's libhdf5 reads every dataset as from the original."""
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "hdf5"], capture_output=True, text=True, check=True)
    version = subprocess.run(["pkg-config", "--modversion", "hdf5"], capture_output=True, text=True, check=True)
    program = tmp_path / "read_everything"
    command = ["cc", "-Wall", "-Wextra", "-o", program, HERE / "read_everything.c", *flags.stdout.split()]
    subprocess.run(command, check=True)
    for path in (truth.session_path, truth.lfp_path):
        mounted, original = (
            run_as_user(program, file, home=tmp_path, folder=tmp_path)
            for file in (mount.path / path, truth.originals[path])
        )
        assert mounted == original
        first, *lines = mounted.splitlines()
        assert first == f"libhdf5 {version.stdout.strip()}"
        assert {line.rpartition(" ")[0] for line in lines} == datasets(truth.originals[path])


def test_tools_tell_everything(mount: Mount, truth: Truth, tmp_path: Path) -> None:
    """h5ls, h5stat and h5dump of a whole file say what they say of the original."""
    for tool in (("h5ls", "-r", "-v"), ("h5stat",), ("h5dump",)):
        texts = [
            run_as_user(*tool, path, home=tmp_path, folder=tmp_path).replace(str(path), "FILE")
            for path in (mount.path / truth.session_path, truth.originals[truth.session_path])
        ]
        assert texts[0] == texts[1]
        assert "units" in texts[0] or "# of unique groups" in texts[0]

"""What it costs to open sessions as other programs than AllenSDK's release write them, of several sizes."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import pytest

from tests.fixtures_mount import Mounts
from tests.hdf5 import written_by_pynwb
from tests.scenarios.hdf5_programs import Programs, list_names, open_with_pynwb
from tests.scenarios.opening import check_rounds_with_an_index, measure, serving
from vbnfs.hdf5.signature import SIGNATURE

pytestmark = pytest.mark.slow
ALLENSDK = Path(__file__).parents[2] / ".venv-allensdk"
OLD_PYNWB = ALLENSDK / "pynwb-2.5"
NO_OLD_PYNWB = "no .venv-allensdk/pynwb-2.5: script/setup allensdk makes it where there is Python 3.11"

Files = Mapping[str, Path]


def write(form: str, python: Path | str, libraries: Path | None, sessions: Mapping[Path, tuple[int, int]]) -> None:
    """Have the pynwb of a Python, or of a folder of libraries, write sessions. `sessions`: their seeds and units."""
    environment = os.environ | ({} if libraries is None else {"PYTHONPATH": str(libraries)})
    files = [argument for path, numbers in sessions.items() for argument in (str(path), *map(str, numbers))]
    command = [python, "-W", "ignore", written_by_pynwb.__file__, form, *files]
    subprocess.run(command, check=True, env=environment)


@pytest.fixture(params=["current", "2.5"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    """Sessions by current pynwb with compressed chunks in new groups, or by pynwb 2.5 with hdmf 3.11."""
    large, small = tmp_path / f"{request.param}-large.nwb", tmp_path / f"{request.param}-small.nwb"
    if request.param == "current":
        write("compressed", sys.executable, None, {large: (3, 400), small: (4, 60)})
    elif OLD_PYNWB.exists():
        write("plain", ALLENSDK / "bin/python", OLD_PYNWB, {large: (1, 2100), small: (2, 200)})
    else:
        pytest.skip(NO_OLD_PYNWB)
    yield {path.stem: path for path in (large, small)}
    large.unlink()
    small.unlink()


def test_rounds_to_open_what_pynwb_wrote(mounts: Mounts, files: Files, tmp_path: Path) -> None:
    """Listing it with h5py, or opening it with pynwb, takes at most 10 rounds and 15 MB; with an index 2 rounds."""
    check_form(files)
    with serving(files) as server, Programs() as programs:
        for work in (list_names, open_with_pynwb):  # each in a cache of its own, which has no index
            mount = mounts(server.endpoint_url, "--cache-dir", tmp_path / work.__name__)
            for name in files:
                found = measure(mount, server, programs, name, work)
                assert found.walks == 1
                assert found.rounds <= 10
                assert found.asked_bytes <= 15e6
            mount.umount()
        check_rounds_with_an_index(mounts, server, tmp_path, *files)


def check_form(files: Files) -> None:
    """Check that these are the files that are meant: in one piece by an old library, else in compressed chunks."""
    for name, path in files.items():
        is_old = name.startswith("2.5")
        with h5py.File(path) as file:
            spikes = file["units/spike_times"]
            assert (spikes.chunks is None, spikes.compression) == (is_old, None if is_old else "gzip")
            assert not is_old or "hdmf-common" in file["specifications"]
        with path.open("rb") as opened:
            assert opened.read(9) == SIGNATURE + (b"\0" if is_old else b"\3")
        assert not is_old or "small" in name or path.stat().st_size > 900e6

"""The files that pyfive, h5py, PyTables and h5netcdf are tested with, which many versions of HDF5 have written."""

import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import h5netcdf
import h5py
import numpy as np
import pytest

from tests.hdf5.running import Waves, blocks_read_by_h5py, check
from tests.hdf5.truth import comparable, objects_of
from tests.hdf5.values import is_as_h5py_reads_it
from vbnfs.hdf5.branches import Bounds, Wanted

Files = Iterator[tuple[str, bytes]]
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
ALLENSDK_PYTHON = ROOT / ".venv-allensdk/bin/python"
NO_ALLENSDK = "no .venv-allensdk: script/setup allensdk makes it where there is Python 3.11"
SUFFIXES = {".hdf5", ".h5", ".nc", ".mat"}
BLOCK_BYTES = 4096


def pyfive_files() -> Files:
    """Those in pyfive's source archive, which script/setup has downloaded."""
    [archive] = (ROOT / ".hdf5-samples").glob("pyfive-*.tar.gz")
    with tarfile.open(archive) as members:
        for member in members:
            if Path(member.name).suffix in SUFFIXES and (file := members.extractfile(member)):
                yield Path(member.name).name, file.read()


def h5py_files() -> Files:
    """Those that are installed with h5py."""
    for path in sorted((Path(h5py.__file__).parent / "tests/data_files").glob("*.h5")):
        yield path.name, path.read_bytes()


def pytables_files() -> Files:
    """Those that are installed with PyTables, which AllenSDK needs; without it the test is skipped."""
    if not ALLENSDK_PYTHON.exists():
        pytest.skip(NO_ALLENSDK)
    for path in sorted(ALLENSDK_PYTHON.parents[1].glob("lib/python*/site-packages/tables/tests/*.h5")):
        yield path.name, path.read_bytes()


def h5netcdf_files() -> Files:
    """What h5netcdf writes: its source archive has no files, for its tests write them."""
    for version in ("earliest", "v110", "latest"):
        stream = io.BytesIO()
        with h5netcdf.File(stream, "w", libver=version) as file:
            file.dimensions = {"time": None, "channel": 4, "text": 8}
            file.attrs["title"] = "of all kinds"
            file.create_variable("time", ("time",), "f8", chunks=(64,))
            file.create_variable("/probes/a/lfp", ("time", "channel"), ">f4", fillvalue=np.nan, compression="gzip")
            file.create_variable("/probes/a/names", ("channel",), h5py.string_dtype())
            kind = file.create_enumtype("u1", "kind", {"none": 0, "left": 1, "right": 200})
            file.create_variable("kinds", ("channel",), kind, fillvalue=0)
            pairs = file.create_vltype("i4", "pairs")
            file.create_variable("links", ("channel",), pairs)
            file.create_cmptype([("x", "f4"), ("y", "i2")], "place")
            file.resize_dimension("time", 1000)
            file["time"][:] = np.arange(1000)
            file["/probes/a/lfp"][:] = np.ones((1000, 4))
            file["/probes/a/lfp"].attrs["scale"] = np.float32(0.2)
        yield f"h5netcdf-{version}.nc", stream.getvalue()


@pytest.mark.parametrize(
    ("files", "least"), [(pyfive_files, 34), (h5py_files, 4), (pytables_files, 40), (h5netcdf_files, 3)]
)
def test_files_of_other_libraries(files: Callable[[], Files], least: int, tmp_path: Path) -> None:
    """Each is read as h5py reads it, no block is missed, and cut or with wrong bits it does no harm."""
    count = 0
    for name, data in files():
        count += 1
        path = tmp_path / name
        path.write_bytes(data)
        walked = Waves(data, block_bytes=BLOCK_BYTES)
        found = {start: comparable(each) for start, each in walked.structure.objects.items()}
        assert found == objects_of(path), name
        assert walked.structure.is_complete, name
        check_values(path)
        assert blocks_read_by_h5py(io.BytesIO(data), BLOCK_BYTES) <= walked.structure.blocks, name
        damage(data, Random(name), sorted(walked.structure.blocks))
    assert count >= least


def check_values(path: Path) -> None:
    """Check that attributes have the values that h5py reads, and that the file is not longer than it says."""
    data = path.read_bytes()
    found = Waves(data, wanted=Wanted(places=True, values=True)).structure
    assert found.is_complete
    assert found.end is not None
    assert found.end <= len(data)
    with h5py.File(path) as file:
        for place, each in found.walk():
            wrong = [
                name for name, one in each.values.items() if not is_as_h5py_reads_it(one, name, file[place].attrs)
            ]
            assert wrong == [], f"{path}: {place}"


def damage(data: bytes, random: Random, structure: list[int]) -> None:
    """Walk a file that is cut at random, and one with wrong bits in random places of its structure."""
    for flips in (1, 10, 100):
        check(data[: random.randrange(len(data))])
        wrong = bytearray(data)
        for _ in range(flips):
            place = random.choice(structure) * BLOCK_BYTES + random.randrange(BLOCK_BYTES)
            wrong[min(place, len(wrong) - 1)] ^= 1 << random.randrange(8)
        check(bytes(wrong))


@pytest.mark.skipif(not ALLENSDK_PYTHON.exists(), reason=NO_ALLENSDK)
def test_a_session_by_the_pynwb_of_allensdk(tmp_path: Path) -> None:
    """It is found whole, in at most 10 rounds and 15 MB, with the arrays that it has and the rows of its spikes."""
    path = tmp_path / "session.nwb"
    program = [ALLENSDK_PYTHON, "-W", "ignore", Path(__file__).with_name("written_by_pynwb.py")]
    subprocess.run([*program, "plain", path, "17", "300"], check=True)
    walked = Waves(path.read_bytes(), bounds=Bounds(fetched_bytes=15_000_000))
    assert walked.structure.objects.keys() == objects_of(path).keys()
    assert walked.structure.is_complete
    assert len(walked.waves) <= 10
    with h5py.File(path) as file:
        spikes, index = file["units/spike_times"], file["units/spike_times_index"]
        ragged = next(extent for extent in walked.extents if extent.start == spikes.id.get_offset())
        assert ragged.rows is not None
        assert (ragged.rows.start, ragged.rows.rows) == (index.id.get_offset(), len(index))

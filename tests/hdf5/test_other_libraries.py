"""The files that pyfive, h5py and PyTables are tested with, which many versions of HDF5 have written."""

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import h5py
import pytest

from tests.hdf5.running import Waves, blocks_read_by_h5py, check
from tests.hdf5.truth import comparable, objects_of
from tests.hdf5.values import is_as_h5py_reads_it
from vbnfs.hdf5.branches import Wanted

Files = Iterator[tuple[str, bytes]]
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SUFFIXES = {".hdf5", ".h5", ".nc", ".mat"}
BLOCK_BYTES = 4096
LARGEST_DAMAGED_BYTES = 100_000


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
    """Those that are installed with PyTables, which AllenSDK needs; none where that is not installed."""
    for path in sorted((ROOT / ".venv-allensdk").glob("lib/python*/site-packages/tables/tests/*.h5")):
        yield path.name, path.read_bytes()


@pytest.mark.parametrize(("files", "least"), [(pyfive_files, 34), (h5py_files, 4), (pytables_files, 0)])
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
        if len(data) <= LARGEST_DAMAGED_BYTES:
            damage(data, Random(name))
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


def damage(data: bytes, random: Random) -> None:
    """Walk a file that is cut at random, and one with wrong bits in random places."""
    for flips in (1, 10, 100):
        check(data[: random.randrange(len(data))])
        wrong = bytearray(data)
        for _ in range(flips):
            wrong[random.randrange(len(wrong))] ^= 1 << random.randrange(8)
        check(bytes(wrong))

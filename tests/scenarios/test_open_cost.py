"""What opening a session of real size costs: about 1 GB, 1,700 units on six probes, some 220 datasets."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import pynwb
import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mounts
from tests.hdf5.copies import copy
from tests.hdf5.running import RecordedFile, Waves
from tests.hdf5.truth import objects_of
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.demo.release import LocalRelease, make_release
from vbnfs.demo.scale import ReleaseScale
from vbnfs.hdf5.branches import Bounds

SESSION = "ecephys_sessions/ecephys_session_1.nwb"


class FileData:
    """A local file's bytes, read when they are asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __len__(self) -> int:
        return self._path.stat().st_size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(len(self))
        with self._path.open("rb") as file:
            return os.pread(file.fileno(), max(0, stop - start), start)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> LocalRelease:
    """A release with a genuine NWB session of about 1 GB, and its LFP."""
    return make_release(tmp_path_factory.mktemp("large"), scale=ReleaseScale.real_session())


@pytest.fixture(scope="module")
def session(release: LocalRelease) -> Path:
    """The session."""
    sources = release.versions[0].sources
    return next(source for path, source in sources.items() if path.startswith("ecephys_sessions/"))


@pytest.fixture
def server(session: Path) -> Iterator[FakeS3Server]:
    """A server of a dataset that consists of that session."""
    dataset = FakeDataset()
    with session.open("rb") as file:
        file_hash = hashlib.file_digest(file, "blake2b").hexdigest()
    key = f"{dataset.project}/{SESSION}"
    version_id = dataset.store.put(key, FileData(session))
    url = f"https://{dataset.store.bucket}.s3.us-west-2.amazonaws.com/{key}"
    dataset.publish_entries("0.1.0", {SESSION: {"url": url, "version_id": version_id, "file_hash": file_hash}})
    with FakeS3Server(dataset.store) as server:
        yield server


READ_WITH_H5PY = """
import h5py, sys
file = h5py.File(sys.argv[1])
file.visititems(lambda name, item: None)
"""
READ_ONE_UNIT = """
import h5py, sys
units = h5py.File(sys.argv[1])["units"]
index = units["spike_times_index"]
print(len(units["spike_times"][index[99]:index[100]]))
"""
READ_WITH_PYNWB = """
import pynwb, sys
with pynwb.NWBHDF5IO(sys.argv[1], "r") as io:
    print(len(io.read().units))
"""


def test_bytes_fetched_to_open_a_session(mounts: Mounts, server: FakeS3Server, session: Path) -> None:
    """h5py's walk over all names and pynwb's open together fetch at most 15 MB of 1 GB; one unit's spikes 3 MB."""
    size = session.stat().st_size
    assert 900e6 < size < 1100e6
    for scripts, most_bytes in (((READ_ONE_UNIT,), 3e6), ((READ_WITH_H5PY, READ_WITH_PYNWB), 15e6)):
        mount = mounts(server.endpoint_url, "--cache-dir", session.parent / f"cache-{len(scripts)}")
        server.forget_requests()
        for script in scripts:
            subprocess.run([sys.executable, "-W", "ignore", "-c", script, mount.path / SESSION], check=True)
        print(f"{server.body_bytes / 1e6:.1f} MB in {server.count('get_range')} requests")
        assert server.body_bytes <= most_bytes
        mount.umount()


def test_rounds_of_a_walk(session: Path) -> None:
    """The structure of a session, with all that pynwb reads to open it, comes in 6 rounds and 11 MB."""
    walked = Waves(FileData(session))
    assert walked.structure.is_complete
    assert len(walked.waves) <= 6
    assert len(walked.asked) * BLOCK_BYTES <= 11e6
    with session.open("rb") as file:
        recorded = RecordedFile(file, BLOCK_BYTES)
        with h5py.File(recorded) as opened, pynwb.NWBHDF5IO(file=opened, mode="r") as io:
            io.read()
    assert recorded.blocks <= walked.structure.blocks


@pytest.mark.parametrize(("version", "chunks"), [("earliest", True), ("latest", False)])
def test_rounds_of_a_walk_in_other_forms(
    session: Path, release: LocalRelease, tmp_path: Path, version: str, chunks: bool
) -> None:
    """Sessions in chunks or with new groups, and LFP files of 3 GB, take 8 rounds and 15 MB; no object is missing."""
    lfp = next(source for path, source in release.versions[2].sources.items() if "lfp" in path)
    for number, (source, longer) in enumerate(((session, 1), (lfp, 600))):
        target = tmp_path / f"{number}.nwb"
        copy(source, target, version=version, chunks=chunks, longer=longer)
        walked = Waves(FileData(target), bounds=Bounds(fetched_bytes=15_000_000))
        assert target.stat().st_size > 900e6
        assert walked.structure.objects.keys() == objects_of(target).keys()
        assert len(walked.waves) <= 8
        assert len(walked.asked) * BLOCK_BYTES <= 15e6

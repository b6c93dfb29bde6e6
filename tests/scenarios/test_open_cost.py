"""What opening a session of real size costs: about 1 GB, 1,700 units on six probes, some 220 datasets."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mounts
from vbnfs.demo.release import make_release
from vbnfs.demo.scale import ReleaseScale

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
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A genuine NWB session of about 1 GB."""
    release = make_release(tmp_path_factory.mktemp("large"), scale=ReleaseScale.real_session())
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

"""What opening a session of real size costs: about 1 GB, 1,700 units on six probes, some 220 datasets."""

import hashlib
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import pynwb
import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server, Reply, Request
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


class Rounds:
    """The behaviour of a server that is far away. It counts rounds of ranges that may depend on each other."""

    def __init__(self, seconds: float = 0.3) -> None:
        self._seconds = seconds
        self._came: list[float] = []  # appended to by the server's threads

    def __call__(self, request: Request, honest: Reply) -> Reply | None:
        if request.kind != "get_range":
            return None
        self._came.append(time.monotonic())
        return replace(honest, pause_seconds=self._seconds)

    @property
    def count(self) -> int:
        """Requests of one round came before the first of it was answered."""
        rounds, answered = 0, -math.inf
        for came in sorted(self._came):
            if came >= answered:
                rounds, answered = rounds + 1, came + self._seconds
        return rounds


@pytest.mark.parametrize("script", [READ_WITH_H5PY, READ_WITH_PYNWB], ids=["h5py", "pynwb"])
def test_rounds_to_open_a_session(mounts: Mounts, server: FakeS3Server, tmp_path: Path, script: str) -> None:
    """Listing all of a session with h5py takes at most 10 rounds and 15 MB, and so does opening it with pynwb."""
    mount = mounts(server.endpoint_url, "--cache-dir", tmp_path / "cache")
    server.forget_requests()
    rounds = Rounds()
    server.behaviours.append(rounds)
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, mount.path / SESSION], check=True)
    print(f"{rounds.count} rounds, {server.body_bytes / 1e6:.1f} MB in {server.count('get_range')} requests")
    assert rounds.count <= 10
    assert server.body_bytes <= 15e6
    assert mount.status()["metrics"]["walks"] == 1


def test_bytes_fetched_to_open_a_session(mounts: Mounts, server: FakeS3Server, session: Path) -> None:
    """h5py's walk over all names and pynwb's open together fetch at most 15 MB of 1 GB, and so does one unit.

    With --no-hdf5 one unit's spikes take 3 MB.
    """
    size = session.stat().st_size
    assert 900e6 < size < 1100e6
    both, one = (READ_WITH_H5PY, READ_WITH_PYNWB), (READ_ONE_UNIT,)
    courses = ((one, "--no-hdf5", 3e6), (both, "--no-hdf5", 15e6), (one, "--hdf5", 15e6), (both, "--hdf5", 15e6))
    for scripts, option, most_bytes in courses:
        cache = session.parent / f"cache-{len(scripts)}{option}"
        mount = mounts(server.endpoint_url, "--cache-dir", cache, option)
        server.forget_requests()
        for script in scripts:
            subprocess.run([sys.executable, "-W", "ignore", "-c", script, mount.path / SESSION], check=True)
        print(f"{option}: {server.body_bytes / 1e6:.1f} MB in {server.count('get_range')} requests")
        assert server.body_bytes <= most_bytes
        assert option == "--hdf5" or mount.status()["metrics"]["walks"] == 0
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

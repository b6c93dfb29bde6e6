"""Measuring what it costs to open files that lie far away: files behind a server, and what programs ask it for."""

import hashlib
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import h5py

import vbnfs
from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server, Reply, Request
from tests.fixtures_mount import Mount, Mounts, run_vbnfs
from tests.scenarios.hdf5_programs import Programs
from tests.scenarios.rounds import rounds_of

_LARGE_BYTES: Final = 64 << 20


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


def serving(files: Mapping[str, Path]) -> FakeS3Server:
    """A server of a dataset of these files. Hashes of large ones, of which none is read to its end, are made up."""
    dataset, entries = FakeDataset(), {}
    for name, path in files.items():
        key = f"{dataset.project}/{name}.nwb"
        url = f"https://{dataset.store.bucket}.s3.us-west-2.amazonaws.com/{key}"
        is_large = path.stat().st_size > _LARGE_BYTES
        file_hash = hashlib.blake2b(name.encode() if is_large else path.read_bytes()).hexdigest()
        entries[name] = {"url": url, "version_id": dataset.store.put(key, FileData(path)), "file_hash": file_hash}
    dataset.publish_entries("0.1.0", entries)
    return FakeS3Server(dataset.store)


class Rounds:
    """The behaviour of a server that is far away. It counts rounds of ranges that may depend on each other."""

    def __init__(self, seconds: float) -> None:
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


class Cost(NamedTuple):
    """What programs asked for that found nothing of a file cached."""

    rounds: int
    asked_bytes: int
    walks: int


Measure = Callable[..., Cost]


def measure(
    mount: Mount,
    server: FakeS3Server,
    programs: Programs,
    name: str,
    *works: Callable[[str], None],
    seconds: float = 0.2,
) -> Cost:
    """What these programs cost on a file, one after the other, so far from the server."""
    server.forget_requests()
    server.behaviours.append(rounds := Rounds(seconds))
    walks = mount.status()["metrics"]["walks"]
    try:
        for work in works:
            programs.run(work, mount.path / f"{name}.nwb")
    finally:
        server.behaviours.remove(rounds)
    found = Cost(rounds.count, server.asked_bytes, mount.status()["metrics"]["walks"] - walks)
    print(f"{name}: {found}, {server.count('get_range')} requests")
    return found


def measure_in_python(
    dataset: vbnfs.Dataset, server: FakeS3Server, name: str, work: Callable[[h5py.File], object], *, seconds: float
) -> Cost:
    """What it costs to do this with a file that `File.h5` opens, so far from the server."""
    dataset.versions  # noqa: B018 - it is opened before
    server.forget_requests()
    server.behaviours.append(rounds := Rounds(seconds))
    try:
        work(dataset.file(f"{name}.nwb").h5())
    finally:
        server.behaviours.remove(rounds)
    found = Cost(rounds.count, server.asked_bytes, 0)
    print(f"{name} in Python: {found}, {server.count('get_range')} requests")
    return found


_LIST: Final = "import h5py, sys; h5py.File(sys.argv[1]).visititems(lambda name, item: None)"


def check_rounds_with_an_index(mounts: Mounts, server: FakeS3Server, directory: Path, *names: str) -> None:
    """With an index that another cache has made, two rounds bring all that h5py waits for, and at most 15 MB.

    `File.h5` of the Python API knows that it is read by h5py: there it is one.
    """
    url, other, index = f"--endpoint-url={server.endpoint_url}", f"--cache-dir={directory}/a", directory / "vbn.index"
    done = run_vbnfs("index", "build", "--all", url, other)
    assert (done.returncode, done.stdout.count("indexed ")) == (0, len(names)), done.stderr
    assert run_vbnfs("index", "export", index, other).returncode == 0
    assert run_vbnfs("index", "import", index, f"--cache-dir={directory}/b").returncode == 0
    mount = mounts(server.endpoint_url, "--cache-dir", directory / "b")
    for name in names:
        server.forget_requests()
        rounds = rounds_of([sys.executable, "-c", _LIST, str(mount.path / f"{name}.nwb")], server)
        print(f"{name}: {rounds} rounds, {server.asked_bytes / 1e6:.1f} MB in {server.count('get_range')} requests")
        assert rounds <= 2
        assert server.asked_bytes <= 15e6
    assert mount.status()["metrics"]["index_waves"] == len(names)
    mount.umount()
    settings = f"endpoint_url={server.endpoint_url!r}, cache_dir={str(directory / 'c')!r}, index={str(index)!r}"
    for name in names:
        program = (
            f"import vbnfs; file = vbnfs.Dataset({settings}).file({f'{name}.nwb'!r}).h5(); file.visititems(print)"
        )
        assert rounds_of([sys.executable, "-c", program], server) == 1

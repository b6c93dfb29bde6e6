"""Real mounts with a structure index: what was recorded, what others have made, and what is none."""

import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cache.test_structure_sets import sets_in
from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mount, Mounts, run_vbnfs, until
from tests.hdf5.running import structured
from tests.scenarios.rounds import rounds_of
from tests.scenarios.test_walks import FILES, LISTED, run, use_without_structure

INDEX_KEY = "visual-behavior-neuropixels/manifests.structure-index"


@pytest.fixture
def dataset() -> FakeDataset:
    """A dataset of files whose structure lies between their data."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", {f"sessions/{n}.nwb": structured() + bytes(n) for n in range(FILES)})
    return dataset


@pytest.fixture
def server(dataset: FakeDataset) -> Iterator[FakeS3Server]:
    """A server of it."""
    with FakeS3Server(dataset.store) as server:
        yield server


@pytest.fixture
def index(server: FakeS3Server, tmp_path: Path) -> Path:
    """The index of all its files, made by another cache."""
    other, file = f"--cache-dir={tmp_path / 'other'}", tmp_path / "vbn.index"
    done = run_vbnfs("index", "build", "--all", f"--endpoint-url={server.endpoint_url}", other)
    assert done.returncode == 0, done.stderr
    assert run_vbnfs("index", "export", file, other).returncode == 0
    assert len(sets_in(file.read_bytes())) == FILES
    return file


def rounds_to_list(server: FakeS3Server, path: Path) -> int:
    """How many rounds of requests h5py waits for to list a file, and its attributes."""
    return rounds_of([sys.executable, "-c", LISTED, str(path)], server)


def figures(mount: Mount) -> tuple[int, int]:
    metrics = mount.status()["metrics"]
    return metrics["walks"], metrics["index_waves"]


def lose_blocks(cache: Path) -> None:
    """Everything is evicted."""
    for folder in cache.glob("blocks-v*"):
        shutil.rmtree(folder)


def test_what_was_walked_comes_in_one_wave(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """The second time that a file is opened cold, two rounds bring all; nothing is parsed. Built beside, too."""
    mount = mounts(server.endpoint_url, "--cache-dir", tmp_path / "cache")
    first, second = mount.path / "sessions/0.nwb", mount.path / "sessions/1.nwb"
    rounds_to_list(server, first)
    assert figures(mount) == (1, 0)
    until((tmp_path / "cache/structure-v1/recorded").exists)
    mount.umount()
    lose_blocks(tmp_path / "cache")
    mount.mount()
    assert rounds_to_list(server, first) == 2
    assert figures(mount) == (0, 1)
    assert run_vbnfs("index", "build", second).returncode == 0  # while the mount runs
    mount.umount()
    lose_blocks(tmp_path / "cache")
    mount.mount()
    assert rounds_to_list(server, second) == 2
    assert first.read_bytes() == structured()


def test_an_index_of_others(mounts: Mounts, server: FakeS3Server, index: Path, tmp_path: Path) -> None:
    """A file that is given: two rounds for what nobody has opened here; what reads no structure costs nothing more.

    Its copy in the cache serves when it is gone.
    """
    received = {}
    for options in (("--no-hdf5",), ("--index", str(index))):
        number = len(options)
        mount = mounts(server.endpoint_url, "--cache-dir", tmp_path / f"cache{number}", *options, name=f"mnt{number}")
        until(lambda m=mount, o=options: "--index" not in o or list(tmp_path.rglob("structure-given")))
        server.forget_requests()
        use_without_structure([mount.path / f"sessions/{n}.nwb" for n in range(FILES)], tmp_path / "copy")
        received[len(options)] = server.asked_bytes
    assert received[1] == received[2]
    assert rounds_to_list(server, mount.path / "sessions/11.nwb") == 2
    mount.umount()
    lose_blocks(tmp_path / "cache2")
    (tmp_path / "cache2/structure-v1/recorded").unlink(missing_ok=True)
    index.unlink()
    mount.mount()
    assert "vbn.index: No such file or directory; files are read without it" in mount.warnings
    assert rounds_to_list(server, mount.path / "sessions/10.nwb") == 2


@pytest.mark.slow
def test_the_index_of_the_bucket(
    mounts: Mounts, dataset: FakeDataset, server: FakeS3Server, index: Path, tmp_path: Path
) -> None:
    """It stands beside the manifests, is found by their list, fetched once, and again when it has changed."""
    good = index.read_bytes()
    dataset.store.put(INDEX_KEY, good)
    copies = tmp_path / "cache/datasets-v1"
    for times in (1, 1):
        mount = mounts(server.endpoint_url, "--cache-dir", tmp_path / "cache", "--refresh", "1")
        until(lambda: list(copies.rglob("structure")))
        assert sum(request.key == INDEX_KEY for request in server.requests) == times
        mount.umount()
    mount.mount()
    assert rounds_to_list(server, mount.path / "sessions/3.nwb") == 2
    assert (mount.path / "manifests").is_dir()
    assert [path.name for path in mount.path.iterdir() if "index" in path.name] == []
    dataset.store.put(INDEX_KEY, b"<html>" * 1000)  # is refused, and the copy stays
    until(lambda: sum(request.key == INDEX_KEY for request in server.requests) > 1)
    assert good in next(iter(copies.rglob("structure"))).read_bytes()
    assert rounds_to_list(server, mount.path / "sessions/4.nwb") == 2


def test_an_index_that_cannot_be_had_delays_nothing(
    mounts: Mounts, server: FakeS3Server, index: Path, tmp_path: Path
) -> None:
    """A server that takes connections and says nothing, and a file that is no index: files are read without it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/vbn.index"
        mount = mounts(server.endpoint_url, "--cache-dir", tmp_path / "cache", "--index", url)
        run(sys.executable, "-c", LISTED, mount.path / "sessions/0.nwb")
        assert mount.warnings == ""
        mount.umount()
    index.write_bytes(b"<html>log in first</html>")
    mount = mounts(server.endpoint_url, "--cache-dir", tmp_path / "cache", "--index", index)
    assert "no structure index, which 'vbnfs index export' writes; files are read without it" in mount.warnings
    run(sys.executable, "-c", LISTED, mount.path / "sessions/1.nwb")

"""Programs that do not go through a file's structure, beside one that does: what a walk ahead of them costs."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.children import children_of
from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import Behaviour, FakeS3Server, for_kind
from tests.fixtures_mount import Mount, Mounts
from tests.hdf5.running import structured

FILES = 12
FAR: Behaviour = for_kind("get_range", lambda _request, honest: replace(honest, pause_seconds=0.3))
LISTED = "import h5py, sys; h5py.File(sys.argv[1]).visititems(lambda name, item: dict(item.attrs) and None)"
RECOGNIZED = "import h5py, sys; assert all(map(h5py.is_hdf5, sys.argv[1:]))"


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset of such files."""
    dataset, data = FakeDataset(), structured()
    dataset.publish("0.1.0", {f"sessions/{number}.nwb": data + bytes(number) for number in range(FILES)})
    with FakeS3Server(dataset.store) as server:
        yield server


def sampled(path: Path) -> None:
    """Read a little of a file's beginning, middle and end, as programs do that look for equal files."""
    with path.open("rb", buffering=0) as file:
        size = path.stat().st_size
        for offset in (0, size // 2, size - 16_384):
            file.seek(offset)
            assert file.read(16_384)


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def use_without_structure(files: list[Path], target: Path) -> None:
    """What desktops, shells and indexers do to a folder of files."""
    run("ls", "-lR", files[0].parent)
    run("head", "-qc", "4096", *files[:4])
    run("file", *files[4:6])
    run(sys.executable, "-c", RECOGNIZED, *files[:8])
    sampled(files[8])
    run("tail", "-c", "4096", files[9])
    run("cp", files[10], target)
    assert target.read_bytes() == structured() + bytes(10)


def walks_of(mount: Mount) -> tuple[int, int]:
    metrics = mount.status()["metrics"]
    return metrics["walks"], metrics["walked_blocks"]


def walkers_of(mount: Mount) -> list[Path]:
    """The processes that walk for a mount, below /proc."""
    processes = [Path(f"/proc/{child}") for child in children_of(mount.status()["pid"])]
    return [process for process in processes if b"walker_program" in command_of(process)]


def command_of(process: Path) -> bytes:
    """A process's command line; nothing of one that has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return (process / "cmdline").read_bytes()
    return b""


def test_what_reads_no_structure_costs_nothing_more(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """ls, head, file, is_hdf5, tail, cp and samplers have not a block walked for them; one that lists a file has.

    The process that parses for it has the mount's life.
    """
    received = {}
    for option in ("--no-hdf5", "--hdf5"):
        mount = mounts(server.endpoint_url, "--cache-dir", tmp_path / f"cache{option}", option)
        files = [mount.path / f"sessions/{number}.nwb" for number in range(FILES)]
        server.forget_requests()
        use_without_structure(files, tmp_path / "copy")
        received[option] = server.asked_bytes
        assert walks_of(mount) == (0, 0)
        server.behaviours.extend([FAR] if option == "--hdf5" else [])
        run(sys.executable, "-c", LISTED, files[11])
        server.behaviours.clear()
        walks, blocks = walks_of(mount)
        assert (walks, blocks > 2) == ((1, True) if option == "--hdf5" else (0, False))
        walkers = walkers_of(mount)
        assert len(walkers) == (option == "--hdf5")
        mount.umount()
        assert not any(map(Path.exists, walkers))
    assert received["--hdf5"] == received["--no-hdf5"]


def test_what_is_cached_is_not_walked(mounts: Mounts, server: FakeS3Server) -> None:
    """A whole file, and a mount with --offline, have no walks, and no process for them."""
    for options in ((), ("--offline",)):
        mount = mounts(server.endpoint_url, *options)
        whole = mount.path / "sessions/0.nwb"
        assert whole.read_bytes() == structured()
        run(sys.executable, "-c", LISTED, whole)
        assert walks_of(mount) == (0, 0)
        assert not walkers_of(mount)
        mount.umount()

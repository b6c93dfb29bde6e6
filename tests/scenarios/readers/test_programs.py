"""The programs that people read a mount with, on a genuine release from a real S3 server."""

import fcntl
import hashlib
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import pandas as pd
import polars as pl
import polars.testing
import pyarrow
import pyarrow.csv
import pynwb
import pytest

from tests.fixtures_mount import ENGINES, Mount, Mounts, until
from tests.scenarios.readers.conftest import mounted
from vbnfs.demo.server import SeaweedServer
from vbnfs.demo.upload import DemoRelease


@pytest.fixture(scope="module", params=ENGINES)
def mount(
    request: pytest.FixtureRequest,
    seaweed: SeaweedServer,
    tiny_release: DemoRelease,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mount]:
    """The tiny release, mounted once with each engine."""
    with mounted(seaweed, tmp_path_factory, "--fuse", request.param) as mount:
        yield mount


def session_path(originals: dict[str, Path]) -> str:
    """A session's path in the newest version."""
    return min(path for path in originals if "/ecephys_session_" in path)


def run(*command: str | Path, cwd: Path | None = None) -> bytes:
    """A program's standard output; it must succeed and complain of nothing."""
    done = subprocess.run(list(map(str, command)), capture_output=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    return done.stdout


def same_trees(copy: Path, originals: dict[str, Path]) -> None:
    """Every original is in `copy` under its path, byte for byte."""
    for path, original in originals.items():
        assert (copy / path).read_bytes() == original.read_bytes(), path


def test_cat(mount: Mount, originals: dict[str, Path]) -> None:
    """`cat` of every file gives its bytes."""
    for path, original in originals.items():
        assert run("cat", mount.path / path) == original.read_bytes()


def test_md5sum_and_wc(mount: Mount, originals: dict[str, Path], tmp_path: Path) -> None:
    """`md5sum -c` confirms the sums of the originals; `cat | wc -c` counts their bytes."""
    sums = [f"{hashlib.md5(original.read_bytes()).hexdigest()}  {path}\n" for path, original in originals.items()]
    (tmp_path / "sums").write_text("".join(sums))
    run("md5sum", "--check", "--strict", "--quiet", tmp_path / "sums", cwd=mount.path)
    for path, original in originals.items():
        counted = subprocess.run(f"cat '{mount.path / path}' | wc -c", shell=True, capture_output=True, check=True)
        assert int(counted.stdout) == original.stat().st_size


def test_ls_recursive(mount: Mount, originals: dict[str, Path]) -> None:
    """`ls -lR` of a version shows every file in its folder with its size."""
    listed: dict[str, int] = {}
    folder = ""
    for line in run("ls", "-lR", ".", cwd=mount.path / "manifests" / "v0.5.0").decode().splitlines():
        if line.endswith(":"):
            folder = line.removesuffix(":").removeprefix(".").removeprefix("/")
        elif line.startswith("-r--r--r--"):
            words = line.split()
            listed[f"{folder}/{words[-1]}"] = int(words[4])
    assert {path: original.stat().st_size for path, original in originals.items()}.items() <= listed.items()


def test_cp_recursive(mount: Mount, originals: dict[str, Path], tmp_path: Path) -> None:
    """`cp -r` of a version's folder copies all of it."""
    run("cp", "-r", mount.path / "manifests" / "v0.5.0", tmp_path / "copy")
    same_trees(tmp_path / "copy", originals)


def test_cp_recursive_of_the_top(mount: Mount, originals: dict[str, Path], tmp_path: Path) -> None:
    """`cp -r` of the whole mount ends, and the top is made of real files and folders."""
    run("cp", "-r", mount.path, tmp_path / "copy")
    same_trees(tmp_path / "copy", originals)
    same_trees(tmp_path / "copy" / "manifests" / "v0.5.0", originals)


def test_cp_sparse(mount: Mount, originals: dict[str, Path], tmp_path: Path) -> None:
    """`cp --sparse=always` and `--sparse=auto` take no file for a hole."""
    path = session_path(originals)
    for mode in ("always", "auto"):
        run("cp", f"--sparse={mode}", mount.path / path, tmp_path / mode)
        assert (tmp_path / mode).read_bytes() == originals[path].read_bytes()


@pytest.mark.usefixtures("engine")
def test_tar_sparse(mounts: Mounts, seaweed: SeaweedServer, originals: dict[str, Path], tmp_path: Path) -> None:
    """`tar --sparse` of files that are not cached at all stores their bytes, not holes."""
    cold = mounts(seaweed.endpoint_url, name="cold")
    run("tar", "--sparse", "-cf", tmp_path / "all.tar", "-C", cold.path / "manifests" / "v0.5.0", ".")
    (tmp_path / "out").mkdir()
    run("tar", "-xf", tmp_path / "all.tar", "-C", tmp_path / "out")
    same_trees(tmp_path / "out", originals)


def test_rsync(mount: Mount, originals: dict[str, Path], tmp_path: Path) -> None:
    """`rsync -aS` copies bytes and times; a second run finds nothing to do."""
    source = f"{mount.path}/manifests/v0.5.0/"
    run("rsync", "-aS", source, tmp_path / "copy")
    same_trees(tmp_path / "copy", originals)
    assert run("rsync", "-ai", source, tmp_path / "copy") == b""


def test_find_and_glob(mount: Mount, originals: dict[str, Path]) -> None:
    """`find -type f` sees every file, by size and by name; globs expand."""
    found = run("find", "manifests/v0.5.0", "-type", "f", "-name", "*.nwb", cwd=mount.path).decode().split()
    nested = {f"manifests/v0.5.0/{path}" for path in originals if path.endswith(".nwb")}
    assert nested < set(found)
    path = session_path(originals)
    size = originals[path].stat().st_size
    assert path in run("find", ".", "-size", f"{size}c", cwd=mount.path).decode()
    assert sorted(mount.path.glob("*/ecephys_session_*.nwb"))


def test_ls_shows_dots_and_links(mount: Mount) -> None:
    """`ls -la` shows `.` and `..`; a folder's link count is two and one for each folder in it."""
    lines = run("ls", "-la", mount.path).decode().splitlines()
    assert [line.rpartition(" ")[2] for line in lines[1:3]] == [".", ".."]
    for folder, folders, _ in os.walk(mount.path):
        real = [name for name in folders if not (Path(folder) / name).is_symlink()]
        assert os.stat(folder).st_nlink == 2 + len(real)


@pytest.mark.usefixtures("engine")
def test_du_and_df(mounts: Mounts, seaweed: SeaweedServer, originals: dict[str, Path]) -> None:
    """`du` counts what is cached, `du --apparent-size` all; df's size is --cache-size."""
    cold = mounts(seaweed.endpoint_url, "--cache-size", "64M", name="cold")
    path = cold.path / session_path(originals)
    assert run("du", "--block-size=1", path).split()[0] == b"512"
    size = path.stat().st_size
    assert run("du", "--apparent-size", "--block-size=1", path).split()[0] == str(size).encode()
    path.read_bytes()
    until(lambda: path.stat().st_blocks == -(-size // 512))
    assert int(run("df", "--output=size", "--block-size=1", cold.path).split()[1]) == 64 << 20


def test_pandas_reads_the_tables(mount: Mount, originals: dict[str, Path]) -> None:
    """pandas reads each table as it was written."""
    tables = [path for path in originals if path.endswith(".csv")]
    assert len(tables) == 5
    for path in tables:
        pd.testing.assert_frame_equal(pd.read_csv(mount.path / path), pd.read_csv(originals[path]))


def test_polars_and_pyarrow_read_the_tables(mount: Mount, originals: dict[str, Path]) -> None:
    """Polars and pyarrow read each table as from the original; Polars by mapping it, too."""
    for path in (path for path in originals if path.endswith(".csv")):
        polars.testing.assert_frame_equal(pl.read_csv(mount.path / path), pl.read_csv(originals[path]))
        polars.testing.assert_frame_equal(pl.scan_csv(mount.path / path).collect(), pl.read_csv(originals[path]))
        assert pyarrow.csv.read_csv(mount.path / path).equals(pyarrow.csv.read_csv(originals[path]))
        with pyarrow.memory_map(str(mount.path / path)) as mapped:
            assert mapped.read() == originals[path].read_bytes()


def test_h5py_reads_with_locking(mount: Mount, originals: dict[str, Path]) -> None:
    """h5py opens a session with file locking on and reads what the original has."""
    path = session_path(originals)
    with h5py.File(mount.path / path, locking=True) as mounted, h5py.File(originals[path]) as original:
        for name in ("units/spike_times", "units/waveform_mean", "units/id"):
            assert (mounted[name][()] == original[name][()]).all()


def test_pynwb_reads_sessions_and_lfp(mount: Mount, originals: dict[str, Path]) -> None:
    """pynwb opens every NWB file of the release; their identifiers are the originals'."""
    paths = [path for path in originals if path.endswith(".nwb")]
    assert any("lfp" in path for path in paths)
    for path in paths:
        with pynwb.NWBHDF5IO(mount.path / path, "r") as mounted, pynwb.NWBHDF5IO(originals[path], "r") as original:
            assert mounted.read().identifier == original.read().identifier


def test_mmap_sendfile_splice_and_direct_reads(mount: Mount, originals: dict[str, Path], tmp_path: Path) -> None:
    """mmap, sendfile, splice and O_DIRECT give a file's bytes."""
    path = session_path(originals)
    wanted = originals[path].read_bytes()
    with (mount.path / path).open("rb") as source:
        with mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
            assert mapping[:] == wanted
        with (tmp_path / "sent").open("wb") as sink:
            position = 0
            while count := os.sendfile(sink.fileno(), source.fileno(), position, 1 << 20):
                position += count
        assert (tmp_path / "sent").read_bytes() == wanted
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
            assert cat.stdin
            assert os.splice(source.fileno(), cat.stdin.fileno(), 4096, 0) == 4096
            assert cat.communicate()[0] == wanted[:4096]
    run("dd", "iflag=direct", f"if={mount.path / path}", f"of={tmp_path / 'direct'}", "bs=64K", "status=none")
    assert (tmp_path / "direct").read_bytes() == wanted


def test_locks(mount: Mount, originals: dict[str, Path]) -> None:
    """flock works between processes: an exclusive lock of one keeps another one out."""
    path = mount.path / session_path(originals)
    attempt = f"import fcntl; fcntl.flock(open({str(path)!r}), fcntl.LOCK_SH | fcntl.LOCK_NB)"
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = subprocess.run([sys.executable, "-c", attempt], capture_output=True, check=False)
        assert b"BlockingIOError" in done.stderr
        fcntl.flock(file, fcntl.LOCK_UN)
        run(sys.executable, "-c", attempt)


@pytest.mark.usefixtures("engine")
def test_many_readers_at_once(mounts: Mounts, seaweed: SeaweedServer, originals: dict[str, Path]) -> None:
    """Sixteen processes that read the same cold file together get its bytes, and fetch each byte once."""
    cold = mounts(seaweed.endpoint_url, name="cold")
    path = session_path(originals)
    readers = [subprocess.Popen(["b2sum", cold.path / path], stdout=subprocess.PIPE, text=True) for _ in range(16)]
    sums = {reader.communicate()[0].split()[0] for reader in readers}
    assert sums == {run("b2sum", originals[path]).decode().split()[0]}
    assert cold.status()["metrics"]["received_bytes"] == originals[path].stat().st_size

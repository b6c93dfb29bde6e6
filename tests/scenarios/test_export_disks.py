"""`vbnfs export` to disks of every kind: what they cannot hold is refused by name before anything is copied."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import BUCKET, FakeDataset
from tests.fakes.disks import fuse_disk, loop_disk, memory_disk, remount, used_bytes
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import run_vbnfs

pytestmark = [pytest.mark.root, pytest.mark.scenario]

MIB, GIB = 1 << 20, 1 << 30
SESSION = "behavior_ecephys_sessions/101/ecephys_session_101.nwb"
ODD = "notes/what:now.txt"
TABLE = "project_metadata/units.csv"
LARGE = {"huge/four.nwb": 4 * GIB, "huge/less.nwb": 4 * GIB - 1, "huge/twenty.nwb": 20 * GIB}
DATA = Pattern(12 * MIB)
TOP = "visual-behavior-neuropixels-0.1.0"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeS3Server]:
    """A server of a session, of files too long for some disks, which are never read, and one with an odd name."""
    dataset = FakeDataset()
    files = {SESSION: DATA, ODD: b"odd", TABLE: b"id\n1\n"}
    entries = {name: dataset.entry(name, data) for name, data in files.items()}
    for name, size_bytes in LARGE.items():
        key = f"{dataset.project}/{name}"
        url = f"https://{BUCKET}.s3.us-west-2.amazonaws.com/{key}"
        file_hash = hashlib.blake2b(name.encode()).hexdigest()
        entries[name] = {
            "url": url,
            "version_id": dataset.store.put(key, Pattern(size_bytes)),
            "file_hash": file_hash,
        }
    dataset.publish_entries("0.1.0", entries)
    with FakeS3Server(dataset.store) as server:
        yield server


def export(server: FakeS3Server, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_vbnfs("export", *arguments, "--endpoint-url", server.endpoint_url)


@pytest.mark.slow
def test_fat32(server: FakeS3Server, tmp_path: Path) -> None:
    """FAT32: a file of 4 GiB is refused by name, one of a byte less is not; so are names that FAT cannot have."""
    with fuse_disk(tmp_path / "disk", ["mkfs.fat", "-F", "32"], GIB, ["fusefat", "-o", "rw+"]) as disk:
        done = export(server, disk / "usb", "huge")
        assert (done.returncode, done.stdout) == (1, "")
        for words in (
            "FAT32, which takes no file of 4 GiB or more",
            "four.nwb (4.0 GiB)",
            "exFAT",
            "nothing was copied",
        ):
            assert words in done.stderr
        assert "twenty.nwb" in done.stderr
        assert "less.nwb" not in done.stderr
        done = export(server, disk / "usb", ODD)
        assert done.returncode == 1
        assert "what:now.txt (with :)" in done.stderr
        assert "4.0 GiB are to be copied" in export(server, disk / "usb", "huge/less.nwb").stderr
        assert list(disk.iterdir()) == []
        done = export(server, disk / "usb", SESSION)
        assert (done.returncode, done.stdout) == (0, "2 files: 2 exported (12.0 MiB)\n"), done.stderr
        assert (disk / "usb" / TOP / SESSION).read_bytes() == DATA[: len(DATA)]
        assert export(server, disk / "usb", SESSION).stdout == "2 files: 2 there (12.0 MiB)\n"
        done = run_vbnfs(
            "import", disk / "usb", f"--cache-dir={tmp_path / 'elsewhere'}", "--offline",
            f"--endpoint-url={server.endpoint_url}",
        )  # fmt: skip
        assert (done.returncode, "2 taken (12.0 MiB)" in done.stderr) == (0, True), done.stderr


@pytest.mark.slow
def test_exfat(server: FakeS3Server, tmp_path: Path) -> None:
    """exFAT takes a session; it has no symbolic links, and neither modes nor locks are needed."""
    with fuse_disk(tmp_path / "disk", ["mkfs.exfat"], 64 * MIB, ["mount.exfat-fuse"]) as disk:
        assert "what:now.txt (with :)" in export(server, disk / "usb", ODD).stderr
        done = export(server, disk / "usb", SESSION)
        assert (done.returncode, done.stdout) == (0, "2 files: 2 exported (12.0 MiB)\n"), done.stderr
        assert (disk / "usb" / TOP / SESSION).read_bytes() == DATA[: len(DATA)]
        assert export(server, disk / "usb", SESSION).stdout == "2 files: 2 there (12.0 MiB)\n"


def test_another_limit_of_lengths(server: FakeS3Server, tmp_path: Path) -> None:
    """The limit of any file system is found out: ext2 with blocks of 1 KiB ends at 16 GiB."""
    with loop_disk(tmp_path / "disk", ["mkfs.ext2", "-q", "-b", "1024"], 64 * MIB) as disk:
        done = export(server, disk, "huge")
        assert done.returncode == 1
        assert "(ext2) takes no file so long: 1 file: " in done.stderr
        assert "twenty.nwb (20.0 GiB)" in done.stderr


@pytest.mark.slow
def test_room(server: FakeS3Server, tmp_path: Path) -> None:
    """Too little room, and a disk that can only be read, are found before anything is copied.

    A disk that fills up ends the command, and the next one goes on.
    """
    with memory_disk(tmp_path / "disk", "size=8m") as disk:
        done = export(server, disk, SESSION)
        assert done.returncode == 1
        assert "12.0 MiB are to be copied, but the disk of" in done.stderr
        assert list(disk.iterdir()) == []
        remount(disk, "size=32m,nr_inodes=8")
        done = export(server, disk, SESSION)
        assert done.returncode == 1
        assert "takes no more: No space left on device; 0 of 2 files are there" in done.stderr
        remount(disk, "nr_inodes=100")
        assert export(server, disk, SESSION).stdout == "2 files: 2 exported (12.0 MiB)\n"
        remount(disk, "ro")
        done = export(server, disk, SESSION)
        assert done.returncode == 1
        assert "its disk can only be read" in done.stderr


@pytest.mark.slow
def test_shared_files(server: FakeS3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On XFS, beside the cache, files are shared, with --link and without: they take no room, and are no hard links.

    What is damaged in the cache does not come into the folder: it is fetched anew.
    """
    with loop_disk(tmp_path / "disk", ["mkfs.xfs", "-q", "-m", "reflink=1"], 400 * MIB) as disk:
        monkeypatch.setenv("VBNFS_CACHE_DIR", str(disk / "cache"))
        assert export(server, disk / "one", SESSION, "--link").returncode == 0
        [data] = [path for path in disk.glob("cache/blocks-v2/*/whole/*/*/data") if path.stat().st_size == len(DATA)]
        os.sync()
        before = used_bytes(disk)
        for name, options in (("two", ["--link"]), ("three", [])):
            done = export(server, disk / name, SESSION, *options)
            assert (done.returncode, done.stdout) == (0, "2 files: 2 exported (12.0 MiB)\n"), done.stderr
        os.sync()
        assert used_bytes(disk) - before < MIB
        assert data.stat().st_nlink == 1
        with data.open("r+b") as file:
            file.write(b"damaged")
        assert export(server, disk / "four", SESSION).returncode == 0
        for name in ("one", "two", "three", "four"):
            assert (disk / name / TOP / SESSION).read_bytes() == DATA[: len(DATA)]

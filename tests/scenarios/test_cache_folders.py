"""A folder that cannot be a cache is refused in the terminal, when mounting; one that is a cache is marked so."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.disks import fuse_disk
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mounts, run_vbnfs, until
from vbnfs.access.cache_directory import prepare_cache_directory

DOCUMENT = Path(__file__).parents[2] / "docs" / "cache.md"


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of one session."""
    with serve({"0.1.0": {"ecephys_sessions/one.nwb": Pattern(3 << 20)}}) as server:
        yield server


def exfat(folder: Path, *options: str) -> AbstractContextManager[Path]:
    """A real exFAT disk on a folder: it has neither modes nor sparse files."""
    return fuse_disk(folder, ["mkfs.exfat"], 64 << 20, ["mount.exfat-fuse", *options])


@pytest.mark.root
@pytest.mark.parametrize(
    ("options", "reason", "remedy"),
    [
        ((), "keeps no permissions", "umask=077"),
        (("-o", "umask=022"), "keeps no permissions", "umask=077"),
        (("-o", "umask=077"), "no sparse files", "ext4, xfs, btrfs"),
    ],
)
def test_a_disk_that_cannot_hold_a_cache(
    mounts: Mounts, server: FakeS3Server, tmp_path: Path, options: tuple[str, ...], reason: str, remedy: str
) -> None:
    """exFAT is refused by `vbnfs mount` with status 1: open to all it has no modes, and else no sparse files."""
    disk = tmp_path / "disk"
    with exfat(disk, *options):
        done = run_vbnfs("mount", "--endpoint-url", server.endpoint_url, "--cache-dir", disk, tmp_path / "mnt")
        assert (done.returncode, done.stdout) == (1, "")
        for part in (str(disk), reason, remedy, "--cache-dir"):
            assert part in done.stderr
        assert list(disk.iterdir()) == []


def test_whole_files_are_used_without_vbnfs(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """The command of docs/cache.md prints the manifest's hash of each file that is whole in the cache."""
    mount = mounts(server.endpoint_url)
    files = [mount.path / "ecephys_sessions/one.nwb"]
    hashes = {hashlib.blake2b(file.read_bytes()).hexdigest() for file in files}
    (command,) = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("b2sum ")]
    command = command.replace("~/.cache/vbnfs", str(tmp_path / "cache")).replace("/aws/", "/*/")

    def found() -> set[str]:
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        return {line.split()[0] for line in done.stdout.splitlines()}

    until(lambda: found() >= hashes)
    assert found() == hashes == {os.getxattr(file, "user.vbnfs.file_hash").decode() for file in files}


def test_backups_may_leave_it_out(tmp_path: Path) -> None:
    """CACHEDIR.TAG begins with the signature that programs go by; tar leaves the cache out. It stays as it is."""
    tag = tmp_path / "cache" / "CACHEDIR.TAG"
    prepare_cache_directory(tmp_path / "cache")
    assert tag.read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55\n")
    (tmp_path / "cache" / "blocks").write_bytes(b"x")
    command = ["tar", "-c", "-f", "-", "--exclude-caches-all", "-C", tmp_path, "cache"]
    done = subprocess.run(command, check=True, capture_output=True)
    assert b"cache/blocks" not in done.stdout
    tag.write_text("changed")
    prepare_cache_directory(tmp_path / "cache")
    assert tag.read_text() == "changed"


def test_an_empty_cache_that_was_opened_is_closed_again(tmp_path: Path) -> None:
    """A folder with no more than the mark is no other user's."""
    prepare_cache_directory(tmp_path / "cache")
    for folder in (tmp_path / "cache").iterdir():
        assert folder.name == "CACHEDIR.TAG"
    (tmp_path / "cache").chmod(0o755)
    prepare_cache_directory(tmp_path / "cache")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700

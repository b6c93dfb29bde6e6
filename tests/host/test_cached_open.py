"""Files that are opened at once, from what the kernel has in memory, or not at all."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.disks import loop_disk, mount_copy
from tests.host.folders import NOBODY, make
from vbnfs.host.cached_open import open_cached
from vbnfs.host.places import Place, folder_at


def give_away(path: Path) -> None:
    path.write_bytes(b"data")
    os.chown(path, NOBODY, NOBODY)


def opened(place: Place) -> int | None:
    """The inode of what is opened at once."""
    if (descriptor := place.open_at_once()) is None:
        return None
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def test_what_is_in_memory_is_opened(tmp_path: Path) -> None:
    """A regular file of ours; not what is not there, and nothing in a folder that was deleted."""
    place = folder_at(make(tmp_path / "cache", 0o700)) / "a/b/file"
    assert opened(place) is None
    place.parent.mkdir()
    os.close(place.open(os.O_WRONLY | os.O_CREAT))
    assert opened(place) == place.stat().st_ino
    place.unlink()
    assert opened(place) is None
    (tmp_path / "cache/a/b").rmdir()
    (tmp_path / "cache/a").rmdir()
    (tmp_path / "cache").rmdir()
    assert opened(place) is None


@pytest.mark.parametrize(
    "put",
    [
        os.mkfifo,
        Path.mkdir,
        lambda path: path.symlink_to(path.parent / "real"),
        pytest.param(give_away, marks=pytest.mark.root),
    ],
    ids=["pipe", "folder", "link", "another user's"],
)
def test_what_is_no_file_of_ours_is_not_opened_at_once(tmp_path: Path, put: Callable[[Path], object]) -> None:
    """No link is followed, no pipe waited for, and no other user believed."""
    place = folder_at(make(tmp_path / "cache", 0o700)) / "file"
    (tmp_path / "cache/real").write_bytes(b"data")
    put(tmp_path / "cache/file")
    with pytest.raises(OSError, match=r"."):
        place.open(os.O_RDONLY)
    assert opened(place) is None


@pytest.mark.root
def test_what_is_on_the_disk_alone_is_not_opened(tmp_path: Path) -> None:
    """Of a disk that was just mounted nothing is in memory: once somebody has waited for it, it is."""
    with loop_disk(tmp_path / "disk", ["mkfs.ext4", "-q"], 50 << 20) as disk:
        make(disk / "cache", 0o700)
        (disk / "cache/file").write_bytes(b"data")
        subprocess.run(["sync", "--file-system", disk], check=True)
        mount_copy(disk, tmp_path / "disk.img")
        place = folder_at(disk / "cache") / "file"
        assert opened(place) is None
        folder = os.open(disk, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            open_cached("cache/file", folder, os.O_RDONLY)
        os.close(folder)
        os.close(place.open(os.O_RDONLY))
        assert opened(place) is not None

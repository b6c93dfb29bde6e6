"""The seal of a file: what changes it, and when a change is sure to show."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vbnfs.cache.whole_file import WholeFile


def make(path: Path) -> WholeFile:
    path.write_bytes(b"0123456789")
    return WholeFile(os.open(path, os.O_RDONLY))


def set_back(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"9876543210")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [set_back, lambda path: path.write_bytes(b"012345"), lambda path: path.chmod(0o400), Path.unlink],
    ids=["times set back", "cut short", "mode", "deleted"],
)
def test_a_change_shows(tmp_path: Path, change: Callable[[Path], object]) -> None:
    """Whatever is done to a file changes its seal, also where a program sets its time back."""
    file = make(tmp_path / "file")
    os.utime(tmp_path / "file", ns=(1, 1))
    seal = file.seal()
    wait_for_the_clock(file)
    change(tmp_path / "file")
    assert file.seal() != seal


def wait_for_the_clock(file: WholeFile) -> None:
    while seconds := file.seal().settles_in_seconds:
        time.sleep(seconds)


def test_another_file_is_another(tmp_path: Path) -> None:
    """Two files of the same bytes and times have two seals; reading changes none."""
    one, two = make(tmp_path / "one"), make(tmp_path / "two")
    seal = one.seal()
    assert one.read(2, 3) == b"234"
    assert one.read(8, 10) == b"89"
    assert one.seal() == seal != two.seal()
    assert one.held("aa11").inode == seal.inode
    assert one.held("aa11").is_read_by_kernel


def test_a_file_that_has_just_changed(tmp_path: Path) -> None:
    """Just after a change another one may have the same time: such a seal has yet to settle."""
    file = make(tmp_path / "file")
    assert 0 < file.seal()._replace(changed_ns=time.time_ns()).settles_in_seconds <= 0.2
    assert file.seal()._replace(changed_ns=1).settles_in_seconds == 0


def test_times_of_whole_seconds(tmp_path: Path) -> None:
    """Where a disk keeps whole seconds, another change in the same second does not show: it takes two to settle."""
    seal, second_ns = make(tmp_path / "file").seal(), 10**9
    this_second_ns = time.time_ns() // second_ns * second_ns
    assert 0.5 < seal._replace(changed_ns=this_second_ns).settles_in_seconds <= 2
    assert seal._replace(changed_ns=this_second_ns - second_ns + 1).settles_in_seconds == 0


def test_its_descriptor_is_closed(tmp_path: Path) -> None:
    """The file is closed with its last user."""
    descriptor = make(tmp_path / "file").descriptor
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)

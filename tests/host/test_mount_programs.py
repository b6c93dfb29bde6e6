"""The programs that mount and unmount: which are run, and what is reported where there is nothing to do."""

import os
from pathlib import Path

import pytest

from vbnfs.errors import MountError
from vbnfs.host import mount_programs
from vbnfs.host.mount_programs import detach, find_program, fusermount, unmount


def test_unmounting_what_is_no_mount(tmp_path: Path) -> None:
    """Taking away what is not there is an error."""
    with pytest.raises(MountError, match="no vbnfs mount"):
        unmount(tmp_path, lazy=False, timeout_seconds=1)


def test_who_comes_second_to_a_mount_that_goes_away(tmp_path: Path) -> None:
    """Where nothing is mounted any more, taking it away is done: somebody else was faster."""
    detach(tmp_path, lazy=False)
    detach(tmp_path, lazy=True)


def test_missing_fusermount_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without fusermount3 the package that has it is named."""
    monkeypatch.setattr(mount_programs, "_FOLDERS", ("/nowhere",))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MountError, match="apt install fuse3"):
        fusermount()
    (tmp_path / "fusermount3").touch(mode=0o755)
    assert fusermount() == os.fspath(tmp_path / "fusermount3")


def test_the_systems_own_program_is_taken_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program of the same name in another folder of PATH, be it the first one, is not run."""
    system, other = tmp_path / "system", tmp_path / "other"
    for folder in (system, other):
        folder.mkdir()
        (folder / "umount").touch(mode=0o755)
    monkeypatch.setattr(mount_programs, "_FOLDERS", ("/nowhere", os.fspath(system)))
    monkeypatch.setenv("PATH", f"{other}:{system}")
    assert find_program("umount") == os.fspath(system / "umount")
    assert find_program("no such program") is None

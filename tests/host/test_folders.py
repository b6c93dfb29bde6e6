"""Open folders: by their descriptors and by their paths they do the same."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vbnfs.host import atomic, folders_by_path, own_folders
from vbnfs.host.atomic import remove_abandoned, replace_file
from vbnfs.host.folders import FOLDER, Folder
from vbnfs.host.folders_by_descriptor import FolderByDescriptor
from vbnfs.host.folders_by_path import FolderByPath
from vbnfs.host.own_folders import open_own
from vbnfs.host.places import folder_at, open_file

NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL


def by_descriptor(path: Path) -> Folder:
    return FolderByDescriptor(os.open(path, FOLDER))


@pytest.fixture(params=[by_descriptor, FolderByPath])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    """A folder of each kind."""
    kind: Callable[[Path], Folder] = request.param
    opened = kind(tmp_path)
    yield opened
    opened.close()


def test_what_is_done_in_it(folder: Folder, tmp_path: Path) -> None:
    """Files and folders are made, found, renamed, dated and deleted by their names."""
    descriptor = folder.open("file", NEW)
    os.write(descriptor, b"data")
    os.close(descriptor)
    folder.make("below")
    assert sorted(folder.names()) == ["below", "file"]
    assert {entry.name: entry.is_dir() for entry in folder.scan()} == {"below": True, "file": False}
    assert folder.stat("file").st_size == 4
    assert (tmp_path / "below").stat().st_mode & 0o777 == 0o700
    folder.set_used("file", 5 * 10**9)
    assert folder.stat("file").st_mtime_ns == 5 * 10**9
    below = folder.below("below")
    inner = below.open("inner", NEW)
    os.close(inner)
    folder.rename("below", folder, "other")
    folder.make("full")
    (tmp_path / "full" / "file").touch()
    with pytest.raises(OSError, match=r".") as caught:
        folder.rename("other", folder, "full")
    assert caught.value.errno in {errno.EEXIST, errno.ENOTEMPTY}
    folder.replace("file", "new")
    (tmp_path / "other" / "inner").unlink()
    folder.rmdir("other")
    folder.unlink("new")
    assert folder.names() == ["full"]
    below.close()


def test_what_it_says_of_itself(folder: Folder, tmp_path: Path) -> None:
    """Its status, its disk's space, that it is not deleted; it is touched, synced, and closed to others."""
    os.utime(tmp_path, (5, 5))
    folder.touch()
    assert time.time() - folder.status().st_mtime < 60
    folder.sync()
    folder.close_to_others()
    assert folder.status().st_mode & 0o077 == 0
    space, found = folder.space(), os.statvfs(tmp_path)
    assert (space.total_bytes, space.is_read_only) == (found.f_blocks * found.f_frsize, False)
    assert not folder.is_deleted


def test_links_and_what_is_of_another_kind(folder: Folder, tmp_path: Path) -> None:
    """No link is followed, no folder opened as a file, and no file as a folder."""
    (tmp_path / "file").touch()
    (tmp_path / "below").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "way").symlink_to("below")
    with pytest.raises(OSError, match=r"."):
        open_file(folder, "link", os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        open_file(folder, "below", os.O_RDONLY)
    for name in ("file", "way"):
        with pytest.raises(OSError, match=r"."):
            folder.below(name)
    with pytest.raises(FileNotFoundError):
        folder.below("none")


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """Nothing can be put into it."""
    for kind in (by_descriptor, FolderByPath):
        (tmp_path / "gone").mkdir()
        folder = kind(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        assert folder.is_deleted
        folder.close()


def test_locks(tmp_path: Path) -> None:
    """One by descriptor can be locked; there is no lock of a path, nor what is known without asking its disk."""
    one, other, by_path = by_descriptor(tmp_path), by_descriptor(tmp_path), FolderByPath(tmp_path)
    assert (one.lock(), other.lock()) == (True, False)
    with pytest.raises(OSError, match=os.strerror(errno.ENOLCK)):
        by_path.lock()
    with pytest.raises(BlockingIOError):
        by_path.open_cached("file", os.O_RDONLY)
    one.close()
    other.close()


def test_a_file_that_is_open_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that keeps a file from being renamed, it is tried again for a second, and then given up."""
    folder, replace, refusals = FolderByPath(tmp_path), os.replace, [PermissionError] * 3

    def refused(source: Path, to: Path) -> None:
        if refusals:
            raise refusals.pop()
        replace(source, to)

    monkeypatch.setattr(os, "replace", refused)
    monkeypatch.setattr(folders_by_path, "_AGAIN_SECONDS", 0.0)
    (tmp_path / "file").touch()
    folder.replace("file", "new")
    assert folder.names() == ["new"]
    monkeypatch.setattr(folders_by_path, "_HELD_SECONDS", 0.0)
    refusals += [PermissionError] * 9
    with pytest.raises(PermissionError):
        folder.replace("new", "file")


@pytest.fixture
def as_by_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders are opened by their paths."""
    monkeypatch.setattr(own_folders, "HAS_DESCRIPTORS", False)
    monkeypatch.setattr(atomic, "RENAMES_OPEN_FILES", False)


@pytest.mark.usefixtures("as_by_path")
def test_small_files_by_path(tmp_path: Path) -> None:
    """A file is replaced as a whole, in folders that are made; what is left of a dead writer goes."""
    place = folder_at(tmp_path / "new") / "below/file"
    for data in (b"one", b"two"):
        replace_file(place, data)
        assert place.read_bytes() == data
    assert os.listdir(tmp_path / "new" / "below") == ["file"]
    with place.parent.opened() as folder:
        remove_abandoned(folder, "file")
        assert folder.names() == []


@pytest.mark.usefixtures("as_by_path")
def test_a_small_file_that_another_process_takes_for_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is closed before it is renamed, so that can happen: then it is written again, and given up after three."""
    replace, taken = FolderByPath.replace, [True, True]

    def late(folder: FolderByPath, name: str, as_name: str) -> None:
        if taken and taken.pop():
            folder.unlink(name)
        replace(folder, name, as_name)

    monkeypatch.setattr(FolderByPath, "replace", late)
    replace_file(folder_at(tmp_path) / "file", b"data")
    assert (tmp_path / "file").read_bytes() == b"data"
    taken += [True] * 3
    with pytest.raises(FileNotFoundError):
        replace_file(folder_at(tmp_path) / "file", b"more")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"data"]


@pytest.mark.usefixtures("as_by_path")
def test_a_file_that_its_writer_has_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be deleted, so it is not abandoned."""

    def refused(_: FolderByPath, name: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)

    monkeypatch.setattr(FolderByPath, "unlink", refused)
    (tmp_path / "file").touch()
    remove_abandoned(open_own(tmp_path, make=False), "file")
    assert os.listdir(tmp_path) == ["file"]

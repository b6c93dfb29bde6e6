"""What is below a folder of ours, reached by its descriptor."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.folders import NOBODY, make
from tests.open_files import open_files
from vbnfs.host import own_folders
from vbnfs.host.folders import FOLDER
from vbnfs.host.folders_by_descriptor import FolderByDescriptor
from vbnfs.host.places import Anchor, Place, file_at, folder_at, for_looking, open_file


def test_a_folder_that_was_moved_is_gone_on_in(tmp_path: Path) -> None:
    """What is made, read, listed and deleted is where the folder is by now; what took its place is not touched."""
    place = folder_at(make(tmp_path / "cache", 0o700))
    (place / "a").mkdir()
    (tmp_path / "cache").rename(tmp_path / "moved")
    new = tmp_path / "cache" / "a"
    new.mkdir(parents=True)
    (new / "file").write_bytes(b"not ours")
    os.close((place / "a" / "file").open(os.O_WRONLY | os.O_CREAT))
    (place / "b").mkdir()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        *("cache", "cache/a", "cache/a/file", "moved", "moved/a", "moved/a/file", "moved/b"),
    ]
    assert (place / "a" / "file").read_bytes() == b""
    (place / "a" / "file").unlink()
    assert {entry.name for _, _, entries in place.walk(depth=1) for entry in entries} == {"a", "b"}
    assert (new / "file").read_bytes() == b"not ours"


@pytest.mark.root
def test_a_folder_that_was_deleted_is_made_anew_with_all_checks(tmp_path: Path) -> None:
    """A cache that its owner deletes comes back, but not where others could have put one."""
    above = make(tmp_path / "above", 0o755)
    place = folder_at(make(above / "cache", 0o700))
    (above / "cache").rmdir()
    with pytest.raises(FileNotFoundError):
        (place / "file").read_bytes()
    (place / "folder").mkdir()
    assert (above / "cache" / "folder").is_dir()
    (above / "cache" / "folder").rmdir()
    (above / "cache").rmdir()
    make(above / "cache", 0o700)
    above.chmod(0o777)
    with pytest.raises(PermissionError, match="everybody can write"):
        (place / "folder").mkdir()
    assert os.listdir(above / "cache") == []


def fifo(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "real")


def foreign(path: Path) -> None:
    path.touch()
    os.chown(path, NOBODY, NOBODY)


@pytest.mark.root
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY | os.O_APPEND | os.O_CREAT, os.O_RDWR])
@pytest.mark.parametrize("plant", [fifo, link, foreign])
def test_what_is_no_file_of_ours_is_not_opened(tmp_path: Path, plant: Callable[[Path], None], flags: int) -> None:
    """A pipe, a link, another user's file: an error at once, however it is to be opened."""
    (tmp_path / "real").write_bytes(b"untouched")
    folder = make(tmp_path / "cache", 0o700)
    plant(folder / "file")
    place = file_at(folder / "file")
    before = open_files()
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what is asked for
        place.open(flags)
    assert caught.value.errno in {errno.EPERM, errno.ELOOP, errno.ENXIO}
    assert (tmp_path / "real").read_bytes() == b"untouched"
    assert open_files() == before


def test_a_link_on_the_way_is_not_followed(tmp_path: Path) -> None:
    """Not by what opens, makes, lists or deletes."""
    elsewhere = make(tmp_path / "elsewhere", 0o700)
    (elsewhere / "file").write_bytes(b"untouched")
    place = folder_at(make(tmp_path / "cache", 0o700))
    (tmp_path / "cache" / "link").symlink_to(elsewhere)
    for act in (
        (place / "link" / "file").read_bytes,
        (place / "link" / "file").unlink,
        (place / "link" / "new").mkdir,
    ):
        with pytest.raises(NotADirectoryError):
            act()
    assert list((place / "link").walk(depth=3)) == []
    assert [parts for parts, _, _ in place.walk(depth=3)] == [()]
    assert os.listdir(elsewhere) == ["file"]


@pytest.mark.root
def test_another_users_folder_is_not_entered(tmp_path: Path) -> None:
    """Nothing in it is opened, listed or made."""
    place = folder_at(make(tmp_path / "cache", 0o700))
    (make(tmp_path / "cache" / "theirs", 0o777, NOBODY) / "file").write_bytes(b"theirs")
    for act in ((place / "theirs" / "file").read_bytes, (place / "theirs" / "new").mkdir):
        with pytest.raises(PermissionError, match="belongs to somebody else"):
            act()
    assert [parts for parts, _, _ in place.walk(depth=3)] == [()]


@pytest.mark.parametrize("name", ["", ".", "..", "a/../b", "/a", "a//b"])
def test_names_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    """What would leave it is refused before anything is opened."""
    with pytest.raises(ValueError, match="not a name in a folder"):
        Place(Anchor(tmp_path)) / name


@pytest.mark.parametrize("is_shared", [False, True])
def test_what_other_hosts_write_to_is_not_opened_to_read_alone(tmp_path: Path, *, is_shared: bool) -> None:
    """An NFS server would lend it to this host, and have others wait, for as long as this one's lease lasts."""
    (tmp_path / "a").touch()
    folder = FolderByDescriptor(os.open(tmp_path, FOLDER), is_shared=is_shared)
    descriptor = open_file(folder, "a", for_looking(folder))
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    assert flags & os.O_ACCMODE == (os.O_RDWR if is_shared else os.O_RDONLY)
    os.close(descriptor)
    folder.close()


def believe_open_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kernel's NFS client: an open folder lacks what it lacked when it was opened (close-to-open, nfs(5))."""
    known: dict[int, frozenset[str]] = {}
    really_open = os.open

    def opened(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd in known and path not in {".", *known[dir_fd]}:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        descriptor = really_open(path, flags, mode, dir_fd=dir_fd)
        known.pop(descriptor, None)  # a number that was another folder's
        if flags & os.O_DIRECTORY and not flags & os.O_PATH:
            known[descriptor] = frozenset(os.listdir(descriptor))
        return descriptor

    monkeypatch.setattr(os, "open", opened)


def test_what_another_host_has_made_meanwhile_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where hosts share a folder, each look asks its server, and does not go by what was there when it was opened."""
    monkeypatch.setattr(own_folders, "is_shared", lambda _path: True)
    believe_open_folders(monkeypatch)
    cache = make(tmp_path / "cache", 0o700)
    place = folder_at(cache)
    assert [entries for _, _, entries in place.walk(depth=1)] == [[]]
    (cache / "a").mkdir()
    (cache / "a" / "file").write_bytes(b"made there")
    (cache / "b").write_bytes(b"and this")
    assert (place / "a" / "file").read_bytes() == b"made there"
    assert (place / "b").read_bytes() == b"and this"

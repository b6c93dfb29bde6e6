"""Folders that nobody else can replace, and what is below them, reached by descriptors."""

import errno
import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vbnfs.errors import CacheError
from vbnfs.host.places import Anchor, Place, file_at, folder_at, open_own

NOBODY, USERS, DAEMON = 65534, 100, 1  # DAEMON: a user whose group bears its name


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder to which every user has access."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


@contextmanager
def being(uid: int) -> Iterator[None]:
    """What this process does meanwhile is another user's doing, to the kernel."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def make(path: Path, mode: int, uid: int = 0, gid: int = 0) -> Path:
    path.mkdir()
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path


def check(path: Path) -> None:
    os.close(open_own(path, make=True))


# What is above


@pytest.mark.root
@pytest.mark.parametrize(
    ("mode", "uid", "gid"),
    [(0o755, 0, USERS), (0o711, 0, 0), (0o1777, 0, 0), (0o1775, 0, USERS), (0o3775, 0, USERS), (0o775, 0, 0)],
    ids=["plain", "only-passing", "tmp", "sticky-for-a-group", "sticky-setgid", "roots-group"],
)
def test_folders_above_that_keep_others_out(tmp_path: Path, mode: int, uid: int, gid: int) -> None:
    """Root's folders that nobody else can write, or in which nobody can rename what is another's, are all right."""
    above = make(tmp_path / "above", mode, uid, gid)
    check(above / "new" / "cache")
    assert (above / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.root
@pytest.mark.parametrize(
    ("mode", "uid", "gid", "message"),
    [
        (0o777, 0, 0, "everybody can write {above} above it, .*'chmod \\+t {above}' \\(by its owner, root\\)"),
        (0o775, 0, USERS, "group users can write {above} above it, .*'chmod \\+t {above}'"),
        (0o2770, 0, 54321, "group 54321 can write {above} above it"),
        (0o755, NOBODY, 0, "{above} above it belongs to nobody, who could put"),
        (0o1777, NOBODY, 0, "{above} above it belongs to nobody, who could put"),
        (0o700, 54321, 0, "{above} above it belongs to user 54321"),
    ],
)
def test_folders_above_that_others_have_a_hand_in(
    tmp_path: Path, mode: int, uid: int, gid: int, message: str
) -> None:
    """Who can rename the cache away and put another in its place is named, with what keeps them from it."""
    above = make(tmp_path / "above", mode, uid, gid)
    (above / "mine").mkdir(mode=0o700)
    for cache in (above / "cache", above / "mine" / "cache"):
        with pytest.raises(CacheError, match=message.format(above=above) + ".*--cache-dir"):
            check(cache)
        assert not cache.exists()
    if uid == 0:
        above.chmod(mode | 0o1000)
        check(above / "mine" / "cache")


@pytest.mark.root
def test_links_above(tmp_path: Path) -> None:
    """A link of ours may lead to the cache, relative or not; what is above its end counts, and whose it is."""
    safe, unsafe = make(tmp_path / "safe", 0o755), make(tmp_path / "unsafe", 0o777)
    for target in (Path("../safe"), safe):
        link = safe / "link"
        link.symlink_to(target)
        check(link / "cache")
        check(tmp_path / "unsafe" / ".." / "safe" / "link" / "cache")
        assert (safe / "cache").is_dir()
        link.unlink()
    (safe / "link").symlink_to(unsafe)
    with pytest.raises(CacheError, match=f"everybody can write {unsafe} above it"):
        check(safe / "link" / "cache")
    os.lchown(safe / "link", NOBODY, 0)
    with pytest.raises(CacheError, match="must be yours"):
        check(safe / "link")
    (safe / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        check(safe / "loop" / "cache")


@pytest.mark.root
def test_a_group_of_ones_own(open_path: Path) -> None:
    """Where each user has a group of the same name, homes may be writable by it; by another group they may not."""
    home = make(open_path / "home", 0o775, DAEMON, DAEMON)
    with being(DAEMON):
        check(home / ".cache" / "vbnfs")
    os.chown(home, DAEMON, USERS)
    home.chmod(0o775)
    with being(DAEMON), pytest.raises(CacheError, match="group users can write"):
        check(home / ".cache" / "vbnfs")


IN_NAMESPACE = """
import sys
from pathlib import Path
from vbnfs.errors import CacheError
from vbnfs.host.places import open_own
try:
    open_own(Path(sys.argv[1]), make=True)
except CacheError as error:
    sys.exit(str(error))
"""


@pytest.mark.root
@pytest.mark.parametrize(("mode", "message"), [(0o755, ""), (0o777, "everybody can write")])
def test_in_a_namespace_that_does_not_know_all_users(open_path: Path, mode: int, message: str) -> None:
    """In a container without a root of its own the owners of what is above are unknown, and believed to be root."""
    above = make(open_path / "above", mode, 54321)
    cache = make(above / "cache", 0o700)
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", IN_NAMESPACE, cache]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == bool(message), done.stderr
    assert message in done.stderr


# What is below


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
    gc.collect()  # descriptors of tests before this one
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what is asked for
        place.open(flags)
    assert caught.value.errno in {errno.EPERM, errno.ELOOP, errno.ENXIO}
    assert (tmp_path / "real").read_bytes() == b"untouched"
    assert len(os.listdir("/proc/self/fd")) == before


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

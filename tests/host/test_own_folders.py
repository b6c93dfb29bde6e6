"""Folders that nobody else can write or replace: what may be above them, and what may not."""

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.host.folders import NOBODY, make
from tests.open_files import open_files
from vbnfs.errors import CacheError
from vbnfs.host import own_folders
from vbnfs.host.own_folders import open_own

USERS, DAEMON = 100, 1  # DAEMON: a user whose group bears its name


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


def check(path: Path) -> None:
    open_own(path, make=True).close()


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
from vbnfs.host.own_folders import open_own
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


@pytest.mark.root
def test_a_server_that_keeps_root_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's cache on a server that takes root for nobody (root_squash) is refused with what to do instead."""
    monkeypatch.setattr(own_folders, "is_shared", lambda path: True)
    theirs = make(tmp_path / "theirs", 0o700, NOBODY, NOBODY)
    with pytest.raises(CacheError, match=r"root may not use it: .*\(root_squash\); run vbnfs as the user"):
        check(theirs)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(CacheError, match="root_squash"):
        check(tmp_path / "new")
    monkeypatch.setattr(own_folders, "is_shared", lambda path: False)
    with pytest.raises(PermissionError):
        check(tmp_path / "new")


@pytest.mark.parametrize("is_made_anew", [True, False])
def test_a_folder_that_another_host_has_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_made_anew: bool
) -> None:
    """A kernel's NFS client has the old folder (ESTALE) until its path is opened; a new one there is taken."""
    cache = make(tmp_path / "cache", 0o700)
    inode = cache.stat().st_ino
    is_stale = True
    really_open, really_fstat = os.open, os.fstat

    def opened(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        nonlocal is_stale
        if Path(path) == cache and not flags & os.O_PATH and is_made_anew:
            is_stale = False
        return really_open(path, flags, mode, dir_fd=dir_fd)

    def fstat(descriptor: int) -> os.stat_result:
        status = really_fstat(descriptor)
        if is_stale and status.st_ino == inode:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return status

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fstat", fstat)
    before = open_files()
    if is_made_anew:
        check(cache)
    else:
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            check(cache)
    assert open_files() == before

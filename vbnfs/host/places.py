"""Files and folders below a folder that was checked, all of them reached by its descriptor.

Checksums guard the cache against damage, not against somebody who plants blocks with checksums of his own. So the
cache's folder belongs to the user who runs vbnfs, who alone can write it, and nobody else can put another folder in
its place: that takes write permission for one of the folders above it (rename(2); path_resolution(7), chmod(1) on
the sticky bit). A path that was checked may lead elsewhere afterwards; a descriptor cannot (openat(2)). So the folder
is checked while it is opened, from the root down, and what is below it is opened from its descriptor, without
following a link at any level.

Files are believed, and opened at all, if they are regular ones of our own or of root's: opening never waits for the
other end of a pipe.
"""

import errno
import os
import stat
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from vbnfs.errors import CacheError
from vbnfs.host.identity import group_name, members_of, our_uid, user_name


def _flags(*names: str) -> int:
    """Flags of open(2); those that a system lacks are left out."""
    return sum(getattr(os, f"O_{name}", 0) for name in names)


FOLDER: Final = os.O_RDONLY | _flags("DIRECTORY", "NOFOLLOW", "CLOEXEC")  # to open a folder that is no link
_STEP: Final = _flags("PATH", "DIRECTORY", "NOFOLLOW", "CLOEXEC")  # also where only passing is allowed
_FILE: Final = _flags("CLOEXEC", "NOFOLLOW", "NONBLOCK", "NOCTTY")
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS: Final = 40  # as the kernel has it: path_resolution(7)
_ALL_IDS: Final = 0xFFFFFFFF  # in user_namespaces(7): as many as there are


def trusted_owners() -> tuple[int, int]:
    """Whose files are believed: our own, and root's, who could do anything anyway."""
    return our_uid(), 0


class Place:
    """A file or folder, which need not exist, at `parts` below the folder that `anchor` holds.

    Every method that looks at the disk raises `OSError`.
    """

    __slots__ = ("_anchor", "_parts")

    def __init__(self, anchor: "Anchor", parts: tuple[str, ...] = ()) -> None:
        self._anchor = anchor
        self._parts = parts

    def __truediv__(self, name: str) -> "Place":
        """What has this name, or relative path, in this folder. Raises `ValueError` for one that leaves it."""
        parts = tuple(name.split("/"))
        if not {"", ".", ".."}.isdisjoint(parts):
            raise ValueError(f"{name!r}: not a name in a folder")
        return Place(self._anchor, (*self._parts, *parts))

    def __str__(self) -> str:
        return str(self.path)

    @property
    def path(self) -> Path:
        """Where it was when its folder was checked: for people, not for opening it."""
        return self._anchor.path.joinpath(*self._parts)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self._parts[-1] if self._parts else self._anchor.path.name

    @property
    def parent(self) -> "Place":
        """The folder that it is in."""
        return self._folder()

    @contextmanager
    def opened(self, *, make: bool = False) -> Iterator[int]:
        """A descriptor of this folder, for as long as it is entered; `make`: what is not there is made."""
        held = self._anchor.held(make=make)  # kept from being closed meanwhile
        here = held.descriptor
        try:
            for part in self._parts:
                below = open_folder(part, here, make=make)
                if here != held.descriptor:
                    os.close(here)
                here = below
            yield here
        finally:
            if here != held.descriptor:
                os.close(here)

    def open(self, flags: int, mode: int = 0o600) -> int:
        """Give a descriptor of the file, which the caller closes.

        Raises `PermissionError` for what is not a regular file, or neither ours nor root's.
        """
        with self._folder().opened() as folder:
            return open_file(folder, self.name, flags, mode, shown=str(self))

    def read_bytes(self) -> bytes:
        """All of a file."""
        with open(self.open(os.O_RDONLY), "rb") as file:
            return file.read()

    def stat(self) -> os.stat_result:
        """What lstat(2) says."""
        with self._folder().opened() as folder:
            return os.stat(self.name, dir_fd=folder, follow_symlinks=False)

    def is_file(self) -> bool:
        """Whether a regular file is there, as far as one can see."""
        try:
            return stat.S_ISREG(self.stat().st_mode)
        except OSError:
            return False

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Delete this file."""
        try:
            with self._folder().opened() as folder:
                os.unlink(self.name, dir_fd=folder)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def mkdir(self) -> None:
        """Make this folder and those above it, for their owner alone, as far as they are not there."""
        with self.opened(make=True):
            pass

    def walk(self, *, depth: int) -> Iterator[tuple[tuple[str, ...], int, list[os.DirEntry[str]]]]:
        """Look at this folder and at those to `depth` levels below it that can be read; no link is followed.

        For each its parts below this one, a descriptor for as long as it is looked at, and what is in it.
        """
        with suppress(OSError), self.opened() as folder:
            yield from _walk(folder, (), depth)

    def _folder(self) -> "Place":
        if not self._parts:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self))
        return Place(self._anchor, self._parts[:-1])


class Anchor:
    """A folder at `path` that was checked, held open: all below it is reached from there, wherever it is moved.

    There need be none yet. One that was deleted is looked for again under its path, with all checks.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path.absolute()
        self._lock = threading.Lock()
        self._held: _Held | None = None
        with suppress(OSError):  # raised again where something in it is wanted
            self.held()

    def held(self, *, make: bool = False) -> "_Held":
        """The folder, kept open for as long as this is referred to. Raises `OSError`."""
        with self._lock:
            if self._held is None or self._held.is_deleted:
                self._held = None
                try:
                    self._held = _Held(open_own(self.path, make=make))
                except CacheError as error:
                    raise PermissionError(errno.EACCES, str(error)) from error
            return self._held


class _Held:
    """A descriptor that is closed with its last user."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor: Final = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)

    @property
    def is_deleted(self) -> bool:
        """Whether nothing can be put into the folder any more."""
        try:
            return os.fstat(self.descriptor).st_nlink == 0
        except OSError as error:
            return error.errno == errno.ESTALE  # another host has deleted it


def is_own_folder(status: os.stat_result, uid: int) -> bool:
    """Whether this is a folder in which only `uid` (and root) can put something."""
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid and not status.st_mode & _WRITABLE_BY_OTHERS


def folder_at(where: Path | Place) -> Place:
    """A folder of ours at a path, which is checked when it is opened."""
    return where if isinstance(where, Place) else Place(Anchor(where))


def file_at(where: Path | Place) -> Place:
    """A file in a folder of ours, which is checked when it is opened."""
    return where if isinstance(where, Place) else Place(Anchor(where.parent), (where.name,))


def open_file(folder: int, name: str, flags: int, mode: int = 0o600, *, shown: str | None = None) -> int:
    """Open a file in the folder with that descriptor: a regular one of ours or root's, and no link.

    Raises `OSError`; `shown` is what it calls the file.
    """
    descriptor = os.open(name, flags | _FILE, mode, dir_fd=folder)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_uid in trusted_owners():
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), shown or name)
    reason = "it belongs to somebody else" if stat.S_ISREG(status.st_mode) else "not a regular file"
    raise PermissionError(errno.EPERM, reason, shown or name)


def open_folder(name: str, folder: int, *, make: bool = False) -> int:
    """Open a folder in the folder with that descriptor: one of ours or root's, and no link. Raises `OSError`."""
    try:
        descriptor = os.open(name, FOLDER, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=folder)
        descriptor = os.open(name, FOLDER, dir_fd=folder)
    if os.fstat(descriptor).st_uid in trusted_owners():
        return descriptor
    os.close(descriptor)
    raise PermissionError(errno.EPERM, "it belongs to somebody else", name)


def _walk(
    folder: int, parts: tuple[str, ...], depth: int
) -> Iterator[tuple[tuple[str, ...], int, list[os.DirEntry[str]]]]:
    with os.scandir(folder) as found:
        entries = list(found)
    yield parts, folder, entries
    for entry in entries if depth else ():
        if entry.is_dir(follow_symlinks=False):
            with suppress(OSError):  # deleted meanwhile
                below = open_folder(entry.name, folder)
                try:
                    yield from _walk(below, (*parts, entry.name), depth - 1)
                finally:
                    os.close(below)


# From the root to a folder of ours


def open_own(path: Path, *, make: bool) -> int:
    """Open a folder that is ours, and that nobody else can write or replace; `make`: make it where there is none.

    Raises `CacheError` with what to do where others have a hand in it, `OSError` where it cannot be opened.
    """
    here = _descend(path.absolute(), make=make)
    try:
        status = os.fstat(here)
        if not is_own_folder(status, our_uid()):
            raise _not_yours(path)
        return os.open(".", FOLDER, dir_fd=here)
    finally:
        os.close(here)


def _not_yours(path: Path) -> CacheError:
    return CacheError(
        f"cache directory {path}: it must be yours and writable by you alone ('chmod 700' makes it so);"
        " or choose another one with --cache-dir"
    )


def _descend(path: Path, *, make: bool) -> int:
    """Open each folder on the way, links included, and make sure that nobody else can replace the next one."""
    here, where = os.open("/", _STEP), Path("/")
    names, links = deque(path.parts[1:]), 0
    try:
        while names:
            name = names.popleft()
            if name != "..":
                _check_step(path, where, os.fstat(here))
            status = _status_of(name, here, make=make)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                target = _target(path, name, here, status, links)
                names.extendleft(reversed([part for part in target.parts if part != "/"]))
                name = "/" if target.is_absolute() else "."
            below = os.open(name, _STEP, dir_fd=here)
            os.close(here)
            here, where = below, _above(where) if name == ".." else where / name
    except BaseException:
        os.close(here)
        raise
    return here


def _above(where: Path) -> Path:
    return where.parent if where.name else where


def _status_of(name: str, folder: int, *, make: bool) -> os.stat_result:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        if not make:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def _target(path: Path, name: str, folder: int, status: os.stat_result, links: int) -> Path:
    """Where a link on the way leads."""
    if links > _MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if not _is_trusted(status.st_uid):
        raise _not_yours(path)
    return Path(os.readlink(name, dir_fd=folder))


def _check_step(path: Path, where: Path, status: os.stat_result) -> None:
    """Raise `CacheError` if others could put something else in the place of what is in a folder on the way."""
    if not _is_trusted(status.st_uid):
        raise CacheError(
            f"cache directory {path}: {where} above it belongs to {user_name(status.st_uid)}, who could put another"
            " folder in its place; choose one with --cache-dir that only folders of yours and root's are above"
        )
    others = _who_can_write(status)
    if others is not None and not status.st_mode & stat.S_ISVTX:
        raise CacheError(
            f"cache directory {path}: {others} can write {where} above it, and put another folder in its place;"
            f" 'chmod +t {where}' (by its owner, {user_name(status.st_uid)}) keeps them from that;"
            " or choose another one with --cache-dir"
        )


def _is_trusted(uid: int) -> bool:
    """Ours or root's; in a user namespace that does not know all users, also one that it does not know.

    The root of the host, whose folders are above all others, is one of those (user_namespaces(7)).
    """
    return uid in trusted_owners() or (uid == _overflow_uid() and not _knows_all_users())


def _who_can_write(status: os.stat_result) -> str | None:
    """Who besides the owner can write a folder. A user's own group, and root's, are the user's and root's hands."""
    if status.st_mode & stat.S_IWOTH:
        return "everybody"
    if status.st_mode & stat.S_IWGRP and not _is_nobody_elses(status.st_gid):
        return f"group {group_name(status.st_gid)}"
    return None


def _is_nobody_elses(gid: int) -> bool:
    """Whether a group is root's, or the one that bears our name, and has no other members."""
    us, members = user_name(our_uid()), members_of(gid)
    return members is not None and (gid == 0 or group_name(gid) == us) and members <= {us, "root"}


def _knows_all_users() -> bool:
    try:
        return [int(word) for word in Path("/proc/self/uid_map").read_text().split()] == [0, 0, _ALL_IDS]
    except (OSError, ValueError):
        return True


def _overflow_uid() -> int:
    try:
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return 65534  # what it is unless somebody changes it: proc(5)

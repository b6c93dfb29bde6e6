"""Opening a folder of ours from the root down, so that no other user has a hand in it.

Checksums guard the cache against damage, not against somebody who plants blocks with checksums of his own. So the
cache's folder belongs to the user who runs vbnfs, who alone can write it, and nobody else can put another folder in
its place: that takes write permission for one of the folders above it (rename(2); path_resolution(7), chmod(1) on
the sticky bit). A path that was checked may lead elsewhere afterwards; a descriptor cannot (openat(2)). So the folder
is checked while it is opened: each one on the way to it, links included, before the next one.
"""

import errno
import os
import stat
from collections import deque
from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from typing import Final

from vbnfs.errors import CacheError
from vbnfs.host.folders import FOLDER, HAS_DESCRIPTORS, Folder, flags_of
from vbnfs.host.folders_by_descriptor import FolderByDescriptor
from vbnfs.host.folders_by_path import FolderByPath
from vbnfs.host.identity import group_name, members_of, our_uid, user_name
from vbnfs.host.mountinfo import is_shared

_STEP: Final = flags_of("PATH", "DIRECTORY", "NOFOLLOW", "CLOEXEC")  # also where only passing is allowed
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS: Final = 40  # as the kernel has it: path_resolution(7)
_ALL_IDS: Final = 0xFFFFFFFF  # in user_namespaces(7): as many as there are


def trusted_owners() -> tuple[int, int]:
    """Whose files are believed: our own, and root's, who could do anything anyway."""
    return our_uid(), 0


def is_own_folder(status: os.stat_result, uid: int) -> bool:
    """Whether this is a folder in which only `uid` (and root) can put something."""
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid and not status.st_mode & _WRITABLE_BY_OTHERS


def open_own(path: Path, *, make: bool, owners: Set[int] = frozenset()) -> Folder:
    """Open a folder that is ours, and that nobody else can write or replace; `make`: make it where there is none.

    With `owners` it is a folder to read in: ours, root's or one of theirs. They are then believed as root is. Raises
    `CacheError` with what to do where others have a hand in it, `OSError` where it cannot be opened.
    """
    if not HAS_DESCRIPTORS:
        return _opened_by_path(path.absolute(), make=make)
    try:
        return _opened(path, make=make, owners=owners)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        # Another host has deleted it, and this one has just found out. Opening the path has the kernel look again.
        with suppress(OSError):
            os.close(os.open(path, FOLDER))
        return _opened(path, make=make, owners=owners)


def _opened(path: Path, *, make: bool, owners: Set[int]) -> Folder:
    try:
        here = _descend(path.absolute(), make=make, owners=owners)
    except PermissionError as error:
        raise (_kept_out(path) if _may_be_squashed(path) else error) from error
    try:
        status = os.fstat(here)
        accepted = {*trusted_owners(), *owners} if owners else {our_uid()}
        if not any(is_own_folder(status, uid) for uid in accepted):
            if _may_be_squashed(path):
                raise _kept_out(path)
            raise _not_yours(path) if not owners else _not_theirs(path, status, owners)
        return FolderByDescriptor(os.open(".", FOLDER, dir_fd=here), is_shared=is_shared(path))
    finally:
        os.close(here)


def _opened_by_path(path: Path, *, make: bool) -> Folder:
    if make:
        path.mkdir(parents=True, exist_ok=True)
    return FolderByPath(path.resolve())


def _may_be_squashed(path: Path) -> bool:
    """Whether a server may take us, root, for a user who may do nothing there: `root_squash` of exports(5)."""
    return our_uid() == 0 and is_shared(path)


def _kept_out(path: Path) -> CacheError:
    return CacheError(
        f"cache directory {path}: root may not use it: it is another user's, or its server keeps root out, as NFS"
        " does (root_squash); run vbnfs as the user whose folder it is, or choose another one with --cache-dir"
    )


def _not_yours(path: Path) -> CacheError:
    return CacheError(
        f"cache directory {path}: it must be yours and writable by you alone ('chmod 700' makes one of yours so);"
        " or choose another one with --cache-dir; a cache of others is read by --cache-also"
    )


def _not_theirs(path: Path, status: os.stat_result, owners: Set[int]) -> CacheError:
    names = ", ".join(user_name(uid) for uid in sorted({*trusted_owners(), *owners}))
    if is_own_folder(status, status.st_uid):
        return CacheError(
            f"cache directory {path}: it belongs to {user_name(status.st_uid)}, and {names} are believed;"
            " name its owner by --trusted-users, or leave the folder out"
        )
    return CacheError(
        f"cache directory {path}: others than its owner can write it: 'chmod go-w {path}' keeps them from that;"
        " or leave the folder out"
    )


def _descend(path: Path, *, make: bool, owners: Set[int]) -> int:
    """Open each folder on the way, links included, and make sure that nobody else can replace the next one."""
    here, where = os.open("/", _STEP), Path("/")
    names, links = deque(path.parts[1:]), 0
    try:
        while names:
            name = names.popleft()
            if name != "..":
                _check_step(path, where, os.fstat(here), owners)
            status = _status_of(name, here, make=make)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                target = _target(path, name, here, status, links, owners)
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


def _target(path: Path, name: str, folder: int, status: os.stat_result, links: int, owners: Set[int]) -> Path:
    """Where a link on the way leads."""
    if links > _MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if not _is_trusted(status.st_uid, owners):
        raise _not_yours(path)
    return Path(os.readlink(name, dir_fd=folder))


def _check_step(path: Path, where: Path, status: os.stat_result, owners: Set[int]) -> None:
    """Raise `CacheError` if others could put something else in the place of what is in a folder on the way."""
    if not _is_trusted(status.st_uid, owners):
        remedy = "choose one with --cache-dir that only folders of yours and root's are above"
        raise CacheError(
            f"cache directory {path}: {where} above it belongs to {user_name(status.st_uid)}, who could put another"
            f" folder in its place; {'name that user by --trusted-users' if owners else remedy}"
        )
    others = _who_can_write(status)
    if others is not None and not status.st_mode & stat.S_ISVTX:
        raise CacheError(
            f"cache directory {path}: {others} can write {where} above it, and put another folder in its place;"
            f" 'chmod +t {where}' (by its owner, {user_name(status.st_uid)}) keeps them from that;"
            f" or {'leave it out' if owners else 'choose another one with --cache-dir'}"
        )


def _is_trusted(uid: int, owners: Set[int]) -> bool:
    """Ours or root's; in a user namespace that does not know all users, also one that it does not know.

    The root of the host, whose folders are above all others, is one of those (user_namespaces(7)).
    """
    return uid in {*trusted_owners(), *owners} or (uid == _overflow_uid() and not _knows_all_users())


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

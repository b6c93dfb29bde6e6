"""Temporary files beside what they become, and how to recognise those that a dead process left.

A process that writes one has it locked, and a lock ends with its process, however that ends. Where there are no
locks, and where other hosts may use the file system, whose locks may not reach here, a file is abandoned when it is
old. Where a file that is open cannot be deleted, one that can be is abandoned.
"""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from vbnfs.host.folders import RENAMES_OPEN_FILES, Folder
from vbnfs.host.identity import our_uid
from vbnfs.host.locks import lock_file
from vbnfs.host.places import Place, folder_at, open_file, open_folder

_ABANDONED_SECONDS: Final = 3600.0
_PREFIX: Final = "."
_SUFFIX: Final = ".new"
_FOR_ALL: Final = stat.S_ISVTX | stat.S_IWOTH
_DEEPEST: Final = 8  # folders; what is kept is five deep


def replace_file(place: Place, data: bytes) -> None:
    """Give a file these bytes, as a whole and safe from a power cut; whatever it was, a link too, is no more.

    Folders that are not there are made. Raises `OSError`; the old file then still stands.
    """
    with place.parent.opened(make=True) as folder:
        if not RENAMES_OPEN_FILES:
            _write_and_rename(folder, place.name, data)
            return
        with temporary_file(folder, prefix=_PREFIX, suffix=_SUFFIX) as (descriptor, temporary):
            _write_and_sync(descriptor, data)
            folder.replace(temporary, place.name)


def _write_and_rename(folder: Folder, name: str, data: bytes) -> None:
    """The same of files that have to be closed first. Then another process may take the new one for abandoned."""
    for is_last in (False, False, True):
        temporary = f"{_PREFIX}{os.urandom(8).hex()}{_SUFFIX}"
        descriptor = open_file(folder, temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            try:
                _write_and_sync(descriptor, data)
            finally:
                os.close(descriptor)
            folder.replace(temporary, name)
        except BaseException as error:
            with suppress(OSError):
                folder.unlink(temporary)
            if is_last or not isinstance(error, FileNotFoundError):
                raise
        else:
            return


def _write_and_sync(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


@contextmanager
def output_file(path: Path, *, mode: int | None = None) -> Iterator[BinaryIO]:
    """A file that a user has named, open for writing. It gets its name as a whole, if this is left without an error.

    A link stays, and leads to the new file. What is no regular file, such as /dev/null or a pipe, stays what it is,
    and is written as it comes. `mode` is that of a new file; by default as the umask has it. Raises `OSError`: also
    for a link that another user has put into a folder like /tmp.
    """
    if _is_planted(path):
        raise PermissionError(errno.EACCES, "a link of another user's", str(path))
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        with path.open("wb") as out:
            yield out
        return
    real = Path(os.path.realpath(path))
    temporary = real.with_name(f"{_PREFIX}{real.name}.{os.urandom(4).hex()}{_SUFFIX}")
    try:
        with temporary.open("xb") as out:
            if mode is not None:
                temporary.chmod(mode)
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(real)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _is_planted(path: Path) -> bool:
    """Whether a path is a link that the kernel does not follow either, with fs.protected_symlinks of proc(5)."""
    if not path.is_symlink():
        return False
    link, folder = path.lstat(), path.parent.stat()
    is_for_all = folder.st_mode & _FOR_ALL == _FOR_ALL
    return is_for_all and link.st_uid not in {our_uid(), folder.st_uid}


def remove_leftovers(where: Path | Place, *, depth: int = _DEEPEST) -> None:
    """Delete the files below a folder of ours that a `replace_file` left when its process or machine died."""
    for _, folder, entries in folder_at(where).walk(depth=depth):
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                with suppress(OSError):  # renamed meanwhile
                    remove_abandoned(folder, entry.name)


@contextmanager
def temporary_file(folder: Folder, *, prefix: str, suffix: str = "") -> Iterator[tuple[int, str]]:
    """A new file, for its owner alone: its descriptor and its name. At the end it is deleted, unless it was renamed.

    Raises `OSError`.
    """
    descriptor, name = _make_temporary(folder, prefix, suffix)
    try:
        yield descriptor, name
    finally:
        os.close(descriptor)
        with suppress(OSError):
            folder.unlink(name)


def delete_at_once(folder: Folder, name: str) -> None:
    """Delete a temporary file that is open, where that can be: so a process that is killed now leaves nothing."""
    if RENAMES_OPEN_FILES:
        folder.unlink(name)


def _make_temporary(folder: Folder, prefix: str, suffix: str) -> tuple[int, str]:
    """The new file, locked: so `remove_abandoned` leaves it alone."""
    while True:
        name = f"{prefix}{os.urandom(8).hex()}{suffix}"
        try:
            descriptor = open_file(folder, name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            continue
        if lock_new(folder, descriptor):
            return descriptor, name
        os.close(descriptor)  # another process has just taken it, not locked yet, for abandoned


def remove_abandoned(folder: Folder, name: str) -> None:
    """Delete a temporary file of ours whose writer is gone. Raises `OSError`."""
    if not RENAMES_OPEN_FILES:
        with suppress(PermissionError):  # its writer has it open
            folder.unlink(name)
        return
    descriptor = open_file(folder, name, os.O_RDWR)
    try:
        if _lock(folder, descriptor):
            folder.unlink(name)
    except OSError:  # no locks on this file system
        if _is_old(folder, os.fstat(descriptor), partial(os.utime, descriptor)):
            folder.unlink(name)
    finally:
        os.close(descriptor)


@contextmanager
def abandoned_folder(above: Folder, name: str) -> Iterator[bool]:
    """Whether what was filling a folder is gone. While it is entered, no process begins to. Raises `OSError`."""
    folder = open_folder(name, above)
    try:
        try:
            is_abandoned = folder.lock()
        except OSError:  # no locks on this file system
            is_abandoned = _is_old(above, folder.status(), folder.touch)
        yield is_abandoned
    finally:
        folder.close()


def _is_old(folder: Folder, status: os.stat_result, touch: Callable[[], None]) -> bool:
    """Whether what is in `folder` was written long ago. What is dated in the future begins to age now.

    Where other hosts are, its file system's clock counts: ours may be far ahead of it.
    """
    age = time.time() - status.st_mtime
    if age < 0:
        touch()
    if age > _ABANDONED_SECONDS and folder.is_shared:
        age = time_of(folder) - status.st_mtime
    return age > _ABANDONED_SECONDS


def time_of(folder: Folder) -> float:
    """What time it is by the clock that gives files in a folder their times, in seconds since 1970. Raises `OSError`.

    On a network file system that is the server's.
    """
    name = f"{_PREFIX}{os.urandom(8).hex()}{_SUFFIX}"
    descriptor = open_file(folder, name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        with suppress(OSError):
            folder.unlink(name)


def _lock(folder: Folder, descriptor: int) -> bool:
    """Lock a file in a folder. Raises `OSError` where there are no locks that all processes see."""
    if folder.is_shared:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    return lock_file(descriptor)


def lock_new(folder: Folder, descriptor: int) -> bool:
    """Lock a file that was just made in a folder; False if another process has taken it for abandoned before."""
    try:
        return _lock(folder, descriptor) and os.fstat(descriptor).st_nlink > 0
    except OSError:  # no locks on this file system
        return True


def lock_new_folder(folder: Folder) -> bool:
    """The same of a folder."""
    try:
        return folder.lock() and not folder.is_deleted
    except OSError:  # no locks on this file system
        return True

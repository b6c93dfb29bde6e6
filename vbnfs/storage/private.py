"""Folders that are nobody else's.

Checksums guard the cache against damage, not against somebody who plants blocks with checksums of his own. So every
folder that is used belongs to whoever runs vbnfs, is no link, and lets nobody else in. Below such a folder nobody
else can put anything; files that were put there before are refused where they are opened.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from vbnfs.errors import CacheError


def trusted_owners() -> tuple[int, int]:
    """Whose files are believed: our own, and root's, who could do anything anyway."""
    return os.geteuid(), 0


def keep_others_out() -> None:
    """What this process makes from now on is its owner's alone, whatever the umask was: umask(2).

    For programs that begin. It would follow any other process, and its children, wherever they go.
    """
    os.umask(0o077)


def make_private(directory: Path) -> None:
    """Make a folder of our own. Raises `CacheError` for somebody else's, or somebody else's link to one.

    One of ours into which others may look is closed to them.
    """
    try:
        is_planted = directory.is_symlink() and directory.lstat().st_uid not in trusted_owners()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except OSError as error:
        raise CacheError(f"cache directory {directory}: {error.strerror}; choose one with --cache-dir") from error
    if not stat.S_ISDIR(status.st_mode):
        raise CacheError(f"cache directory {directory}: not a folder; choose one with --cache-dir")
    if is_planted or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise CacheError(
            f"cache directory {directory}: it must be yours and writable by you alone ('chmod 700' makes it so);"
            " or choose another one with --cache-dir"
        )
    if status.st_mode & 0o077:
        with suppress(OSError):  # a read-only disk, a file system without modes: others cannot write there
            directory.chmod(0o700)


def read_private(path: Path) -> bytes:
    """The bytes of a file. Raises `OSError`, also for a link or somebody else's."""
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
        _check_owner(file.fileno(), path)
        return file.read()


def check_private(directory: Path, *, depth: int) -> None:
    """Look at a folder and `depth` levels below it. Raises `CacheError` for a link or somebody else's.

    Our own that let others in are closed. There need be none.
    """
    try:
        status = directory.lstat()
        if stat.S_ISLNK(status.st_mode) or status.st_uid not in trusted_owners():
            raise CacheError(
                f"{directory}: {'a link' if stat.S_ISLNK(status.st_mode) else 'it belongs to somebody else'};"
                " the cache is made of your own folders and files alone: remove it, or choose another --cache-dir"
            )
        if stat.S_ISDIR(status.st_mode):
            if status.st_mode & 0o077 and status.st_uid == os.geteuid():
                directory.chmod(0o700)
            for path in sorted(directory.iterdir()) if depth else ():
                check_private(path, depth=depth - 1)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CacheError(f"{directory}: {error.strerror}; choose another --cache-dir") from error


def _check_owner(descriptor: int, path: Path) -> None:
    if os.fstat(descriptor).st_uid not in trusted_owners():
        raise PermissionError(errno.EPERM, "it belongs to somebody else", str(path))

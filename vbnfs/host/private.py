"""The cache's folders, checked before they are used: they belong to one user, and let no other user in.

`places.py` checks single files and folders; this module checks the whole cache: every folder belongs to the user who
runs vbnfs, is no link, and is closed to other users. Below such a folder only that user and root can put anything.
Files that another user put there before are refused where they are opened.
"""

import os
import stat
from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from typing import Final

from vbnfs.errors import CacheError
from vbnfs.host.folders import FOLDER, HAS_DESCRIPTORS, Folder
from vbnfs.host.folders_by_descriptor import FolderByDescriptor
from vbnfs.host.identity import HAS_USERS, our_uid
from vbnfs.host.own_folders import open_own, trusted_owners
from vbnfs.host.places import Place, folder_at
from vbnfs.host.probing import probe

_OF_NO_PROGRAM: Final = frozenset({"lost+found", "CACHEDIR.TAG"})  # of an empty disk, of an empty cache


def keep_others_out() -> None:
    """Close what this process makes from now on to other users, whatever the umask was: umask(2).

    For a program's beginning: the umask holds for the whole process and for its children.
    """
    os.umask(0o077)


def users_umask() -> int:
    """What new files withhold from others, as the user has it, before `keep_others_out`.

    It can only be asked for by setting it (umask(2)).
    """
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def make_private(directory: Path, *, names: Set[str]) -> Place:
    """Make a folder of our own. Raises `CacheError` for one that others own, can write, or can replace.

    A folder of ours that others may list is closed to them, if it is empty or has one of `names`, which vbnfs makes
    there. Any other is refused: closing it would take its files from other users. So is one on a file system that
    keeps no modes, or has no sparse files.
    """
    try:
        folder = open_own(directory, make=True)
    except CacheError as error:
        raise _without_modes(directory) or error from None
    except NotADirectoryError as error:
        raise CacheError(f"cache directory {directory}: not a folder; choose one with --cache-dir") from error
    except OSError as error:
        raise CacheError(f"cache directory {directory}: {error.strerror}; choose one with --cache-dir") from error
    try:
        if HAS_USERS and folder.status().st_mode & 0o077:
            _check_nothing_else_is_in(folder, directory, names)
            with suppress(OSError):  # a read-only disk: others cannot write there
                folder.close_to_others()
        _check_file_system(folder, directory)
    finally:
        folder.close()
    return folder_at(directory)


def _without_modes(directory: Path) -> CacheError | None:
    """What to say of a folder of ours that others can write because of its file system; None for any other."""
    if not HAS_DESCRIPTORS:
        return None
    try:
        folder = FolderByDescriptor(os.open(directory, FOLDER))
    except OSError:
        return None
    try:
        is_ours = folder.status().st_uid == our_uid()
        return _not_closed(directory) if is_ours and not probe(folder).keeps_modes else None
    except OSError:
        return None
    finally:
        folder.close()


def _not_closed(directory: Path) -> CacheError:
    return CacheError(
        f"cache directory {directory}: its file system keeps no permissions, and opens all files to other users:"
        " mount that disk for you alone (option umask=077, of SMB file_mode=0600,dir_mode=0700; in WSL:"
        ' options = "metadata" in /etc/wsl.conf), or choose another one with --cache-dir'
    )


def _check_file_system(folder: Folder, directory: Path) -> None:
    try:
        traits = probe(folder)
    except OSError:  # a disk that is full, or can only be read: what is wrong is said when blocks are kept
        return
    if not traits.keeps_modes:
        raise _not_closed(directory)
    if not traits.has_sparse_files:
        raise CacheError(
            f"cache directory {directory}: its file system has no sparse files (exFAT and FAT have none), so a file"
            " would take all of its size with its first byte: choose a folder on ext4, xfs, btrfs or the like with"
            " --cache-dir"
        )


def _check_nothing_else_is_in(folder: Folder, directory: Path, names: Set[str]) -> None:
    found = set(folder.names()) - _OF_NO_PROGRAM
    if found and found.isdisjoint(names):
        raise CacheError(
            f"cache directory {directory}: other users can see it, and it has files that are not vbnfs's, such as"
            f" {min(found)!r}; a cache is closed to other users: name an empty folder with --cache-dir"
        )


def check_private(place: Place, *, depth: int) -> None:
    """Check a folder and `depth` levels below it. Raises `CacheError` for a link, or for what another user owns.

    Our own folders that let others in are closed. A folder that is not there is no error.
    """
    try:
        with place.parent.opened() as folder:
            _check(folder, place.path, depth)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CacheError(f"{place}: {error.strerror}; choose another --cache-dir") from error


def _check(above: Folder, path: Path, depth: int) -> None:
    """`above` is the folder that `path` is in."""
    try:
        status = above.stat(path.name)
        if stat.S_ISLNK(status.st_mode) or status.st_uid not in trusted_owners():
            raise CacheError(
                f"{path}: {'a link' if stat.S_ISLNK(status.st_mode) else 'it belongs to somebody else'};"
                " the cache is made of your own folders and files alone: remove it, or choose another --cache-dir"
            )
        if stat.S_ISDIR(status.st_mode):
            is_open = HAS_USERS and bool(status.st_mode & 0o077) and status.st_uid == our_uid()
            _check_folder(above, path, depth, is_open=is_open)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CacheError(f"{path}: {error.strerror}; choose another --cache-dir") from error


def _check_folder(above: Folder, path: Path, depth: int, *, is_open: bool) -> None:
    folder = above.below(path.name)
    try:
        if is_open:
            folder.close_to_others()
        for name in sorted(folder.names()) if depth else ():
            _check(folder, path / name, depth - 1)
    finally:
        folder.close()

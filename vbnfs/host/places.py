"""Files and folders below a folder that was checked, all of them reached from there.

The folder is checked while it is opened (own_folders.py). What is below it is opened from it (folders.py), without
following a link at any level.

Files are believed, and opened at all, if they are regular ones of our own or of root's: opening never waits for the
other end of a pipe.
"""

import errno
import os
import stat
import threading
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from vbnfs.errors import CacheError
from vbnfs.host.folders import Folder, flags_of
from vbnfs.host.own_folders import open_own, trusted_owners

_FILE: Final = flags_of("CLOEXEC", "NOFOLLOW", "NONBLOCK", "NOCTTY", "BINARY")


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
    def owners(self) -> Set[int]:
        """The users besides ourselves and root whose files below this folder are believed."""
        return self._anchor.owners

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self._parts[-1] if self._parts else self._anchor.path.name

    @property
    def parent(self) -> "Place":
        """The folder that it is in."""
        return self._folder()

    @contextmanager
    def opened(self, *, make: bool = False) -> Iterator[Folder]:
        """The folder, open for as long as it is entered; `make`: what is not there is made."""
        held = self._anchor.held(make=make)  # kept from being closed meanwhile
        # NFS goes by what it knows of an open folder for a minute, and asks when one is opened (close-to-open).
        here = held.folder.below(".") if held.folder.is_shared else held.folder
        try:
            for part in self._parts:
                below = open_folder(part, here, make=make, owners=self.owners)
                if here is not held.folder:
                    here.close()
                here = below
            yield here
        finally:
            if here is not held.folder:
                here.close()

    def open(self, flags: int, mode: int = 0o600) -> int:
        """Give a descriptor of the file, which the caller closes.

        Raises `PermissionError` for what is not a regular file, or neither ours nor root's.
        """
        with self._folder().opened() as folder:
            return open_file(folder, self.name, flags, mode, shown=str(self), owners=self.owners)

    def open_at_once(self) -> int | None:
        """Give a descriptor of the file, to be read only, which the caller closes.

        None where it cannot be had without asking the disk, or at all, and for what `open` refuses. Raises nothing.
        """
        held = self._anchor.known
        if held is None:
            return None
        with suppress(OSError):
            descriptor = held.folder.open_cached("/".join(self._parts), os.O_RDONLY | _FILE)
            if _is_believed(os.fstat(descriptor), self.owners):
                return descriptor
            os.close(descriptor)
        return None

    def read_bytes(self) -> bytes:
        """All of a file."""
        with open(self.open(os.O_RDONLY), "rb") as file:
            return file.read()

    def stat(self) -> os.stat_result:
        """What lstat(2) says."""
        with self._folder().opened() as folder:
            return folder.stat(self.name)

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
                folder.unlink(self.name)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def mkdir(self) -> None:
        """Make this folder and those above it, for their owner alone, as far as they are not there."""
        with self.opened(make=True):
            pass

    def walk(self, *, depth: int) -> Iterator[tuple[tuple[str, ...], Folder, list[os.DirEntry[str]]]]:
        """Look at this folder and at those to `depth` levels below it that can be read; no link is followed.

        For each its parts below this one, the folder, open for as long as it is looked at, and what is in it.
        """
        with suppress(OSError), self.opened() as folder:
            yield from _walk(folder, (), depth, self.owners)

    def _folder(self) -> "Place":
        if not self._parts:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self))
        return Place(self._anchor, self._parts[:-1])


class Anchor:
    """A folder at `path` that was checked, held open: all below it is reached from there, wherever it is moved.

    There need be none yet. One that was deleted is looked for again under its path, with all checks. It may be one
    of `owners`, if there are any, or root's: then it is one to read in, and not ours. Without `at_once` it is not
    looked for before something in it is wanted.
    """

    def __init__(self, path: Path, *, owners: Set[int] = frozenset(), at_once: bool = True) -> None:
        self.path: Final = path.absolute()
        self.owners: Final = owners
        self._lock = threading.Lock()
        self._held: _Held | None = None
        if at_once:
            with suppress(OSError):  # raised again where something in it is wanted
                self.held()

    @property
    def known(self) -> "_Held | None":
        """The folder that was found last, which may be deleted by now; None if none was."""
        return self._held

    def held(self, *, make: bool = False) -> "_Held":
        """The folder, kept open for as long as this is referred to. Raises `OSError`."""
        with self._lock:
            if self._held is None or self._held.folder.is_deleted:
                self._held = None
                try:
                    self._held = _Held(open_own(self.path, make=make, owners=self.owners))
                except CacheError as error:
                    raise PermissionError(errno.EACCES, str(error)) from error
            return self._held


class _Held:
    """An open folder that is closed with its last user."""

    def __init__(self, folder: Folder) -> None:
        self.folder: Final = folder

    def __del__(self) -> None:
        self.folder.close()


def folder_at(where: Path | Place) -> Place:
    """A folder of ours at a path, which is checked when it is opened."""
    return where if isinstance(where, Place) else Place(Anchor(where))


def file_at(where: Path | Place) -> Place:
    """A file in a folder of ours, which is checked when it is opened."""
    return where if isinstance(where, Place) else Place(Anchor(where.parent), (where.name,))


def open_file(
    folder: Folder,
    name: str,
    flags: int,
    mode: int = 0o600,
    *,
    shown: str | None = None,
    owners: Set[int] = frozenset(),
) -> int:
    """Open a file in an open folder: a regular one of ours, root's or the `owners`', and no link.

    Raises `OSError`; `shown` is what it calls the file.
    """
    descriptor = folder.open(name, flags | _FILE, mode)
    status = os.fstat(descriptor)
    if _is_believed(status, owners):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), shown or name)
    reason = "it belongs to somebody else" if stat.S_ISREG(status.st_mode) else "not a regular file"
    raise PermissionError(errno.EPERM, reason, shown or name)


def for_looking(folder: Folder) -> int:
    """The flags with which to open a file for a moment that other hosts write to.

    What a host opens to read alone, an NFS server may lend it (a delegation: RFC 8881, 10.4). Others who open it to
    write wait then until that host has given it back: for one that has died, until its lease has ended.
    """
    return os.O_RDWR if folder.is_shared else os.O_RDONLY


def _is_believed(status: os.stat_result, owners: Set[int]) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_uid in {*trusted_owners(), *owners}


def open_folder(name: str, above: Folder, *, make: bool = False, owners: Set[int] = frozenset()) -> Folder:
    """Open a folder in an open folder: ours, root's or the `owners`', and no link. Raises `OSError`."""
    try:
        folder = above.below(name)
    except FileNotFoundError:
        if not make:
            raise
        with suppress(FileExistsError):
            above.make(name)
        folder = above.below(name)
    if folder.status().st_uid in {*trusted_owners(), *owners}:
        return folder
    folder.close()
    raise PermissionError(errno.EPERM, "it belongs to somebody else", name)


def _walk(
    folder: Folder, parts: tuple[str, ...], depth: int, owners: Set[int]
) -> Iterator[tuple[tuple[str, ...], Folder, list[os.DirEntry[str]]]]:
    entries = folder.scan()
    yield parts, folder, entries
    for entry in entries if depth else ():
        if entry.is_dir(follow_symlinks=False):
            with suppress(OSError):  # deleted meanwhile
                below = open_folder(entry.name, folder, owners=owners)
                try:
                    yield from _walk(below, (*parts, entry.name), depth - 1, owners)
                finally:
                    below.close()

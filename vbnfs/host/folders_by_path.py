"""Folders by their paths, where a system has no descriptors of them (Windows).

Such a system keeps a file from being renamed or deleted while a process has it open. A process has a small file open
for a moment, so that is waited for.
"""

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from vbnfs.host.disk_space import DiskSpace, space_at
from vbnfs.host.folders import Folder, flags_of

_HELD_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 0.01


class FolderByPath(Folder):
    """A folder at `path`, which has no links in it. Raises `OSError` where there is none."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """See `Folder`."""
        place = self.path / name
        if place.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(place))
        if place.is_dir():  # to which Windows gives no descriptor
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place))
        return os.open(place, flags | flags_of("BINARY"), mode)

    def below(self, name: str) -> Folder:
        """See `Folder`."""
        return FolderByPath(self.path / name)

    def stat(self, name: str) -> os.stat_result:
        """See `Folder`."""
        return os.lstat(self.path / name)

    def make(self, name: str) -> None:
        """See `Folder`."""
        os.mkdir(self.path / name, 0o700)  # noqa: PTH102 - as the other one has it

    def unlink(self, name: str) -> None:
        """See `Folder`. Raises `PermissionError` where a process has the file open."""
        os.unlink(self.path / name)  # noqa: PTH108

    def rmdir(self, name: str) -> None:
        """See `Folder`."""
        os.rmdir(self.path / name)  # noqa: PTH106

    def rename(self, name: str, to: Folder, as_name: str) -> None:
        """See `Folder`. Raises `PermissionError` where a process goes on having something in it open."""
        assert isinstance(to, FolderByPath)
        _patiently(os.rename, self.path / name, to.path / as_name)

    def replace(self, name: str, as_name: str) -> None:
        """See `Folder`. Raises `PermissionError` where a process goes on having one of them open."""
        _patiently(os.replace, self.path / name, self.path / as_name)

    def link(self, name: str, target: str) -> None:
        """See `Folder`. Windows lets few users make one."""
        os.symlink(target, self.path / name)  # noqa: PTH211

    def target(self, name: str) -> str:
        """See `Folder`."""
        return os.readlink(self.path / name)

    def set_used(self, name: str, now_ns: int) -> None:
        """See `Folder`."""
        os.utime(self.path / name, ns=(now_ns, now_ns))

    def names(self) -> list[str]:
        """See `Folder`."""
        return os.listdir(self.path)

    def scan(self) -> list["os.DirEntry[str]"]:
        """See `Folder`."""
        with os.scandir(self.path) as found:
            return list(found)

    def status(self) -> os.stat_result:
        """See `Folder`."""
        return os.stat(self.path)

    def touch(self) -> None:
        """See `Folder`."""
        os.utime(self.path)

    def close_to_others(self) -> None:
        """Nothing: who is let in is a matter of lists, which a folder in the user's own has from above."""

    def space(self) -> DiskSpace:
        """See `Folder`."""
        return space_at(self.path)

    def sync(self) -> None:
        """Nothing: such a system keeps names by a journal of its own, and syncs files alone."""

    def lock(self) -> bool:
        """See `Folder`: there are no locks of folders."""
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), str(self.path))

    def open_cached(self, path: str, flags: int) -> int:
        """See `Folder`: the disk has to be asked."""
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)

    @property
    def is_deleted(self) -> bool:
        """See `Folder`."""
        return not self.path.is_dir()

    def close(self) -> None:
        """See `Folder`: nothing is open."""


def _patiently(rename: Callable[[Path, Path], None], source: Path, to: Path) -> None:
    """Rename a file or folder that another process may have open for a moment."""
    end = time.monotonic() + _HELD_SECONDS
    while True:
        try:
            return rename(source, to)
        except PermissionError:
            if time.monotonic() > end:
                raise
        time.sleep(_AGAIN_SECONDS)

"""An open folder, and what is done in it. Windows opens files alone, so it is the seam between two ways.

    folders_by_descriptor.py    the folder that was checked, wherever its path may lead by now: openat(2) and the like
    folders_by_path.py          where a system has none of these

Windows refuses, too, to rename or delete a file that a process has open, and a folder with such a file in it.
"""

import os
from abc import ABC, abstractmethod
from typing import Final

from vbnfs.host.disk_space import DiskSpace


def flags_of(*names: str) -> int:
    """Flags of open(2); those that a system lacks are left out."""
    return sum(getattr(os, f"O_{name}", 0) for name in names)


FOLDER: Final = os.O_RDONLY | flags_of("DIRECTORY", "NOFOLLOW", "CLOEXEC")  # to open a folder that is no link
_BY_NAME: Final = frozenset({os.open, os.stat, os.mkdir, os.rmdir, os.unlink, os.rename})
HAS_DESCRIPTORS: Final = os.supports_dir_fd >= _BY_NAME and os.supports_fd >= {os.listdir, os.scandir}
RENAMES_OPEN_FILES: Final = HAS_DESCRIPTORS  # POSIX goes by inodes: their names come and go


class Folder(ABC):
    """A folder, until `close`. Methods raise `OSError`; those that take a name follow no link of that name.

    Its creator closes it. It may be used by several threads. `is_shared`: other hosts may have its file system, too.
    """

    is_shared: bool = False

    @abstractmethod
    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """A descriptor of a file in it."""

    @abstractmethod
    def below(self, name: str) -> "Folder":
        """A folder in it, opened."""

    @abstractmethod
    def stat(self, name: str) -> os.stat_result:
        """What lstat(2) says of what is in it."""

    @abstractmethod
    def make(self, name: str) -> None:
        """Make a folder in it, for its owner alone."""

    @abstractmethod
    def unlink(self, name: str) -> None:
        """Delete a file in it."""

    @abstractmethod
    def rmdir(self, name: str) -> None:
        """Delete an empty folder in it."""

    @abstractmethod
    def rename(self, name: str, to: "Folder", as_name: str) -> None:
        """Give a folder in it another name, there or elsewhere. A folder with that name stays, unless it is empty."""

    @abstractmethod
    def replace(self, name: str, as_name: str) -> None:
        """Give a file in it another name; what had that name is gone."""

    @abstractmethod
    def link(self, name: str, target: str) -> None:
        """Make a symbolic link in it, which need not lead anywhere. What has that name stays: `FileExistsError`."""

    @abstractmethod
    def target(self, name: str) -> str:
        """Where a symbolic link in it leads."""

    @abstractmethod
    def set_used(self, name: str, now_ns: int) -> None:
        """Set the times of a file in it."""

    @abstractmethod
    def names(self) -> list[str]:
        """The names in it."""

    @abstractmethod
    def scan(self) -> list["os.DirEntry[str]"]:
        """What is in it. The entries can be asked while it is open."""

    @abstractmethod
    def status(self) -> os.stat_result:
        """What stat(2) says of it."""

    @abstractmethod
    def touch(self) -> None:
        """Have it be changed now."""

    @abstractmethod
    def close_to_others(self) -> None:
        """Let its owner alone in."""

    @abstractmethod
    def space(self) -> DiskSpace:
        """The space of its disk."""

    @abstractmethod
    def sync(self) -> None:
        """Have the disk keep the names in it, also if the power fails."""

    @abstractmethod
    def lock(self) -> bool:
        """Lock it, for as long as it is open; False where another process has it locked.

        Where it is shared there are no locks of folders: a network file system keeps them to one host.
        """

    @abstractmethod
    def open_cached(self, path: str, flags: int) -> int:
        """A descriptor of a file below it: `BlockingIOError` where a disk would have to be asked."""

    @property
    @abstractmethod
    def is_deleted(self) -> bool:
        """Whether nothing can be put into it any more."""

    @abstractmethod
    def close(self) -> None:
        """Close it."""

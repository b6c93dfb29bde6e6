"""Whose files and folders are shown to be, and which permissions they lack; the kernel checks what is shown."""

import os
import stat
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ownership:
    """User and group of all inodes; permissions that files and folders do not have."""

    uid: int
    gid: int
    file_mask: int = 0
    folder_mask: int = 0

    @classmethod
    def of_this_process(cls) -> "Ownership":
        """Everything belongs to the user whose process this is, and all may read it."""
        return cls(os.getuid(), os.getgid())

    def masked(self, mode: int) -> int:
        """st_mode as it is shown. No permission of a symbolic link counts: symlink(7)."""
        if stat.S_ISLNK(mode):
            return mode
        return mode & ~(self.folder_mask if stat.S_ISDIR(mode) else self.file_mask)

    def lets_read(self, mode: int, uid: int, gids: set[int]) -> bool:
        """Whether the kernel lets a user of some groups read what has this st_mode, and pass if it is a folder.

        As in path_resolution(7): the first of owner, group and others that applies decides. No capability counts.
        """
        wanted = 0o5 if stat.S_ISDIR(mode) else 0o4
        shift = 6 if uid == self.uid else 3 if self.gid in gids else 0
        return (self.masked(mode) >> shift) & wanted == wanted

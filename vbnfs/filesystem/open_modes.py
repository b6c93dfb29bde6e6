"""Who reads the open files of an inode: the daemon, or the kernel by itself (pure).

Linux lets an inode be open in one way at a time, and by itself it reads all of its files from the same other file
(fs/fuse/iomode.c): an open(2) that is answered otherwise fails with EIO. So the first file that is open of an inode
decides for those that are opened beside it.

What is counted here is never less than what the kernel has open: a file is counted before its OPEN is answered, and
until its RELEASE has come, which the kernel sends when it has let go.
"""

from dataclasses import dataclass

from vbnfs.fuse.operations import Backing


@dataclass(slots=True)
class _Open:
    """The open files of an inode. `backing`: what the kernel reads them from; None: the daemon reads them."""

    backing: Backing | None
    count: int = 0
    is_condemned: bool = False


class OpenModes:
    """The open files of a mount, by inode."""

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}

    def is_open(self, inode: int) -> bool:
        """Whether it is decided already how files of an inode are opened."""
        return inode in self._open

    def backing_of(self, inode: int) -> Backing | None:
        """What the kernel reads the inode's open files from, if it does."""
        found = self._open.get(inode)
        return None if found is None else found.backing

    def open(self, inode: int, offered: Backing | None = None) -> Backing | None:
        """Count a file that is opened now; with what its OPEN is to be answered.

        `offered` is taken if no other file of the inode is open. None: the daemon reads it.
        """
        found = self._open.setdefault(inode, _Open(offered))
        found.count += 1
        return found.backing

    def release(self, inode: int) -> Backing | None:
        """Count a file less. What the kernel has read the inode from, if no file of it is open any more."""
        found = self._open[inode]
        found.count -= 1
        if found.count:
            return None
        del self._open[inode]
        return found.backing

    def condemn(self, inode: int) -> None:
        """What the kernel reads an inode from proved wrong: no file may be opened beside those that are open."""
        if (found := self._open.get(inode)) is not None:
            found.is_condemned = found.backing is not None

    def is_condemned(self, inode: int) -> bool:
        """Whether a file of the inode must not be opened now."""
        found = self._open.get(inode)
        return found is not None and found.is_condemned

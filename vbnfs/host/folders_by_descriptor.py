"""Open folders by their descriptors: openat(2), and all that goes with it."""

import errno
import os
from typing import Final

from vbnfs.host.cached_open import open_cached
from vbnfs.host.disk_space import DiskSpace, space_at
from vbnfs.host.folders import FOLDER, Folder
from vbnfs.host.locks import lock_file


class FolderByDescriptor(Folder):
    """A folder that is open as `descriptor`."""

    __slots__ = ("descriptor", "is_shared")

    def __init__(self, descriptor: int, *, is_shared: bool = False) -> None:
        self.descriptor: Final = descriptor
        self.is_shared = is_shared

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """See `Folder`: openat(2)."""
        return os.open(name, flags, mode, dir_fd=self.descriptor)

    def below(self, name: str) -> Folder:
        """See `Folder`."""
        return FolderByDescriptor(os.open(name, FOLDER, dir_fd=self.descriptor), is_shared=self.is_shared)

    def stat(self, name: str) -> os.stat_result:
        """See `Folder`: fstatat(2)."""
        return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)

    def make(self, name: str) -> None:
        """See `Folder`: mkdirat(2)."""
        os.mkdir(name, 0o700, dir_fd=self.descriptor)

    def unlink(self, name: str) -> None:
        """See `Folder`: unlinkat(2)."""
        os.unlink(name, dir_fd=self.descriptor)

    def rmdir(self, name: str) -> None:
        """See `Folder`: unlinkat(2)."""
        os.rmdir(name, dir_fd=self.descriptor)

    def rename(self, name: str, to: Folder, as_name: str) -> None:
        """See `Folder`: renameat(2)."""
        assert isinstance(to, FolderByDescriptor)
        os.rename(name, as_name, src_dir_fd=self.descriptor, dst_dir_fd=to.descriptor)

    def replace(self, name: str, as_name: str) -> None:
        """See `Folder`: renameat(2)."""
        os.replace(name, as_name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def link(self, name: str, target: str) -> None:
        """See `Folder`: symlinkat(2)."""
        os.symlink(target, name, dir_fd=self.descriptor)

    def target(self, name: str) -> str:
        """See `Folder`: readlinkat(2)."""
        return os.readlink(name, dir_fd=self.descriptor)

    def set_used(self, name: str, now_ns: int) -> None:
        """See `Folder`: utimensat(2)."""
        os.utime(name, ns=(now_ns, now_ns), dir_fd=self.descriptor, follow_symlinks=False)

    def names(self) -> list[str]:
        """See `Folder`."""
        return os.listdir(self.descriptor)

    def scan(self) -> list["os.DirEntry[str]"]:
        """See `Folder`."""
        with os.scandir(self.descriptor) as found:
            return list(found)

    def status(self) -> os.stat_result:
        """See `Folder`: fstat(2)."""
        return os.fstat(self.descriptor)

    def touch(self) -> None:
        """See `Folder`: futimens(2)."""
        os.utime(self.descriptor)

    def close_to_others(self) -> None:
        """See `Folder`: fchmod(2)."""
        os.fchmod(self.descriptor, 0o700)

    def space(self) -> DiskSpace:
        """See `Folder`: fstatvfs(3)."""
        return space_at(self.descriptor)

    def sync(self) -> None:
        """See `Folder`: fsync(2)."""
        os.fsync(self.descriptor)

    def lock(self) -> bool:
        """See `Folder`: flock(2)."""
        if self.is_shared:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        return lock_file(self.descriptor)

    def open_cached(self, path: str, flags: int) -> int:
        """See `Folder`: openat2(2)."""
        return open_cached(path, self.descriptor, flags)

    @property
    def is_deleted(self) -> bool:
        """See `Folder`."""
        try:
            return os.fstat(self.descriptor).st_nlink == 0
        except OSError as error:
            return error.errno == errno.ESTALE  # another host has deleted it

    def close(self) -> None:
        """See `Folder`."""
        os.close(self.descriptor)

"""Bytes as a file that has a path and no place on a disk."""

import errno
import os
import weakref
from typing import Final


class MemoryFile:
    """A file in memory (memfd_create(2)) with these bytes. Its `path` is this process's, for as long as it lives.

    Raises `OSError` where there is no such file: on other systems than Linux, or without /proc.
    """

    def __init__(self, data: bytes, *, name: str) -> None:
        if not hasattr(os, "memfd_create"):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        descriptor = os.memfd_create(name)
        weakref.finalize(self, os.close, descriptor)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        self.path: Final = f"/proc/self/fd/{descriptor}"
        os.stat(self.path)

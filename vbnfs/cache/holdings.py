"""What each process holds open of the cache, shown to the others: deleted files take room until they are closed.

    blocks-v2/.held/<random name>     a line for each content that a process holds: the inode of `data`, its bytes,
                                      the content id, and `kernel` where the kernel reads the file itself, `fetch`
                                      where the process fetches the whole file for a person (then the inode is 0)

A process has its file locked for as long as it lives (flock(2)), so a file that can be locked is of a dead one, and
is deleted. Where there are no locks, or other hosts are, one that was not written for an hour is. What the kernel
reads stands in a file of its own, which the kernel is given, too (`filesystem/passthrough.py`): a lock is the open
file's, so it lasts until the mount's connection has ended, whatever became of the daemon and of the mount's place.
Until then the kernel holds all that is in it. All of it is advice: where a line is lost or torn, an evictor counts
too little, and nothing else happens.
"""

import os
import time
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from vbnfs.cache.content_folder import FORMAT
from vbnfs.host.atomic import lock_new, remove_abandoned
from vbnfs.host.folders import Folder
from vbnfs.host.places import Place, open_file
from vbnfs.host.positioned import read_at, write_at

_FOLDER: Final = f"{FORMAT}/.held"
_KERNEL: Final = "kernel"
_FETCH: Final = "fetch"
_WRITE_AGAIN_SECONDS: Final = 1200.0  # so that it does not look abandoned where there are no locks
_MOST_BYTES: Final = 4 << 20  # of a file; a process holds a few hundred contents, and may fetch all of a dataset


@dataclass(frozen=True, slots=True)
class Held:
    """A content that a process has open: the inode of its data, what that takes on the disk, and who reads it.

    `is_fetched`: the process has nothing open, but fetches all of it; then the bytes are what it will take.
    """

    inode: int
    allocated_bytes: int
    content_id: str
    is_read_by_kernel: bool = False
    is_fetched: bool = False

    @property
    def is_kept(self) -> bool:
        """Whether it is not to be deleted: nothing would be gained, or a person waits for it."""
        return self.is_read_by_kernel or self.is_fetched


class Holdings:
    """What this process, or a mount's connection, holds in a cache directory.

    The methods may be called from any thread, one at a time.
    """

    def __init__(self, directory: Place) -> None:
        self._folder = directory / _FOLDER
        self._descriptor = -1
        self._text, self._written = b"", 0.0

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    @property
    def descriptor(self) -> int | None:
        """The open file whose lock says that this holds; None until there was something to show."""
        return None if self._descriptor < 0 else self._descriptor

    def publish(self, held: Iterable[Held]) -> None:
        """Show what is held from now on. Where the directory can only be read, no process can evict, either."""
        text = "".join(_line(one) for one in held).encode()
        if text == self._text and time.monotonic() - self._written < _WRITE_AGAIN_SECONDS:
            return  # a disk that has nothing to do may sleep
        with suppress(OSError):
            if self._descriptor < 0:
                if not text:
                    return
                self._make()
            write_at(self._descriptor, text, 0)
            os.ftruncate(self._descriptor, len(text))
            self._text, self._written = text, time.monotonic()

    def _make(self) -> None:
        with self._folder.opened(make=True) as folder:
            while self._descriptor < 0:
                descriptor = open_file(folder, os.urandom(8).hex(), os.O_RDWR | os.O_CREAT | os.O_EXCL)
                if lock_new(folder, descriptor):
                    self._descriptor = descriptor
                else:
                    os.close(descriptor)


def all_held(directory: Place) -> list[Held]:
    """What living processes, and connections that have not ended, hold in a cache directory.

    A content that several hold is there once for each.
    """
    found: list[Held] = []
    with suppress(OSError), (directory / _FOLDER).opened() as folder:
        for name in folder.names():
            with suppress(OSError):
                remove_abandoned(folder, name)
                found += _read(folder, name)
    return found


def held_though_deleted(held: Iterable[Held], inodes: Set[int]) -> int:
    """The bytes that deleted contents still take; `inodes` are those of the contents that are not deleted."""
    deleted = {one.inode: one.allocated_bytes for one in held if one.inode not in inodes and not one.is_fetched}
    return sum(deleted.values())


def _read(folder: Folder, name: str) -> Iterator[Held]:
    descriptor = open_file(folder, name, os.O_RDONLY)
    try:
        text = read_at(descriptor, _MOST_BYTES, 0).decode(errors="replace")
    finally:
        os.close(descriptor)
    for line in text.splitlines():
        inode, _, rest = line.partition(" ")
        allocated, _, rest = rest.partition(" ")
        content_id, _, kind = rest.partition(" ")
        if inode.isascii() and inode.isdigit() and allocated.isascii() and allocated.isdigit() and content_id:
            yield Held(int(inode), int(allocated), content_id, kind == _KERNEL, kind == _FETCH)


def _line(one: Held) -> str:
    kind = _FETCH if one.is_fetched else _KERNEL if one.is_read_by_kernel else ""
    return f"{one.inode} {one.allocated_bytes} {one.content_id} {kind}\n"

"""The tables that a program will read, before it opens them.

Every constructor of AllenSDK's caches reads all tables of a version, one after the other and each to its end. So when
a thread has read one to its end and opens another one, the rest of that version's tables is fetched behind all else.
What reads the beginnings of files, or one table, has nothing fetched.

A small table shows little: a program that wants five rows reads it whole, too, or the kernel does for it. So tables
over 16 MiB are left out, until the thread has read 16 MiB of another one.
"""

from collections.abc import Callable, Iterable
from typing import Final

from cachetools import LRUCache

from vbnfs.dataset.tree import DataNode
from vbnfs.filesystem.nodes import Nodes
from vbnfs.filesystem.who_reads import OpenFile
from vbnfs.reading.file_reader import FileReader

_MOST_THREADS: Final = 256
_LARGE_BYTES: Final = 16 << 20
_ANY_BYTES: Final = 1 << 62


class TablesAhead:
    """Of one mount. `fetch` has a file fetched whole, some time, unless it has more bytes than are given with it."""

    def __init__(self, nodes: Nodes, fetch: Callable[[DataNode, int], None]) -> None:
        self._nodes = nodes
        self._fetch = fetch
        self._read: LRUCache[int, int] = LRUCache(_MOST_THREADS)  # by thread, the table that it has read and closed
        # By thread, that one and the one that it opened then; until it has read far.
        self._pairs: LRUCache[int, tuple[int, int]] = LRUCache(_MOST_THREADS)

    def note_opened(self, inode: int, pid: int, opened: Iterable[OpenFile]) -> None:
        """A thread opens a file; `opened` are those that are open."""
        tree = self._nodes.tree
        if not tree.is_table(inode):
            return
        read = [self._read.get(pid), *(one.inode for one in opened if one.pid == pid and _is_read(one))]
        for before in read:
            if before is not None and before != inode and tree.tables_beside(before, inode):
                self._read.pop(pid, None)  # once for a constructor
                self._pairs[pid] = before, inode
                self._fetch_beside(before, inode, most_bytes=_LARGE_BYTES)
                return

    def note_read(self, file: OpenFile) -> None:
        """A program reads a file on."""
        if not self._pairs or not isinstance(file.file, FileReader) or file.file.run_bytes < _LARGE_BYTES:
            return
        if file.inode in self._pairs.get(file.pid, ()):
            self._fetch_beside(*self._pairs.pop(file.pid), most_bytes=_ANY_BYTES)

    def note_released(self, file: OpenFile) -> None:
        """A program has closed a file."""
        if _is_read(file) and self._nodes.tree.is_table(file.inode):
            self._read[file.pid] = file.inode

    def _fetch_beside(self, *inodes: int, most_bytes: int) -> None:
        for inode in self._nodes.tree.tables_beside(*inodes):
            node = self._nodes.tree.nodes[inode]
            assert isinstance(node, DataNode)
            self._fetch(node, most_bytes)


def _is_read(file: OpenFile) -> bool:
    """Whether it was read from its beginning to its end."""
    return isinstance(file.file, FileReader) and file.file.is_read_whole

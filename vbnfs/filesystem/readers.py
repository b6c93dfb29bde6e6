"""Which programs read which files, and how much: counted for people, for each program and file.

What a program is called is /proc/PID/comm when it opens a file, and nothing else is read of it. A program that has
closed its files is remembered for some seconds.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from cachetools import LRUCache

from vbnfs.dataset.tree import Tree
from vbnfs.figures import Reader
from vbnfs.filesystem.passthrough import Passthrough
from vbnfs.host.processes import name_of, program_of
from vbnfs.reading.file_reader import FileReader

_REMEMBERED_SECONDS: Final = 5.0
_MOST_CLOSED: Final = 256
_MOST_ROWS: Final = 100
_MOST_PATHS: Final = 1024
OURS: Final = "vbnfs"  # the process that has the kernel read blocks whole

Key = tuple[int, int, str | None]  # thread or process, inode, program


@dataclass(slots=True)
class Use:
    """A thread's use of a file: what was read by handles that are closed, and the readers of those that are open."""

    thread: int
    inode: int
    program: str | None
    reads: int = 0
    read_bytes: int = 0
    fetched_reads: int = 0
    handles: int = 0
    closed_at: float = 0.0
    open_readers: list[FileReader] = field(default_factory=list)

    def note(self, count_bytes: int) -> None:
        """So many bytes were read at once."""
        self.reads += 1
        self.read_bytes += count_bytes

    @property
    def all_fetched_reads(self) -> int:
        """How many reads waited for S3."""
        return self.fetched_reads + sum(reader.fetched_reads for reader in self.open_readers)


class Readers:
    """Of one mount."""

    def __init__(self) -> None:
        self._open: dict[Key, Use] = {}
        self._closed: dict[Key, Use] = {}  # those that were closed last are last
        self._paths: LRUCache[int, str] = LRUCache(_MOST_PATHS)

    def opened(self, inode: int, thread: int, file: FileReader | bytes) -> Use:
        """A thread opens a file: its use, to be counted there."""
        is_ours = isinstance(file, FileReader) and not file.advises
        key = (thread, inode, OURS if is_ours else name_of(thread))
        use = self._open.get(key) or self._closed.pop(key, None) or Use(*key)
        self._open[key] = use
        use.handles += 1
        if isinstance(file, FileReader):
            use.open_readers.append(file)
        return use

    def released(self, use: Use, file: FileReader | bytes) -> None:
        """A file is closed."""
        use.handles -= 1
        if isinstance(file, FileReader):
            use.open_readers.remove(file)
            use.fetched_reads += file.fetched_reads
        if not use.handles:
            use.closed_at = time.monotonic()
            key = (use.thread, use.inode, use.program)
            self._closed[key] = self._open.pop(key)
            if len(self._closed) > _MOST_CLOSED:
                del self._closed[next(iter(self._closed))]

    def now(self) -> list[Use]:
        """The uses of files that are open, and of those that were closed just now."""
        since = time.monotonic() - _REMEMBERED_SECONDS
        return [*self._open.values(), *(use for use in self._closed.values() if use.closed_at > since)]

    def rows(self, uses: Iterable[Use], passed: frozenset[int], tree: Tree) -> list[Reader]:
        """A row for each program and file, those that read most first. To be called in a thread: it reads /proc.

        `passed` are the inodes that the kernel reads itself.
        """
        rows: dict[Key, Reader] = {}
        for use in uses:
            found = program_of(use.thread)
            pid = use.thread if found is None else found.pid
            key = (pid, use.inode, use.program)
            rows[key] = self._row(use, pid, tree, is_passed=use.inode in passed, before=rows.get(key))
        return sorted(rows.values(), key=lambda row: (not row.is_open, -row.read_bytes, row.file))[:_MOST_ROWS]

    def _row(self, use: Use, pid: int, tree: Tree, *, is_passed: bool, before: Reader | None) -> Reader:
        if (path := self._paths.get(use.inode)) is None:
            path = self._paths[use.inode] = path_in(tree, use.inode)
        return Reader(
            program=use.program,
            pid=pid,
            file=path,
            read_by="kernel" if is_passed else "mount",
            is_open=use.handles > 0 or (before is not None and before.is_open),
            reads=use.reads + (before.reads if before else 0),
            read_bytes=use.read_bytes + (before.read_bytes if before else 0),
            fetched_reads=use.all_fetched_reads + (before.fetched_reads if before else 0),
        )


def path_in(tree: Tree, inode: int) -> str:
    """Where an inode stands; it may have left the tree."""
    return tree.path_of(inode) if inode in tree.nodes else "?"


def passed_inodes(uses: Iterable[Use], passthrough: Passthrough) -> frozenset[int]:
    """The inodes among these that the kernel reads itself."""
    return frozenset(use.inode for use in uses if passthrough.is_passed(use.inode))

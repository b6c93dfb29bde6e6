"""What programs read of the files of a mount, as lines of a record: taken note of on the event loop, in microseconds.

The kernel's requests are what is seen here. Another task writes the lines (daemon/recording.py), and takes them from
time to time; until then they wait here, so many at the most.
"""

import itertools
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.dataset.read_records import OpenLine
from vbnfs.dataset.tree import DataNode
from vbnfs.host.processes import name_of_process
from vbnfs.objects import Content
from vbnfs.spans import Spans, rounded

_MOST_RANGES: Final = 256  # of a line; more become whole blocks, and if these are many, too, a line of their own
_MOST_WAITING: Final = 100_000  # ranges of lines that wait: some 10 MB
_LINE: Final = 4  # what a line takes without its ranges, as so many ranges
_AT_ONCE: Final = 50  # lines that are made without a pause: in a millisecond


def time_text(seconds: float) -> str:
    """A time since 1970 as records have it."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(slots=True)
class _Open:
    """An open file, and what was read of it since its last line."""

    number: int
    node: DataNode
    content: Content
    program: str | None
    opened: str
    read: float | None = None
    ranges: Spans = field(default_factory=Spans)
    in_blocks: bool = False

    def add(self, start: int, stop: int) -> None:
        """Take note of bytes."""
        self.read = time.time()
        end = self.content.size_bytes
        self.ranges.add(*(rounded(start, stop, BLOCK_BYTES, end) if self.in_blocks else (start, stop)))
        if len(self.ranges) > _MOST_RANGES:
            self.ranges, self.in_blocks = self.ranges.rounded(BLOCK_BYTES, end), True

    @property
    def is_full(self) -> bool:
        """Whether its line is to be made now: in blocks it has many ranges, too."""
        return self.in_blocks and len(self.ranges) > _MOST_RANGES // 2

    def taken(self, mount: str) -> OpenLine:
        """The line of what is new; nothing of it is in a later line."""
        line = OpenLine(
            mount=mount,
            open_number=self.number,
            version=self.node.source,
            file_hash=self.content.file_hash,
            size_bytes=self.content.size_bytes,
            dataset_versions=self.node.dataset_versions,
            program=self.program,
            opened=self.opened,
            read=None if self.read is None else time_text(self.read),
            ranges=self.ranges,
            in_blocks=self.in_blocks,
        )
        self.ranges, self.in_blocks = Spans(), False
        return line


class Recording:
    """Of one mount, which its lines call `mount`."""

    def __init__(self, mount: str) -> None:
        self.mount: Final = mount
        self._numbers = itertools.count(1)
        self._open: dict[Hashable, _Open] = {}  # by what stands for the open: its reader
        self._news: dict[Hashable, _Open] = {}  # those of which something is in no line yet
        self._lines: list[OpenLine] = []
        self._waiting = 0  # what these lines take
        self._lost = 0  # lines that found no room

    def note_opened(self, reader: Hashable, node: DataNode, content: Content, thread: int) -> None:
        """A thread has opened a file."""
        name = name_of_process(thread) or ""
        program = "".join(one if one.isprintable() else "?" for one in name) or None
        self._open[reader] = _Open(next(self._numbers), node, content, program, time_text(time.time()))
        self._news[reader] = self._open[reader]

    def note_read(self, reader: Hashable, offset: int, count_bytes: int) -> None:
        """So many bytes of an open file were given to the kernel."""
        found = self._open.get(reader)
        if found is None or not count_bytes:
            return
        self._news[reader] = found
        found.add(offset, offset + count_bytes)
        if found.is_full:
            self._make_line(reader)

    def note_released(self, reader: Hashable) -> None:
        """It was closed."""
        self._open.pop(reader, None)
        if reader in self._news:
            self._make_line(reader)

    def make_lines_of_open_files(self) -> bool:
        """Have lines of some open files, too; returns whether there are more of which something is in no line yet."""
        for reader in list(itertools.islice(self._news, _AT_ONCE)):
            self._make_line(reader)
        return bool(self._news)

    def take(self) -> tuple[list[OpenLine], int]:
        """The lines since the last time, and how many found no room."""
        taken = self._lines, self._lost
        self._lines, self._waiting, self._lost = [], 0, 0
        return taken

    def _make_line(self, reader: Hashable) -> None:
        line = self._news.pop(reader).taken(self.mount)
        need = _LINE + len(line.ranges)
        if self._waiting + need > _MOST_WAITING:
            self._lost += 1
        else:
            self._lines.append(line)
            self._waiting += need

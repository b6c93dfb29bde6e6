"""What programs read of the files of a mount, as lines of a record: taken note of on the event loop, in microseconds.

The kernel's requests are what is seen here. Another task writes the lines (daemon/recording.py), and takes them from
time to time; until then they wait here, so many at the most.
"""

import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.dataset.read_records import OpenLine
from vbnfs.dataset.tree import DataNode
from vbnfs.host.processes import opener_of
from vbnfs.objects import Content
from vbnfs.spans import Spans

_MOST_RANGES: Final = 256  # of an open file; then they become whole blocks, and if these are too many, a line
_MOST_LINES: Final = 10_000


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
    opened: float
    read: float | None = None
    ranges: Spans = field(default_factory=Spans)
    in_blocks: bool = False
    has_line: bool = False

    @property
    def has_news(self) -> bool:
        return bool(self.ranges) or not self.has_line

    def add(self, start: int, stop: int) -> bool:
        """Take note of bytes; whether there are too many ranges now."""
        self.read = time.time()
        self.ranges.add(start, stop)
        if len(self.ranges) > _MOST_RANGES:
            self.ranges, self.in_blocks = self.ranges.rounded(BLOCK_BYTES, self.content.size_bytes), True
        return len(self.ranges) > _MOST_RANGES // 2 and self.in_blocks

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
            opened=time_text(self.opened),
            read=None if self.read is None else time_text(self.read),
            ranges=tuple(self.ranges),
            in_blocks=self.in_blocks,
        )
        self.ranges, self.in_blocks, self.has_line = Spans(), False, True
        return line


class Recording:
    """Of one mount, which its lines call `mount`."""

    def __init__(self, mount: str) -> None:
        self.mount: Final = mount
        self._open: dict[int, _Open] = {}  # by handle
        self._lines: list[OpenLine] = []
        self._lost = 0

    def note_opened(self, handle: int, node: DataNode, content: Content, thread: int) -> None:
        """A thread has opened a file. Programs that this process has started are passed over."""
        opener = opener_of(thread)
        if opener is not None and opener.parent == os.getpid():
            return
        program = None if opener is None else "".join(one if one.isprintable() else "?" for one in opener.name)
        self._open[handle] = _Open(handle, node, content, program or None, time.time())

    def note_read(self, handle: int, offset: int, count_bytes: int) -> None:
        """So many bytes of an open file were given to the kernel."""
        found = self._open.get(handle)
        if found is not None and count_bytes and found.add(offset, offset + count_bytes):
            self._add(found)

    def note_released(self, handle: int) -> None:
        """It was closed."""
        found = self._open.pop(handle, None)
        if found is not None and found.has_news:
            self._add(found)

    def _add(self, one: _Open) -> None:
        if len(self._lines) < _MOST_LINES:
            self._lines.append(one.taken(self.mount))
        else:
            one.taken(self.mount)
            self._lost += 1

    def take(self, *, of_open_files: bool) -> tuple[list[OpenLine], int]:
        """The lines since the last time, and how many did not find room; also of files that are open still."""
        if of_open_files:
            for one in self._open.values():
                if one.has_news:
                    self._add(one)
        (lines, lost), self._lines, self._lost = (self._lines, self._lost), [], 0
        return lines, lost

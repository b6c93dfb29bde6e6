"""Keep the cache within its size: what to delete (pure), and deleting it.

Usage is what the files take on the disk (st_blocks), for sparse files are what the cache is made of. Nobody keeps
the books for all processes; each looks again after it has written a small part of the limit, so that usage stays
within 5 % of it. Victims are whole segments, least recently used (st_mtime) first. Deleting is unlink(2):
whoever has the file open goes on reading the bytes that it verified.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from vbnfs.metrics import Metrics
from vbnfs.storage.segment import TEMPORARY_PREFIX

log = structlog.get_logger()

_LOOK_AGAIN: Final = 0.005  # of the limit: 8 processes that all write stay within 4 % of it
_LOW_WATER: Final = 0.95  # evicted down to this part of the limit, so that it is not done for every block
_ABANDONED_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A candidate: what it takes on the disk, and when it was used last (nanoseconds since 1970)."""

    path: Path
    allocated_bytes: int
    used_ns: int


def choose_victims(files: Sequence[SegmentFile], *, limit_bytes: int) -> list[SegmentFile]:
    """Which files to delete, least recently used first; none while all together keep within the limit."""
    usage = sum(file.allocated_bytes for file in files)
    if usage <= limit_bytes:
        return []
    victims: list[SegmentFile] = []
    for file in sorted(files, key=lambda f: f.used_ns):
        if usage <= limit_bytes * _LOW_WATER:
            break
        victims.append(file)
        usage -= file.allocated_bytes
    return victims


def scan(directory: Path) -> Iterator[SegmentFile]:
    """All segment files below `directory`. Temporary files that a dead process left are deleted."""
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            with suppress(OSError):  # evicted by another process meanwhile
                status = path.lstat()
                if not name.startswith("."):
                    yield SegmentFile(path, status.st_blocks * 512, status.st_mtime_ns)
                elif name.startswith(TEMPORARY_PREFIX) and time.time() - status.st_mtime > _ABANDONED_SECONDS:
                    path.unlink()


class Evictor:
    """Keeps the files below `directory` within `limit_bytes`. To be called from threads."""

    def __init__(self, directory: Path, *, limit_bytes: int, metrics: Metrics) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._metrics = metrics
        self._lock = threading.Lock()  # one look at a time
        self._usage_bytes = 0  # when it was looked at last
        self._written_bytes = 0  # by this process since

    @property
    def usage_bytes(self) -> int:
        """What the cache takes on the disk, as far as it is known now. 0 until it was looked at."""
        return self._usage_bytes + self._written_bytes

    @property
    def limit_bytes(self) -> int:
        """What it may take."""
        return self._limit_bytes

    def wrote(self, count_bytes: int) -> None:
        """Tell of bytes that were added; looks, and evicts, when enough has come together."""
        self._written_bytes += count_bytes
        if self._written_bytes >= self._limit_bytes * _LOOK_AGAIN:
            self.look()

    def look(self) -> None:
        """Find out what is used, and evict if it is too much. Does nothing if a look is under way."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._written_bytes = 0
            files = list(scan(self._directory))
            self._usage_bytes = sum(file.allocated_bytes for file in files)
            if victims := choose_victims(files, limit_bytes=self._limit_bytes):
                with _only_evictor(self._directory) as alone:
                    if alone:
                        self._delete(victims)
        finally:
            self._lock.release()

    def _delete(self, victims: Sequence[SegmentFile]) -> None:
        freed = 0
        for victim in victims:
            with suppress(OSError):
                victim.path.unlink()
                freed += victim.allocated_bytes
                self._metrics.evicted_segments += 1
        self._usage_bytes -= freed
        log.info("evicted", files=len(victims), freed_bytes=freed, usage_bytes=self._usage_bytes)


@contextmanager
def _only_evictor(directory: Path) -> Iterator[bool]:
    """Whether no other process is evicting: two would delete twice as much as is needed."""
    descriptor = os.open(directory / ".evicting", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)

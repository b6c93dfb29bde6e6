"""Keep the cache within its size: what to delete (pure), and deleting it.

Usage is what the files take on the disk (st_blocks), since the cache is made of sparse files. No process counts for
all; each scans again before it writes more than a small part of the limit, and makes room for what it is about to
write, so that usage stays within 5 % of the limit. With a limit so small that one block is more than that part, it
scans before every block. Victims are whole segments, least recently used (st_mtime) first; that may be the segment
which is being filled, if the limit is smaller than a segment. Deleting is unlink(2): a process that has the file open
goes on reading the bytes that it verified.

Only what this cache made is deleted or counted: not a file that has another name or place than a segment has, is no
regular file, or is another user's. No link is followed, and all is reached from the descriptor of a folder that was
checked (see places.py), wherever its path may lead by now.

The size that a mount or `vbnfs clean` was given is stored in the cache, in `.size`. A process without its own setting
uses it, and re-reads it before each scan: so it deletes nothing that another one was to keep.
"""

import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from vbnfs.cache.segment import TEMPORARY_PREFIX
from vbnfs.host.atomic import remove_abandoned, replace_file
from vbnfs.host.identity import our_uid
from vbnfs.host.locks import lock_file
from vbnfs.host.places import Place, folder_at
from vbnfs.metrics import Metrics

log = structlog.get_logger()

DEFAULT_BYTES: Final = 100 << 30  # of a cache that was never given a size
_SIZE_FILE: Final = ".size"
_SCAN_AGAIN: Final = 0.005  # of the limit: 8 processes that all write stay within 4 % of it
_CLOCKS_DIFFER_SECONDS: Final = 60  # accepted, between hosts that share a cache, and its server
_SEGMENT_NAME: Final = re.compile(r"([\w-]+)\.[0-9]{1,6}", re.ASCII)
_FOLDER_DIGITS: Final = 2  # of a content's id
_FOLDERS: Final = 2  # scope, and the first digits
_LOW_WATER: Final = 0.95  # evicted down to this part of the limit, so that it is not done for every block


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A candidate: what it takes on the disk, and when it was used last (nanoseconds since 1970, not after now).

    `path` is `<scope>/<2 hex>/<content id>.<segment number>`.
    """

    path: str
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


def scan(directory: Path | Place) -> Iterator[SegmentFile]:
    """All segment files below `directory`. Temporary files that a dead process left are deleted.

    A file from the future counts as used now, and from now on: its time is set, so that others become newer.
    """
    now_ns = time.time_ns()
    for parts, folder, entries in folder_at(directory).walk(depth=_FOLDERS):
        if len(parts) < _FOLDERS:
            continue
        for entry in entries:
            with suppress(OSError):  # evicted by another process meanwhile
                if entry.name.startswith(TEMPORARY_PREFIX):
                    remove_abandoned(folder, entry.name)
                elif is_segment_name(entry.name, parts[-1]) and _is_ours(status := entry.stat(follow_symlinks=False)):
                    used_ns = _no_later_than(now_ns, status.st_mtime_ns, folder, entry.name)
                    yield SegmentFile("/".join((*parts, entry.name)), status.st_blocks * 512, used_ns)


def is_segment_name(name: str, folder: str) -> bool:
    """Whether a file of this name, in a folder of that, can be a segment: see block_cache.py."""
    match = _SEGMENT_NAME.fullmatch(name)
    return match is not None and match[1][:_FOLDER_DIGITS] == folder


def _is_ours(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_uid == our_uid()


def _no_later_than(now_ns: int, used_ns: int, folder: int, name: str) -> int:
    if used_ns > now_ns + _CLOCKS_DIFFER_SECONDS * 10**9:
        with suppress(OSError):  # a cache that can only be read: nothing is evicted there
            os.utime(name, ns=(now_ns, now_ns), dir_fd=folder, follow_symlinks=False)
    return min(used_ns, now_ns)


def store_size(directory: Path | Place, size_bytes: int) -> None:
    """Store the size that a cache was given, for processes without a setting. Where that fails, it is logged."""
    try:
        replace_file(folder_at(directory) / _SIZE_FILE, f"{size_bytes}\n".encode())
    except OSError as error:
        log.warning("the cache's size cannot be kept for others", reason=str(error))


def stored_size(directory: Path | Place, otherwise: int) -> int:
    """The size that a cache was given last, in bytes; `otherwise` if it was given none, or that cannot be read."""
    try:
        size_bytes = int((folder_at(directory) / _SIZE_FILE).read_bytes().decode("ascii"))
    except (OSError, ValueError):
        return otherwise
    return size_bytes if size_bytes > 0 else otherwise


class Evictor:
    """Keeps the files below `directory` within `limit_bytes`. To be called from threads.

    `limit_bytes` None: within the size that the cache was given last, or else `DEFAULT_BYTES`.
    `on_scan` is called with the files that there are, after each scan.
    """

    def __init__(
        self,
        directory: Path | Place,
        *,
        limit_bytes: int | None,
        metrics: Metrics,
        on_scan: Callable[[Sequence[SegmentFile]], None] = lambda files: None,
    ) -> None:
        self._directory = folder_at(directory)
        self._has_own_limit = limit_bytes is not None
        self._limit_bytes = DEFAULT_BYTES if limit_bytes is None else limit_bytes
        self._learn_limit()
        self._metrics = metrics
        self._on_scan = on_scan
        self._lock = threading.Lock()  # one scan at a time
        self._usage_bytes = 0  # as the last scan found it
        self._written_bytes = 0  # by this process since

    @property
    def usage_bytes(self) -> int:
        """What the cache takes on the disk, as far as it is known now. 0 until the first scan."""
        return self._usage_bytes + self._written_bytes

    @property
    def limit_bytes(self) -> int:
        """What it may take, as far as it is known now."""
        return self._limit_bytes

    def make_room(self, count_bytes: int) -> bool:
        """Announce bytes that are about to be written; scans when enough has come together.

        Returns whether anything was evicted.
        """
        self._written_bytes += count_bytes
        if self._written_bytes < self._limit_bytes * _SCAN_AGAIN:
            return False
        return self.scan_and_evict(coming_bytes=count_bytes)

    def not_written(self, count_bytes: int) -> None:
        """Take back bytes that were announced to `make_room`, and that the disk did not take."""
        self._written_bytes = max(0, self._written_bytes - count_bytes)

    def scan_and_evict(self, *, coming_bytes: int = 0) -> bool:
        """Scan what is used, and evict if that and what is coming are too much.

        Returns whether anything was evicted. Does nothing if a scan is under way.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._learn_limit()
            self._written_bytes = coming_bytes
            room_for = max(0, self._limit_bytes - coming_bytes)
            if not self._choose(room_for):
                return False
            with _only_evictor(self._directory) as is_alone:
                # Chosen again: another process may have made room since; then that much need not be deleted again.
                victims = self._choose(room_for) if is_alone else []
                self._delete(victims)
                return bool(victims)
        finally:
            self._lock.release()

    def _learn_limit(self) -> None:
        if not self._has_own_limit:
            self._limit_bytes = stored_size(self._directory, self._limit_bytes)

    def _choose(self, limit_bytes: int) -> list[SegmentFile]:
        files = list(scan(self._directory))
        self._usage_bytes = sum(file.allocated_bytes for file in files)
        victims = choose_victims(files, limit_bytes=limit_bytes)
        gone = set(victims)
        self._on_scan([file for file in files if file not in gone])
        return victims

    def _delete(self, victims: Sequence[SegmentFile]) -> None:
        freed = 0
        for victim in victims:
            with suppress(OSError):
                (self._directory / victim.path).unlink()
                freed += victim.allocated_bytes
                self._metrics.evicted_segments += 1
        self._usage_bytes -= freed
        if victims:
            log.info("evicted", files=len(victims), freed_bytes=freed, usage_bytes=self._usage_bytes)


@contextmanager
def _only_evictor(directory: Place) -> Iterator[bool]:
    """Whether no other process is evicting: two would delete twice as much as is needed.

    Where no lock can be had, that is all that can happen, and better than a cache that grows without end.
    """
    descriptor, is_alone = -1, True
    try:
        descriptor = (directory / ".evicting").open(os.O_RDWR | os.O_CREAT)
        is_alone = lock_file(descriptor)
    except OSError as error:
        log.warning("evicting without a lock", reason=str(error))
    try:
        yield is_alone
    finally:
        if descriptor >= 0:
            os.close(descriptor)

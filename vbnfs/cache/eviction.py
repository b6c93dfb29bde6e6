"""Keep the cache within its size: what to delete (pure), and deleting it.

Usage is what the files take on the disk (st_blocks), since the cache is made of sparse files. No process counts for
all; each scans again before it writes more than a small part of the limit, and makes room for what it is about to
write, so that usage stays within 5 % of the limit. With a limit so small that one block is more than that part, it
scans before every block. Victims are whole contents, least recently used first; that may be the one which is being
filled, if it is larger than the limit: it is then begun anew. A process that has a content open goes on reading the
bytes that it verified. Until it closes it, what was deleted takes its room on the disk, and counts (holdings.py).
What the kernel reads itself stays: deleting it would free nothing.

The size that a mount or `vbnfs clean` was given is stored in the cache, in `.size`. A process without its own setting
uses it, and re-reads it before each scan: so it deletes nothing that another one was to keep.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from vbnfs.cache.content_folder import FORMAT
from vbnfs.cache.holdings import all_held, held_though_deleted
from vbnfs.cache.inventory import FORMAT_1, CachedContent, delete, scan
from vbnfs.host.atomic import replace_file
from vbnfs.host.locks import lock_file
from vbnfs.host.places import Place, folder_at
from vbnfs.metrics import Metrics

log = structlog.get_logger()

DEFAULT_BYTES: Final = 100 << 30  # of a cache that was never given a size
_SIZE_FILE: Final = ".size"
_SCAN_AGAIN: Final = 0.005  # of the limit: 8 processes that all write stay within 4 % of it
_LOW_WATER: Final = 0.95  # evicted down to this part of the limit, so that it is not done for every block


def choose_victims(
    contents: Sequence[CachedContent], *, limit_bytes: int, protected: Set[str] = frozenset()
) -> list[CachedContent]:
    """Which contents to delete, least recently used first; none while all together keep within the limit.

    Those with a `protected` content id are never deleted.
    """
    usage = sum(one.allocated_bytes for one in contents)
    if usage <= limit_bytes:
        return []
    victims: list[CachedContent] = []
    for one in sorted(contents, key=lambda c: c.used_ns):
        if usage <= limit_bytes * _LOW_WATER:
            break
        if one.content_id not in protected:
            victims.append(one)
            usage -= one.allocated_bytes
    return victims


def store_size(directory: Path | Place, size_bytes: int) -> None:
    """Store the size that a cache was given, for processes without a setting. Where that fails, it is logged."""
    try:
        replace_file(folder_at(directory) / FORMAT / _SIZE_FILE, f"{size_bytes}\n".encode())
    except OSError as error:
        log.warning("the cache's size cannot be kept for others", reason=str(error))


def stored_size(directory: Path | Place, otherwise: int) -> int:
    """The size that a cache was given last, in bytes; `otherwise` if it was given none, or that cannot be read."""
    try:
        size_bytes = int((folder_at(directory) / FORMAT / _SIZE_FILE).read_bytes().decode("ascii"))
    except (OSError, ValueError):
        return otherwise
    return size_bytes if size_bytes > 0 else otherwise


def take_over_size(directory: Path | Place) -> None:
    """Where a cache has no size yet, give it the one that it had in format 1. It is no error if there is none."""
    cache = folder_at(directory)
    with suppress(OSError):
        if not (cache / FORMAT / _SIZE_FILE).is_file():
            replace_file(cache / FORMAT / _SIZE_FILE, (cache / FORMAT_1 / _SIZE_FILE).read_bytes())


class Evictor:
    """Keeps what a cache directory holds within `limit_bytes`. To be called from threads.

    `limit_bytes` None: within the size that the cache was given last, or else `DEFAULT_BYTES`.
    `on_scan` is called with the contents that there are, after each scan.
    """

    def __init__(
        self,
        directory: Path | Place,
        *,
        limit_bytes: int | None,
        metrics: Metrics,
        on_scan: Callable[[Sequence[CachedContent]], None] = lambda contents: None,
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

    def _choose(self, limit_bytes: int) -> list[CachedContent]:
        contents, held = list(scan(self._directory)), all_held(self._directory)
        deleted_bytes = held_though_deleted(held, {one.inode for one in contents})
        self._usage_bytes = deleted_bytes + sum(one.allocated_bytes for one in contents)
        protected = {one.content_id for one in held if one.is_read_by_kernel}
        room_bytes = max(0, limit_bytes - deleted_bytes)
        victims = choose_victims(contents, limit_bytes=room_bytes, protected=protected)
        gone = set(victims)
        self._on_scan([one for one in contents if one not in gone])
        return victims

    def _delete(self, victims: Sequence[CachedContent]) -> None:
        freed = 0
        for victim in victims:
            with suppress(OSError):
                delete(self._directory, victim)
                freed += victim.allocated_bytes
                self._metrics.evicted_contents += 1
        self._usage_bytes -= freed
        if victims:
            log.info("evicted", contents=len(victims), freed_bytes=freed, usage_bytes=self._usage_bytes)


@contextmanager
def _only_evictor(directory: Place) -> Iterator[bool]:
    """Whether no other process is evicting: two would delete twice as much as is needed.

    Where no lock can be had, that is all that can happen, and better than a cache that grows without end.
    """
    descriptor, is_alone = -1, True
    try:
        descriptor = (directory / f"{FORMAT}/.evicting").open(os.O_RDWR | os.O_CREAT)
        is_alone = lock_file(descriptor)
    except OSError as error:
        log.warning("evicting without a lock", reason=str(error))
    try:
        yield is_alone
    finally:
        if descriptor >= 0:
            os.close(descriptor)

"""Keep the cache within its size, and the disk's reserve free.

Usage is what contents take on the disk (st_blocks of their files, which are sparse, and of their folders). No process
counts for all; each scans again before it writes more than a small part of the limit, and makes room for what it is
about to write, so that usage stays within 5 % of the limit. With a limit so small that one block is more than that
part, it scans before every block. Where the disk has less free than the reserve, the limit is what can be kept
besides.

Victims are whole contents (see eviction_policy.py); that may be the one which is being filled, if it is larger than
the limit: it is then begun anew. A process that has a content open goes on reading the bytes that it verified. Until
it closes it, what was deleted takes its room on the disk, and counts (holdings.py). What the kernel reads itself
stays: deleting it would free nothing. So do pinned contents (pins.py), and those that a process is just fetching for
a person who waits for all of them. As long as it is not known what is pinned, nothing is deleted.

The size that a mount or `vbnfs clean` was given is stored in the cache, in `.size`. A process without its own setting
uses it, and re-reads it before each scan: so it deletes nothing that another one was to keep.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from vbnfs.cache.content_folder import FORMAT
from vbnfs.cache.evicting import only_evictor
from vbnfs.cache.eviction_policy import LOW_WATER, History, choose_victims
from vbnfs.cache.histories import Evicted, allocated_by_evicted, remember_evicted
from vbnfs.cache.holdings import Held, all_held, held_though_deleted
from vbnfs.cache.inventory import FORMAT_1, CachedContent, delete, scan
from vbnfs.cache.pins import PinnedIds
from vbnfs.cache.reserve import Reserve
from vbnfs.host.atomic import replace_file
from vbnfs.host.places import Place, folder_at
from vbnfs.metrics import Metrics

log = structlog.get_logger()

DEFAULT_BYTES: Final = 100 << 30  # of a cache that was never given a size
_SIZE_FILE: Final = ".size"
_SCAN_AGAIN: Final = 0.005  # of the limit: 8 processes that all write stay within 4 % of it
_AGAIN_SECONDS: Final = 1.0  # between two scans because of a reserve that cannot be kept
_IN_USE_NS: Final = 2 * 10**9  # since the last use: what is being read, or filled
_TURN_SECONDS: Final = 0.5  # for another process that evicts: what is written meanwhile may be too much
_PATIENCE_SECONDS: Final = 3.0  # with it: then it hangs, or is stopped


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
    """Keeps what a cache directory holds within `limit_bytes`, and `reserve` free. To be called from threads.

    `limit_bytes` None: within the size that the cache was given last, or else `DEFAULT_BYTES`; `reserve_bytes` None:
    the default of reserve.py. `on_scan` is called with the contents that there are, after each scan. `close_deleted`
    is to close those that were deleted.
    """

    def __init__(
        self,
        directory: Path | Place,
        *,
        limit_bytes: int | None,
        metrics: Metrics,
        reserve_bytes: int | None = 0,
        on_scan: Callable[[Sequence[CachedContent]], None] = lambda contents: None,
        close_deleted: Callable[[], None] = lambda: None,
    ) -> None:
        self._directory = folder_at(directory)
        self._has_own_limit = limit_bytes is not None
        self._limit_bytes = DEFAULT_BYTES if limit_bytes is None else limit_bytes
        self._learn_limit()
        self.reserve: Final = Reserve(self._directory, reserve_bytes)
        self._metrics = metrics
        self._on_scan, self._close_deleted = on_scan, close_deleted
        self._pins = PinnedIds(self._directory)
        self._lock = threading.Lock()  # one scan at a time
        self._usage_bytes = self._kept_bytes = 0  # as the last scan found it
        self._written_bytes = 0  # by this process since
        self._room_bytes = self._limit_bytes // 2  # besides what was in use, as the last scan found it
        self._since_loss_bytes = math.inf  # written since something in use was deleted
        self._may_scan_at = 0.0  # because of the reserve
        self._waiting_since = math.inf  # for another process, which evicts

    @property
    def usage_bytes(self) -> int:
        """What the cache takes on the disk, as far as it is known now. 0 until the first scan."""
        return self._usage_bytes + self._written_bytes

    @property
    def limit_bytes(self) -> int:
        """What it may take, as far as it is known now."""
        return self._limit_bytes

    @property
    def kept_bytes(self) -> int:
        """What of it is never deleted, as the last scan found it: pinned, or just being fetched for a person."""
        return self._kept_bytes

    @property
    def pins_problem(self) -> str | None:
        """Why it is not known what is pinned, so that nothing is deleted, as the last scan found it; else None."""
        return self._pins.unread

    @property
    def room_bytes(self) -> int:
        """How much may be written until something is deleted that is in use, as far as is known.

        The limit and the reserve count, and what is never deleted. Before the first scan: half of the limit. After
        something in use was deleted: no more than was written since, until readers have left behind what they lost.
        """
        return int(max(0, min(self._room_bytes - self._written_bytes, self._since_loss_bytes)))

    def make_room(self, count_bytes: int) -> bool:
        """Announce bytes that are about to be written; scans when enough has come together, or the disk lacks room.

        Returns whether they may be written: not if the disk would then have less free than the reserve, nor where the
        cache is full, and nothing may be deleted.
        """
        self._written_bytes += count_bytes
        self._since_loss_bytes += count_bytes
        if self._written_bytes >= self._limit_bytes * _SCAN_AGAIN:
            self.scan_and_evict(coming_bytes=count_bytes)
        else:
            self.keep_reserve(coming_bytes=count_bytes)
        is_full = self.pins_problem is not None and self.usage_bytes > self._limit_bytes
        return not is_full and self.reserve.lacking_bytes(count_bytes) <= 0

    def not_written(self, count_bytes: int) -> None:
        """Take back bytes that were announced to `make_room`, and that the disk did not take."""
        self._written_bytes = max(0, self._written_bytes - count_bytes)
        self._since_loss_bytes = max(0, self._since_loss_bytes - count_bytes)

    def keep_reserve(self, *, coming_bytes: int = 0) -> None:
        """Evict if the disk has less free than the reserve: at most once a second, if that does not help.

        First this process closes what others have deleted, which may be enough. It does so as well where it waits for
        others to close what it has deleted itself: they may wait for this one.
        """
        has_enough = self.reserve.to_delete_bytes(coming_bytes) <= 0 and self.reserve.lacking_bytes(coming_bytes) <= 0
        if has_enough or time.monotonic() < self._may_scan_at:
            return
        self._close_deleted()
        if self.reserve.to_delete_bytes(coming_bytes) <= 0:
            return
        if not self.scan_and_evict(coming_bytes=coming_bytes):
            self._may_scan_at = time.monotonic() + _AGAIN_SECONDS

    def scan_and_evict(self, *, coming_bytes: int = 0) -> bool:
        """Scan what is used, and evict if that and what is coming are too much.

        Returns whether anything was evicted. Does nothing if a scan is under way.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._learn_limit()
            self._written_bytes = coming_bytes
            if not self._is_too_much(coming_bytes):
                self._waiting_since = math.inf
                return False
            with only_evictor(self._directory, 0.0 if self._has_waited() else _TURN_SECONDS) as is_alone:
                # Scanned again: another process may have made room since; then that much need not be deleted again.
                victims = self._choose(coming_bytes) if is_alone or self._has_waited() else []
                self._waiting_since = math.inf if is_alone else min(self._waiting_since, time.monotonic())
                return self._delete(victims) > 0
        finally:
            self._lock.release()

    def victims(self) -> Sequence[CachedContent]:
        """What `scan_and_evict` would delete now, if no other process does; nothing is."""
        self._learn_limit()
        return self._choose(0)

    def _has_waited(self) -> bool:
        """Whether another process has been evicting for so long that it is not waited for any more."""
        return time.monotonic() - self._waiting_since >= _PATIENCE_SECONDS

    def _learn_limit(self) -> None:
        if not self._has_own_limit:
            self._limit_bytes = stored_size(self._directory, self._limit_bytes)

    def _choose(self, coming_bytes: int) -> list[CachedContent]:
        contents, held = list(scan(self._directory, with_histories=True)), all_held(self._directory)
        limit_bytes, protected = self._limit_for(contents, held, coming_bytes), self._never_deleted(held)
        victims = choose_victims(contents, limit_bytes=limit_bytes, now_ns=time.time_ns(), protected=protected)
        victims = victims if self.pins_problem is None else []
        gone = set(victims)
        left = [one for one in contents if one not in gone]
        if any(map(_is_in_use, victims)):
            self._since_loss_bytes = 0
        self._note_room(left, limit_bytes + coming_bytes, protected)
        self._on_scan(left)
        return victims

    def _is_too_much(self, coming_bytes: int) -> bool:
        contents = list(scan(self._directory))
        held = all_held(self._directory)
        limit_bytes = self._limit_for(contents, held, coming_bytes)
        self._note_room(contents, limit_bytes + coming_bytes, self._never_deleted(held))
        self._on_scan(contents)
        return sum(one.allocated_bytes for one in contents) > limit_bytes

    def _never_deleted(self, held: Sequence[Held]) -> Set[str]:
        return self._pins.now() | {one.content_id for one in held if one.is_kept}

    def _note_room(self, contents: Sequence[CachedContent], limit_bytes: int, protected: Set[str]) -> None:
        in_use = (one for one in contents if _is_in_use(one) or one.content_id in protected)
        self._room_bytes = int(limit_bytes * LOW_WATER) - sum(one.allocated_bytes for one in in_use)
        self._kept_bytes = sum(one.allocated_bytes for one in contents if one.content_id in protected)

    def _limit_for(self, contents: Sequence[CachedContent], held: Sequence[Held], coming_bytes: int) -> int:
        """What all contents together may take. Notes what the cache takes now."""
        there_bytes = sum(one.allocated_bytes for one in contents)
        deleted_bytes = held_though_deleted(held, {one.inode for one in contents})
        besides_bytes = deleted_bytes + allocated_by_evicted(self._directory)
        self._usage_bytes = there_bytes + besides_bytes
        by_size = self._limit_bytes - coming_bytes - besides_bytes
        by_disk = there_bytes - self.reserve.to_delete_bytes(coming_bytes)
        return max(0, min(by_size, by_disk))

    def _delete(self, victims: Sequence[CachedContent]) -> int:
        """Delete those that may still go; how many went."""
        if not victims:
            return 0
        count = 0
        with self.reserve.deleting() as deleted:
            for victim in filter(self._may_go, victims):
                with suppress(OSError):
                    delete(self._directory, victim)
                    deleted.count_bytes += victim.allocated_bytes
                    count += 1
                    self._remember(victim)
            self._close_deleted()
        self._metrics.evicted_contents += count
        self._usage_bytes -= deleted.count_bytes
        log.info("evicted", contents=count, freed_bytes=deleted.count_bytes, usage_bytes=self._usage_bytes)
        return count

    def _may_go(self, victim: CachedContent) -> bool:
        """Whether a content that was chosen has not been pinned or asked for since: a pin may have found it whole."""
        kept = self._never_deleted(all_held(self._directory))
        return self.pins_problem is None and victim.content_id not in kept

    def _remember(self, victim: CachedContent) -> None:
        scope = self._directory / FORMAT / victim.scope
        history = victim.history or History(victim.used_ns)
        remember_evicted(scope, victim.content_id, Evicted(history, victim.used_ns))


def _is_in_use(one: CachedContent) -> bool:
    return time.time_ns() - one.used_ns <= _IN_USE_NS

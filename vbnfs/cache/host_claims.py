"""Which blocks a process is fetching, shown to the processes of all hosts on the same cache.

    claims-v1/<scope>/<content id>-<number>      a mark (marks.py) for a stretch of 8 blocks; in the second lane it
                                                 ends in `-again`

It does for a cache that several hosts use what claims.py does by locks for one that this host alone uses, and has
the same lanes. A stretch is claimed as a whole: links are made one by one, and a GET of 16 MiB would need 64.
So a process waits for blocks that another one does not fetch, as long as that fetches some beside them.

    claims-v1/<scope>/.pulse-<hash of a process's name>     an empty file, whose time that process renews twice a
                                                            second while it has claimed something

By that a process that waits knows whether the one that has claimed a stretch is at work, or hangs, or has died. A
process makes it before it claims anything: a host that has found none believes that for a minute (nfs(5), acdirmax).
"""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from vbnfs.cache.claims import LANES
from vbnfs.cache.marks import holder_of, is_left_over, remove_mark, set_mark
from vbnfs.host.atomic import time_of
from vbnfs.host.folders import Folder
from vbnfs.host.places import Place, for_looking, open_file
from vbnfs.host.process_names import name_of_this_process

Pulse = tuple[str, float]  # the name of a process, and when it was seen last

FORMAT: Final = "claims-v1"
STRETCH: Final = 8  # blocks
_PULSE: Final = ".pulse-"
PULSE_SECONDS: Final = 0.5  # between two
_OLD_PULSE_SECONDS: Final = 3600.0
_LOCKS: Final = 64  # of stretches: a request for one keeps few others waiting


@dataclass(slots=True)
class _Held:
    """What this process has of a stretch: the blocks that it claimed, and the marks by which."""

    names: list[str]
    blocks: set[int] = field(default_factory=set)


class _OpenFolder:
    """A folder that is closed with its last user."""

    def __init__(self, folder: Folder) -> None:
        self.folder: Final = folder

    def __del__(self) -> None:
        self.folder.close()


class HostClaims:
    """The claims of this process on what comes from one server. To be called from threads.

    `folder` is where the marks are. Where none can be made, every process can claim everything.
    """

    is_alone: Final = False  # no process can know that of other hosts

    def __init__(self, folder: Place) -> None:
        self._place = folder
        self._opening = threading.Lock()
        self._open: _OpenFolder | None = None  # kept, so that a claim is one request to the server
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._held: dict[tuple[str, int], _Held] = {}  # by content id and number of the stretch

    @property
    def are_held(self) -> bool:
        """Whether this process has claimed anything now."""
        return bool(self._held)

    def take(self, content_id: str, indices: range, *, lane: int = 0) -> list[int]:
        """Claim adjacent blocks. Returns those that no other process has claimed."""
        try:
            kept = self._opened()
            taken = [
                index
                for number, blocks in _stretches(indices)
                if self._take(kept.folder, content_id, number, blocks, lane)
                for index in blocks
            ]
        except OSError:  # a cache that can only be read, a file system without links, or the folder was deleted
            self._open = None
            return list(indices)
        return taken

    def pulse(self, content_id: str, index: int) -> Pulse | None:
        """Of the process that has claimed a block; None where the block is free by now, or that cannot be known.

        When it is another one than before, that process is at work.
        """
        with suppress(OSError):
            kept = self._opened()
            holder = holder_of(kept.folder, f"{content_id}-{index // STRETCH}")
            if holder is not None:
                return holder, _time_of(kept.folder, _pulse_of(holder))
        return None

    def drop(self, content_id: str, indices: range) -> None:
        """Give the claims on adjacent blocks back: they are on the disk, or will not come."""
        for number, blocks in _stretches(indices):
            key = content_id, number
            with self._lock_of(key):
                held = self._held.get(key)
                if held is None:
                    continue
                held.blocks.difference_update(blocks)
                if not held.blocks:
                    del self._held[key]
                    self._remove(held.names)

    def show_pulse(self) -> None:
        """Show that this process is at work. It is no error where that cannot be shown."""
        with suppress(OSError):
            _renew_pulse(self._opened().folder)

    def _take(self, folder: Folder, content_id: str, number: int, blocks: range, lane: int) -> bool:
        """Raises `OSError`."""
        key = content_id, number
        names = [f"{content_id}-{number}{'-again' if one else ''}" for one in LANES]
        with self._lock_of(key):
            held = self._held.get(key)
            if held is None:
                if not set_mark(folder, names[lane]):
                    return False
                held = self._held[key] = _Held([names[lane]])
                if lane and is_left_over(folder, names[0], now=folder.stat(names[lane]).st_mtime):
                    held.names.append(names[0])
            held.blocks.update(blocks)
            return True

    def _opened(self) -> _OpenFolder:
        """Raises `OSError`."""
        with self._opening:
            kept = self._open
            if kept is None:
                with self._place.opened(make=True) as folder:
                    kept = self._open = _OpenFolder(folder.below("."))
                _renew_pulse(kept.folder)
                _sweep(kept.folder)
            return kept

    def _remove(self, names: list[str]) -> None:
        with suppress(OSError):
            kept = self._opened()
            for name in names:
                remove_mark(kept.folder, name)

    def _lock_of(self, key: tuple[str, int]) -> threading.Lock:
        return self._locks[hash(key) % _LOCKS]


def _stretches(indices: range) -> Iterator[tuple[int, range]]:
    """The stretches that adjacent blocks touch, by number, and which of the blocks are in each."""
    for number in range(indices.start // STRETCH, -(-indices.stop // STRETCH)):
        yield number, range(max(indices.start, number * STRETCH), min(indices.stop, (number + 1) * STRETCH))


def _pulse_of(process: str) -> str:
    return _PULSE + hashlib.blake2b(process.encode(errors="replace"), digest_size=8).hexdigest()


def _renew_pulse(folder: Folder) -> None:
    """Raises `OSError`."""
    descriptor = open_file(folder, _pulse_of(name_of_this_process()), os.O_RDWR | os.O_CREAT)
    try:
        os.utime(descriptor)
    finally:
        os.close(descriptor)


def _time_of(folder: Folder, name: str) -> float:
    """When a file was changed, as its server says now: opening asks it (close-to-open). 0.0 if there is none yet."""
    try:
        descriptor = open_file(folder, name, for_looking(folder))
    except FileNotFoundError:
        return 0.0
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)


def _sweep(folder: Folder) -> None:
    """Take away what dead processes have left."""
    with suppress(OSError):
        if names := folder.names():
            now = time_of(folder)
            for name in names:
                if _is_done_with(folder, name, now):
                    remove_mark(folder, name)


def _is_done_with(folder: Folder, name: str, now: float) -> bool:
    """Raises `OSError`."""
    if name.startswith(_PULSE):
        return now - folder.stat(name).st_mtime > _OLD_PULSE_SECONDS
    return is_left_over(folder, name, now=now)

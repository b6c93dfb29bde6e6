"""What this machine does: mounts with their readers, rates, errors and remedies; the cache; pins.

Rates are differences of two looks at a mount's figures, some seconds apart. The first look at a mount has none.
"""

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vbnfs.errors import MountError
from vbnfs.figures import Figures
from vbnfs.histogram import bound_of
from vbnfs.host.mountinfo import MountEntry

_SECONDS: Final = 2.0  # for a mount to answer
_OLDEST_SECONDS: Final = 60.0  # of a look that a rate is made of
_NEWEST_SECONDS: Final = 2.0  # of the same: in a shorter time chance has the greater part

_REQUESTS: Final = ("list_requests", "head_requests", "object_requests", "range_requests")

_LOOPBACK: Final = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\]):\d{1,5}")

Ask = Callable[[MountEntry], Figures]


@dataclass(frozen=True, slots=True)
class MountRow:
    """A mount: its figures, or why it does not answer. Rates are bytes a second; None while there is none."""

    mountpoint: str
    figures: Figures | None
    problem: str | None = None
    read_rate: float | None = None
    fetched_rate: float | None = None
    requests_rate: float | None = None

    @property
    def hit_part(self) -> float | None:
        """Which part of the reads waited for nothing from S3, since the mount was made; None before any read."""
        metrics = {} if self.figures is None else self.figures.metrics
        reads, fetched = metrics.get("read_requests", 0), metrics.get("fetched_reads", 0)
        return max(0, reads - fetched) / reads if reads else None

    @property
    def requests(self) -> int:
        """How many requests S3 got since the mount was made."""
        return _requests(self.figures.metrics) if self.figures is not None else 0

    @property
    def metrics_url(self) -> str | None:
        """Where Prometheus asks it; None where nothing answers, or not at this machine."""
        given = None if self.figures is None else self.figures.metrics_address
        return f"http://{given}/metrics" if given and _LOOPBACK.fullmatch(given) else None

    @property
    def median_seconds(self) -> float | None:
        """Up to how long half of the reads that waited did; None where none has waited."""
        waits = None if self.figures is None else self.figures.waits
        if waits is None or not sum(waits.counts):
            return None
        return bound_of(0.5, waits.counts)


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    figures: Figures


class Looks:
    """The last looks at each mount, for rates. Thread-safe."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._last: dict[str, tuple[_Look, _Look | None]] = {}  # by device; the second has rates made of it

    def at(self, entries: Iterable[MountEntry]) -> list[MountRow]:
        """A row for each of some mounts: all are asked at once, and one that hangs holds up no other for long."""
        entries = list(entries)
        rows: dict[int, MountRow] = {}
        threads = [
            threading.Thread(target=self._look, args=(number, entry, rows), daemon=True)
            for number, entry in enumerate(entries)
        ]
        for thread in threads:
            thread.start()
        until = time.monotonic() + _SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        return [
            rows.get(number, MountRow(str(entry.mountpoint), None, "its daemon does not answer"))
            for number, entry in enumerate(entries)
        ]

    def _look(self, number: int, entry: MountEntry, rows: dict[int, MountRow]) -> None:
        try:
            now = self._ask(entry)
        except (MountError, OSError) as error:
            rows[number] = MountRow(str(entry.mountpoint), None, str(error).removeprefix(f"{entry.mountpoint}: "))
            return
        rows[number] = self._row(entry, now)

    def _row(self, entry: MountEntry, now: Figures) -> MountRow:
        look = _Look(_now(), now)
        with self._lock:
            before = self._before(entry.device, look)
        if before is None or not _NEWEST_SECONDS <= (seconds := look.at - before.at) <= _OLDEST_SECONDS:
            return MountRow(str(entry.mountpoint), now)

        earlier = before.figures.metrics
        read_bytes, received_bytes = (
            max(0, now.metrics.get(name, 0) - earlier.get(name, 0)) for name in ("read_bytes", "received_bytes")
        )
        requests = max(0, _requests(now.metrics) - _requests(earlier))
        return MountRow(
            str(entry.mountpoint), now, None, read_bytes / seconds, received_bytes / seconds, requests / seconds
        )

    def _before(self, device: str, look: _Look) -> _Look | None:
        """The look that a rate is made of: the last one, once that is old enough, else the one before it."""
        last, before = self._last.get(device, (look, None))
        if last.figures.pid != look.figures.pid:
            last, before = look, None
        elif look.at - last.at >= _NEWEST_SECONDS:
            last, before = look, last
        self._last[device] = last, before
        return before


def _now() -> float:
    return time.monotonic()


def _requests(metrics: Mapping[str, int]) -> int:
    return sum(metrics.get(name, 0) for name in _REQUESTS)


@dataclass(frozen=True, slots=True)
class AgeRow:
    """What of the cache was used last within some time: files, and bytes on the disk."""

    text: str
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """What the cache takes of its disk, and its limit; `ages` by when files were used last."""

    directory: str
    files: int
    size_bytes: int
    limit_bytes: int
    ages: Sequence[AgeRow]


_AGES: Final[Sequence[tuple[str, float]]] = (
    ("in the last day", 86_400),
    ("earlier in the week", 7 * 86_400),
    ("earlier in the month", 30 * 86_400),
    ("before that", float("inf")),
)


def by_age(used: Iterable[tuple[float, int]]) -> list[AgeRow]:
    """`used` are, of each file, how many seconds ago it was used last, and its bytes."""
    sums: dict[str, list[int]] = {text: [0, 0] for text, _ in _AGES}
    for seconds, size_bytes in used:
        text = next(text for text, most in _AGES if seconds <= most)
        sums[text][0] += 1
        sums[text][1] += size_bytes
    return [AgeRow(text, *sums[text]) for text, _ in _AGES]


def remedies(rows: Sequence[MountRow]) -> Mapping[str, str]:
    """What helps, by mount, where a mount does not answer or its cache or server has a problem."""
    found: dict[str, str] = {}
    for row in rows:
        problems = (
            (row.problem,)
            if row.figures is None
            else (row.figures.server_problem, row.figures.cache_problem, row.figures.passthrough_problem)
        )
        text = "; ".join(problem for problem in problems if problem)
        if text:
            found[row.mountpoint] = text
    return found

"""Which contents a full cache should keep: policies compared on traces of whole files, without a disk.

    .venv/bin/python -m benchmarks.eviction

Prints for each trace and policy what part of the bytes read, and of the files read, was in the cache; where there is
a working set, also what part of it was there at the beginning of a day: its mean from the third day on. Sizes are as
in the dataset: sessions of 1 to 3 GB, LFP files of probes, small tables. The cache has 100 GB. It measures no time,
and its figures are the same each time.
"""

import random
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Final, Protocol

from vbnfs.cache.eviction_policy import LOW_WATER, History, choose_victims

GB: Final = 1 << 30
LIMIT: Final = 100 * GB
DAY: Final = 86_400.0
READING: Final = 120.0  # seconds from one file to the next
SCANNING: Final = 20.0


class Policy(Protocol):
    """A cache of whole files."""

    def read(self, seconds: float, name: str) -> bool:
        """Read a file; whether it was there."""

    def has(self, name: str) -> bool:
        """Whether a file is there."""


# Files and traces


def make_files() -> dict[str, int]:
    """Names and sizes in bytes: as many as the dataset has."""
    chance = random.Random(1)
    files = {f"session {n}": int(chance.uniform(1, 3) * GB) for n in range(150)}
    files |= {f"probe {n}": int(chance.uniform(0.8, 2.6) * GB) for n in range(900)}
    return files | {f"table {n}": int(10 ** chance.uniform(5, 8)) for n in range(12)}


FILES: Final[Mapping[str, int]] = make_files()
TABLES: Final = [name for name in FILES if name.startswith("table")]
SESSIONS: Final = [name for name in FILES if name.startswith("session")]
LARGE: Final = [name for name in FILES if not name.startswith("table")]


@dataclass(frozen=True, slots=True)
class Day:
    """What is read: the working set, if there is one, and each reading, as seconds and name."""

    working_set: Sequence[str]
    readings: Sequence[tuple[float, str]]


def some_of(names: Sequence[str], limit_bytes: float, chance: random.Random) -> list[str]:
    """Some of the files, in any order, that take nearly so many bytes together."""
    found, taken = list[str](), 0
    for name in chance.sample(names, len(names)):
        if taken + FILES[name] > limit_bytes:
            break
        found.append(name)
        taken += FILES[name]
    return found


def spaced(start: float, names: Sequence[str], step: float) -> list[tuple[float, str]]:
    """One reading after the other."""
    return [(start + number * step, name) for number, name in enumerate(names)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Daily:
    """A working set of 40 % of the cache, read each day; another one every `shift` days; scans in the evening.

    `scan` is their size, as a part of the cache, from day `first_scan` on; `is_same`: the same files each time.
    """

    days: int
    scan: float = 2.0
    is_same: bool = False
    first_scan: int = 0
    a_day: int = 1
    shift: int = 0

    def __call__(self) -> Iterator[Day]:
        """The days."""
        chance = random.Random(2)
        working_set = some_of(SESSIONS, 0.4 * LIMIT, chance) + TABLES
        same = some_of([name for name in LARGE if name not in working_set], self.scan * LIMIT, chance)
        for day in range(self.days):
            if self.shift and day and day % self.shift == 0:
                working_set = some_of(SESSIONS, 0.4 * LIMIT, chance) + TABLES
            readings = list[tuple[float, str]]()
            for number in range(self.a_day):
                order = chance.sample(working_set, len(working_set))
                readings += spaced(day * DAY + number * 10_800, order, READING)
            if day >= self.first_scan:
                others = [name for name in LARGE if name not in working_set]
                scanned = same if self.is_same else some_of(others, self.scan * LIMIT, chance)
                readings += spaced(day * DAY + 43_200, scanned, SCANNING)
            yield Day(working_set, readings)


def weeks_of_work() -> Iterator[Day]:
    """Each week other sessions, 30 to 70 % of the cache, most of them read one to three times a day; some scans."""
    chance, working_set = random.Random(4), list[str]()
    for day in range(84):
        if day % 7 == 0:
            working_set = some_of(SESSIONS, chance.uniform(0.3, 0.7) * LIMIT, chance) + TABLES
        readings = list[tuple[float, str]]()
        for number in range(chance.choice([1, 1, 2, 3])):
            read = [name for name in working_set if chance.random() < 0.8]
            readings += spaced(day * DAY + number * 10_800, read, READING)
        if day % 4 == 3:
            scanned = some_of(LARGE, chance.uniform(0.5, 2) * LIMIT, chance)
            readings += spaced(day * DAY + 43_200, scanned, SCANNING)
        yield Day(working_set, readings)


def favourites() -> Iterator[Day]:
    """Sixty files a day, some far more often than others (Zipf, 0.9), and a scan of 150 % each week."""
    chance = random.Random(3)
    names = chance.sample(LARGE, len(LARGE))
    weights = [1 / (rank + 1) ** 0.9 for rank in range(len(names))]
    for day in range(60):
        times = sorted(chance.uniform(0, 36_000) for _ in range(60))
        readings = [(day * DAY + at, chance.choices(names, weights)[0]) for at in times]
        if day % 7 == 6:
            readings += spaced(day * DAY + 43_200, some_of(names, 1.5 * LIMIT, chance), SCANNING)
        yield Day((), readings)


TRACES: Final[Mapping[str, Callable[[], Iterator[Day]]]] = {
    "daily, no scan": Daily(days=8, first_scan=99),
    "daily, scans of other files": Daily(days=8),
    "daily, the same scan": Daily(days=8, is_same=True),
    "daily, the same scan from day 2": Daily(days=10, is_same=True, first_scan=2),
    "twice a day, scans of other files": Daily(days=8, a_day=2),
    "another set every 4 days, other files": Daily(days=20, shift=4),
    "another set every 4 days, a small scan": Daily(days=20, shift=4, scan=0.5, is_same=True),
    "another set every 10 days, the same scan": Daily(days=30, shift=10, is_same=True),
    "weeks of work": weeks_of_work,
    "favourites": favourites,
}


# Policies


def total(names: Mapping[str, object]) -> int:
    """The bytes of files."""
    return sum(map(FILES.__getitem__, names))


@dataclass
class Lru:
    """The least recently used goes first."""

    files: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def read(self, seconds: float, name: str) -> bool:
        """See `Policy`."""
        if name in self.files:
            self.files.move_to_end(name)
            return True
        self.files[name] = None
        if total(self.files) > LIMIT:
            while total(self.files) > LIMIT * LOW_WATER:
                self.files.popitem(last=False)
        return False

    def has(self, name: str) -> bool:
        """See `Policy`."""
        return name in self.files


@dataclass
class Sieve:
    """A hand goes from old to new; what was read since it came by stays (Zhang et al., NSDI 2024)."""

    files: dict[str, bool] = field(default_factory=dict)  # whether it was read; in the order in which they came
    hand: int = 0

    def read(self, seconds: float, name: str) -> bool:
        """See `Policy`."""
        if name in self.files:
            self.files[name] = True
            return True
        self.files[name] = False
        if total(self.files) > LIMIT:
            while total(self.files) > LIMIT * LOW_WATER:
                self._evict(list(self.files)[:-1])
        return False

    def _evict(self, names: Sequence[str]) -> None:
        self.hand %= len(names)
        while self.files[names[self.hand]]:
            self.files[names[self.hand]] = False
            self.hand = (self.hand + 1) % len(names)
        del self.files[names[self.hand]]

    def has(self, name: str) -> bool:
        """See `Policy`."""
        return name in self.files


@dataclass
class Queues:
    """Two queues and the names that left the first one, at most `ghosts` of the cache: 2Q, and S3-FIFO's frame."""

    first: OrderedDict[str, int] = field(default_factory=OrderedDict)  # how often it was read
    second: OrderedDict[str, int] = field(default_factory=OrderedDict)
    gone: OrderedDict[str, None] = field(default_factory=OrderedDict)
    first_part: float = 0.25
    ghosts: float = 0.5

    def read(self, seconds: float, name: str) -> bool:
        """See `Policy`."""
        if self.has(name):
            self.hit(name)
            return True
        (self.second if name in self.gone else self.first)[name] = 0
        self.gone.pop(name, None)
        if total(self.first) + total(self.second) > LIMIT:
            while total(self.first) + total(self.second) > LIMIT * LOW_WATER:
                if self.first and (total(self.first) > LIMIT * self.first_part or not self.second):
                    self.leave_first(*self.first.popitem(last=False))
                else:
                    self.leave_second(*self.second.popitem(last=False))
        return False

    def hit(self, name: str) -> None:
        """A file is read that is there."""
        if name in self.second:
            self.second.move_to_end(name)

    def leave_first(self, name: str, reads: int) -> None:
        """A file comes to the end of the first queue."""
        self.gone[name] = None
        while total(self.gone) > LIMIT * self.ghosts:
            self.gone.popitem(last=False)

    def leave_second(self, name: str, reads: int) -> None:
        """A file comes to the end of the second queue."""

    def has(self, name: str) -> bool:
        """See `Policy`."""
        return name in self.first or name in self.second


@dataclass
class S3Fifo(Queues):
    """Two queues, first in, first out; what was read meanwhile goes on (Yang et al., SOSP 2023)."""

    first_part: float = 0.1
    ghosts: float = 0.9

    def hit(self, name: str) -> None:
        """A file is read that is there."""
        queue = self.first if name in self.first else self.second
        queue[name] = min(3, queue[name] + 1)

    def leave_first(self, name: str, reads: int) -> None:
        """A file comes to the end of the first queue."""
        if reads:
            self.second[name] = 0
        else:
            super().leave_first(name, reads)

    def leave_second(self, name: str, reads: int) -> None:
        """A file comes to the end of the second queue."""
        if reads:
            self.second[name] = reads - 1


@dataclass
class Cached:
    """What the policy of vbnfs knows of a content."""

    content_id: str
    allocated_bytes: int
    used_ns: int
    history: History


@dataclass
class Vbnfs:
    """The policy of vbnfs itself: `cache/eviction_policy.py`."""

    files: dict[str, Cached] = field(default_factory=dict)
    gone: dict[str, Cached] = field(default_factory=dict)

    def read(self, seconds: float, name: str) -> bool:
        """See `Policy`."""
        now_ns = int(seconds * 10**9)
        if file := self.files.get(name):
            file.used_ns, file.history = now_ns, file.history.after_use(now_ns)
            return True
        history = History(now_ns)
        if before := self.gone.pop(name, None):
            history = before.history.after_return(now_ns, used_ns=before.used_ns)
        self.files[name] = Cached(name, FILES[name], now_ns, history)
        for victim in choose_victims(list(self.files.values()), limit_bytes=LIMIT, now_ns=now_ns):
            self.gone[victim.content_id] = self.files.pop(victim.content_id)
        return False

    def has(self, name: str) -> bool:
        """See `Policy`."""
        return name in self.files


POLICIES: Final[Mapping[str, Callable[[], Policy]]] = {
    "LRU": Lru,
    "SIEVE": Sieve,
    "S3-FIFO": S3Fifo,
    "2Q": Queues,
    "2Q, all ghosts": lambda: Queues(ghosts=99),
    "vbnfs": Vbnfs,
}


# Figures


@dataclass(frozen=True, slots=True)
class Figures:
    """Parts of one: of the bytes and the files read that were there; of the working set in the morning, by day."""

    of_bytes: float
    of_files: float
    mornings: Sequence[float]


def run(policy: Policy, days: Iterator[Day]) -> Figures:
    """Read a trace."""
    bytes_read, bytes_there, mornings, there = 0, 0, list[float](), list[bool]()
    for day in days:
        if day.working_set:
            present = {name: None for name in day.working_set if policy.has(name)}
            mornings.append(total(present) / total(dict.fromkeys(day.working_set)))
        for seconds, name in day.readings:
            there.append(policy.read(seconds, name))
            bytes_read += FILES[name]
            bytes_there += FILES[name] * there[-1]
    return Figures(bytes_there / bytes_read, mean(there), mornings)


def main() -> None:
    """Run all of them, and print."""
    for label, trace in TRACES.items():
        print(f"{label:<42} bytes  files  working set")
        for name, make in POLICIES.items():
            found = run(make(), trace())
            mornings = f"{mean(found.mornings[2:]):12.0%}" if found.mornings else ""
            print(f"    {name:<36} {found.of_bytes:7.0%}{found.of_files:7.0%}{mornings}")


if __name__ == "__main__":
    main()

"""Which worker does what: caches and the workers that use them, jobs, and what became of files, as values (pure).

A *member* is a cache directory as one host has it, `HOST:DIRECTORY`. Members that are one folder, as on a shared
disk, are one `NodeCache`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Final

from vbnfs.access import verifying
from vbnfs.access.verifying import Finding

# What became of a file, the worst first: where several nodes have looked, the worst counts.
_WORST_FIRST: Final = (
    verifying.MISMATCH,
    verifying.FAILED,
    verifying.NOT_KEPT,
    verifying.ABSENT,
    verifying.NO_FILE,
    verifying.NO_HASH,
    verifying.PART,
    verifying.GOOD,
    verifying.INCOMPLETE,  # of a node that does not have it, which says nothing of those that do
)


@dataclass(frozen=True, slots=True)
class NodeCache:
    """A cache directory: its members, also of hosts that have no worker now, and the addresses of its workers.

    `name` is one of its members, the same during a run.
    """

    members: frozenset[str]
    workers: frozenset[str]
    name: str

    def __str__(self) -> str:
        host, _, directory = self.name.partition(":")
        hosts = len({member.partition(":")[0] for member in self.members})
        return f"{directory} on {host}" if hosts == 1 else f"{directory} on {hosts} nodes"


def caches_of(members: Mapping[str, str], seen: Iterable[Set[str]], known: Sequence[str] = ()) -> list[NodeCache]:
    """The caches of workers, of which `members` has the member by address. `seen` are members that are one folder.

    A cache has the name of the member that was `known` first.
    """
    groups = list[set[str]]()
    for one in [*({member} for member in members.values()), *map(set, seen)]:
        joined = one.union(*(group for group in groups if group & one))
        groups = [*(group for group in groups if not group & one), joined]
    places = {member: place for place, member in enumerate(known)}
    caches = [
        NodeCache(
            frozenset(group),
            frozenset(address for address, member in members.items() if member in group),
            min(group, key=lambda member: (places.get(member, len(places)), member)),
        )
        for group in groups
    ]
    return sorted((cache for cache in caches if cache.workers), key=lambda cache: cache.name)


@dataclass(frozen=True, slots=True)
class Stock:
    """What a cache has: how many bytes of contents by their ids, those that are whole, and the room for more."""

    bytes_here: Mapping[str, int] = field(default_factory=dict)
    whole: Set[str] = frozenset()
    room_bytes: int | None = None  # None: not known


@dataclass(frozen=True, slots=True)
class ChosenFile:
    """A file of the dataset by its name in the tree. `content_id` is None where it is no content of the cache."""

    name: str
    content_id: str | None = None
    size_bytes: int = 0
    session_id: int | None = None

    def bytes_in(self, stock: Stock) -> int:
        """How much of it a cache has."""
        if self.content_id in stock.whole:
            return self.size_bytes
        return min(self.size_bytes, stock.bytes_here.get(self.content_id or "", 0))


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker does at once, by a name for people. `argument` is the worker's function's own.

    `member` is of the cache where it is best done, None: anywhere. `must`: it can be done there alone.
    `missing_bytes` is what comes into the cache.
    """

    name: str
    argument: Any
    missing_bytes: int = 0
    member: str | None = None
    must: bool = False

    @property
    def key(self) -> str:
        """What no other job of a run has."""
        return f"{self.member or 'any'} {self.name}"

    def fits(self, cache: NodeCache, room_bytes: int | None, *, is_lost: bool) -> bool:
        """Whether a worker of a cache can do it. `is_lost`: the cache where it is best done has no worker now."""
        if self.member is not None and self.member not in cache.members and (self.must or not is_lost):
            return False
        return room_bytes is None or self.missing_bytes <= room_bytes


def fetching_jobs(files: Sequence[ChosenFile], stocks: Mapping[str, Stock], *, every_node: bool) -> list[Job]:
    """Jobs that bring files into caches, whose stocks are by name: the largest first.

    Each file goes into one cache, or with `every_node` into each. What is here in part goes on where most of it is.
    The files of a session go together, where there are several caches: a program that reads it finds all of them.
    """
    if every_node:
        jobs = [_job((file,), name, stock, must=True) for name, stock in stocks.items() for file in files]
    else:
        groups = defaultdict[object, list[ChosenFile]](list)
        for file in files:
            is_alone = file.session_id is None or len(stocks) == 1
            groups[file.name if is_alone else file.session_id].append(file)
        jobs = [_job(group, *best_cache(group, stocks)) for group in groups.values()]
    return sorted(jobs, key=lambda job: -job.missing_bytes)


def verifying_jobs(files: Sequence[ChosenFile], stocks: Mapping[str, Stock], *, is_asked: bool) -> list[Job]:
    """Jobs that hash files where they are: each in every cache that has some of it.

    Without `is_asked`, those alone that are whole. What no cache has is one job, of any worker.
    """
    jobs, found = list[Job](), set[str]()
    for name, stock in stocks.items():
        for file in files:
            if file.content_id in stock.whole or (is_asked and file.bytes_in(stock)):
                found.add(file.name)
                jobs.append(Job(file.name, [file.name], member=name, must=True))
    rest = [file.name for file in files if file.name not in found] if is_asked else []
    return [*jobs, *([Job("files that are in no cache", rest)] if rest else [])]


def placed_anew(
    jobs: Iterable[Job], files: Mapping[Any, Sequence[ChosenFile]], stocks: Mapping[str, Stock]
) -> list[Job]:
    """Jobs, of whose arguments these are the files: one without a place goes where one of these caches has some."""
    return [
        job if job.member is not None else replace(job, member=best_cache(files[job.argument], stocks)[0])
        for job in jobs
    ]


def best_cache(files: Iterable[ChosenFile], stocks: Mapping[str, Stock]) -> tuple[str | None, Stock]:
    """The cache that has most of some files, by name; None where none has anything."""
    files = list(files)
    here = {name: sum(file.bytes_in(stock) for file in files) for name, stock in stocks.items()}
    name = max(here, key=lambda one: here[one], default="")
    return (name, stocks[name]) if here.get(name) else (None, Stock())


def _job(files: Sequence[ChosenFile], name: str | None, stock: Stock, *, must: bool = False) -> Job:
    missing_bytes = sum(file.size_bytes - file.bytes_in(stock) for file in files)
    label = files[0].name if len(files) == 1 else f"session {files[0].session_id}"
    return Job(label, [file.name for file in files], missing_bytes, name, must)


def lacking_room(jobs: Sequence[Job], stocks: Mapping[str, Stock]) -> tuple[int, int] | None:
    """How many bytes are to come, and the room for them, where that is less; None where all has room."""
    rooms = {name: stock.room_bytes for name, stock in stocks.items()}
    needs = defaultdict[str | None, int](int)
    for job in jobs:
        needs[job.member] += job.missing_bytes
    known = [room for room in rooms.values() if room is not None]
    if len(known) < len(rooms):
        return None
    free = needs.pop(None, 0)
    for name, need in needs.items():
        room = rooms[str(name)] or 0
        if need > room:
            return need, room
        rooms[str(name)] = room - need
    left = sum(room or 0 for room in rooms.values())
    return (free, left) if free > left else None


@dataclass(frozen=True, slots=True)
class SpreadFinding(Finding):
    """What became of a file on a cluster. `nodes` are the hosts that found it so."""

    nodes: tuple[str, ...] = ()


def merged(found: Iterable[tuple[str, Finding]], order: Sequence[str]) -> list[SpreadFinding]:
    """What became of each file, of which hosts have found something; in this order of names."""
    by_path = defaultdict[str, list[tuple[str, Finding]]](list)
    for host, finding in found:
        by_path[finding.path].append((host, finding))
    return [_merged(by_path[name]) for name in order if name in by_path]


def _merged(found: Sequence[tuple[str, Finding]]) -> SpreadFinding:
    outcome = min((finding.outcome for _, finding in found), key=_WORST_FIRST.index)
    those = [(host, finding) for host, finding in found if finding.outcome == outcome]
    host, worst = those[0]
    hosts = tuple(sorted({host for host, _ in those}))
    is_bad = worst.detail and host and outcome not in {verifying.GOOD, verifying.INCOMPLETE}
    detail = f"{host}: {worst.detail}" if is_bad else worst.detail
    return SpreadFinding(worst.path, outcome, worst.size_bytes, detail, hosts)


def differences(settings: Iterable[tuple[str, Mapping[str, str]]]) -> dict[tuple[str, ...], str]:
    """In which settings workers differ, in words: by the setting's name and its values.

    `settings` has each worker's host, and its texts by name.
    """
    hosts = defaultdict[str, dict[str, set[str]]](lambda: defaultdict(set))
    for host, one in settings:
        for name, value in one.items():
            hosts[name][value].add(host)
    found = dict[tuple[str, ...], str]()
    for name, of_values in sorted(hosts.items()):
        if len(of_values) > 1:
            values = [f"{value} ({_names(sorted(those))})" for value, those in sorted(of_values.items())]
            text = f"workers have different settings of {name}: {', '.join(values)}"
            found[name, *sorted(of_values)] = text
    return found


def _names(hosts: Sequence[str], most: int = 3) -> str:
    rest = f" and {len(hosts) - most} more" if len(hosts) > most else ""
    return ", ".join(hosts[:most]) + rest

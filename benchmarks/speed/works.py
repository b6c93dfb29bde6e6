"""The works: what each system in turn is made to do, and what is measured meanwhile.

A *course* is a series of works that begin with an empty cache. It yields a (work, value, extra) for each; what a
system cannot do it leaves out. `WORKS` says what is a row, and in which unit.
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.speed import machine
from benchmarks.speed.files import LFP, MORE, SESSION
from benchmarks.speed.origin import Origin, Traffic
from benchmarks.speed.results import Work
from benchmarks.speed.systems.base import Site, System, cat, read_with
from benchmarks.speed.systems.downloads import Boto3, Curl
from benchmarks.speed.systems.libraries import Library
from benchmarks.speed.systems.local import Local
from benchmarks.speed.systems.vbnfs import Vbnfs
from benchmarks.speed.systems.zeros import Zeros
from vbnfs.cache.content_folder import CHECKSUMS, DATA, FORMAT

COLD: Final = Work("cold sequential, 1 session", "MB/s", True, "curl")
AGAIN: Final = Work("again, from the kernel's page cache", "MB/s", True, "local")
WARM_DISK: Final = Work("warm sequential, remounted, nothing in memory", "MB/s", True, "local")
WARM: Final = Work("warm sequential, remounted, cache files in memory", "MB/s", True, "zeros")
RANDOM: Final = Work("warm random 4 KiB over 220 MB, cache files in memory", "reads/s", True)
MANY: Final = Work("16 programs read 16 sessions, cold", "MB/s", True, "curl")
SPIKES: Final = Work("one unit's spike times (h5py)", "s", False)
LFP_CHANNEL: Final = Work("10 s of one LFP channel (h5py)", "s", False)
OPEN: Final = Work("pynwb opens the session", "s", False)
LOADED: Final = Work("4 KiB reads beside a bulk read: p99, loaded to idle", "times", False)
FIRST_LIST: Final = Work("mount to first ls -l, nothing kept", "s", False)
LIST: Final = Work("mount to first ls -l, again", "s", False)
MEMORY: Final = Work("resident after 16 readers read much", "MB", False)
HUGE: Final = Work("mount to first ls -l with 2 TB cached", "s", False)

WORKS: Final = (
    COLD, AGAIN, WARM_DISK, WARM, RANDOM, MANY, SPIKES, LFP_CHANNEL, OPEN, LOADED, FIRST_LIST, LIST, MEMORY, HUGE,
)  # fmt: skip

_RANDOM_BYTES: Final = 220_000_000
_RANDOM_SECONDS: Final = 3
_READS: Final = 100  # of an interactive user, while nothing else goes on
_MOST_READS: Final = 1000  # and beside a bulk read
_HUGE_BYTES: Final = 2 << 40
_HUGE_CONTENT_BYTES: Final = 256 << 20
_QUIET_SECONDS: Final = 0.25
_SETTLE_SECONDS: Final = 5.0

Result = tuple[Work, float, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Bench:
    """What every course needs. `much_bytes` is what the sixteen readers of `memory` read of each file."""

    origin: Origin
    site: Site
    much_bytes: int

    def measured(
        self, system: System, work: Callable[[], float], amount_bytes: int = 0
    ) -> tuple[float, dict[str, float]]:
        """The seconds that a work returns; processor time of the system's processes, and what the origin sent."""
        processor = machine.processor_seconds(system.pids())
        before = self.origin.traffic(self.site.listener)
        seconds = work()
        processor = machine.processor_seconds(system.pids()) - processor
        sent = self._settled_traffic() - before
        extra = {"MB fetched": sent.body_bytes / 1e6, "requests": float(sent.requests)}
        if amount_bytes and system.pids():
            extra["CPU s/GB"] = processor / (amount_bytes / 1e9)
        return seconds, extra

    def _settled_traffic(self) -> Traffic:
        """What was sent when nothing more comes: readahead may go on after the work is done."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        before, now = Traffic(), self.origin.traffic(self.site.listener)
        while now != before and time.monotonic() < deadline:
            time.sleep(_QUIET_SECONDS)
            before, now = now, self.origin.traffic(self.site.listener)
        return now


def sequential(bench: Bench, system: System) -> Iterator[Result]:
    """One session from end to end: cold, again, after a remount; and then at random."""
    size_bytes = bench.site.files.size_bytes(SESSION)

    def read(work: Work) -> Result:
        seconds, extra = bench.measured(system, lambda: system.read_whole(SESSION), size_bytes)
        return work, size_bytes / 1e6 / seconds, extra

    if isinstance(system, Local):
        system.read_whole(SESSION)  # copies it
    elif not isinstance(system, Zeros):
        yield read(COLD)
    if not system.has_cache and not isinstance(system, Zeros):
        return
    if not isinstance(system, Zeros):
        yield read(AGAIN)
        _restart(system)
        machine.drop_from_memory(list(system.cache_files()))
        yield read(WARM_DISK)
        machine.bring_into_memory([bench.site.files.path(SESSION)])  # the origin reads it, too
        _restart(system)
        machine.bring_into_memory(list(system.cache_files()))
    yield read(WARM)
    if not isinstance(system, Zeros | Local):
        yield RANDOM, _random_reads(Path(system.location(SESSION))), {}


def _restart(system: System) -> None:
    system.settle()
    system.stop()
    system.start()


def _random_reads(path: Path) -> float:
    """Reads a second, by fio, which has the kernel forget the file's pages first (--invalidate)."""
    command = ["fio", "--name=random", f"--filename={path}", "--rw=randread", "--bs=4k", "--ioengine=psync"]
    command += [f"--size={_RANDOM_BYTES}", f"--runtime={_RANDOM_SECONDS}", "--time_based", "--readonly"]
    command += ["--invalidate=1", "--output-format=json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]["read"]["iops"])


def many(bench: Bench, system: System) -> Iterator[Result]:
    """Sixteen programs, each with a session of its own; the result has the slowest's share of the fastest's speed."""
    each_bytes = min(bench.site.files.size_bytes(name) for name in MORE) // 4
    seconds: list[float] = []

    def read() -> float:
        if isinstance(system, Curl):
            seconds.extend(system.fetch([(name, f"0-{each_bytes - 1}") for name in MORE]))
        else:
            seconds.extend(cat([system.location(name) for name in MORE], bytes_each=each_bytes))
        return max(seconds)

    total_bytes = each_bytes * len(MORE)
    took, extra = bench.measured(system, read, total_bytes)
    yield MANY, total_bytes / 1e6 / took, {**extra, "slowest to fastest": min(seconds) / max(seconds)}


def _reader(job: str, name: str, work: Work) -> "Course":
    def course(bench: Bench, system: System) -> Iterator[Result]:
        location, environment = system.location(name), bench.site.environment
        seconds, extra = bench.measured(system, lambda: read_with(job, location, environment))
        yield work, seconds, extra

    return course


def interactive(bench: Bench, system: System) -> Iterator[Result]:
    """Reads of 4 KiB at random places of one session, alone and while another is read from end to end."""
    idle = _latencies(system.location(MORE[0]), _READS, lambda: True)
    with subprocess.Popen(["cat", system.location(SESSION)], stdout=subprocess.DEVNULL) as bulk:
        loaded = _latencies(system.location(MORE[1]), _MOST_READS, lambda: bulk.poll() is None)
    idle_p99, loaded_p99 = percentile(idle, 99), percentile(loaded, 99)
    figures = {"ms idle p50": percentile(idle, 50), "ms idle p99": idle_p99, "ms loaded p50": percentile(loaded, 50)}
    yield LOADED, loaded_p99 / idle_p99, {**figures, "ms loaded p99": loaded_p99, "loaded reads": float(len(loaded))}


def _latencies(path: str, most: int, goes_on: Callable[[], bool]) -> list[float]:
    """Milliseconds of reads of 4 KiB at places that are drawn, and the same in every run."""
    descriptor, place = os.open(path, os.O_RDONLY), random.Random(7)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        size_bytes, latencies = os.fstat(descriptor).st_size, list[float]()
        while len(latencies) < most and goes_on():
            began = time.monotonic()
            os.pread(descriptor, 4096, place.randrange(size_bytes - 4096))
            latencies.append((time.monotonic() - began) * 1e3)
        return latencies
    finally:
        os.close(descriptor)


def percentile(values: list[float], percent: int) -> float:
    """Of two values or more, as the field has it: between the two nearest (pure)."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def listing(bench: Bench, system: System) -> Iterator[Result]:
    """From starting to mount until the project's folder is listed: first ever, and with what was kept."""
    for work in (FIRST_LIST, LIST):
        system.stop()
        if work is FIRST_LIST:
            system.forget()
        yield (work, *bench.measured(system, lambda: _start_and_list(system)))


def _start_and_list(system: System) -> float:
    began = time.monotonic()
    system.start()
    subprocess.run(["ls", "-l", Path(system.location(SESSION)).parent], stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began


def memory(bench: Bench, system: System) -> Iterator[Result]:
    """What a mount holds when sixteen programs have read much."""
    each_bytes = min(bench.much_bytes // len(MORE), bench.site.files.size_bytes(MORE[0]))
    cat([system.location(name) for name in MORE], bytes_each=each_bytes)
    figures = {name: machine.memory_bytes(system.pids(), name) / 1e6 for name in ("VmRSS", "VmHWM", "RssAnon")}
    extra = {"MB highest": figures["VmHWM"], "MB anonymous": figures["RssAnon"]}
    yield MEMORY, figures["VmRSS"], {**extra, "GB read": each_bytes * len(MORE) / 1e9}


def huge(bench: Bench, system: System) -> Iterator[Result]:
    """Starting with a cache of 2 TB: sparse files under the names that segments have."""
    cat([system.location(SESSION)], bytes_each=1)
    system.stop()
    data = next(path for path in system.cache_files() if FORMAT in path.parts and path.name == DATA)
    kind, contents = data.parents[2], _HUGE_BYTES // _HUGE_CONTENT_BYTES
    for number in range(contents):
        name = f"{number % 256:02x}{number:030x}"
        folder = kind / name[:2] / name
        folder.mkdir(parents=True)
        for file, length in ((DATA, _HUGE_CONTENT_BYTES), (CHECKSUMS, _HUGE_CONTENT_BYTES // 16384)):
            (folder / file).touch()
            os.truncate(folder / file, length)
    yield HUGE, _start_and_list(system), {"contents": float(contents)}
    system.stop()
    shutil.rmtree(kind)


Course = Callable[[Bench, System], Iterator[Result]]
COURSES: Final[Mapping[str, Course]] = {
    "sequential": sequential,
    "many": many,
    "spikes": _reader("spikes", SESSION, SPIKES),
    "lfp": _reader("lfp", LFP, LFP_CHANNEL),
    "open": _reader("open", SESSION, OPEN),
    "interactive": interactive,
    "listing": listing,
    "memory": memory,
    "huge": huge,
}


def can(course: str, system: System) -> bool:
    """Whether a system has a turn in a course."""
    if isinstance(system, Curl):
        return course in {"sequential", "many"}
    if isinstance(system, Boto3 | Zeros):
        return course == "sequential"
    if isinstance(system, Local):
        return course in {"sequential", "open"}
    if isinstance(system, Library):
        return course in {"sequential", "spikes", "lfp", "open"}
    return isinstance(system, Vbnfs) or course != "huge"

"""What each system in turn is made to do, and what is measured meanwhile.

A *course* is a series of works that begin with an empty cache. It yields a (work, value, extra) for each; what a
system cannot do it leaves out. `COURSES` names them.
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from benchmarks.speed import machine, release, works
from benchmarks.speed.bench import Bench, Course, Result
from benchmarks.speed.files import MORE, SESSION
from benchmarks.speed.reading import READING
from benchmarks.speed.results import Work
from benchmarks.speed.systems.base import FuseSystem, System
from benchmarks.speed.systems.local import Local
from benchmarks.speed.systems.programs import cat
from benchmarks.speed.systems.registry import BY_FSSPEC, IN_PYTHON
from benchmarks.speed.systems.vbnfs import IndexedVbnfs, Vbnfs
from benchmarks.speed.systems.zeros import Zeros
from vbnfs.cache.content_folder import CHECKSUMS, DATA, FORMAT

_RANDOM_BYTES: Final = 220_000_000
_RANDOM_SECONDS: Final = 3
_READS: Final = 100  # of an interactive user, while nothing else goes on
_MOST_READS: Final = 1000  # and beside a bulk read
_HUGE_BYTES: Final = 2 << 40
_HUGE_CONTENT_BYTES: Final = 256 << 20


def sequential(bench: Bench, system: System) -> Iterator[Result]:
    """One session from end to end: cold, again, after a remount; and then at random."""
    size_bytes = bench.site.files.size_bytes(SESSION)

    def read(work: Work) -> Result:
        seconds, extra = bench.measured(system, lambda: system.read_whole(SESSION), size_bytes)
        return work, size_bytes / 1e6 / seconds, extra

    if isinstance(system, Local):
        system.read_whole(SESSION)  # copies it
    elif not isinstance(system, Zeros):
        yield (cold := read(works.COLD))
        if "CPU s/GB" in cold[2]:
            yield works.COLD_PROCESSOR, cold[2]["CPU s/GB"], {}
    if not system.has_cache and not isinstance(system, Zeros):
        return
    if not isinstance(system, Zeros):
        yield read(works.AGAIN)
        _restart(system)
        machine.drop_from_memory(list(system.cache_files()))
        yield read(works.WARM_DISK)
        machine.bring_into_memory([bench.site.files.path(SESSION)])  # the origin reads it, too
        _restart(system)
        machine.bring_into_memory(list(system.cache_files()))
    yield read(works.WARM)
    if not isinstance(system, Zeros | Local):
        yield works.RANDOM, _random_reads(Path(system.location(SESSION))), {}


def _restart(system: System) -> None:
    system.settle()
    system.stop()
    system.start()


def _random_reads(path: Path) -> float:
    """Reads a second, by fio, which has the kernel forget the file's pages first (--invalidate)."""
    command = ["fio", "--name=random", f"--filename={path}", "--rw=randread", "--bs=4k", "--ioengine=psync"]
    command += [
        f"--size={min(_RANDOM_BYTES, path.stat().st_size)}",
        f"--runtime={_RANDOM_SECONDS}",
        "--time_based",
        "--readonly",
    ]
    command += ["--invalidate=1", "--output-format=json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]["read"]["iops"])


def stream(bench: Bench, system: System) -> Iterator[Result]:
    """One session from end to end, by a program of one thread; nothing is read again."""
    size_bytes = bench.site.files.size_bytes(SESSION)
    seconds, extra = bench.measured(system, lambda: system.read_whole(SESSION), size_bytes)
    yield works.STREAM, size_bytes / 1e6 / seconds, extra


def many(bench: Bench, system: System) -> Iterator[Result]:
    """Sixteen programs, each with a session of its own: all together, and the slowest beside the fastest."""
    each_bytes = min(bench.site.files.size_bytes(name) for name in MORE) // 4
    seconds: list[float] = []

    def read() -> float:
        seconds.extend(system.read_heads(MORE, each_bytes))
        return max(seconds)

    total_bytes = each_bytes * len(MORE)
    took, extra = bench.measured(system, read, total_bytes)
    yield works.MANY, total_bytes / 1e6 / took, extra
    yield works.FAIRNESS, min(seconds) / max(seconds), {}


def interactive(bench: Bench, system: System) -> Iterator[Result]:
    """Reads of 4 KiB at random places of one session, alone and while another is read from end to end."""
    idle = _latencies(system.location(MORE[0]), _READS, lambda: True)
    with subprocess.Popen(["cat", system.location(SESSION)], stdout=subprocess.DEVNULL) as bulk:
        try:
            loaded = _latencies(system.location(MORE[1]), _MOST_READS, lambda: bulk.poll() is None)
        except BaseException:
            bulk.kill()
            raise
    if len(loaded) < 2:
        raise RuntimeError("the bulk read ended before two small reads did: the files are too small")
    figures = {percent: (percentile(idle, percent), percentile(loaded, percent)) for percent in (50, 99)}
    yield works.IDLE_P50, figures[50][0], {}
    yield works.IDLE_P99, figures[99][0], {}
    yield works.LOADED_P50, figures[50][1], {"loaded reads": float(len(loaded))}
    yield works.LOADED_P99, figures[99][1], {}
    yield works.LOADED_TO_IDLE_P50, figures[50][1] / figures[50][0], {}
    yield works.LOADED, figures[99][1] / figures[99][0], {}


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
    for work in (works.FIRST_LIST, works.LIST):
        system.stop()
        if work is works.FIRST_LIST:
            system.forget()
        yield (work, *bench.measured(system, lambda: _start_and_list(system)))


def _start_and_list(system: System) -> float:
    began = time.monotonic()
    system.start()
    subprocess.run(["ls", "-l", Path(system.location(SESSION)).parent], stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began


def everything(bench: Bench, system: System) -> Iterator[Result]:
    """`ls -lR` of all that there is, twice. Systems do not show the same: the lines are counted."""
    assert isinstance(system, FuseSystem | Local)
    top, lines = system.top(), 0

    def list_all() -> float:
        nonlocal lines
        began = time.monotonic()
        lines = run_to_lines(["ls", "-lR", str(top)])
        return time.monotonic() - began

    for work in (works.LIST_ALL, works.LIST_ALL_AGAIN):
        seconds, extra = bench.measured(system, list_all)
        yield work, seconds, {**extra, "lines": float(lines)}


def run_to_lines(command: list[str]) -> int:
    """Run a program; how many lines it prints."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            lines = sum(1 for _ in process.stdout)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
    return lines


def memory(bench: Bench, system: System) -> Iterator[Result]:
    """What a mount holds when sixteen programs have read much."""
    each_bytes = min(bench.much_bytes // len(MORE), bench.site.files.size_bytes(MORE[0]))
    cat([system.location(name) for name in MORE], bytes_each=each_bytes)
    figures = {name: machine.memory_bytes(system.pids(), name) / 1e6 for name in ("VmRSS", "VmHWM", "RssAnon")}
    extra = {"MB highest": figures["VmHWM"], "MB anonymous": figures["RssAnon"]}
    yield works.MEMORY, figures["VmRSS"], {**extra, "GB read": each_bytes * len(MORE) / 1e9}


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
    yield works.HUGE, _start_and_list(system), {"contents": float(contents)}
    system.stop()
    shutil.rmtree(kind)
    system.start()  # every course leaves it so


_COURSES_OF_CLIENTS: Final = frozenset({"sequential", "many"})
_COURSES_OF_LIBRARIES: Final = frozenset({"spikes", "lfp", "walk", "open"})
_COURSES_WITHOUT_A_MOUNT: Final = frozenset({"open", "spikes", "lfp", "stream", "ranges"})
_COURSES_OF_SPIKEINTERFACE: Final = frozenset({"sorting", "recording"})
_COURSES_OF_FILE_OBJECTS: Final = _COURSES_OF_LIBRARIES | _COURSES_OF_SPIKEINTERFACE | _COURSES_WITHOUT_A_MOUNT
_COURSES_OF: Final[Mapping[str, frozenset[str]]] = {
    "remfile": _COURSES_OF_CLIENTS | _COURSES_OF_FILE_OBJECTS,
    "fsspec": _COURSES_OF_CLIENTS | _COURSES_OF_FILE_OBJECTS,
    "s3fs-python": _COURSES_OF_LIBRARIES | _COURSES_WITHOUT_A_MOUNT,
    **dict.fromkeys((IN_PYTHON, BY_FSSPEC, "fsspec-blockcache"), _COURSES_WITHOUT_A_MOUNT),
    "obstore": _COURSES_WITHOUT_A_MOUNT - {"lfp"},  # asks for 1 MiB anew at each of 12,500 rows: a quarter of an hour
    "h5coro": frozenset({"spikes", "lfp"}),
    "lindi": _COURSES_OF_LIBRARIES,
    "allensdk": frozenset({"allensdk"}),
    "curl-24": frozenset({"sequential"}),  # sixteen programs have a connection each
    "zeros": frozenset({"sequential"}),
    "local": frozenset({"sequential", "everything", *READING}) - {"spikes", "lfp", "ranges"},
}
COURSES: Final[Mapping[str, Course]] = {
    "sequential": sequential,
    "stream": stream,
    "many": many,
    **READING,
    "interactive": interactive,
    "listing": listing,
    "everything": everything,
    "memory": memory,
    "huge": huge,
}


def can(course: str, system: System, shape: str) -> bool:
    """Whether a system has a turn in a course: `everything` is for a list of names, all else for sessions (pure)."""
    if (course == "everything") != (shape == release.NAME):
        return False
    if isinstance(system, IndexedVbnfs):
        return course in READING
    if isinstance(system, FuseSystem) and not isinstance(system, Zeros):
        return course not in {"huge", "allensdk"} or isinstance(system, Vbnfs)
    return course in _COURSES_OF.get(system.name, _COURSES_OF_CLIENTS)

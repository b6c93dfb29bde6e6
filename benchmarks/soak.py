"""Trust, by figures: many readers, faults, evictions and remounts; kills; damage. Exit status 1 if anything is wrong.

script/soak MINUTES [--seed N] [--failing PART]
script/soak --kills N [--seed N]
script/soak --flips N [--live] [--seed N]
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.flips import flip_again_and_again
from benchmarks.kills import kill_again_and_again
from benchmarks.place import SESSIONS, Place, origin, reading
from benchmarks.reader import Outcome

_MOUNTS = 2
_READERS = 8  # on each mount
_FILES = 16
_FILE_BYTES = 24 << 20
_CACHE_BYTES = 160 << 20  # of 384 MiB: evicts all the time
_IO_TIMEOUT_SECONDS = 30.0
_STALLED_SECONDS = _IO_TIMEOUT_SECONDS + 5
_REMOUNTED_PART = 1 / 3  # of the time; the rest belongs to the last daemons, and shows whether they leak
_GROWN_PART = 0.6  # of the time is over when they have grown as large as they may become, which takes 20 s
_SAMPLED_PART = 0.1  # of the time their resources are sampled, and the least counts
_MORE_MEMORY_BYTES = 32 << 20
_MORE_FILES = 32
_READ_BYTES = 1 << 16  # of the beginning of such a file
_UNREAD_FILES = 200  # each is read once, when the network has changed
_HANG_SECONDS = 3.0
_SILENT_SECONDS = 5.0  # promised for the first read after all open connections have fallen silent
_WELL_SECONDS = 1.0  # promised for reads after a server that hung is well again
_BUSY_SECONDS = 2.0  # more for either: this machine does a lot besides
_REFUSED_SECONDS = 0.5  # less than it takes a daemon to believe that it is offline


@dataclass
class Soak:
    """What came of it."""

    seed: int
    minutes: float
    failing: float
    outcome: Outcome = field(default_factory=Outcome)
    remounts: int = 0
    refusals: int = 0
    silences: list[float] = field(default_factory=list)  # seconds until the first read after each
    hangs: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    metrics: dict[str, int] = field(default_factory=dict)
    served: dict[str, Any] = field(default_factory=dict)
    before: list[tuple[int, int]] = field(default_factory=list)  # memory and open files of each daemon
    after: list[tuple[int, int]] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What went wrong; empty if nothing did."""
        pairs = list(zip(self.before, self.after, strict=True))
        checks = {
            f"{self.outcome.wrong_bytes} wrong bytes: {self.outcome.wrong[:3]}": self.outcome.wrong_bytes,
            f"failed reads: {dict(self.outcome.errors)}": sum(self.outcome.errors.values()),
            f"a read took {self.outcome.longest_seconds:.0f} s": self.outcome.longest_seconds > _STALLED_SECONDS,
            "a silence took too long": max(self.silences, default=0.0) > _SILENT_SECONDS + _BUSY_SECONDS,
            "a hang took too long": max(self.hangs, default=0.0) > _WELL_SECONDS + _BUSY_SECONDS,
            "memory grows": any(after[0] > before[0] + _MORE_MEMORY_BYTES for before, after in pairs),
            "open files grow": any(after[1] > before[1] + _MORE_FILES for before, after in pairs),
            "nothing was evicted": not self.metrics.get("evicted_contents"),
            "no read was answered": not self.outcome.reads,
        }
        return [text for text, is_so in checks.items() if is_so]

    def table(self) -> list[tuple[str, str]]:
        """The closing table."""
        outcome, faults = self.outcome, self.served.get("faults", {})
        by_name = ", ".join(f"{count} {name}" for name, count in sorted(faults.items()))
        latencies = [outcome.quantile(0.5), outcome.quantile(0.99), outcome.longest_seconds]
        return [
            ("ran", f"{self.minutes:g} minutes (seed {self.seed}), {_MOUNTS} mounts, {_MOUNTS * _READERS} readers"),
            ("remounts", str(self.remounts)),
            (f"all connections broken, and refused for {_REFUSED_SECONDS:g} s", f"{self.refusals} times"),
            ("all open connections silent, and the first read then", _longest(self.silences)),
            (f"the server hung for {_HANG_SECONDS:g} s, and the first read then", _longest(self.hangs)),
            ("bytes read", f"{outcome.read_bytes:,} in {outcome.reads:,} reads"),
            ("wrong bytes", str(outcome.wrong_bytes)),
            ("failed reads, by errno", str(dict(outcome.errors) or 0)),
            *(("why, by the log", reason) for reason in sorted(self.reasons)),
            ("reads cut off by a remount", f"{outcome.away:,}"),
            ("requests", ", ".join(f"{n:,} {kind}" for kind, n in self.served.get("requests", {}).items())),
            ("bytes from the server", f"{self.served.get('sent_bytes', 0):,}"),
            (
                "faults",
                f"{sum(faults.values()):,}: {by_name}",
            ),
            ("evicted files", f"{self.metrics.get('evicted_contents', 0):,} (by the last daemons)"),
            ("latency: p50, p99, p100", ", ".join(f"{seconds * 1000:,.1f} ms" for seconds in latencies)),
            (
                f"anonymous memory, after {_GROWN_PART:.0%} and at the end",
                _from_to(self.before, self.after, 0, "MiB", 1 << 20),
            ),
            ("open files, the same", _from_to(self.before, self.after, 1, "", 1)),
        ]


def _longest(seconds: list[float]) -> str:
    return f"{len(seconds)} times; within {max(seconds, default=0.0):.1f} s"


def _from_to(before: list[tuple[int, int]], after: list[tuple[int, int]], place: int, unit: str, size: int) -> str:
    pairs = zip(before, after, strict=True)
    return "; ".join(f"{b[place] // size:,} to {a[place] // size:,} {unit}".strip() for b, a in pairs)


def soak(minutes: float, *, seed: int, failing: float, directory: Path | None = None) -> Soak:
    """Read for so long."""
    result, chance = Soak(seed, minutes, failing), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="vbnfs-soak-", dir=directory) as name:
        place = Place(Path(name), ["--cache-size", str(_CACHE_BYTES), "--io-timeout", f"{_IO_TIMEOUT_SECONDS:g}"])
        place.make_files(count=_FILES, file_bytes=_FILE_BYTES, seed=seed)
        place.make_files(count=_UNREAD_FILES, file_bytes=2 * _READ_BYTES, seed=seed + 1, first=_FILES)
        options = ["--failing", str(failing), "--seed", str(seed)]
        with origin(place, *options) as (place.endpoint_url, server):
            try:
                place.set_apart(_UNREAD_FILES)
                for number in range(_MOUNTS):
                    place.mount(number)
                readers = dict.fromkeys(range(_MOUNTS), _READERS)
                with reading(place, readers, seed=seed, outcome=result.outcome):
                    _run(place, result, chance, server)
                result.served = _ask(server, "report")
            finally:
                result.reasons = place.reasons()
                place.clear()
    return result


def _run(place: Place, result: Soak, chance: random.Random, server: "subprocess.Popen[str]") -> None:
    begun, seconds = time.monotonic(), result.minutes * 60
    is_hang = cycle([True, False])

    def go_on(stop: float) -> None:
        while (left := begun + stop - time.monotonic()) > 0:
            time.sleep(min(chance.uniform(5, 25), seconds / 6, left))
            is_remounting = time.monotonic() < begun + seconds * _REMOUNTED_PART
            if next(is_hang):  # not while one is mounted: it would begin offline
                _change_network(place, result, server, f"hang {_HANG_SECONDS}", result.hangs)
            else:
                _change_network(place, result, server, "silence", result.silences)
                _ask(server, f"refuse {_REFUSED_SECONDS}")
                result.refusals += 1
            if is_remounting:
                number = chance.randrange(_MOUNTS)
                place.umount(number)
                place.mount(number)
                result.remounts += 1

    go_on(seconds * _GROWN_PART)
    result.before = _least_resources(place, seconds * _SAMPLED_PART)
    go_on(seconds * (1 - _SAMPLED_PART))
    result.after = _least_resources(place, seconds * _SAMPLED_PART)
    reports = [place.status(number) for number in range(_MOUNTS)]
    result.metrics = {name: sum(one["metrics"][name] for one in reports) for name in reports[0]["metrics"]}


def _change_network(
    place: Place, result: Soak, server: "subprocess.Popen[str]", command: str, seconds: list[float]
) -> None:
    """Change the network, and note how long a file takes then that was never read."""
    path = next(place.unread.iterdir(), None)
    if path is not None:
        _ask(server, command)
        seconds.append(_seconds_until_read(place, path, result.outcome))
        path.unlink()
        _ask(server, "faults")


def _seconds_until_read(place: Place, path: Path, outcome: Outcome) -> float:
    """How long until the beginning of a file can be read, that is compared."""
    begun, wanted = time.monotonic(), path.read_bytes()[:_READ_BYTES]
    while time.monotonic() - begun < _STALLED_SECONDS:
        try:
            with (place.mountpoint(0) / SESSIONS / path.name).open("rb") as file:
                data = file.read(_READ_BYTES)
        except OSError:
            continue
        outcome.wrong_bytes += sum(a != b for a, b in zip(data, wanted, strict=True))
        break
    return time.monotonic() - begun


def _least_resources(place: Place, seconds: float) -> list[tuple[int, int]]:
    """Of each daemon, the least within so long: what it takes for a moment is no leak."""
    stop, pids = time.monotonic() + seconds, [place.status(number)["pid"] for number in range(_MOUNTS)]
    seen = [[_resources(pid)] for pid in pids]
    while time.monotonic() < stop:
        time.sleep(0.2)
        for pid, one in zip(pids, seen, strict=True):
            one.append(_resources(pid))
    return [(min(memory for memory, _ in one), min(files for _, files in one)) for one in seen]


def _resources(pid: int) -> tuple[int, int]:
    """Memory that is the process's own (RssAnon, proc_pid_status(5)), bytes; and its open files."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kibibytes = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
    return kibibytes << 10, len(os.listdir(f"/proc/{pid}/fd"))


def _ask(server: "subprocess.Popen[str]", question: str) -> dict[str, Any]:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(f"{question}\n")
    server.stdin.flush()
    reply: dict[str, Any] = json.loads(server.stdout.readline())
    return reply


def main() -> None:
    """Run what is asked for, and print its closing table."""
    parser = argparse.ArgumentParser(prog="script/soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("minutes", type=float, nargs="?", help="of reading, with faults, evictions and remounts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--failing", type=float, default=0.1, help="part of the requests that meet a fault")
    parser.add_argument("--kills", type=int, metavar="N", help="kill the daemon N times")
    parser.add_argument("--flips", type=int, metavar="N", help="damage the cache N times")
    parser.add_argument("--live", action="store_true", help="damage under a live mount, with --verify always")
    wanted = parser.parse_args()
    if wanted.minutes is None and wanted.kills is None and wanted.flips is None:
        parser.error("MINUTES, --kills or --flips is wanted")
    problems = []
    if wanted.kills is not None:
        problems += _report(kill_again_and_again(wanted.kills, seed=wanted.seed))
    if wanted.flips is not None:
        problems += _report(flip_again_and_again(wanted.flips, seed=wanted.seed, is_live=wanted.live))
    if wanted.minutes is not None:
        problems += _report(soak(wanted.minutes, seed=wanted.seed, failing=wanted.failing))
    sys.exit(1 if problems else 0)


def _report(result: Any) -> list[str]:
    machine = f"{os.cpu_count()} processors, Linux {platform.release()}, Python {platform.python_version()}"
    rows = [*result.table(), ("machine", f"{machine}, load {os.getloadavg()[0]:.1f}")]
    for label, text in rows:
        print(f"{label:<52} {text}")
    problems: list[str] = result.problems
    for problem in problems:
        print(f"WRONG: {problem}")
    print("passed" if not problems else "FAILED", flush=True)
    return problems


if __name__ == "__main__":
    main()

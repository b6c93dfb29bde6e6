"""A program that reads a mount in all the ways that programs have, and compares every byte.

    python -m benchmarks.reader MOUNT PLAIN SEED

Reads until standard input ends, then prints a line of JSON (`Outcome`). A mount that is away for the moment
(unmounted, its daemon killed) is waited for; any other failure counts.
"""

import errno
import json
import math
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_MIB: Final = 1 << 20
# How a read ends whose mount goes away, or is not there yet.
_AWAY: Final = frozenset({errno.ENOTCONN, errno.ECONNABORTED, errno.ENOENT, errno.ENODEV})
_STEP: Final = math.log(1.05)  # latencies are kept in classes of 5 %
_SHORTEST_SECONDS: Final = 1e-6


@dataclass
class Outcome:
    """What came of the reads. `latencies` counts reads by class; `longest_seconds` is exact."""

    reads: int = 0
    read_bytes: int = 0
    wrong_bytes: int = 0
    away: int = 0
    longest_seconds: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    latencies: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: dict) -> None:
        """Take in what another reader printed."""
        for name in ("reads", "read_bytes", "wrong_bytes", "away"):
            setattr(self, name, getattr(self, name) + other[name])
        self.longest_seconds = max(self.longest_seconds, other["longest_seconds"])
        self.errors.update(other["errors"])
        self.latencies.update({int(key): count for key, count in other["latencies"].items()})
        self.wrong += other["wrong"]

    def took(self, seconds: float) -> None:
        """Note how long a read took."""
        self.longest_seconds = max(self.longest_seconds, seconds)
        self.latencies[int(math.log(max(seconds, _SHORTEST_SECONDS) / _SHORTEST_SECONDS) / _STEP)] += 1

    def quantile(self, part: float) -> float:
        """Seconds within which so large a part of the reads was answered, to 5 %."""
        left = part * sum(self.latencies.values())
        for key in sorted(self.latencies):
            left -= self.latencies[key]
            if left <= 0:
                return _SHORTEST_SECONDS * math.exp((key + 1) * _STEP)
        return 0.0


def main(mount: Path, plain: Path, seed: int) -> None:
    """Read until standard input ends."""
    ending = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ending.set()), daemon=True).start()
    outcome, chance = Outcome(), random.Random(seed)
    names = sorted(str(path.relative_to(plain)) for path in plain.rglob("*") if path.is_file())
    while not ending.is_set():
        name = chance.choice(names)
        try:
            read_file(mount / name, plain / name, chance, outcome, is_ending=ending.is_set)
        except OSError as error:
            if error.errno in _AWAY:
                outcome.away += 1
                ending.wait(0.02)
            else:
                outcome.errors[errno.errorcode.get(error.errno or 0, str(error))] += 1
    print(json.dumps(vars(outcome)), flush=True)


def read_file(
    path: Path, plain: Path, chance: random.Random, outcome: Outcome, *, is_ending: Callable[[], bool]
) -> None:
    """Open a file once, and read of it in one of several ways. Raises `OSError`."""
    with plain.open("rb") as right, path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # so that the daemon is asked
        size = os.fstat(right.fileno()).st_size
        for offset, length in ranges(size, chance):
            if is_ending():
                return
            begun = time.monotonic()
            try:
                data = pread_all(file.fileno(), length, offset)
            finally:
                outcome.took(time.monotonic() - begun)
            wanted = os.pread(right.fileno(), length, offset)
            outcome.reads += 1
            outcome.read_bytes += len(data)
            if data != wanted:
                outcome.wrong_bytes += sum(a != b for a, b in zip(data, wanted, strict=False))
                outcome.wrong_bytes += abs(len(data) - len(wanted))
                outcome.wrong.append(f"{path.name} at {offset}, {length} bytes, {len(data)} came")


def pread_all(descriptor: int, length: int, offset: int) -> bytes:
    """All that can be had. A read that fails on its way returns what came before; the next one raises the reason."""
    data = os.pread(descriptor, length, offset)
    while data and len(data) < length and (more := os.pread(descriptor, length - len(data), offset + len(data))):
        data += more
    return data


def ranges(size: int, chance: random.Random) -> list[tuple[int, int]]:
    """Offsets and lengths of the reads of one visit to a file of `size` bytes."""
    kind = chance.randrange(4)
    if kind == 0:  # to its end
        return [(offset, _MIB) for offset in range(0, size, _MIB)]
    if kind == 1:  # a stretch of it in small pieces
        start = chance.randrange(size)
        return [(start + step * 16384, 16384) for step in range(64)]
    longest = 4096 if kind == 2 else 600_000
    return [(chance.randrange(size), chance.randrange(1, longest)) for _ in range(32)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))

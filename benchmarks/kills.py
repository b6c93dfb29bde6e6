"""The daemon is killed at random moments while programs read: no wrong byte, and a mount at once."""

import os
import random
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.place import Place, origin, reading
from benchmarks.reader import Outcome

READERS = 3
READY_SECONDS = 2.0
_FILE_BYTES = 8 << 20
_FILES = 12


@dataclass
class Kills:
    """What came of so many kills."""

    seed: int
    outcome: Outcome = field(default_factory=Outcome)
    ready_seconds: list[float] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What went wrong; empty if nothing did."""
        slow = sum(seconds > READY_SECONDS for seconds in self.ready_seconds)
        checks = {
            f"{self.outcome.wrong_bytes} wrong bytes: {self.outcome.wrong[:3]}": self.outcome.wrong_bytes,
            f"failed reads: {dict(self.outcome.errors)}": sum(self.outcome.errors.values()),
            f"{slow} mounts took more than {READY_SECONDS:g} s": slow,
            "no read was answered": not self.outcome.reads,
        }
        return [text for text, is_so in checks.items() if is_so]

    def table(self) -> list[tuple[str, str]]:
        """The closing table."""
        seconds = sorted(self.ready_seconds)
        return [
            ("kills", f"{len(seconds)} (seed {self.seed})"),
            ("bytes read", f"{self.outcome.read_bytes:,}"),
            ("wrong bytes", str(self.outcome.wrong_bytes)),
            ("failed reads", str(dict(self.outcome.errors) or 0)),
            ("reads cut off by a kill, or before the next mount", f"{self.outcome.away:,}"),
            ("mount ready after: median", f"{seconds[len(seconds) // 2]:.2f} s"),
            ("mount ready after: longest", f"{seconds[-1]:.2f} s"),
        ]


def kill_again_and_again(count: int, *, seed: int, directory: Path | None = None) -> Kills:
    """Kill the daemon `count` times while programs read; the cache is too small, so it is filled and evicted."""
    kills, chance = Kills(seed), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="vbnfs-kills-", dir=directory) as name:
        place = Place(Path(name), ["--cache-size", f"{_FILE_BYTES * _FILES // 3}"])
        place.make_files(count=_FILES, file_bytes=_FILE_BYTES, seed=seed)
        with origin(place) as (place.endpoint_url, _):
            try:
                place.mount()
                with reading(place, {0: READERS}, seed=seed, outcome=kills.outcome):
                    for _ in range(count):
                        pid = place.status()["pid"]
                        time.sleep(chance.uniform(0.0, 0.5))
                        os.kill(pid, signal.SIGKILL)
                        kills.ready_seconds.append(place.mount())
            finally:
                place.clear()
    return kills

"""The limit: curls, some at a time."""

import hashlib
import itertools
import resource
from collections.abc import Sequence
from pathlib import Path

from benchmarks.speed.systems.base import Site, System
from benchmarks.speed.systems.programs import run_all


class Curl(System):
    """`count` curls, each with one range of the file, stored nowhere."""

    def __init__(self, name: str, site: Site, directory: Path, count: int) -> None:
        super().__init__(name, site, directory)
        self._count = count

    def location(self, name: str) -> str:
        """An address."""
        return self.site.url(name)

    def read_whole(self, name: str) -> float:
        """All ranges at once; the time of the last."""
        return max(self._fetch([(name, part) for part in self._ranges(name)]))

    def read_heads(self, names: Sequence[str], bytes_each: int) -> list[float]:
        """One connection for each file."""
        return self._fetch([(name, f"0-{bytes_each - 1}") for name in names])

    def digest(self, name: str) -> str:
        """Of the ranges, stored for once and put one behind the other."""
        ranges, digest = self._ranges(name), hashlib.blake2b()
        files = [self.directory / f"range-{number}" for number in range(len(ranges))]
        self._fetch([(name, part) for part in ranges], files)
        for file in files:
            digest.update(file.read_bytes())
            file.unlink()
        return digest.hexdigest()

    def processor_seconds(self) -> float:
        """Of all children of this process: during a work these are the curls (getrusage(2))."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    def _ranges(self, name: str) -> list[str]:
        return split(self.site.files.size_bytes(name), self._count)

    def _fetch(self, parts: Sequence[tuple[str, str]], files: Sequence[Path] = ()) -> list[float]:
        """Fetch ranges of files at once; how long each took."""
        base = ["curl", "--silent", "--show-error", "--fail"]
        base += ["--cacert", str(self.site.ca)] if self.site.is_tls else []
        targets = map(str, files or [Path("/dev/null")] * len(parts))
        return run_all([
            [*base, "--output", target, "--range", part, self.location(name)]
            for (name, part), target in zip(parts, targets, strict=True)
        ])  # fmt: skip


def split(size_bytes: int, parts: int) -> list[str]:
    """A file cut into ranges of nearly equal length, as curl wants them (pure)."""
    edges = [size_bytes * part // parts for part in range(parts + 1)]
    return [f"{start}-{stop - 1}" for start, stop in itertools.pairwise(edges) if stop > start]

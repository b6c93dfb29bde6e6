"""Programs that fetch whole files: the limit, and what AllenSDK does."""

import itertools
from collections.abc import Sequence

from benchmarks.speed.systems.base import System, read_with, run_all


class Curl(System):
    """The limit: as many curls as there are connections, each with one range of the file, stored nowhere."""

    def location(self, name: str) -> str:
        """An address."""
        return self.site.url(name)

    def read_whole(self, name: str) -> float:
        """All ranges at once; the time of the last."""
        ranges = split(self.site.files.size_bytes(name), self.site.connections)
        return max(self.fetch([(name, part) for part in ranges]))

    def fetch(self, parts: Sequence[tuple[str, str]]) -> list[float]:
        """Fetch ranges of files at once; how long each took."""
        base = ["curl", "--silent", "--show-error", "--fail", "--output", "/dev/null"]
        base += ["--cacert", str(self.site.ca)] if self.site.is_tls else []
        return run_all([[*base, "--range", part, self.location(name)] for name, part in parts])


class Boto3(System):
    """What AllenSDK does: one GetObject whose body goes to a local file. Nothing can be read before its end."""

    def location(self, name: str) -> str:
        """An address, and where the file goes."""
        return f"download:{self.directory / 'file'}:{self.site.url(name)}"

    def read_whole(self, name: str) -> float:
        """Download."""
        return read_with("download", self.location(name), self.site.environment)


def split(size_bytes: int, parts: int) -> list[str]:
    """A file cut into ranges of nearly equal length, as curl wants them (pure)."""
    edges = [size_bytes * part // parts for part in range(parts + 1)]
    return [f"{start}-{stop - 1}" for start, stop in itertools.pairwise(edges) if stop > start]

"""vbnfs itself, with whatever options are to be compared."""

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.speed.systems.base import FuseSystem, Site


class Vbnfs(FuseSystem):
    """`vbnfs mount`, from this clone."""

    def __init__(self, name: str, site: Site, directory: Path, options: Sequence[str] = ()) -> None:
        super().__init__(name, site, directory)
        self._options = options

    def command(self) -> list[str]:
        """Options that were asked for come last, and so win."""
        options = ["--endpoint-url", self.site.listener.url, "--cache-dir", str(self.directory)]
        options += ["--max-connections", str(self.site.connections), "--log-level", "warning"]
        options += ["--ca-bundle", str(self.site.ca)] if self.site.is_tls else []
        mount = [sys.executable, "-m", "vbnfs", "mount", "--foreground"]
        return [*mount, *options, *self._options, str(self.mountpoint)]

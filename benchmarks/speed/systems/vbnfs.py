"""vbnfs itself, with whatever options are to be compared."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.speed.files import LFP, SESSION
from benchmarks.speed.systems.base import FuseSystem, Site
from benchmarks.speed.systems.programs import output_of


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


class IndexedVbnfs(Vbnfs):
    """With an index of the session and of the LFP, which is built with a cache of its own before the first mount."""

    @property
    def index(self) -> Path:
        """The file: beside the cache, and kept when that is emptied."""
        return self.directory.with_name(self.directory.name + ".index")

    def command(self) -> list[str]:
        """With --index."""
        *mount, mountpoint = super().command()
        return [*mount, "--index", str(self.index), mountpoint]

    def start(self) -> None:
        """Build the index if it is not there, and mount."""
        if not self.index.exists():
            self._build()
        super().start()

    def _build(self) -> None:
        cache = self.directory.with_name(self.directory.name + "-build")
        settings = {"VBNFS_CACHE_DIR": str(cache), "VBNFS_ENDPOINT_URL": self.site.listener.url}
        settings |= {"VBNFS_CA_BUNDLE": str(self.site.ca)} if self.site.is_tls else {}
        index, environment = [sys.executable, "-m", "vbnfs", "index"], {**self.site.environment, **settings}
        output_of([*index, "build", SESSION, LFP], environment)
        output_of([*index, "export", str(self.index)], environment)
        shutil.rmtree(cache)

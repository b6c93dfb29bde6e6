"""The floor: the files themselves, on the local disk."""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.speed.files import CACHE_DIR, LFP, MANIFEST, PROJECT, SESSION, TABLES, VERSION
from benchmarks.speed.systems.base import System
from benchmarks.speed.systems.programs import cat


class Local(System):
    """A copy of its own of what is read, so that dropping it from memory takes nothing from the origin."""

    is_mount = True
    has_cache = True

    def location(self, name: str) -> str:
        """The path of the copy, which is made when it is first asked for."""
        copy = self.directory / name
        if name == CACHE_DIR:
            self._fill(copy)
        elif not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.site.files.path(name), copy)
        return str(copy)

    def _fill(self, cache_dir: Path) -> None:
        """Make AllenSDK's cache_dir as its own download leaves it: a folder of a version, and what it has fetched."""
        version = cache_dir / f"{PROJECT}-{VERSION}"
        for name in () if cache_dir.exists() else (SESSION, LFP, *TABLES.values()):
            (version / name).parent.mkdir(parents=True, exist_ok=True)
            (version / name).symlink_to(self.location(name))
        shutil.copyfile(self.site.files.path(MANIFEST), cache_dir / MANIFEST)
        (cache_dir / "_downloaded_data.json").write_text("{}")

    def read_whole(self, name: str) -> float:
        """`cat`."""
        return cat([self.location(name)])[0]

    def read_heads(self, names: Sequence[str], bytes_each: int) -> list[float]:
        """`head -c`."""
        return cat([self.location(name) for name in names], bytes_each=bytes_each)

    def top(self) -> Path:
        """A folder with files of all objects' names and sizes, made when it is first asked for."""
        place = self.directory / "all"
        for stored in () if place.exists() else self.site.files.objects:
            path = place / stored.key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            os.truncate(path, stored.size_bytes)
        return place

    def forget(self) -> None:
        """Copies stay: there is no network to come from."""

    def cache_files(self) -> Iterable[Path]:
        """The copies."""
        return (path for path in self.directory.rglob("*") if path.is_file())

"""The cache's files are damaged at random, between mounts or under a live one: no wrong byte may be served."""

import os
import random
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.place import Place, origin
from tests.fakes.cache_files import FILES, content_folders
from tests.fakes.damage import FOLDER_KINDS, KINDS, damage_content
from vbnfs.config.settings import LEAST_MEMORY_BYTES

_FILE_BYTES = 3 << 20
_FILES = 12
_MIB = 1 << 20
_NOTICED_PART = 4  # one in so many: most of the rest are records of blocks that there are not, or hit a block twice
# All files but the last 2 MiB come from the disk each time: memory holds no more of what came last.
_OPTIONS = ["--memory-limit", str(LEAST_MEMORY_BYTES)]


@dataclass
class Flips:
    """What came of so much damage."""

    seed: int
    is_live: bool
    kinds: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    noticeable: int = (
        0  # of the damage, what was done to contents of which each file kept its length: others are a miss
    )
    read_bytes: int = 0
    corrupt_blocks: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What went wrong; empty if nothing did."""
        least = max(1, self.noticeable // _NOTICED_PART)
        checks = {
            f"wrong bytes in {self.wrong[:3]}": self.wrong,
            f"failed reads: {self.errors[:3]}": self.errors,
            f"{self.corrupt_blocks} damaged blocks noticed, and fewer than {least}": self.corrupt_blocks < least,
        }
        return [text for text, is_so in checks.items() if is_so]

    def table(self) -> list[tuple[str, str]]:
        """The closing table."""
        where = "under a live mount" if self.is_live else "between mounts"
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        return [
            ("damage done", f"{sum(self.kinds.values()):,} {where} (seed {self.seed})"),
            ("of which", kinds),
            ("rounds", str(self.rounds)),
            ("bytes read", f"{self.read_bytes:,}"),
            ("damaged blocks noticed by their checksum", f"{self.corrupt_blocks:,}"),
            ("reads with a wrong byte", str(len(self.wrong))),
            ("failed reads", str(len(self.errors))),
        ]


def flip_again_and_again(
    count: int, *, seed: int, a_round: int = 100, is_live: bool = False, directory: Path | None = None
) -> Flips:
    """Do damage `count` times, and read everything after every `a_round` of them.

    Under a live mount it is mounted with `--verify always`.
    """
    flips, chance = Flips(seed, is_live), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="vbnfs-flips-", dir=directory) as name:
        place = Place(Path(name), [*_OPTIONS, "--verify", "always"] if is_live else _OPTIONS)
        place.make_files(count=_FILES, file_bytes=_FILE_BYTES, seed=seed)
        with origin(place) as (place.endpoint_url, _):
            try:
                place.mount()
                read_everything(place, flips)
                while (left := count - sum(flips.kinds.values())) > 0:
                    one_round(place, flips, chance, min(left, a_round))
                flips.corrupt_blocks += place.status()["metrics"]["corrupt_blocks"]
            finally:
                place.clear()
    return flips


def one_round(place: Place, flips: Flips, chance: random.Random, count: int) -> None:
    """Damage, then read everything."""
    if not flips.is_live:
        flips.corrupt_blocks += place.status()["metrics"]["corrupt_blocks"]
        place.umount()
    lengths = {folder: _lengths(folder) for folder in content_folders(place.cache)}
    damaged: list[Path] = []
    for _ in range(count):
        # Three in four are of a kind that leaves most of a file as it was: else little would be left to be damaged.
        kind = chance.choice(("bit", "bit", "noise", chance.choice(KINDS + FOLDER_KINDS)))
        folder, other = chance.sample(content_folders(place.cache), 2)
        damage_content(folder, other, chance.random(), kind, chance.randrange(1 << 16))
        flips.kinds[kind] += 1
        damaged.append(folder)
    flips.noticeable += sum(_lengths(folder) == lengths.get(folder) for folder in damaged)
    if not flips.is_live:
        place.mount()
    flips.rounds += 1
    read_everything(place, flips)


def _lengths(folder: Path) -> list[int]:
    try:
        return [(folder / name).stat().st_size for name in FILES]
    except FileNotFoundError:  # one is deleted, or a live mount moves the folder
        return []


def read_everything(place: Place, flips: Flips) -> None:
    """Read all files through the mount, and compare."""
    for path in sorted(place.plain.rglob("*.nwb")):
        try:
            with open(place.mountpoint(0) / path.relative_to(place.plain), "rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                data = b"".join(iter(lambda file=file: file.read(_MIB), b""))  # type: ignore[misc]
        except OSError as error:
            flips.errors.append(str(error))
            continue
        flips.read_bytes += len(data)
        if data != path.read_bytes():
            flips.wrong.append(path.name)

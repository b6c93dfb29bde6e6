"""All systems by their names, what each needs, and those that cannot be had."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from benchmarks.speed.systems.base import ALLENSDK_PYTHON, BENCH_BIN, BENCH_PYTHON, READERS_PYTHON, Site, System
from benchmarks.speed.systems.downloads import Curl
from benchmarks.speed.systems.libraries import (
    AllenSdk,
    Client,
    H5coro,
    Library,
    Lindi,
    PythonS3fs,
    VbnfsInPython,
)
from benchmarks.speed.systems.local import Local
from benchmarks.speed.systems.rclone import Rclone
from benchmarks.speed.systems.s3fs import S3fs
from benchmarks.speed.systems.vbnfs import IndexedVbnfs, Vbnfs
from benchmarks.speed.systems.zeros import Zeros

Make = Callable[[Site, Path], System]
INDEXED: Final = "vbnfs with an index"
IN_PYTHON: Final = "vbnfs in Python"
BY_FSSPEC: Final = "vbnfs by fsspec"


@dataclass(frozen=True, slots=True)
class Known:
    """How a system is made, and what it needs: a program, or a module that `python` has."""

    make: Make
    program: str | None = None
    module: str | None = None
    python: Path = BENCH_PYTHON


SYSTEMS: Final[Mapping[str, Known]] = {
    INDEXED: Known(lambda site, place: IndexedVbnfs(INDEXED, site, place)),
    IN_PYTHON: Known(lambda site, place: VbnfsInPython(IN_PYTHON, site, place, "vbnfs-python")),
    BY_FSSPEC: Known(
        lambda site, place: VbnfsInPython(BY_FSSPEC, site, place, "vbnfs-fsspec"),
        module="fsspec",
        python=Path(sys.executable),
    ),
    "rclone": Known(lambda site, place: Rclone("rclone", site, place), program="rclone"),
    "rclone-tuned": Known(lambda site, place: Rclone("rclone-tuned", site, place, tuned=True), program="rclone"),
    "s3fs": Known(lambda site, place: S3fs("s3fs", site, place), program="s3fs"),
    "mountpoint-client": Known(
        lambda site, place: Client("mountpoint-client", site, place), module="s3torchconnectorclient"
    ),
    "awscrt": Known(lambda site, place: Client("awscrt", site, place), module="awscrt"),
    "remfile": Known(lambda site, place: Library("remfile", site, place), module="remfile"),
    "fsspec": Known(lambda site, place: Library("fsspec", site, place), module="fsspec"),
    "fsspec-blockcache": Known(lambda site, place: Library("fsspec-blockcache", site, place), module="fsspec"),
    "obstore": Known(lambda site, place: Library("obstore", site, place), module="obstore.fsspec"),
    "h5coro": Known(lambda site, place: H5coro("h5coro", site, place), module="h5coro", python=READERS_PYTHON),
    "s3fs-python": Known(
        lambda site, place: PythonS3fs("s3fs-python", site, place), module="s3fs", python=READERS_PYTHON
    ),
    "lindi": Known(lambda site, place: Lindi("lindi", site, place), module="lindi"),
    "allensdk": Known(
        lambda site, place: AllenSdk("allensdk", site, place), module="allensdk", python=ALLENSDK_PYTHON
    ),
    "boto3": Known(lambda site, place: Client("boto3", site, place), module="boto3"),
    "curl": Known(lambda site, place: Curl("curl", site, place, 16), program="curl"),
    "curl-24": Known(lambda site, place: Curl("curl-24", site, place, 24), program="curl"),
    "zeros": Known(lambda site, place: Zeros("zeros", site, place)),
    "local": Known(lambda site, place: Local("local", site, place)),
}
NOT_PACKAGED: Final[Mapping[str, str]] = {
    "mount-s3": "is neither in PyPI nor in Debian; its client is measured instead: mountpoint-client",
    "goofys": "is neither in PyPI nor in Debian",
    "geesefs": "is neither in PyPI nor in Debian",
}


def variants(texts: Sequence[str]) -> dict[str, Make]:
    """vbnfs as it is, and with each of the options given: `NAME: --option value`, or the options alone (pure)."""
    made: dict[str, Make] = {}
    for text in ("", *texts):
        name, colon, options = text.partition(": ")
        label = name if colon else text
        made[f"vbnfs {label}".strip()] = _vbnfs(f"vbnfs {label}".strip(), shlex.split(options if colon else text))
    return made


def _vbnfs(name: str, options: list[str]) -> Make:
    return lambda site, place: Vbnfs(name, site, place, options)


def absent(names: Iterable[str]) -> dict[str, str]:
    """Of these systems those that cannot run here, and why; and those that no registry has."""
    reasons = {name: _lacks(SYSTEMS[name]) for name in names}
    return {**{name: reason for name, reason in reasons.items() if reason}, **NOT_PACKAGED}


@cache
def _lacks(known: Known) -> str | None:
    if known.program and not shutil.which(known.program) and not (BENCH_BIN / known.program).exists():
        return f"there is no program {known.program}; script/setup bench installs it, or says why not"
    if known.module:
        command = [str(known.python), "-c", f"import {known.module}"]
        if not known.python.exists() or subprocess.run(command, capture_output=True, check=False).returncode:
            where = known.python.parents[1].name
            return f"{known.module} is not in {where}; script/setup bench installs it, or says why not"
    return None

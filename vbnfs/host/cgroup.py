"""How much memory the control groups of this process allow: of batch systems, containers and systemd units.

Both versions are looked at (cgroups(7); memory.max and memory.limit_in_bytes in the kernel's documentation), and all
groups above, for the strictest one holds. In a container the path that the kernel tells may lie outside of what can
be seen: then the groups that can be seen are looked at.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_PROC: Final = Path("/proc/self/cgroup")
_MOUNTED: Final = Path("/sys/fs/cgroup")
_NO_LIMIT_BYTES: Final = 1 << 60  # version 1 tells of no limit by a number near 2^63


def memory_limit_bytes(*, proc: Path = _PROC, mounted: Path = _MOUNTED) -> int | None:
    """The strictest limit; None where there is none."""
    limits = [limit for file in _limit_files(proc, mounted) if (limit := _number(file)) is not None]
    return min((limit for limit in limits if limit < _NO_LIMIT_BYTES), default=None)


def _limit_files(proc: Path, mounted: Path) -> Iterator[Path]:
    try:
        lines = proc.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            folder, name = mounted, "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = mounted / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = PurePosixPath(path)
        for one in (group, *group.parents):
            yield folder / one.relative_to("/") / name


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # not there; "max"
        return None

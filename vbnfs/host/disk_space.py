"""How much space a disk has: statvfs(3), or what a system has instead of it."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HAS_STATVFS: Final = hasattr(os, "statvfs")
_HAS_BLOCKS: Final = hasattr(os.stat_result, "st_blocks")
_BLOCK_BYTES: Final = 512  # of st_blocks: stat(2)


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """What statvfs(3) says of a disk: bytes free for this user, bytes in all, and whether it can only be read."""

    free_bytes: int
    total_bytes: int
    is_read_only: bool


def space_at(where: int | Path) -> DiskSpace:
    """The space of the disk of an open file or folder, or of one at a path. Raises `OSError`."""
    if not _HAS_STATVFS:
        usage = shutil.disk_usage(where)
        return DiskSpace(usage.free, usage.total, is_read_only=False)
    status = os.statvfs(where)
    unit = status.f_frsize
    return DiskSpace(status.f_bavail * unit, status.f_blocks * unit, bool(status.f_flag & os.ST_RDONLY))


def allocated_bytes(status: os.stat_result) -> int:
    """What a file takes on its disk, holes not counted; its length where the system does not say it."""
    return status.st_blocks * _BLOCK_BYTES if _HAS_BLOCKS else status.st_size


def has_holes(status: os.stat_result) -> bool | None:
    """Whether a file that is mostly a hole takes less than half of its length; None where that is not said."""
    return status.st_blocks * _BLOCK_BYTES < status.st_size // 2 if _HAS_BLOCKS else None

"""How much of its disk a cache leaves free for others, and whether so much is free now.

What is deleted is not free at once: a process that has it open gives it back when it closes it, and some file systems
take some time. So what was deleted lately counts as free for a while, or much more would be deleted than is needed.
Not for long: what others write meanwhile hides what has become free, and the reserve is to be free within ten
seconds. Mounts close what was deleted within one. Where a file system takes longer (btrfs: until it commits), more
goes.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from vbnfs.host.disk_space import DiskSpace
from vbnfs.host.places import Place

_NO_END: Final = 1 << 62  # bytes
_LEAST_BYTES: Final = 2 << 30
_PART: Final = 0.05
_MOST_PART: Final = 0.5  # of a small disk
_RELEASED_SECONDS: Final = 5.0  # after which what was deleted is free, or is not going to be


def space_of(directory: Place) -> DiskSpace:
    """The space of the disk that a folder is on. Raises `OSError`."""
    with directory.opened() as folder:
        return folder.space()


def default_reserve(total_bytes: int) -> int:
    """What a cache leaves free of a disk unless it is set: 2 GiB or 5 %, whichever is more; half of a small disk."""
    return int(min(max(_LEAST_BYTES, total_bytes * _PART), total_bytes * _MOST_PART))


class Reserve:
    """The reserve of a cache directory: `wanted_bytes`, or else the default for its disk.

    Nothing lacks where none is wanted, on a disk that cannot be asked, and on one that does not say how large it is.
    """

    def __init__(self, directory: Place, wanted_bytes: int | None) -> None:
        self._directory = directory
        self._wanted_bytes = wanted_bytes
        self._unreleased_bytes = 0  # deleted, and not free yet
        self._unreleased_until = 0.0
        self._lacked_bytes = 0  # when that was looked at last

    def bytes_of(self, space: DiskSpace) -> int:
        """The reserve on a disk."""
        return default_reserve(space.total_bytes) if self._wanted_bytes is None else self._wanted_bytes

    def lacking_bytes(self, coming_bytes: int = 0) -> int:
        """How many bytes more should be free if so many are written; negative: so many may still be written."""
        if self._wanted_bytes != 0:
            with suppress(OSError):
                space = space_of(self._directory)
                if space.total_bytes:
                    return self.bytes_of(space) + coming_bytes - space.free_bytes
        return -_NO_END

    def to_delete_bytes(self, coming_bytes: int = 0) -> int:
        """Like `lacking_bytes`, less what was deleted lately and is not free yet."""
        lacking_bytes = self.lacking_bytes()
        released_bytes = max(0, self._lacked_bytes - lacking_bytes)
        is_over = time.monotonic() > self._unreleased_until
        self._unreleased_bytes = 0 if is_over else max(0, self._unreleased_bytes - released_bytes)
        self._lacked_bytes = lacking_bytes
        return lacking_bytes + coming_bytes - self._unreleased_bytes

    @contextmanager
    def deleting(self) -> Iterator["Deleted"]:
        """While entered, files are deleted, and closed by this process; how many bytes they had is to be noted."""
        before_bytes, deleted = self.lacking_bytes(), Deleted()
        yield deleted
        self._lacked_bytes = self.lacking_bytes()
        released_bytes = max(0, before_bytes - self._lacked_bytes)
        self._unreleased_bytes = max(0, deleted.count_bytes - released_bytes)
        self._unreleased_until = time.monotonic() + _RELEASED_SECONDS


@dataclass(slots=True)
class Deleted:
    """How much was deleted."""

    count_bytes: int = 0

"""Temporary files beside what they become, and how to tell those that a dead process left.

Who writes one has it locked, and a lock ends with its process, however that ends. Where there are no locks, age
tells.
"""

import fcntl
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_ABANDONED_SECONDS: Final = 3600.0
_PREFIX: Final = "."
_SUFFIX: Final = ".new"


def replace_file(path: Path, data: bytes) -> None:
    """Give a file these bytes, as a whole and safe from a power cut; whatever it was, a link too, is no more.

    Raises `OSError`; the old file then still stands.
    """
    descriptor, temporary = make_temporary(path.parent, prefix=_PREFIX, suffix=_SUFFIX)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def remove_leftovers(directory: Path) -> None:
    """Delete the files below `directory` that a `replace_file` left when its process or machine died."""
    for path in directory.rglob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):  # renamed meanwhile
            remove_abandoned(path)


def make_temporary(directory: Path, *, prefix: str, suffix: str = "") -> tuple[int, Path]:
    """A new file, for its owner alone: a descriptor that keeps it from `remove_abandoned`, and its path.

    Raises `OSError`.
    """
    while True:
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=directory)
        if _is_ours(descriptor):
            return descriptor, Path(name)
        os.close(descriptor)  # another process has just taken it, not locked yet, for abandoned


def remove_abandoned(path: Path) -> None:
    """Delete a temporary file whose writer is gone. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except BlockingIOError:
        return
    except OSError:  # no locks on this file system
        if time.time() - os.fstat(descriptor).st_mtime > _ABANDONED_SECONDS:
            path.unlink()
    finally:
        os.close(descriptor)


def _is_ours(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks on this file system
        return True
    return os.fstat(descriptor).st_nlink > 0

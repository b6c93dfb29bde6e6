"""Marks: what one process has for itself, on a file system that several hosts use.

    <name> -> <the process's name>#<random>     a symbolic link, which leads nowhere

symlink(2) makes a name, says whose it is, and fails if it is there: one request of one step, on NFS, Lustre, GPFS,
BeeGFS and CephFS. Locks are none of that: they may be one host's alone (Lustre without `flock`, NFS with `nolock`,
BeeGFS as it is delivered), are kept for a host that is gone, and wait while a server that was restarted collects its
clients' own. A mark stays when its process is killed. So it goes when its process is known to have ended
(process_names.py), or when it is a minute old: by the times of other files there, whatever hosts' clocks say.

A mark is advice, like a lock: where none can be had, or one is taken away too early, work is done twice.
"""

import os
import time
from contextlib import suppress
from typing import Final

from vbnfs.host.atomic import time_of
from vbnfs.host.folders import Folder
from vbnfs.host.process_names import has_ended, name_of_this_process

OLD_SECONDS: Final = 60.0
_AGAIN_SECONDS: Final = 0.05
_RANDOM: Final = "#"


def set_mark(folder: Folder, name: str) -> bool:
    """Whether the mark is this caller's now; False if it is another's. Raises `OSError` where there are no links.

    A mark of a process of this host that has ended is no obstacle.
    """
    ours = f"{name_of_this_process()}{_RANDOM}{os.urandom(8).hex()}"
    for _ in range(2):
        try:
            folder.link(name, ours)
        except FileExistsError:
            found = _target(folder, name)
            if found == ours:  # a request that NFS has sent twice
                return True
            if found is not None and not has_ended(_process(found)):
                return False
            remove_mark(folder, name)
        else:
            return True
    return False


def remove_mark(folder: Folder, name: str) -> None:
    """Take a mark away. It is no error if there is none."""
    with suppress(OSError):
        folder.unlink(name)


def is_left_over(folder: Folder, name: str, *, now: float | None = None) -> bool:
    """Whether a mark's process has ended, or seems to: it is old. `now`: by the folder's clock, if that is known.

    Raises `OSError`.
    """
    holder = holder_of(folder, name)
    if holder is None or has_ended(holder):
        return True
    return (time_of(folder) if now is None else now) - folder.stat(name).st_mtime > OLD_SECONDS


def wait_for_mark(folder: Folder, name: str, seconds: float) -> bool:
    """`set_mark`, tried for so long; one that is left over goes. Raises `OSError`. To be called from a thread."""
    end = time.monotonic() + seconds
    while not set_mark(folder, name):
        if time.monotonic() >= end:
            if not is_left_over(folder, name):
                return False
            remove_mark(folder, name)
            return set_mark(folder, name)
        time.sleep(_AGAIN_SECONDS)
    return True


def holder_of(folder: Folder, name: str) -> str | None:
    """The name of the process that has a mark; None if it is gone. Raises `OSError`."""
    target = _target(folder, name)
    return None if target is None else _process(target)


def _target(folder: Folder, name: str) -> str | None:
    """Raises `OSError` for what is no link."""
    try:
        return folder.target(name)
    except FileNotFoundError:
        return None


def _process(target: str) -> str:
    return target.rpartition(_RANDOM)[0]

"""Mounting on a folder that several ask for at the same time: one of them gets it.

Looking whether a folder is free, clearing it of a dead mount, and mounting are one step, under a lock of the user's:
flock(2) of a file beside the control sockets, which the kernel gives back when a process dies, and which is on this
machine whatever the folder is on. Against other users (root, and a folder's owner) the kernel's list of mounts
decides: a process that finds a mount below its own was second, and goes.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from vbnfs.daemon.mountpoint import already_mounted, clear_dead
from vbnfs.errors import MountError
from vbnfs.fuse.engines import Connection
from vbnfs.host.locks import lock_path
from vbnfs.host.mount_programs import detach, is_alive
from vbnfs.host.mountinfo import MountEntry, mounts_of, mounts_on
from vbnfs.host.runtime import make_runtime_directory

_PATIENCE_SECONDS: Final = 30.0  # the step takes some hundredths of a second; one that asks a hanging daemon, five

_Connection = TypeVar("_Connection", bound=Connection)


@contextmanager
def alone_on(mountpoint: Path) -> Iterator[None]:
    """While entered, no other process of this user mounts on the folder. Raises `MountError` if it never is."""
    try:
        directory = make_runtime_directory()
    except MountError:  # which `vbnfs mount` warns of: there is no control socket either
        yield
        return
    name = hashlib.blake2b(os.fsencode(mountpoint), digest_size=8).hexdigest()
    path = directory / f"{name}.lock"
    descriptor = _locked(path, mountpoint)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path, mountpoint: Path) -> int:
    """The descriptor of the lock's file."""
    try:
        descriptor = lock_path(path, _PATIENCE_SECONDS)
    except OSError as error:
        raise MountError(f"{path}: {error.strerror}") from error
    if descriptor is None:
        raise MountError(f"{mountpoint}: another 'vbnfs mount' is at it and does not end: end that, and try again")
    return descriptor


def mount_alone(mountpoint: Path, mount: Callable[[], _Connection]) -> tuple[_Connection, MountEntry]:
    """Call `mount`, which mounts on the folder, if no vbnfs mount is there. Raises `MountError`."""
    with alone_on(mountpoint):
        clear_dead(mountpoint)
        before = mounts_on(mountpoint)
        connection = mount()
        entries = mounts_on(mountpoint)
        entry = next((one for one in entries if one not in before and one.owner == os.geteuid()), None)
        if entry is None:
            connection.close()
            raise MountError(f"{mountpoint}: mounted, but not to be found in /proc/self/mountinfo")
        if entry != entries[0]:
            take_away(connection, entry)
            raise already_mounted(mountpoint)
        return connection, entry


def take_away(connection: Connection, entry: MountEntry) -> None:
    """End a connection, and its mount wherever it is now. The kernel answers requests that still wait.

    If the mount is gone already, the kernel may have given its device number to another one, which stays: a mount
    whose connection is closed is dead, and only what is dead is taken away.
    """
    connection.close()
    for one in mounts_of(entry.device):
        if not is_alive(one.mountpoint):
            detach(one.mountpoint, lazy=True)

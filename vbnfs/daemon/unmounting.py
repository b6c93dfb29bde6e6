"""Unmounting for a user: it returns when the mount and its daemon are gone, or names what keeps them."""

import os
import select
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, NamedTuple

from vbnfs.access.running_mounts import daemon_of
from vbnfs.errors import MountError
from vbnfs.host.mount_programs import unmount
from vbnfs.host.mountinfo import MountEntry, find_mount, read_mountinfo
from vbnfs.host.processes import has_exited

_MOST_SECONDS: Final = 30.0
_QUIET_SECONDS: Final = 2.0  # without a word
_SOON_SECONDS: Final = 10.0  # another namespace may be about to end
_STEP_SECONDS: Final = 1.0
_MOST_NAMED: Final = 5

_SELF: Final = Path("/proc/self")


class _Place(NamedTuple):
    """Where a mount is in use, in which mount namespace: a folder on which it is, or an overlay that reads it."""

    namespace: str
    path: Path
    is_overlay: bool


def unmount_to_the_end(mountpoint: Path, *, lazy: bool, note: Callable[[str], None]) -> None:
    """Take the mount on a folder away and, unless `lazy`, wait for its daemon to end. Raises `MountError`.

    `note` gets one line for a user who waits for the daemon.
    """
    entry = find_mount(mountpoint)
    pid = 0 if entry is None or lazy else daemon_of(entry)
    with ExitStack() as stack:
        daemon = None
        if pid:
            with suppress(OSError):  # it has just ended
                daemon = os.pidfd_open(pid)
                stack.callback(os.close, daemon)
        before = {} if entry is None or daemon is None else _places_of(entry)
        unmount(mountpoint, lazy=lazy, timeout_seconds=_MOST_SECONDS)
        if entry is not None and daemon is not None:
            _wait_for(daemon, pid, entry, before, note)


def _wait_for(
    daemon: int, pid: int, entry: MountEntry, before: Collection[_Place], note: Callable[[str], None]
) -> None:
    """`before`: where the mount was. Elsewhere its number may be another mount's by now."""
    _check_goes_on_nowhere(entry, before, are_overlays=False)
    what = f"{entry.mountpoint}: unmounted, but the daemon (process {pid}) has not ended"
    if _has_ended(daemon, pid, _QUIET_SECONDS, what):
        return
    # An overlay may read what was on the folder before: then the daemon has ended by now.
    _check_goes_on_nowhere(entry, before, are_overlays=True)
    elsewhere = _elsewhere(entry, before)
    why = f"it goes on as long as {elsewhere}" if elsewhere else "which stores what it fetched"
    note(f"unmounted; waiting for its daemon (process {pid}), {why}; Ctrl-C leaves it to that")
    if _has_ended(daemon, pid, _SOON_SECONDS, what):
        return
    if elsewhere := _elsewhere(entry, before):
        raise MountError(f"{what}: {elsewhere}")
    if not _has_ended(daemon, pid, _MOST_SECONDS, what):
        raise MountError(f"{what} after {_MOST_SECONDS:.0f} s; what it is doing may be in its log")


def _has_ended(daemon: int, pid: int, seconds: float, what: str) -> bool:
    """Raises `MountError` if the kernel keeps it, because of a disk: then waiting is of no use."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        had_exited = has_exited(pid)
        if select.select([daemon], [], [], min(left, _STEP_SECONDS))[0]:
            return True
        if had_exited:
            text = "it waits for the cache's disk, which does not answer, and is gone when that does"
            raise MountError(f"{what}: {text}; what was fetched last may be fetched again")
    return False


def _check_goes_on_nowhere(entry: MountEntry, before: Collection[_Place], *, are_overlays: bool) -> None:
    """A `mount --bind` of a part, or an overlay, keeps the mount and its daemon alive. Raises `MountError`."""
    there = _places(_SELF, _namespace(_SELF), entry)
    places = [str(place.path) for place in there if place in before and place.is_overlay == are_overlays]
    if places:
        what = "an overlay on it" if are_overlays else "of the same mount (mount --bind)"
        named = " and ".join(places[:_MOST_NAMED])
        raise MountError(f"{entry.mountpoint}: unmounted, but {named} is {what}, which goes on: unmount that, too")


def _places_of(entry: MountEntry) -> dict[_Place, str]:
    """Where all mount namespaces have the mount, as far as /proc shows them, each with a process."""
    processes = {_namespace(process): process for process in (*Path("/proc").glob("[0-9]*"), _SELF)}
    return {
        place: process.name
        for namespace, process in processes.items()
        for place in _places(process, namespace, entry)
    }


def _elsewhere(entry: MountEntry, before: Collection[_Place]) -> str:
    """Which process still has the mount in another mount namespace, and where, in words; '' if none has."""
    for place, process in _places_of(entry).items():
        if place in before and place.namespace != _namespace(_SELF):
            return f"process {process} has it at {place.path}, in a mount namespace (a container) of its own"
    return ""


def _namespace(process: Path) -> str:
    """The mount namespace of a process: namespaces(7)."""
    try:
        return os.readlink(process / "ns" / "mnt")
    except OSError:
        return ""


def _places(process: Path, namespace: str, entry: MountEntry) -> list[_Place]:
    """Where the file system of a mount is in use, in the mount namespace of a process."""
    try:
        mounts = read_mountinfo(process / "mountinfo")
    except OSError:
        return []
    return [
        _Place(namespace, each.mountpoint, is_overlay)
        for each in mounts
        if (is_overlay := any(layer.is_relative_to(entry.mountpoint) for layer in each.layers))
        or each.device == entry.device
    ]

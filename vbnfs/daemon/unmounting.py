"""Unmounting for a user: it returns when the mount and its daemon are gone, or names what keeps them."""

import os
import select
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from vbnfs.access.running_mounts import daemon_of
from vbnfs.errors import MountError
from vbnfs.host.mount_programs import unmount
from vbnfs.host.mountinfo import MountEntry, find_mount, read_mountinfo

_MOST_SECONDS: Final = 30.0
_SOON_SECONDS: Final = 10.0  # another namespace may be about to end
_MOST_NAMED: Final = 5


def unmount_to_the_end(mountpoint: Path, *, lazy: bool) -> None:
    """Take the mount on a folder away and, unless `lazy`, wait for its daemon to end. Raises `MountError`."""
    entry = find_mount(mountpoint)
    pid = 0 if entry is None or lazy else daemon_of(entry)
    with ExitStack() as stack:
        daemon = None
        if pid:
            with suppress(OSError):  # it has just ended
                daemon = os.pidfd_open(pid)
                stack.callback(os.close, daemon)
        unmount(mountpoint, lazy=lazy, timeout_seconds=_MOST_SECONDS)
        if entry is not None and daemon is not None:
            _wait_for(daemon, pid, entry)


def _wait_for(daemon: int, pid: int, entry: MountEntry) -> None:
    _check_is_mounted_nowhere_else(entry)
    if _has_ended(daemon, _SOON_SECONDS):
        return
    what = f"{entry.mountpoint}: unmounted, but the daemon (process {pid}) has not ended"
    elsewhere = _elsewhere(entry)
    if elsewhere is not None:
        raise MountError(f"{what}: {elsewhere}")
    if not _has_ended(daemon, _MOST_SECONDS):
        raise MountError(f"{what} after {_MOST_SECONDS:.0f} s; what it is doing may be in its log")


def _has_ended(daemon: int, seconds: float) -> bool:
    return bool(select.select([daemon], [], [], seconds)[0])


def _check_is_mounted_nowhere_else(entry: MountEntry) -> None:
    """A `mount --bind` of a part keeps all of the mount, and its daemon, alive. Raises `MountError`."""
    places = _places(Path("/proc/self/mountinfo"), entry)
    if places:
        raise MountError(
            f"{entry.mountpoint}: unmounted, but {' and '.join(map(str, places[:_MOST_NAMED]))} is of the same mount"
            " (mount --bind), which goes on: unmount that, too"
        )


def _elsewhere(entry: MountEntry) -> str | None:
    """A process that sees the mount in another mount namespace (a container), as far as /proc shows it."""
    for process in Path("/proc").glob("[0-9]*"):
        places = _places(process / "mountinfo", entry)
        if places:
            return f"process {process.name} has it at {places[0]}, in a mount namespace (a container) of its own"
    return None


def _places(mountinfo: Path, entry: MountEntry) -> list[Path]:
    """Where the file system of a mount is mounted, in a mount namespace."""
    try:
        return [each.mountpoint for each in read_mountinfo(mountinfo) if each.device == entry.device]
    except OSError:
        return []

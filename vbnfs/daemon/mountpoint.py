"""Mount points: whether a folder will do, making it, and clearing it of a dead mount."""

import os
import shlex
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from vbnfs.errors import MountError
from vbnfs.host.mount_programs import detach, is_alive
from vbnfs.host.mountinfo import MountEntry, find_mount

_READAHEAD_KIB: Final = 512
_OWN_FOLDER: Final = "mount on an empty folder of your own, such as ~/vbn"


def raise_readahead(entry: MountEntry) -> None:
    """Have the kernel read up to 512 KiB ahead in files of a mount, where this process may set that: root may.

    With the kernel's default, 128 KiB, sequential reads are four requests where one would do. More would not be
    faster. Random reads in a mapping would then fetch blocks far from the touched ones, since the kernel reads as
    much around each (Documentation/ABI/testing/sysfs-class-bdi).
    """
    setting = Path(f"/sys/class/bdi/{entry.device}/read_ahead_kb")
    with suppress(OSError, ValueError):  # not root, no such folder in a container, or read-only there
        if int(setting.read_text()) < _READAHEAD_KIB:
            setting.write_text(str(_READAHEAD_KIB))


def make_mountpoint(mountpoint: Path, *, parents: bool) -> bool:
    """Make a folder to mount on, where there is nothing; returns whether it was made. Raises `MountError`."""
    try:
        if find_mount(mountpoint) is not None or os.path.lexists(mountpoint):  # one that hangs is left alone
            return False
        mountpoint.mkdir(parents=parents)
    except FileExistsError:
        return False  # by another process, meanwhile
    except FileNotFoundError:
        raise MountError(f"{mountpoint}: no such folder; make it with 'mkdir -p'") from None
    except OSError as error:
        raise MountError(f"{mountpoint}: cannot be made: {error.strerror}; {_OWN_FOLDER}") from error
    return True


def check_empty(mountpoint: Path) -> None:
    """Raise `MountError` where a mount would hide files, or where the folder cannot be listed."""
    try:
        with os.scandir(mountpoint) as entries:
            is_empty = next(entries, None) is None
    except OSError as error:
        raise MountError(f"{mountpoint}: {error.strerror}; {_OWN_FOLDER}") from error
    if not is_empty:
        raise MountError(
            f"{mountpoint}: not empty, and a mount would hide what is there; name an empty folder, or add -o nonempty"
        )


def clear_dead(mountpoint: Path) -> None:
    """Take away what dead daemons left on a folder. Raises `MountError` where a live one has it."""
    while find_mount(mountpoint) is not None:
        if is_alive(mountpoint):
            raise already_mounted(mountpoint)
        detach(mountpoint, lazy=True)


def already_mounted(mountpoint: Path) -> MountError:
    """The error for a folder on which another process mounted first."""
    folder = shlex.quote(str(mountpoint))
    return MountError(f"{mountpoint}: already a vbnfs mount; 'vbnfs umount {folder}' takes it away")


def check_mountpoint(mountpoint: Path, *, cache_dir: Path) -> None:
    """Raise `MountError` unless a mount can go there."""
    clear_dead(mountpoint)
    try:
        is_folder = stat.S_ISDIR(mountpoint.stat().st_mode)
    except FileNotFoundError:
        raise MountError(f"{mountpoint}: no such folder; make it with 'mkdir -p'") from None
    except OSError as error:
        raise MountError(f"{mountpoint}: {error.strerror}; {_OWN_FOLDER}") from error
    if not is_folder:
        raise MountError(f"{mountpoint}: not a folder; {_OWN_FOLDER}")
    if os.geteuid() != 0 and not os.access(mountpoint, os.W_OK):  # fusermount3 would refuse it
        raise MountError(f"{mountpoint}: you may not write in this folder, so you cannot mount on it; {_OWN_FOLDER}")
    real_cache = Path(os.path.realpath(cache_dir))
    real_mount = Path(os.path.realpath(mountpoint))
    if real_cache.is_relative_to(real_mount) or real_mount.is_relative_to(real_cache):
        raise MountError(
            f"{mountpoint}: the mount point and the cache directory ({cache_dir}) must not lie in one another"
        )

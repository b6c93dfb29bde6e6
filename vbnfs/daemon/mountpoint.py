"""Mount points: whether a folder will do, making it, clearing it of a dead mount, and taking a mount away."""

import errno
import os
import signal
import stat
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from vbnfs.errors import MountError
from vbnfs.fuse.device import fusermount
from vbnfs.host.mountinfo import (
    FILE_SYSTEM_TYPE,
    MountEntry,
    all_mounts,
    find_mount,
    is_ours,
    list_mounts,
)

_READAHEAD_KIB: Final = 512
_POLL_SECONDS: Final = 0.02
_ALIVE_SECONDS: Final = 5.0
_DETACH_SECONDS: Final = 10.0  # a daemon that is well answers what umount(8) asks at once
_TO_ALL_OF_US: Final = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM})
_IN_ENGLISH: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
_DEAD: Final = frozenset({errno.ENOTCONN, errno.ECONNABORTED})
_OWN_FOLDER: Final = "mount on an empty folder of your own, such as ~/vbn"


def raise_readahead(entry: MountEntry) -> None:
    """Have the kernel read up to 512 KiB ahead in files of a mount, where this process may say so: root may.

    Of its own, 128 KiB, sequential reads are four requests where one would do. More would not be faster, and reading
    at random in a mapping, around which the kernel reads as much, would fetch blocks far from what is touched
    (Documentation/ABI/testing/sysfs-class-bdi).
    """
    told = Path(f"/sys/class/bdi/{entry.device}/read_ahead_kb")
    with suppress(OSError, ValueError):  # not root, no such folder in a container, or read-only there
        if int(told.read_text()) < _READAHEAD_KIB:
            told.write_text(str(_READAHEAD_KIB))


def make_mountpoint(mountpoint: Path, *, parents: bool) -> bool:
    """Make a folder to mount on, where there is nothing, and tell whether that was so. Raises `MountError`."""
    try:
        if find_mount(mountpoint) is not None or os.path.lexists(mountpoint):  # one that hangs is not to be touched
            return False
        mountpoint.mkdir(parents=parents)
    except FileExistsError:
        return False  # by somebody else, meanwhile
    except FileNotFoundError:
        raise MountError(f"{mountpoint}: no such folder; make it with 'mkdir -p'") from None
    except OSError as error:
        raise MountError(f"{mountpoint}: cannot be made: {error.strerror}; {_OWN_FOLDER}") from error
    return True


def check_empty(mountpoint: Path) -> None:
    """Raise `MountError` where a mount would hide files, or where that cannot be told."""
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
    """What to raise where somebody else was first."""
    return MountError(f"{mountpoint}: already a vbnfs mount; 'vbnfs umount {mountpoint}' takes it away")


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
        raise MountError(f"{mountpoint}: only who may write a folder, or root, can mount on it; {_OWN_FOLDER}")
    real_cache = Path(os.path.realpath(cache_dir))
    real_mount = Path(os.path.realpath(mountpoint))
    if real_cache.is_relative_to(real_mount) or real_mount.is_relative_to(real_cache):
        raise MountError(
            f"{mountpoint}: the mount point and the cache directory ({cache_dir}) must not lie in one another"
        )


def is_alive(mountpoint: Path) -> bool:
    """False for a mount whose daemon is gone ("transport endpoint is not connected").

    A process of its own asks, and is left alone if there is no answer: while a daemon has a question and is stopped,
    whoever asked cannot end, nor be killed (`request_wait_answer`, fs/fuse/dev.c).
    """
    entry, who = find_mount(mountpoint), dict[str, Any]()
    if entry is not None and os.geteuid() == 0 and (entry.owner, entry.group) != (0, 0):
        # The kernel asks the daemon for its owner alone; to all others, root too, statfs(2) says that all is well.
        who = {"user": entry.owner, "group": entry.group, "extra_groups": []}
    command = ["stat", "--file-system", "--", str(mountpoint)]
    try:
        _, told = _run_to_its_end(command, seconds=_ALIVE_SECONDS, env=_IN_ENGLISH, cwd="/", **who)
    except (MountError, subprocess.SubprocessError):  # it hangs; nobody else can be had, as in some containers
        return True
    return not told.endswith(tuple(map(os.strerror, _DEAD)))


def unmount(mountpoint: Path, *, lazy: bool, timeout_seconds: float) -> None:
    """Take a vbnfs mount away and wait until it is gone. Raises `MountError`."""
    entry = find_mount(mountpoint)
    if entry is None:
        raise MountError(f"{mountpoint}: no vbnfs mount; 'vbnfs status' lists those that there are")
    if not is_ours(entry):
        raise MountError(f"{mountpoint}: only user {entry.owner}, who mounted it, and root can take it away")
    detach(mountpoint, lazy=lazy)
    deadline = time.monotonic() + timeout_seconds
    while entry in list_mounts():
        if time.monotonic() > deadline:
            raise MountError(f"{mountpoint}: still mounted after {timeout_seconds:.0f} s")
        time.sleep(_POLL_SECONDS)


def detach(mountpoint: Path, *, lazy: bool) -> None:
    """Take what vbnfs mounted on a folder away; `lazy`, also while programs use it. Raises `MountError`.

    Somebody else may be doing the same: it is no error if nothing is mounted there in the end.
    """
    _check_is_on_top(mountpoint)
    if os.geteuid() == 0:
        command = ["umount", *(["--lazy"] if lazy else []), "--", str(mountpoint)]
    else:
        command = [fusermount(), "-u", *(["-z"] if lazy else []), "--", str(mountpoint)]
    try:
        status, reason = _run_to_its_end(command, seconds=_DETACH_SECONDS)
    except subprocess.TimeoutExpired:
        remedy = "" if lazy else f" (is it stopped?): 'vbnfs umount --lazy {mountpoint}' takes it away"
        raise MountError(f"{mountpoint}: its daemon does not answer{remedy}") from None
    if status != 0 and find_mount(mountpoint) is not None:
        reason = reason or f"{command[0]} ended with status {status}"
        raise MountError(f"{reason}{_remedy(reason)}")


def _check_is_on_top(mountpoint: Path) -> None:
    """Raise `MountError` where another file system covers the mount: umount(2) would take that away."""
    there = [entry for entry in all_mounts() if entry.mountpoint == mountpoint]
    kinds = [entry.file_system_type for entry in there]
    if FILE_SYSTEM_TYPE in kinds and kinds[-1] != FILE_SYSTEM_TYPE:
        raise MountError(
            f"{mountpoint}: something else is mounted over it ({kinds[-1]}, from {there[-1].source}): unmount that"
            " first"
        )


def _run_to_its_end(command: Sequence[str], *, seconds: float, **more: Any) -> tuple[int, str]:
    """The exit status of a program, and what it complains of. Raises `subprocess.TimeoutExpired`.

    It inherits a mask: a signal that is meant for a daemon and all that belongs to it (Ctrl-C in its terminal,
    systemd that stops its unit) must not end what is taking the mount away.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TO_ALL_OF_US)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            errors="replace",
            **more,
        )
    except OSError as error:
        raise MountError(f"{command[0]}: {error.strerror}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        _, told = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()  # and not waited for: the kernel may not let it go
        raise
    return process.returncode, told.strip()


def _remedy(reason: str) -> str:
    if "busy" in reason:
        return "; end the programs that use it, or add --lazy"
    if "/etc/mtab" in reason:  # a bare container
        return "; as root, run: ln -s /proc/self/mounts /etc/mtab"
    return ""

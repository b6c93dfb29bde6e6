"""The programs that mount, ask and unmount: fusermount3, stat, umount.

A program is taken from the system's own folders first, and by PATH only where none of them has it: root, too, runs
this, and another user's folder in its PATH must not decide what takes a mount away.
"""

import errno
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from vbnfs.errors import MountError
from vbnfs.host.identity import user_name, user_or_root
from vbnfs.host.mountinfo import FILE_SYSTEM_TYPE, all_mounts, find_mount, is_ours, list_mounts
from vbnfs.host.processes import Program, programs_in

_FOLDERS: Final = ("/usr/bin", "/bin", "/usr/sbin", "/sbin")
_POLL_SECONDS: Final = 0.02
_ALIVE_SECONDS: Final = 5.0
_MOST_NAMED: Final = 5
_LOOK_SECONDS: Final = 3.0  # for the programs that use a mount
_DETACH_SECONDS: Final = 10.0  # a daemon that works answers what umount(8) asks at once
_IN_ENGLISH: Final = {"PATH": ":".join(_FOLDERS), "LC_ALL": "C"}
_DEAD: Final = frozenset({errno.ENOTCONN, errno.ECONNABORTED})


def find_program(name: str) -> str | None:
    """The path of a program; None where it is not installed."""
    return shutil.which(name, path=os.pathsep.join(_FOLDERS)) or shutil.which(name)


def fusermount() -> str:
    """The program that mounts and unmounts for ordinary users. Raises `MountError` where there is none."""
    program = find_program("fusermount3")
    if program is None:
        raise MountError("fusermount3 is not installed: on Debian and Ubuntu, 'apt install fuse3'")
    return program


def is_alive(mountpoint: Path, *, seconds: float = _ALIVE_SECONDS) -> bool:
    """False for a mount whose daemon is gone ("transport endpoint is not connected").

    A process of its own asks, for the reason that apart.py gives, and is left behind if there is no answer.
    """
    entry, identity = find_mount(mountpoint), dict[str, Any]()
    if entry is not None and os.geteuid() == 0 and (entry.owner, entry.group) != (0, 0):
        # The kernel asks the daemon for its owner alone; to all others, root too, statfs(2) reports success.
        identity = {"user": entry.owner, "group": entry.group, "extra_groups": []}
    command = [find_program("stat") or "stat", "--file-system", "--", str(mountpoint)]
    try:
        _, reason = _run_to_its_end(command, seconds=seconds, env=_IN_ENGLISH, cwd="/", **identity)
    except (MountError, subprocess.SubprocessError):  # it hangs; no other identity can be had, as in some containers
        return True
    return not reason.endswith(tuple(map(os.strerror, _DEAD)))


def unmount(mountpoint: Path, *, lazy: bool, timeout_seconds: float) -> None:
    """Take a vbnfs mount away and wait until it is gone. Raises `MountError`."""
    entry = find_mount(mountpoint)
    if entry is None:
        raise MountError(f"{mountpoint}: no vbnfs mount; 'vbnfs status' lists those that there are")
    if not is_ours(entry):
        raise MountError(
            f"{mountpoint}: mounted by {user_name(entry.owner)}: {user_or_root(entry.owner)} can take it away"
        )
    detach(mountpoint, lazy=lazy)
    deadline = time.monotonic() + timeout_seconds
    while entry in list_mounts():
        if time.monotonic() > deadline:
            raise MountError(f"{mountpoint}: still mounted after {timeout_seconds:.0f} s")
        time.sleep(_POLL_SECONDS)


def detach(mountpoint: Path, *, lazy: bool) -> None:
    """Take what vbnfs mounted on a folder away; `lazy`, also while programs use it. Raises `MountError`.

    Another process may be doing the same: it is no error if nothing is mounted there in the end.
    """
    _check_is_on_top(mountpoint)
    if os.geteuid() == 0:
        command = [find_program("umount") or "umount", *(["--lazy"] if lazy else []), "--", str(mountpoint)]
    else:
        command = [fusermount(), "-u", *(["-z"] if lazy else []), "--", str(mountpoint)]
    try:
        status, reason = _run_to_its_end(command, seconds=_DETACH_SECONDS, env=_IN_ENGLISH)
    except subprocess.TimeoutExpired:
        remedy = (
            "" if lazy else f" (is it stopped?): 'vbnfs umount --lazy {shlex.quote(str(mountpoint))}' takes it away"
        )
        raise MountError(f"{mountpoint}: its daemon does not answer{remedy}") from None
    if status != 0 and find_mount(mountpoint) is not None:
        reason = reason or f"{command[0]} ended with status {status}"
        raise MountError(f"{reason}{_remedy(reason, mountpoint)}")


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
    """The exit status of a program, and what it writes to standard error. Raises `subprocess.TimeoutExpired`.

    It inherits a mask: a signal to a daemon's whole process group (Ctrl-C in its terminal, systemd that stops its
    unit) must not end the program that takes the mount away.
    """
    to_the_group = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, to_the_group)
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
        _, text = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()  # and not waited for: the kernel may not let it go
        raise
    return process.returncode, text.strip().removesuffix(".")


def _remedy(reason: str, mountpoint: Path) -> str:
    if "busy" in reason:
        return f"; {_what_keeps(mountpoint)}, or add --lazy"
    if "/etc/mtab" in reason:  # a bare container
        return "; as root, run: ln -s /proc/self/mounts /etc/mtab"
    return ""


def _what_keeps(mountpoint: Path) -> str:
    """What to end before a busy mount can be taken away: mounts in it, and programs by name."""
    inner = [each.mountpoint for each in all_mounts() if mountpoint in each.mountpoint.parents]
    if inner:
        return f"{inner[-1]} is mounted in it: unmount that first"
    programs = _found_in_time(mountpoint)
    if not programs:
        return "end the programs that use it"
    named = ", ".join(f"{program.name} (process {program.pid})" for program in programs[:_MOST_NAMED])
    more = f" and {len(programs) - _MOST_NAMED} more" if len(programs) > _MOST_NAMED else ""
    return f"used by {named}{more}: end them, or leave the folder there"


def _found_in_time(mountpoint: Path) -> list[Program]:
    """`programs_in`, by a thread that is left behind: a process's list of mappings can be locked for long."""
    found: list[Program] = []
    thread = threading.Thread(target=lambda: found.extend(programs_in(mountpoint)), daemon=True)
    thread.start()
    thread.join(_LOOK_SECONDS)
    return found

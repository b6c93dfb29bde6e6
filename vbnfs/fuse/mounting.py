"""Making a mount: by mount(2) itself where the kernel lets this process, else by fusermount3.

A process that may mount (CAP_SYS_ADMIN in its user namespace, as root has) opens /dev/fuse and calls mount(2). No
rule for fusermount3 holds for it: neither AppArmor's folders nor its list of file systems. For others, and where
mount(2) is refused all the same, as in containers, fusermount3 opens the device and mounts, and hands the descriptor
over a socket (libfuse's util/fusermount.c; unix(7), SCM_RIGHTS). A mount point `/dev/fd/N` is a mount that the caller
has made.
"""

import errno
import os
import socket
import stat
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vbnfs.errors import MountError
from vbnfs.fuse.device import Device
from vbnfs.host import handed_over, mount_call
from vbnfs.host.capabilities import SYS_ADMIN, has_capability
from vbnfs.host.mount_programs import fusermount
from vbnfs.host.mount_refusals import PROFILE, remedy_for
from vbnfs.host.mountinfo import descriptor_in

_DEVICE: Final = "/dev/fuse"
_FILE_SYSTEMS: Final = Path("/proc/filesystems")
# fusermount3 looks for mount(8) itself, and reads nothing else.
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_ANSWER_SECONDS: Final = 20.0  # mount(2) takes none; fusermount3 asks the disk that has the folder
_END_SECONDS: Final = 1.0  # of a process that was killed, and waits for nothing
_SOCKET_VARIABLE: Final = "_FUSE_COMMFD"
# Options that are flags of mount(2), and whether they set them.
_FLAGS: Final = {
    "ro": (mount_call.READ_ONLY, True),
    "suid": (mount_call.NO_SUID, False),
    "nosuid": (mount_call.NO_SUID, True),
    "dev": (mount_call.NO_DEV, False),
    "nodev": (mount_call.NO_DEV, True),
    "exec": (mount_call.NO_EXEC, False),
    "noexec": (mount_call.NO_EXEC, True),
    "noatime": (mount_call.NO_ATIME, True),
    "nodiratime": (mount_call.NO_DIR_ATIME, True),
    "nosymfollow": (mount_call.NO_SYMLINKS, True),
}
# Nothing on a read-only mount, and old versions of fusermount3 and libfuse do not know it.
WITHOUT_EFFECT: Final = frozenset({"nodiratime"})
_LABELS: Final = frozenset({"context", "fscontext", "defcontext", "rootcontext"})  # SELinux's: mount(8)


@dataclass(frozen=True, slots=True)
class Call:
    """Options as mount(2) wants them: `data` are those that are no flags."""

    source: str
    kind: str
    flags: int
    data: tuple[str, ...]


def open_mount(mountpoint: Path, options: Iterable[str]) -> Device:
    """Mount on a folder, with options as for mount(8), one each. Raises `MountError` with reason and remedy."""
    descriptor, wanted = descriptor_in(mountpoint), list(options)
    if descriptor is not None:
        handed_over.check(descriptor)
        return Device(descriptor)
    if not has_capability(SYS_ADMIN):
        return Device(_by_fusermount(mountpoint, wanted))
    try:
        return Device(_by_call(mountpoint, call_of(wanted)))
    except PermissionError as refusal:
        return Device(_by_fusermount(mountpoint, wanted, refusal))
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise _options_refused(mountpoint, wanted) from error
        raise refused(mountpoint, f"mount(2): {error.strerror}") from error


def escaped(option: str) -> str:
    r"""An option as fusermount3 and libfuse want it among others: `\` and `,` escaped."""
    return option.replace("\\", "\\\\").replace(",", "\\,")


def call_of(options: Iterable[str]) -> Call:
    """What mount(2) is to be called with; of options that exclude each other the last one counts."""
    source, kind, data = "fuse", "fuse", list[str]()
    flags = mount_call.NO_SUID | mount_call.NO_DEV
    for option in options:
        name, _, value = option.partition("=")
        if option in _FLAGS:
            flag, is_set = _FLAGS[option]
            flags = flags | flag if is_set else flags & ~flag
        elif name == "fsname":
            source = value
        elif name == "subtype":
            kind = f"fuse.{value}"
        else:
            data.append(option)
    return Call(source, kind, flags, tuple(data))


def refused(mountpoint: Path, reason: str) -> MountError:
    """The error for a mount that was refused, with what to do about it."""
    remedy = remedy_for(reason, str(mountpoint), has_profile=Path(PROFILE).exists())
    return MountError(f"{mountpoint}: cannot be mounted: {reason}{remedy}")


def _by_call(mountpoint: Path, call: Call) -> int:
    """The device, with which the folder is mounted then. Raises `OSError`: ENOTDIR for what is no folder."""
    # By descriptor: what is put in the folder's place now changes nothing. No O_DIRECTORY, which asks an automounter.
    folder = os.open(mountpoint, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        device = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            own = f"fd={device},rootmode={stat.S_IFDIR:o},user_id={os.geteuid()},group_id={os.getegid()}"
            target = Path(f"/proc/self/fd/{folder}")
            mount_call.mount(call.source, target, call.kind, call.flags, ",".join([own, *call.data]))
        except BaseException:
            os.close(device)
            raise
    finally:
        os.close(folder)
    return device


def _options_refused(mountpoint: Path, options: Sequence[str]) -> MountError:
    """The error for options that the kernel does not take."""
    labels = [option for option in options if option.partition("=")[0] in _LABELS]
    if labels and "selinuxfs" not in _FILE_SYSTEMS.read_text():
        return refused(mountpoint, f"SELinux is not on here, and labels are for it alone: leave {labels[0]} out")
    return refused(mountpoint, f"the kernel does not take one of these options: {', '.join(options)}")


def _by_fusermount(mountpoint: Path, options: Sequence[str], refusal: OSError | None = None) -> int:
    """The device, from fusermount3. `refusal`: why mount(2) did not do it. Raises `MountError`."""
    _check_no_labels(mountpoint, options, refusal)
    try:
        known = [escaped(option) for option in options if option not in WITHOUT_EFFECT]
        command = [fusermount(), "-o", ",".join(known), "--", str(mountpoint)]
    except MountError:
        if refusal is None:
            raise
        reason = f"mount(2): {refusal.strerror}"
        raise refused(mountpoint, reason) from refusal
    descriptors, status, complaint = _run(mountpoint, command)
    if status == 0 and descriptors:
        return descriptors[0]
    for descriptor in descriptors:
        os.close(descriptor)
    raise refused(mountpoint, complaint or f"fusermount3 ended with status {status}")


def _check_no_labels(mountpoint: Path, options: Sequence[str], refusal: OSError | None) -> None:
    """Raise `MountError` for options that fusermount3 does not know."""
    labels = [option for option in options if option.partition("=")[0] in _LABELS]
    if labels:
        why = "" if refusal is None else f" (mount(2): {refusal.strerror})"
        raise MountError(
            f"{mountpoint}: cannot be mounted: {', '.join(labels)} is for mount(2) alone, which this process may not"
            f" call{why}: let root mount, or leave it out"
        )


def _run(mountpoint: Path, command: Sequence[str]) -> tuple[list[int], int, str]:
    """The descriptors that fusermount3 hands over, its exit status, and what it writes to standard error."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.settimeout(_ANSWER_SECONDS)
    descriptors = list[int]()
    with ours:
        with theirs:
            process = _started(mountpoint, command, theirs)
        try:
            descriptors += socket.recv_fds(ours, 1, 1)[1]
            _, complaint = process.communicate(timeout=_ANSWER_SECONDS)
        except (TimeoutError, subprocess.TimeoutExpired):
            _end(process)
            for descriptor in descriptors:
                os.close(descriptor)
            raise refused(mountpoint, f"{command[0]} does not end; the disk of that folder may hang") from None
    return descriptors, process.returncode, complaint.decode(errors="replace").strip()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it, and leave it behind if the kernel does not let it go."""
    process.kill()
    assert process.stderr is not None
    process.stderr.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_SECONDS)


def _started(mountpoint: Path, command: Sequence[str], theirs: socket.socket) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            command,
            env={**_ENVIRONMENT, _SOCKET_VARIABLE: str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise MountError(f"{mountpoint}: cannot be mounted: {command[0]}: {error.strerror}") from error

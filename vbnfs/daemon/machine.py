"""Whether a mount can be made on this machine, and what that allows of what the settings ask for."""

import errno
import math
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from vbnfs.config.settings import LEAST_MEMORY_BYTES, Config
from vbnfs.errors import MountError
from vbnfs.host import limits
from vbnfs.host.capabilities import SYS_ADMIN, has_capability
from vbnfs.host.cgroup import memory_limit_bytes
from vbnfs.host.identity import group_name
from vbnfs.host.mount_programs import fusermount
from vbnfs.host.runtime import make_runtime_directory

log = structlog.get_logger()

_FUSE_DEVICE: Final = Path("/dev/fuse")
_FUSE_SYSCTLS: Final = Path("/proc/sys/fs/fuse")
_FOR_GROUP: Final = stat.S_IRGRP | stat.S_IWGRP
_LEAST_DATA_BYTES: Final = 128 << 20  # of RLIMIT_DATA: Python, the manifests, the stacks of threads
_LEAST_OPEN_FILES: Final = 64  # beside what connections to S3 take, of which there are fewer then
_PART_OF_KERNELS_TIMEOUT: Final = 0.8  # it is looked at every few seconds only


def check_machine(*, makes_mount: bool = True) -> None:
    """Raise a `MountError` with the remedy where no mount can be made, or too little is granted for one.

    Not `makes_mount`: the caller has made it. From then on this process may have as many files open, and as large
    ones, as the system allows.
    """
    if makes_mount:
        check_device()
    check_limits()
    limits.raise_files()  # segments, connections and mappings each take one


def check_device() -> None:
    """Raise a `MountError` with the remedy where FUSE cannot be used."""
    if not _FUSE_DEVICE.exists():
        raise MountError(
            f"no {_FUSE_DEVICE}: load the module with 'modprobe fuse' (in a container: --device /dev/fuse; in"
            " Kubernetes: privileged: true)"
        )
    if not os.access(_FUSE_DEVICE, os.R_OK | os.W_OK):  # fusermount3 opens it with the rights of who runs it
        raise _closed()
    if not has_capability(SYS_ADMIN):  # with which mount(2) does it
        fusermount()


def _closed() -> MountError:
    """With the remedy; there is another one where the administrator has opened the device to a group."""
    status = _FUSE_DEVICE.stat()
    if status.st_mode & _FOR_GROUP == _FOR_GROUP and status.st_gid:
        return MountError(
            f"{_FUSE_DEVICE}: not open to everybody; be a member of the group {group_name(status.st_gid)}, and log in"
            f" again; or, as root, run: chmod 666 {_FUSE_DEVICE}"
        )
    return MountError(f"{_FUSE_DEVICE}: not open to everybody; as root, run: chmod 666 {_FUSE_DEVICE}")


def check_limits() -> None:
    """Where less is granted than a mount takes, it fails here (`MountError`), and not in the middle of something."""
    data_bytes, files = limits.most_data_bytes(), limits.most_open_files()
    if data_bytes is not None and data_bytes < _LEAST_DATA_BYTES:
        raise MountError(
            f"this process may take {data_bytes >> 20} MiB of memory, and a mount needs {_LEAST_DATA_BYTES >> 20} at"
            " least: raise the limit (ulimit -d, or data in /etc/security/limits.conf)"
        )
    if files is not None and files < _LEAST_OPEN_FILES:
        raise MountError(
            f"this process may have {files} files open, and a mount needs {_LEAST_OPEN_FILES} at the least:"
            " raise the limit (ulimit -Hn, or nofile in /etc/security/limits.conf)"
        )


def why_no_log(path: Path) -> MountError | None:
    """Why the daemon's log cannot be written, as far as that shows without making it; None if it can."""
    there = path
    try:
        if path.exists():
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK))
            return None
        while not there.exists():
            there = there.parent
    except OSError as error:
        return no_log(path, error)
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return None
    number = errno.EACCES if there.is_dir() else errno.ENOTDIR
    return no_log(path, OSError(number, os.strerror(number)))


def no_log(path: Path, error: OSError) -> MountError:
    """The daemon's log cannot be written."""
    return MountError(f"log file {path}: {error.strerror}; choose one with --log-file")


def problems_of_the_machine() -> tuple[str, ...]:
    """What is not as it should be, while the mount works all the same."""
    found = []
    try:
        make_runtime_directory()
    except MountError as error:
        found.append(f"'vbnfs status' will not reach this mount: {error}")
    if (most := limits.most_file_bytes()) is not None:
        found.append(
            f"what is behind the first {most >> 20} MiB of a file is not kept: this process may write no larger ones;"
            " raise the limit (ulimit -f, or fsize in /etc/security/limits.conf)"
        )
    return tuple(found)


def within_the_machine(config: Config) -> Config:
    """The settings, as far as the kernel and the control group allow them; what is lowered is logged."""
    return _within_the_cgroup(_below_the_kernels_timeout(config))


def _below_the_kernels_timeout(config: Config) -> Config:
    """Answer before Linux 6.15 and later lose patience: one request beyond their limit aborts the whole mount."""
    limits = [_sysctl_seconds(f"{name}_request_timeout") for name in ("default", "max")]
    strictest = min((limit for limit in limits if limit > 0), default=math.inf)
    seconds = strictest * _PART_OF_KERNELS_TIMEOUT
    config = replace(config, most_answer_seconds=seconds)
    if config.io_timeout_seconds < seconds:
        return config
    log.warning("--io-timeout lowered: the kernel (fs.fuse.*_request_timeout) waits no longer", seconds=seconds)
    return replace(config, io_timeout_seconds=seconds)


def _within_the_cgroup(config: Config) -> Config:
    """Half of what the control group allows at the most: the rest is for the tree, and for pages on their way."""
    allowed = memory_limit_bytes()
    if allowed is None:
        return config
    limit_bytes = max(LEAST_MEMORY_BYTES, allowed // 2)
    if config.memory_limit_bytes <= limit_bytes:
        return config
    log.warning("--memory-limit lowered: the control group allows no more", limit_bytes=limit_bytes, allowed=allowed)
    return replace(config, memory_limit_bytes=limit_bytes)


def _sysctl_seconds(name: str) -> int:
    """Seconds; 0 where there is no limit (Documentation/admin-guide/sysctl/fs.rst)."""
    try:
        return int((_FUSE_SYSCTLS / name).read_text())
    except (OSError, ValueError):
        return 0

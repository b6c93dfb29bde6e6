"""A mount that the caller has made: the mount point `/dev/fd/N` names the descriptor of /dev/fuse that it used.

Container engines (Apptainer's --fusemount), CSI drivers and mount.fuse3(8) mount so for a program that may not. The
caller opens /dev/fuse, calls mount(2) with `fd=N`, and starts the program with that descriptor open. N is 3 or above:
a daemon in the background has nothing of its caller's at 0, 1 and 2 (daemon(3)), and messages go to 1 and 2.
"""

import os
import re
import select
import stat
from pathlib import Path
from typing import Final

from vbnfs.errors import MountError
from vbnfs.host.mountinfo import MountEntry, all_mounts

_FUSE_DEVICE: Final = 10, 229  # Documentation/admin-guide/devices.txt
_LAST_STANDARD: Final = 2
_MINOR_BITS: Final = 20  # of the kernel's dev_t


def check(descriptor: int) -> None:
    """Raise `MountError` unless a mount was made with the descriptor, and no process answers it yet."""
    path = f"/dev/fd/{descriptor}"
    if descriptor <= _LAST_STANDARD:
        raise MountError(
            f"{path}: a daemon has no standard input, output and error; hand the mount over as descriptor 3 or above"
        )
    try:
        status = os.fstat(descriptor)
    except OSError:
        raise MountError(f"{path}: no such open file; the program that starts vbnfs has to leave it open") from None
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(*_FUSE_DEVICE):
        raise MountError(f"{path}: not a descriptor of /dev/fuse; to mount on a folder, name the folder")
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    events = dict(poll.poll(0)).get(descriptor, 0)
    if events & select.POLLERR:
        raise MountError(f"{path}: nothing is mounted with it; call mount(2) with the option fd={descriptor} first")
    if not events & select.POLLIN:  # the kernel's first request waits from the mount on: fuse_send_init
        raise MountError(f"{path}: another process answers this mount already")
    os.set_inheritable(descriptor, False)  # it is this process's now


def mount_of(descriptor: int) -> MountEntry | None:
    """The mount that was made with the descriptor, if it is seen here: Linux 6.16, `fuse_dev_show_fdinfo`."""
    try:
        text = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    except OSError:
        return None
    match = re.search(r"^fuse_connection:\s*(\d+)$", text, re.MULTILINE)
    if match is None:
        return None
    number = int(match[1])
    device = f"{number >> _MINOR_BITS}:{number & ((1 << _MINOR_BITS) - 1)}"
    return next((entry for entry in all_mounts() if entry.device == device), None)

"""The folder of a user's control sockets and locks: below /run for a user with a place there now, else below /tmp.

The socket of a mount is named after the device number of its FUSE connection, which mountinfo has: a mount's socket
is found without a call that touches the mount. The folder is its owner's alone (0700).
"""

import errno
import os
from pathlib import Path

from vbnfs.errors import MountError
from vbnfs.host.identity import HAS_USERS
from vbnfs.host.own_folders import is_own_folder


def runtime_directory(owner: int) -> Path:
    """The folder of a user, where it would be made now."""
    *places, last = runtime_directories(owner)
    return next((place for place in places if _can_be_used(place, owner)), last)


def make_runtime_directory() -> Path:
    """The folder of this process's user, made if need be. Raises `MountError` if another user holds it.

    Raises `OSError` on Windows, which has none.
    """
    if not HAS_USERS:
        raise OSError(errno.ENOSYS, "this system has no folder for that")
    directory = runtime_directory(os.getuid())
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.lstat()
    except OSError as error:
        raise MountError(f"{directory}: {error.strerror}") from error
    if not is_own_folder(status, os.getuid()) or status.st_mode & 0o077:
        raise MountError(f"{directory}: not a folder of yours alone (mode 0700); remove it or mend its mode")
    return directory


def socket_path(owner: int, device: str) -> Path:
    """The control socket of the mount with this device (`major:minor`), if it were made now."""
    return runtime_directory(owner) / _socket_name(device)


def socket_paths(owner: int, device: str) -> list[Path]:
    """Where the control socket of a mount can be. Asks no disk."""
    return [place / _socket_name(device) for place in runtime_directories(owner)]


def find_socket(owner: int, device: str) -> Path:
    """The control socket of a mount: /run/user/UID comes and goes with its user's sessions, and mounts stay."""
    expected = socket_path(owner, device)
    paths = [expected, *socket_paths(owner, device)]
    return next((path for path in paths if os.path.lexists(path)), expected)


def _socket_name(device: str) -> str:
    return f"{device.replace(':', '-')}.sock"


def _can_be_used(place: Path, owner: int) -> bool:
    """Whether a user's sockets can be there; for root in a user namespace, /run belongs to another user."""
    if owner != os.geteuid():
        return place.parent.is_dir()
    if place.is_dir():
        return place.stat().st_uid == owner
    return os.access(place.parent, os.W_OK)


def runtime_directories(owner: int) -> list[Path]:
    """Where the folder of a user can be."""
    if owner == 0:
        return [Path("/run/vbnfs"), Path("/tmp/vbnfs-0")]
    return [Path(f"/run/user/{owner}/vbnfs"), Path(f"/tmp/vbnfs-{owner}")]

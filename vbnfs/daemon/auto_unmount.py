"""A program: takes a mount away when its daemon has ended without doing so, because it was killed (`--auto-unmount`).

    python -P -m vbnfs.daemon.auto_unmount MAJOR:MINOR

Its standard input is a pipe, whose other end the daemon alone has: it ends when the daemon does, however that ends.
The mount is found by its device, so that a folder above it may get another name. Only what is dead is taken away.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Final

from vbnfs.errors import MountError
from vbnfs.host.mount_programs import detach, is_alive
from vbnfs.host.mountinfo import mounts_of

_MODULE: Final = "vbnfs.daemon.auto_unmount"
_MOST_SECONDS: Final = 60.0  # a daemon that is killed may wait for a disk
_AGAIN_SECONDS: Final = 0.1


def start(device: str) -> "subprocess.Popen[bytes]":
    """Start it for a mount of this process, where no signal of a terminal reaches it. Raises `OSError`."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", _MODULE, device],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def take_away_if_dead(device: str) -> None:
    """Take a mount away as soon as it is dead, within a minute."""
    deadline = time.monotonic() + _MOST_SECONDS
    while (entries := mounts_of(device)) and time.monotonic() < deadline:
        for entry in entries:
            if not is_alive(entry.mountpoint):
                with suppress(MountError):
                    detach(entry.mountpoint, lazy=True)
        time.sleep(_AGAIN_SECONDS)


def main() -> None:
    """Wait for the daemon's end, and do it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.read(0, 1)
    take_away_if_dead(sys.argv[1])


if __name__ == "__main__":
    main()

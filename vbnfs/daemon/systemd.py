"""The daemon's messages to its supervisor: sd_notify(3), for systemd's `Type=notify` and `WatchdogSec=`.

    READY=1       the tree can be listed
    STATUS=       a line for `systemctl status`
    WATCHDOG=1    the event loop runs: only a task of it sends this
    STOPPING=1    the mount goes away

A message is a datagram to the socket that NOTIFY_SOCKET names. Sending never waits: a message that cannot be sent is
lost, and logged.
"""

import socket
from collections.abc import Callable
from typing import Final

import structlog
import trio

from vbnfs.config.environment import Supervisor

log = structlog.get_logger()

_STATUS_SECONDS: Final = 30.0
_PART_OF_WATCHDOG: Final = 0.4  # sd_watchdog_enabled(3) asks for half of it; this leaves one to be missed


class SystemdNotifier:
    """The messages of one daemon. Without a supervisor nothing is sent."""

    def __init__(self, supervisor: Supervisor | None) -> None:
        self._supervisor = supervisor

    def status(self, text: str) -> None:
        """What the daemon does now."""
        self._send(f"STATUS={_one_line(text)}")

    def stopping(self) -> None:
        """The mount goes away."""
        self._send("STOPPING=1", "STATUS=unmounting")

    async def ready(self, status: Callable[[], str]) -> None:
        """The tree can be listed. From now on sends signs of life, each with the current status, until cancelled."""
        if self._supervisor is None:
            return
        self._send("READY=1", f"STATUS={_one_line(status())}")
        watchdog_seconds = self._supervisor.watchdog_seconds
        period = _STATUS_SECONDS if watchdog_seconds is None else watchdog_seconds * _PART_OF_WATCHDOG
        sign_of_life = [] if watchdog_seconds is None else ["WATCHDOG=1"]
        while True:
            await trio.sleep(period)
            self._send(*sign_of_life, f"STATUS={_one_line(status())}")

    def _send(self, *lines: str) -> None:
        if self._supervisor is None:
            return
        address = self._supervisor.socket
        if address.startswith("@"):  # an abstract one, unix(7)
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as connection:
                connection.sendto("\n".join(lines).encode(errors="backslashreplace"), address)
        except OSError as error:
            log.warning("a message to the supervisor is lost", message=lines[0], reason=str(error))


def _one_line(text: str) -> str:
    return " ".join(text.split())

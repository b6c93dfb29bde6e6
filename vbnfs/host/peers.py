"""Which process is at the other end of a Unix socket, as the kernel has it: SO_PEERCRED, unix(7)."""

import socket
import sys
from typing import Any, Final, NamedTuple, Protocol

_UCRED_BYTES: Final = 12  # pid, uid and gid, of 4 bytes each


class Peer(NamedTuple):
    """The process at the other end of a Unix socket; `pid` is 0 if it cannot be seen from here."""

    pid: int
    uid: int


class Connection(Protocol):
    """A connected Unix socket: of the library, or trio's."""

    @property
    def getsockopt(self) -> Any:
        """What `socket.socket` has."""


def peer_of(connection: Connection) -> Peer:
    """The process that connected or, of a connection that was made from here, the one that listens."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED_BYTES)
    pid, uid = (int.from_bytes(credentials[at : at + 4], sys.byteorder) for at in (0, 4))
    return Peer(pid, uid)

"""Which user has made a TCP connection from this machine to this process: /proc/net/tcp and tcp6, proc(5)."""

import socket
import sys
from pathlib import Path
from typing import Final

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))  # the second one is missing where there is no IPv6
_MAPPED: Final = bytes(10) + b"\xff\xff"  # before an IPv4 address of an IPv6 socket: RFC 4291, 2.5.5.2
_LOCAL, _REMOTE, _USER, _INODE = 1, 2, 7, 9  # columns
_NO_SOCKET: Final = "0"  # the inode of what no program has open any more
_LOOKS: Final = 4  # a table that changes while it is read may lack a line

Address = tuple[str, int]


def user_of_connection(client: Address, server: Address) -> int | None:
    """The number of the user whose program has the connection's other end; addresses are IPv4's, with ports.

    None: no program of this machine has it open. Raises `OSError` on a system without these tables.
    """
    for _ in range(_LOOKS):
        for table in _TABLES:
            if table != _TABLES[1] or table.exists():
                user = _user_in(table.read_text(encoding="ascii"), client, server)
                if user is not None:
                    return user
    return None


def _user_in(table: str, client: Address, server: Address) -> int | None:
    """The user of a connection, as a table says it (pure)."""
    wanted = {(_written(client, before), _written(server, before)) for before in (b"", _MAPPED)}
    for line in table.splitlines()[1:]:
        columns = line.split()
        if (columns[_LOCAL], columns[_REMOTE]) in wanted and columns[_INODE] != _NO_SOCKET:
            return int(columns[_USER])
    return None


def _written(address: Address, before: bytes) -> str:
    """An address as the kernel writes it: words of four bytes in this machine's order, as hexadecimal digits."""
    data = before + socket.inet_aton(address[0])
    words = (int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, len(data), 4))
    return f"{''.join(f'{word:08X}' for word in words)}:{address[1]:04X}"

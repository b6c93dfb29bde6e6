"""Loopback ports for a server that needs several at once.

SeaweedFS listens on each HTTP port and, for gRPC, 10000 above it. It also makes Unix sockets named after the gRPC
ports in /tmp, a folder that cannot be configured. A socket that another user left there cannot be replaced.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path

GRPC_OFFSET = 10000
# Both halves of a pair stay below 32768, where Linux begins to give ports to outgoing connections.
_CANDIDATES = range(10100, 22700)
_SOCKET_DIRECTORY = Path("/tmp")


def free_ports(count: int) -> list[int]:
    """Choose `count` different ports that are free on 127.0.0.1 together with their gRPC ports.

    They are not reserved: another program may take one before the server binds it, so a failed start has to be
    repeated with new ports. Raises OSError if the machine has too few free ports.
    """
    left_over = {port for port, _ in _sockets()}
    chosen: list[int] = []
    for port in random.sample(_CANDIDATES, len(_CANDIDATES)):
        if not {port, port + GRPC_OFFSET} & left_over and is_free(port):
            chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise OSError(f"fewer than {count} free ports on 127.0.0.1")


def is_free(port: int) -> bool:
    """Whether no program listens on a port of 127.0.0.1, nor on its gRPC port."""
    return _is_free(port) and _is_free(port + GRPC_OFFSET)


def remove_sockets(ports: list[int]) -> None:
    """Remove the Unix sockets of a server that has ended and listened on `ports`; it leaves some of them behind."""
    for port, path in _sockets():
        if port in ports or port - GRPC_OFFSET in ports:
            with contextlib.suppress(OSError):
                path.unlink()


def _sockets() -> Iterator[tuple[int, Path]]:
    """Yield the Unix sockets of all servers on this machine, running or not, with their ports."""
    for path in _SOCKET_DIRECTORY.glob("seaweedfs-*-*.sock"):
        port = path.stem.rpartition("-")[2]
        if port.isdecimal():
            yield int(port), path


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: TIME_WAIT is no obstacle
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

"""A port for a server that is to be given one."""

import secrets
import socket
from typing import Final

# Below those that Linux gives to outgoing connections, of other tests, too, and those of the demo's S3 server.
_CANDIDATES: Final = range(5000, 10000)


def free_port() -> int:
    """A port of 127.0.0.1 at which nothing listens now."""
    while True:
        port = secrets.choice(_CANDIDATES)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port

"""Serving the page: hypercorn on trio, at a socket that is bound before anything is printed."""

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import hypercorn.config
import hypercorn.trio
import trio
from starlette.types import ASGIApp

from vbnfs.errors import WebError

_HOST: Final = "127.0.0.1"
_BACKLOG: Final = 64
_LAST_SECONDS: Final = 1.0  # for answers that are under way at the end


@dataclass(frozen=True, slots=True)
class Listening:
    """A bound socket, and its port."""

    socket: socket.socket
    port: int

    @property
    def address(self) -> str:
        """What a browser on this machine opens."""
        return f"http://{_HOST}:{self.port}/"


def listen(port: int) -> Listening:
    """A socket at the loopback address; port 0: any that is free. Raises `WebError`."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((_HOST, port))
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise WebError(f"port {port}: {error.strerror}; '--port 0' takes one that is free") from error
    return Listening(made, made.getsockname()[1])


def serve(app: ASGIApp, listening: Listening, until: Callable[[], Awaitable[None]]) -> None:
    """Answer until `until` returns, or Ctrl-C."""
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listening.socket.fileno()}"]
    config.accesslog = config.errorlog = None
    config.include_server_header = False
    config.graceful_timeout = config.shutdown_timeout = _LAST_SECONDS
    config.h11_max_incomplete_size = 64 << 10
    trio.run(_serve, app, config, until)


async def _serve(app: ASGIApp, config: hypercorn.config.Config, until: Callable[[], Awaitable[None]]) -> None:
    await hypercorn.trio.serve(app, config, shutdown_trigger=until, mode="asgi")  # type: ignore[arg-type]

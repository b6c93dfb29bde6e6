"""Serving the page: hypercorn's connections on trio, at a socket that is bound before anything is printed.

The loop that accepts them is here, for three reasons. A connection of another user's program is refused before any of
it is parsed. What goes wrong in one connection ends that connection, and not the server. None changes to HTTP/2.
"""

import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp

from vbnfs.errors import WebError
from vbnfs.host.tcp_peers import Address

_HOST: Final = "127.0.0.1"
_BACKLOG: Final = 64
_MOST_CONNECTIONS: Final = 256  # at a time; a browser has six. Others wait
_LAST_SECONDS: Final = 1.0  # for answers that are under way at the end
_IDLE_SECONDS: Final = 5.0  # for the head of a request to come, all of it, and between two
_MOST_HEAD_BYTES: Final = 64 << 10  # a browser sends the cookies of all ports of a host
_TO_STRANGERS: Final = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"This page is of another user. For a proxy that is not yours: 'vbnfs web --any-user'.\n"
)

IsStranger = Callable[[Address, Address], bool]


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


def serve(
    app: ASGIApp,
    listening: Listening,
    until: Callable[[], Awaitable[None]],
    *,
    is_stranger: IsStranger | None = None,
) -> None:
    """Answer until `until` returns, or Ctrl-C. `is_stranger`: whose connections are refused; None: nobody's."""
    config = Config()
    config.accesslog = config.errorlog = None
    config.include_server_header = False
    config.keep_alive_timeout = _IDLE_SECONDS
    config.h11_max_incomplete_size = _MOST_HEAD_BYTES
    trio.run(partial(_serve, app, config, listening, until, is_stranger))


class _Connection(TCPServer):
    """A connection, for which hypercorn chooses the protocol: it stays the one of the beginning, HTTP/1."""

    @property
    def protocol(self) -> Any:
        """What parses the bytes that come."""
        return self._protocol

    @protocol.setter
    def protocol(self, choosing: Any) -> None:
        self._protocol = choosing.protocol


async def _serve(
    app: ASGIApp,
    config: Config,
    listening: Listening,
    until: Callable[[], Awaitable[None]],
    is_stranger: IsStranger | None,
) -> None:
    places, context = trio.Semaphore(_MOST_CONNECTIONS), WorkerContext(None)
    wrapped = wrap_app(app, 0, "asgi")  # type: ignore[arg-type]

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(Exception):  # of this connection alone
                if is_stranger is not None and await trio.to_thread.run_sync(is_stranger, *_ends_of(stream)):
                    await _refuse(stream)
                    return
                async with places:
                    await _Connection(wrapped, config, context, ConnectionState({}), stream)  # type: ignore[arg-type]

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening.socket))
    async with listener, trio.open_nursery() as answering:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(partial(trio.serve_listeners, answer, [listener], handler_nursery=answering))
            await until()
            accepting.cancel_scope.cancel()
        await context.terminated.set()  # connections that say nothing end now
        answering.cancel_scope.deadline = trio.current_time() + _LAST_SECONDS


def _ends_of(stream: trio.SocketStream) -> tuple[Address, Address]:
    return stream.socket.getpeername(), stream.socket.getsockname()


async def _refuse(stream: trio.SocketStream) -> None:
    """Answer once something was asked, so that the answer is read; nothing is parsed."""
    with trio.move_on_after(_IDLE_SECONDS):
        await stream.receive_some()
        await stream.send_all(_TO_STRANGERS)

"""Serving the page, at a socket that is bound before anything is printed.

A connection of another user's program is refused before any of it is parsed. As many are open as a few browsers need;
those that wait for a request give way to new ones, so that idle clients keep nobody out. What goes wrong in one ends
that one alone.
"""

import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
import trio
from starlette.types import ASGIApp

from vbnfs.errors import WebError
from vbnfs.host.tcp_peers import Address
from vbnfs.web.http_connection import HttpConnection

_HOST: Final = "127.0.0.1"
_BACKLOG: Final = 64
_MOST_CONNECTIONS: Final = 128  # at a time; a browser has six. A process may have 1,024 files open
_LAST_SECONDS: Final = 1.0  # for answers that are under way at the end
_IDLE_SECONDS: Final = 5.0  # for the head of a request to come, all of it, and between two
_FULL_SECONDS: Final = 0.1  # until a connection is accepted again where the process has too many files open
_TO_STRANGERS: Final = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"This page is of another user. For a proxy that is not yours: 'vbnfs web --any-user'.\n"
)

log = structlog.get_logger()

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
    """Answer until `until` returns, or Ctrl-C. `is_stranger`: whose connections are refused; None: all are heard."""
    trio.run(partial(_serve, app, listening, until, is_stranger))


class _Places:
    """Places for connections. Where none is free, the one that has waited longest for a request gives way."""

    def __init__(self, count: int) -> None:
        self._free = trio.Semaphore(count)
        self._waiting: dict[trio.CancelScope, None] = {}  # the longest one first
        self._is_ending = False

    async def take(self) -> None:
        """Take a place. Waits while there is none, and each connection is being answered."""
        if self._free.value == 0 and self._waiting:
            next(iter(self._waiting)).cancel()
        await self._free.acquire()

    def leave(self) -> None:
        """Give a place back."""
        self._free.release()

    def end(self) -> None:
        """End all that wait, now and later."""
        self._is_ending = True
        for scope in self._waiting:
            scope.cancel()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While a connection waits for its client: it ends if that takes too long, or another one needs its place."""
        with trio.move_on_after(_IDLE_SECONDS) as scope:
            if self._is_ending or self._free.statistics().tasks_waiting:
                scope.cancel()
            self._waiting[scope] = None
            try:
                yield
            finally:
                del self._waiting[scope]


async def _serve(
    app: ASGIApp, listening: Listening, until: Callable[[], Awaitable[None]], is_stranger: IsStranger | None
) -> None:
    places = _Places(_MOST_CONNECTIONS)

    async def answer(stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await _answer(app, stream, places, is_stranger)
        finally:
            places.leave()

    async with trio.open_nursery() as answering:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(_accept, listening, places, answering, answer)
            await until()
            accepting.cancel_scope.cancel()
        places.end()
        answering.cancel_scope.deadline = trio.current_time() + _LAST_SECONDS


async def _answer(app: ASGIApp, stream: trio.SocketStream, places: _Places, is_stranger: IsStranger | None) -> None:
    try:
        if is_stranger is not None and await trio.to_thread.run_sync(is_stranger, *_ends_of(stream)):
            await _refuse(stream, places)
        else:
            await HttpConnection(app, stream, places.waiting).run()
    except (OSError, trio.BrokenResourceError):  # the client is gone
        return
    except Exception:
        log.exception("a connection has ended with a defect")


async def _accept(
    listening: Listening,
    places: _Places,
    answering: trio.Nursery,
    answer: Callable[[trio.SocketStream], Awaitable[None]],
) -> None:
    async with trio.SocketListener(trio.socket.from_stdlib_socket(listening.socket)) as listener:
        while True:
            try:
                stream = await listener.accept()
            except OSError:  # too many files are open; accept(2)
                await trio.sleep(_FULL_SECONDS)
                continue
            await places.take()
            answering.start_soon(answer, stream)


def _ends_of(stream: trio.SocketStream) -> tuple[Address, Address]:
    return stream.socket.getpeername(), stream.socket.getsockname()


async def _refuse(stream: trio.SocketStream, places: _Places) -> None:
    """Answer once something was asked, so that the answer is read; nothing is parsed."""
    with places.waiting():
        await stream.receive_some()
        await stream.send_all(_TO_STRANGERS)

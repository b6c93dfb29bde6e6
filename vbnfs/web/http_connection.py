"""A client's connection: HTTP/1.1 as h11 parses it, each request answered by an ASGI application.

It speaks HTTP/1.1 and 1.0, and changes to no other protocol. What a proxy before this server could read otherwise is
no request. Whatever is wrong with a request, it is answered with an error where it can be, and the connection ends:
what follows on it is not read as a request.

Sources: RFC 9110, RFC 9112 (messages, connections; 11.2 on smuggling), ASGI 3 (HTTP).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import unquote

import h11
import structlog
import trio
from starlette.types import ASGIApp, Message, Scope

from vbnfs.host.tcp_peers import Address

_MOST_HEAD_BYTES: Final = 64 << 10  # a browser sends the cookies of all ports of a host
_PIECE_BYTES: Final = 64 << 10
_PIECE_SECONDS: Final = 20.0  # for a client to take a piece of an answer
_MOST_UNREAD_BYTES: Final = 1 << 20
_LINGER_SECONDS: Final = 1.0

log = structlog.get_logger()

Waiting = Callable[[], AbstractContextManager[object]]


class HttpConnection:
    """A connection of which each request is answered by `app`.

    A client is waited for within `waiting()`, which may end the wait: then the connection ends. Raises `OSError` for
    one that is gone.
    """

    def __init__(self, app: ASGIApp, stream: trio.SocketStream, waiting: Waiting) -> None:
        self._app = app
        self._stream = stream
        self._waiting = waiting
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEAD_BYTES)
        self._ends = stream.socket.getpeername()[:2], stream.socket.getsockname()[:2]
        self._unsent = bytearray()
        self._is_head = self._is_last = False
        self._fault: int | None = None  # a status: what came is no request

    async def run(self) -> None:
        """Answer until the client goes, is too slow, or sends what is no request."""
        with suppress(trio.BrokenResourceError, trio.TooSlowError):
            try:
                while (request := await self._next_request()) is not None:
                    await self._answer(request)
                    if not self._begin_anew():
                        break
                else:
                    return
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint)
            await self._linger()

    async def _next_request(self) -> h11.Request | None:
        """The head of a request; None: there comes no more. Raises what h11 does for what is none."""
        event: object = None
        with self._waiting():
            event = await self._next_event()
        if not isinstance(event, h11.Request):
            return None
        if status := fault_of(event):
            raise h11.RemoteProtocolError("no request of this server", error_status_hint=status)
        return event

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._stream.receive_some(_PIECE_BYTES))
        return event

    async def _answer(self, request: h11.Request) -> None:
        self._is_head = request.method == b"HEAD"
        self._is_last = any(name == b"upgrade" for name, _ in request.headers)  # what follows may be another protocol
        try:
            await self._app(scope_of(request, *self._ends), self._receive, self._take)
        except (trio.BrokenResourceError, trio.TooSlowError):
            raise
        except Exception:
            if self._fault is None:  # else the client is the reason
                log.exception("the page has a defect", path=request.target.partition(b"?")[0].decode())
        if self._http.our_state is h11.SEND_RESPONSE:
            await self._refuse(self._fault or 500)

    async def _receive(self) -> Message:
        """ASGI's `receive`: the next piece of a request's body."""
        try:
            event = await self._next_event()
        except h11.RemoteProtocolError as error:
            self._fault = error.error_status_hint
            return {"type": "http.disconnect"}
        if isinstance(event, h11.Data):
            return {"type": "http.request", "body": bytes(event.data), "more_body": True}
        if isinstance(event, h11.EndOfMessage):
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.disconnect"}

    async def _take(self, message: Message) -> None:
        """ASGI's `send`: a piece of an answer."""
        if self._fault is not None:
            return
        if message["type"] == "http.response.start":
            self._queue(_head(message["status"], message.get("headers", ()), is_last=self._is_last))
            return
        if (body := message.get("body", b"")) and not self._is_head:
            self._queue(h11.Data(data=body))
        if not message.get("more_body", False):
            self._queue(h11.EndOfMessage())
        await self._flush()

    async def _refuse(self, status: int) -> None:
        """Answer that something is no request, if no answer has begun; the connection's last one."""
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._queue(_head(status, [(b"content-length", b"0")], is_last=True))
            await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Event) -> None:
        self._queue(event)
        await self._flush()

    def _queue(self, event: h11.Event) -> None:
        self._unsent += self._http.send(event) or b""

    async def _flush(self) -> None:
        """Send what is queued. Raises `trio.TooSlowError` if the client does not take it."""
        data, self._unsent = memoryview(bytes(self._unsent)), bytearray()
        for start in range(0, len(data), _PIECE_BYTES):
            with trio.fail_after(_PIECE_SECONDS):
                await self._stream.send_all(data[start : start + _PIECE_BYTES])

    def _begin_anew(self) -> bool:
        """Whether another request may follow: all of the last one was read, and all of its answer written."""
        if self._http.our_state is not h11.DONE:
            return False
        if self._http.their_state is h11.SEND_BODY:
            self._http.next_event()
        if self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def _linger(self) -> None:
        """Close once the client has: bytes that are unread then would take the answer away (RFC 9112, 9.6)."""
        with self._waiting(), suppress(OSError), trio.move_on_after(_LINGER_SECONDS):
            await self._stream.send_eof()
            unread = _MOST_UNREAD_BYTES
            while unread > 0 and (piece := await self._stream.receive_some(_PIECE_BYTES)):
                unread -= len(piece)


def fault_of(request: h11.Request) -> int | None:
    """The status for a head that h11 takes, and that is no request of an origin server (pure)."""
    names = {name for name, _ in request.headers}
    if request.http_version not in {b"1.1", b"1.0"}:
        return 505
    if not request.target.startswith(b"/"):  # that of a proxy, of CONNECT, of OPTIONS
        return 400
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0"):
        return 400  # RFC 9112, 6.1: what another reader takes for the body's end may be elsewhere
    return None


def scope_of(request: h11.Request, client: Address, server: Address) -> Scope:
    """A request as ASGI has it."""
    path, _, query = request.target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.http_version.decode(),
        "method": request.method.decode(),
        "scheme": "http",
        "path": unquote(path.decode()),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": list(request.headers),
        "client": client,
        "server": server,
    }


def _head(status: int, fields: Any, *, is_last: bool) -> h11.Response:
    own = [(b"date", formatdate(usegmt=True).encode()), *([(b"connection", b"close")] if is_last else ())]
    return h11.Response(status_code=status, headers=[*fields, *own])

"""Bodies by libcurl: an httpx transport whose bytes move in a thread of their own.

Reading gigabytes over TLS costs httpx 4 s of processor time a GB, much of it in Python on the event loop; libcurl
takes 1.1. So ranges go through this transport, while requests, replies, checks and errors stay httpx's: whoever uses
it sees no difference. libcurl's multi interface (libcurl-multi(3)) runs in one thread, which waits for all
connections by epoll:

    event loop      a request -> _Transfer; waits for its reply, then for its pieces
    the thread      sockets, TLS, HTTP; makes pieces of up to 2 MiB and hands them to the event loop

The first piece is a block, for which a reader may wait; those that follow are larger, since each costs the event loop
a quarter of a millisecond. A transfer whose pieces are not taken is paused, so that no more than `MOST_WAITING_BYTES`
of it wait in memory. A round of all connections may take 10 MB, 30 ms: replies of a block or less, for which readers
wait, have their turn after each of the others.
"""

import math
import os
import re
import select
import ssl
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Final, Self

import httpx
import pycurl
import structlog
import trio

log = structlog.get_logger()

_BLOCK_BYTES: Final = 256 << 10
PIECE_BYTES: Final = 8 * _BLOCK_BYTES
_TICK_SECONDS: Final = 0.25
_HOLD_SECONDS: Final = 1.0  # longer, and a slow connection would look like one that brings nothing
MOST_WAITING_BYTES: Final = 2 * PIECE_BYTES
_BUFFER_BYTES: Final = 64 << 10  # libcurl takes ten of it from a connection at the most before the next one's turn
_JOIN_SECONDS: Final = 5.0
_RANGE: Final = re.compile("bytes=([0-9]+)-([0-9]+)")
_STATUS_LINE: Final = re.compile(rb"HTTP/[0-9.]+ +([0-9]{3})(?![0-9])")

_CONNECT_FAILURES: Final = frozenset(
    {
        pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_CONNECT, pycurl.E_SSL_CONNECT_ERROR,
        pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE,
    }
)  # fmt: skip
_NOT_HTTP: Final = frozenset(
    {
        pycurl.E_PARTIAL_FILE, pycurl.E_GOT_NOTHING, pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_FTP_WEIRD_SERVER_REPLY,
    }
)  # fmt: skip


def trusted_certificates(context: ssl.SSLContext) -> bytes:
    """The authorities that a context trusts, as PEM; empty if it looks them up in a folder as it needs them."""
    return b"".join(ssl.DER_cert_to_PEM_cert(der).encode() for der in context.get_ca_certs(binary_form=True))


class CurlTransport(httpx.AsyncBaseTransport):
    """Sends `httpx.Request`s, by themselves or for an `httpx.AsyncClient`. Entered within a trio run.

    `certificates` are PEM, as of `trusted_certificates`. At most `max_connections` requests are under way; the others
    wait. Of httpx's timeouts it keeps `connect` and `read`.
    """

    def __init__(self, *, certificates: bytes, max_connections: int) -> None:
        self._certificates = certificates
        self._limiter = trio.CapacityLimiter(max_connections)
        self._multi = _MultiThread(max_connections)

    async def __aenter__(self) -> Self:
        self._multi.start()
        return self

    async def aclose(self) -> None:
        """End the connections, and what is still on its way."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._multi.stop)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The reply to a request without a body, as soon as its headers are there."""
        timeouts = request.extensions.get("timeout", {})
        handle = self._handle(request, timeouts.get("connect"))
        transfer = _Transfer(handle, timeouts.get("read"), self._multi, is_short=_is_for_a_block(request))
        await self._limiter.acquire_on_behalf_of(transfer)
        try:
            self._multi.call(partial(self._multi.begin, transfer))
            status, headers = await transfer.head()
        except BaseException:
            self._end(transfer)
            raise
        return httpx.Response(status, headers=headers, stream=_Stream(transfer, self._end))

    def _end(self, transfer: "_Transfer") -> None:
        transfer.forget()
        self._limiter.release_on_behalf_of(transfer)
        self._multi.call(partial(self._multi.abandon, transfer))

    def _handle(self, request: httpx.Request, connect_seconds: float | None) -> pycurl.Curl:
        handle = pycurl.Curl()
        options = {
            pycurl.URL: str(request.url),
            pycurl.PATH_AS_IS: 1,
            pycurl.HTTPHEADER: [f"{name}: {value}" for name, value in request.headers.items() if name != "host"],
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
            pycurl.NOBODY: int(request.method == "HEAD"),
            pycurl.BUFFERSIZE: _BUFFER_BYTES,
            pycurl.PROXY: "",  # where there is one, httpx sees to it
            pycurl.NOSIGNAL: 1,
            pycurl.CONNECTTIMEOUT_MS: int((connect_seconds or 0) * 1000),
        }
        if self._certificates:
            options[pycurl.CAINFO_BLOB] = self._certificates
        for option, value in options.items():
            handle.setopt(option, value)
        return handle


_Item = tuple[int, list[tuple[bytes, bytes]]] | bytes | None  # status and headers, then pieces, then the end


class _Transfer:
    """One request on its way. The thread's methods stand below the line, the event loop's above it."""

    def __init__(
        self, handle: pycurl.Curl, read_seconds: float | None, multi: "_MultiThread", *, is_short: bool
    ) -> None:
        self.handle = handle
        self.is_short = is_short
        self._read_seconds = math.inf if read_seconds is None else read_seconds
        self._multi = multi
        self._token = trio.lowlevel.current_trio_token()
        self._arrived: deque[_Item] = deque()
        self._error: httpx.TransportError | None = None
        self._news = trio.lowlevel.ParkingLot()
        self._is_paused = False
        self._taken_bytes = 0  # changed by the event loop only
        self._handed_bytes = 0  # changed by the thread only
        self._head: list[bytes] = []
        self._has_head = False
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._handed_at = time.monotonic()
        self._came_bytes = 0  # when it was looked last
        handle.setopt(pycurl.HEADERFUNCTION, self._take_line)
        handle.setopt(pycurl.WRITEFUNCTION, self._take_part)

    async def head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Status and headers. Raises an `httpx.TransportError`."""
        item = await self._next()
        if not isinstance(item, tuple):
            raise httpx.RemoteProtocolError("a reply without a status")
        return item

    async def piece(self) -> bytes | None:
        """The next piece of the body; None at its end. Raises an `httpx.TransportError`."""
        item = await self._next()
        assert not isinstance(item, tuple)
        self._taken_bytes += len(item or b"")
        self._go_on()
        return item

    def forget(self) -> None:
        """Nothing more is wanted."""
        self._arrived.clear()
        self._hear(None)

    async def _next(self) -> _Item:
        with trio.move_on_after(self._read_seconds):
            while not self._arrived:
                if self._error is not None:
                    raise self._error
                await self._news.park()
            return self._arrived.popleft()
        raise httpx.ReadTimeout("no byte in time")

    def _hear(self, item: _Item) -> None:
        self._arrived.append(item)
        self._news.unpark_all()

    def _hear_failure(self, error: httpx.TransportError) -> None:
        self._error = error
        self._news.unpark_all()

    def _hear_pause(self) -> None:
        self._is_paused = True
        self._go_on()

    def _go_on(self) -> None:
        if self._is_paused and self._ahead_bytes() < PIECE_BYTES:
            self._is_paused = False
            self._multi.call(partial(self._multi.go_on, self))

    def _ahead_bytes(self) -> int:
        """Handed over and not taken yet."""
        return self._handed_bytes - self._taken_bytes

    # ------------------------------------------------------------------------------------------------------------

    def end(self, error: httpx.TransportError | None) -> None:
        """The transfer is over, well or not; what came before counts all the same."""
        if self._parts:
            self._hand_over()
        if error is None:
            self._say(self._hear, None)
        else:
            self._say(self._hear_failure, error)

    def tick(self) -> None:
        """Hand over what has come, if no more does, or only slowly."""
        came_bytes = self._handed_bytes + self._parts_bytes
        is_slow = came_bytes == self._came_bytes or time.monotonic() - self._handed_at > _HOLD_SECONDS
        self._came_bytes = came_bytes
        if self._parts and is_slow:
            self._hand_over()

    def _say(self, hear: Callable[..., None], *what: object) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(hear, *what)

    def _take_line(self, line: bytes) -> None:
        """A line of the head. Heads of interim replies may come before it (RFC 9110, 15.2), and trailers after."""
        if self._has_head:
            return
        if line.strip():
            self._head.append(line)
            return
        told = _STATUS_LINE.match(b"".join(self._head[:1]))
        status = int(told[1]) if told else 0  # libcurl lets pass what looks only like a status line
        if status >= HTTPStatus.OK:
            self._has_head = True
            fields = (line.partition(b":") for line in self._head[1:])
            self._say(self._hear, (status, [(name.strip(), value.strip()) for name, _, value in fields]))
        self._head.clear()

    def _take_part(self, part: bytes) -> int | None:
        if self._ahead_bytes() + self._parts_bytes >= MOST_WAITING_BYTES:
            self._say(self._hear_pause)
            return pycurl.WRITEFUNC_PAUSE
        came_bytes = self._handed_bytes + self._parts_bytes
        room = _BLOCK_BYTES - came_bytes if came_bytes < _BLOCK_BYTES else PIECE_BYTES - came_bytes % PIECE_BYTES
        self._parts.append(part[:room])
        self._parts_bytes += min(len(part), room)
        if len(part) >= room:
            self._hand_over()
            if len(part) > room:
                self._parts.append(part[room:])
                self._parts_bytes = len(part) - room
        return None

    def _hand_over(self) -> None:
        piece = b"".join(self._parts)
        self._parts.clear()
        self._parts_bytes = 0
        self._handed_at = time.monotonic()
        self._handed_bytes += len(piece)
        self._say(self._hear, piece)


class _Stream(httpx.AsyncByteStream):
    """A reply's body."""

    def __init__(self, transfer: _Transfer, end: Callable[[_Transfer], None]) -> None:
        self._transfer = transfer
        self._end = end
        self._is_open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await self._transfer.piece()) is not None:
            yield piece

    async def aclose(self) -> None:
        """Give the connection back, or end it if the body was not read to its end."""
        if self._is_open:
            self._is_open = False
            self._end(self._transfer)


class _ShortTransfers:
    """Those whose replies do not wait for other connections' turns. For one thread."""

    def __init__(self) -> None:
        self._descriptors: dict[pycurl.Curl, int | None] = {}  # None: it has no connection yet
        self._epoll = select.epoll()

    def add(self, handle: pycurl.Curl) -> None:
        self._descriptors[handle] = None

    def remove(self, handle: pycurl.Curl) -> None:
        """It is over, or was none of them."""
        descriptor = self._descriptors.pop(handle, None)
        if descriptor is not None:
            with suppress(OSError):  # closed already
                self._epoll.unregister(descriptor)

    def ready(self) -> list[tuple[int, int]]:
        """Descriptors and events of those that have bytes now."""
        if not self._descriptors:
            return []
        for handle, known in self._descriptors.items():
            if known is None and (descriptor := handle.getinfo(pycurl.ACTIVESOCKET)) >= 0:
                self._descriptors[handle] = descriptor
                with suppress(FileExistsError):  # it was that of one that is over, which is not told yet
                    self._epoll.register(descriptor, select.EPOLLIN)
        return self._epoll.poll(0)

    def close(self) -> None:
        self._epoll.close()


class _MultiThread:
    """libcurl's multi interface, and the thread that drives it. Only `call`, `start` and `stop` are for others."""

    def __init__(self, max_connections: int) -> None:
        self._max_connections = max_connections
        self._multi = self._new_multi()
        self._transfers: dict[pycurl.Curl, _Transfer] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._short = _ShortTransfers()
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._due: float | None = None
        self._ticked = 0.0
        self._is_running = True
        self._thread = threading.Thread(target=self._run, name="curl", daemon=True)

    def __del__(self) -> None:
        os.close(self._wake)  # not before: `call` must not write to another file that has taken its number

    def start(self) -> None:
        self._epoll.register(self._wake, select.EPOLLIN)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, its transfers and its connections."""
        self.call(self._finish)
        self._thread.join(_JOIN_SECONDS)

    def call(self, function: Callable[[], None]) -> None:
        """Have something done in the thread, soon."""
        self._calls.append(function)
        os.eventfd_write(self._wake, 1)

    # In the thread

    def _new_multi(self) -> pycurl.CurlMulti:
        multi = pycurl.CurlMulti()
        multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        multi.setopt(pycurl.M_MAXCONNECTS, self._max_connections)
        return multi

    def begin(self, transfer: _Transfer) -> None:
        self._transfers[transfer.handle] = transfer
        self._multi.add_handle(transfer.handle)
        if transfer.is_short:
            self._short.add(transfer.handle)

    def go_on(self, transfer: _Transfer) -> None:
        if transfer.handle in self._transfers:
            transfer.handle.pause(pycurl.PAUSE_CONT)

    def abandon(self, transfer: _Transfer) -> None:
        """Remove a transfer. If it is not over, its connection is closed."""
        if transfer.handle in self._transfers:
            self._remove(transfer.handle)
        transfer.handle.close()

    def _remove(self, handle: pycurl.Curl) -> _Transfer:
        """Look after it no longer. Its connection stays, for others, if it is over."""
        transfer = self._transfers.pop(handle)
        self._short.remove(handle)
        self._multi.remove_handle(handle)
        return transfer

    def _run(self) -> None:
        while self._is_running:
            try:
                self._do_what_is_due()
            except Exception:  # without this thread there would be no more reading, and nothing would say so
                log.exception("libcurl failed; its connections begin anew")
                self._end_all("libcurl failed")
                self._due, self._multi = None, self._new_multi()
        self._end_all("the connections are being closed")
        self._short.close()
        self._epoll.close()

    def _end_all(self, reason: str) -> None:
        for transfer in list(self._transfers.values()):
            with suppress(pycurl.error):
                self._remove(transfer.handle)
            transfer.end(httpx.ReadError(reason))
        self._multi.close()

    def _do_what_is_due(self) -> None:
        for descriptor, events in self._epoll.poll(self._seconds_left()):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
            else:
                self._multi.socket_action(descriptor, _curl_events(events))
            self._do_what_cannot_wait()
        self._do_what_cannot_wait()
        if self._ticked + _TICK_SECONDS <= time.monotonic():
            self._ticked = time.monotonic()
            for transfer in self._transfers.values():
                transfer.tick()

    def _do_what_cannot_wait(self) -> None:
        """Until all other connections have had their turn: new requests, and replies for which readers wait."""
        while self._calls:
            self._calls.popleft()()
        if self._due is not None and self._due <= time.monotonic():
            self._due = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        for descriptor, events in self._short.ready():
            self._multi.socket_action(descriptor, _curl_events(events))
        self._end_those_that_are_over()

    def _seconds_left(self) -> float | None:
        left = math.inf if self._due is None else max(0.0, self._due - time.monotonic())
        left = min(left, _TICK_SECONDS if self._transfers else math.inf)
        return None if left == math.inf else left

    def _end_those_that_are_over(self) -> None:
        queued = 1
        while queued:
            queued, good, failed = self._multi.info_read()
            for handle in good:
                self._is_over(handle, None)
            for handle, number, message in failed:
                self._is_over(handle, _failure(number, message))

    def _is_over(self, handle: pycurl.Curl, error: httpx.TransportError | None) -> None:
        self._remove(handle).end(error)

    def _finish(self) -> None:
        self._is_running = False

    def _watch(self, what: int, descriptor: int, *_: object) -> None:
        """CURLMOPT_SOCKETFUNCTION."""
        if what == pycurl.POLL_REMOVE:
            with suppress(OSError):  # closed already
                self._epoll.unregister(descriptor)
            return
        events = (select.EPOLLIN if what & pycurl.POLL_IN else 0) | (select.EPOLLOUT if what & pycurl.POLL_OUT else 0)
        try:
            self._epoll.modify(descriptor, events)
        except FileNotFoundError:  # new, or another connection that has an old one's number
            self._epoll.register(descriptor, events)

    def _set_timer(self, milliseconds: int) -> None:
        """CURLMOPT_TIMERFUNCTION."""
        self._due = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000


def _is_for_a_block(request: httpx.Request) -> bool:
    """Or for less."""
    told = _RANGE.fullmatch(request.headers.get("range", ""))
    return told is not None and int(told[2]) - int(told[1]) < _BLOCK_BYTES


def _curl_events(events: int) -> int:
    return (
        (pycurl.CSELECT_IN if events & select.EPOLLIN else 0)
        | (pycurl.CSELECT_OUT if events & select.EPOLLOUT else 0)
        | (pycurl.CSELECT_ERR if events & (select.EPOLLERR | select.EPOLLHUP) else 0)
    )


def _failure(number: int, message: str) -> httpx.TransportError:
    """libcurl-errors(3) in httpx's words."""
    if number == pycurl.E_OPERATION_TIMEDOUT:
        return httpx.ConnectTimeout(message)  # no other time is limited here
    if number in _CONNECT_FAILURES:
        error = httpx.ConnectError(message)
        if number == pycurl.E_PEER_FAILED_VERIFICATION:
            error.__cause__ = ssl.SSLCertVerificationError(message)
        return error
    if number in _NOT_HTTP:
        return httpx.RemoteProtocolError(message)
    return httpx.ReadError(message)

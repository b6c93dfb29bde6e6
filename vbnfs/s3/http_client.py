"""All requests but those for ranges, by httpx: HEAD, and bodies small enough to be taken as a whole.

This is the only module that imports httpx. Its exceptions become ours here.
"""

import math
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx
import trio

from vbnfs.errors import BadReplyError, StorageError, TransportError, UsageError
from vbnfs.s3.failures import broken, is_untrusted, reason_of, system_reason, unreachable, untrusted
from vbnfs.s3.generations import Generations
from vbnfs.s3.limits import CONNECT_SECONDS, KEEPALIVE, LEAST_BYTES, LEAST_SECONDS, SILENCE_SECONDS, BodyTime
from vbnfs.s3.ranges import ANONYMOUS_FIELDS
from vbnfs.s3.refusals import status_error
from vbnfs.s3.replies import MAX_ERROR_BYTES, Head, check_encoding, says_size
from vbnfs.s3.stall import StallTimer

# What is asked here may change, as the list of versions does: caches on the way ask the server (RFC 9111, 5.2.1.4).
_FRESH: Final = {"Cache-Control": "no-cache"}
_SAY_SIZES: Final = frozenset({200, 206, 416})  # replies to a GET for the first byte, of all that are no error
_HEAD_SECONDS: Final = CONNECT_SECONDS + SILENCE_SECONDS  # until a reply's head is there, however busily it trickles
_WHOLE_SECONDS: Final = 60.0  # for all of a reply, ...
_LEAST_BYTES_PER_SECOND: Final = 64 << 10  # ... and a second more for so many bytes that it may have


def tls_context(ca_bundle: Path | None) -> ssl.SSLContext:
    """The usual trust (SSL_CERT_FILE and SSL_CERT_DIR honoured), or the certificates in a file alone.

    Raises `UsageError` for a file without certificates.
    """
    try:
        return ssl.create_default_context(cafile=ca_bundle) if ca_bundle else httpx.create_ssl_context()
    except OSError as error:
        raise UsageError(
            f"{ca_bundle or 'SSL_CERT_FILE'}: no usable certificates: {error.strerror or error}"
        ) from error


@dataclass(eq=False, slots=True)
class _Pool:
    """httpx's client, with the connections of one generation, and how many requests use it."""

    http: httpx.AsyncClient
    number: int
    users: int = 0


class HttpClient:
    """Asks one server. Use as an async context manager; closing ends its connections.

    Every request raises a `StorageError`. A request on a connection that is open already is made anew, on a new one,
    where no reply comes soon.
    """

    def __init__(
        self,
        server: str,
        *,
        tls: ssl.SSLContext,
        proxy: str | None,
        max_connections: int,
        generations: Generations | None = None,
    ) -> None:
        self._server = server
        self._tls = tls
        self._proxy = proxy
        self._max_connections = max_connections
        self._generations = generations or Generations()
        self._timer = StallTimer()  # of replies' heads
        try:
            self._pool = self._new_pool()
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            raise UsageError(f"HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used: {error}") from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._pool.http.aclose()

    def _new_pool(self) -> _Pool:
        most = self._max_connections
        transport = httpx.AsyncHTTPTransport(
            verify=self._tls,
            proxy=self._proxy,
            trust_env=False,  # proxies.py reads it, for ranges as well
            limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
            socket_options=KEEPALIVE,
        )
        http = httpx.AsyncClient(
            transport=transport,
            trust_env=False,
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, pool=None),
            headers={**ANONYMOUS_FIELDS, **_FRESH},
            # Requests are anonymous: an endpoint's cookies are neither kept nor sent back (RFC 6265).
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
        )
        return _Pool(http, self._generations.number)

    async def head(self, url: str, *, about: str) -> Head:
        """The head of the reply to HEAD, which is a 200; or to a GET for the first byte, where that says no size."""
        async with self._request("HEAD", url, about=about, max_bytes=MAX_ERROR_BYTES) as reply:
            if says_size(_head(reply)):
                # Only a reply that was read to its end leaves its connection to the next request; this has no body.
                await _check_status(reply, about=about)
                return _head(reply)
        first_byte = {"Range": "bytes=0-0"}
        async with self._request("GET", url, about=about, max_bytes=MAX_ERROR_BYTES, fields=first_byte) as reply:
            if reply.status_code not in _SAY_SIZES:
                await _check_status(reply, about=about)
            return _head(reply)

    async def get(self, url: str, *, about: str, max_bytes: int, is_object: bool = False) -> bytes:
        """The whole body of a 200; `BadReplyError` as soon as it proves larger than `max_bytes`.

        `is_object`: an object may have been stored with an encoding among its metadata.
        """
        async with self._request("GET", url, about=about, max_bytes=max_bytes) as reply:
            if reply.status_code != 200:
                await _check_status(reply, about=about)
            check_encoding(_head(reply), about, is_object=is_object)
            data = bytearray()
            async with _Body(reply, about=about) as pieces:
                async for piece in pieces:
                    data += piece
                    if len(data) > max_bytes:
                        raise BadReplyError(f"{about}: more than {max_bytes:,} bytes")
            return bytes(data)

    @asynccontextmanager
    async def _request(
        self, method: str, url: str, *, about: str, max_bytes: int, fields: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """A reply whose body, of at most `max_bytes`, is not read yet. It has to be at its end in time."""
        time = _Time(about, reused_seconds=max(self._timer.seconds, self._timer.unusual_seconds))
        try:
            with time.limited():
                async with self._reply(method, url, fields or {}, time) as reply:
                    time.allow(_WHOLE_SECONDS + max_bytes / _LEAST_BYTES_PER_SECOND)
                    yield reply
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            await self._renew()
            raise _failure(error, about=about, server=self._server) from error

    @asynccontextmanager
    async def _reply(
        self, method: str, url: str, fields: Mapping[str, str], time: "_Time"
    ) -> AsyncIterator[httpx.Response]:
        """A reply, as soon as its head is there; by a new connection, where an open one brings none soon."""
        self._generations.look_at_clocks()
        if self._pool.number != self._generations.number:
            await self._renew()
        async with self._using(self._pool) as http:
            with trio.CancelScope() as time.on_reused:
                request = http.build_request(method, url, headers=fields, extensions=time.extensions)
                reply = await http.send(request, stream=True)
            if not time.on_reused.cancelled_caught:
                self._timer = self._timer.after(time.taken_seconds)
                try:
                    yield reply
                finally:
                    await reply.aclose()
                return
        await self._renew()
        time.begin_anew()
        async with (
            self._using(self._pool) as http,
            http.stream(method, url, headers=fields, extensions=time.extensions) as reply,
        ):
            self._timer = self._timer.after(time.taken_seconds)
            self._generations.retire()  # a new connection answers, and an open one did not
            self._pool.number = self._generations.number
            yield reply

    async def _renew(self) -> None:
        """Use no connection again that is open now."""
        before, self._pool = self._pool, self._new_pool()
        await self._close_if_retired(before)

    async def _close_if_retired(self, pool: _Pool) -> None:
        if pool is not self._pool and not pool.users:
            with trio.CancelScope(shield=True):
                await pool.http.aclose()

    @asynccontextmanager
    async def _using(self, pool: _Pool) -> AsyncIterator[httpx.AsyncClient]:
        """The pool's client. It is closed behind its last request, if another pool has come to its place."""
        pool.users += 1
        try:
            yield pool.http
        finally:
            pool.users -= 1
            await self._close_if_retired(pool)


async def _check_status(reply: httpx.Response, *, about: str) -> None:
    """Read the start of the body. Raises what a status other than 200 means."""
    body, request = await _start_of_body(reply), reply.request
    if reply.status_code != 200:
        has_version_id = "versionId" in request.url.params
        raise status_error(
            _head(reply), body, expected=200, about=about, method=request.method, has_version_id=has_version_id
        )


async def _start_of_body(reply: httpx.Response) -> bytes:
    """As far as it can be had."""
    body = b""
    async with _Body(reply, about="error") as pieces:
        with suppress(httpx.HTTPError, TransportError):
            async for piece in pieces:
                body += piece
                if len(body) >= MAX_ERROR_BYTES:
                    break
    return body[:MAX_ERROR_BYTES]


def _head(reply: httpx.Response) -> Head:
    return Head(reply.status_code, {name.lower(): text for name, text in reply.headers.items()})


def _failure(error: Exception, *, about: str, server: str) -> StorageError:
    """What an exception of httpx means."""
    if is_untrusted(error):
        return untrusted(server, _reason(error))
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return unreachable(server, _reason(error))
    return broken(about, server, _reason(error))


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS:.0f} s"
    if isinstance(error, httpx.TimeoutException):
        return f"no byte for {SILENCE_SECONDS:.0f} s"
    if isinstance(error, httpx.ConnectError) and (reason := system_reason(error)):
        return reason
    return reason_of(error)


class _Time:
    """How long a request may take, however busily its bytes come: `_HEAD_SECONDS`, and what `allow` says.

    Each of httpx's own timeouts begins anew with each byte. Waiting for one of its connections does not count: httpx
    says when the request has one (its `trace` extension).
    """

    def __init__(self, about: str, *, reused_seconds: float) -> None:
        self._about = about
        self._reused_seconds = reused_seconds
        self._scope = trio.CancelScope()
        self._began = 0.0
        self._seconds = _HEAD_SECONDS
        self.on_reused = trio.CancelScope()  # around a first try, which ends sooner on a connection that was open
        self.extensions = {"trace": self._note}

    @contextmanager
    def limited(self) -> Iterator[None]:
        """What is within is given up in time. Raises `TransportError` then."""
        with self._scope:
            yield
        if self._scope.cancelled_caught:
            raise TransportError(f"{self._about}: not at its end after {self._seconds:.0f} s")

    def begin_anew(self) -> None:
        """What was taken until now does not count."""
        self._scope.deadline = math.inf

    @property
    def taken_seconds(self) -> float:
        """How long it has taken until now."""
        return trio.current_time() - self._began

    def allow(self, seconds: float) -> None:
        """So much, from the beginning."""
        self._seconds = seconds
        self._scope.deadline = self._began + seconds

    async def _note(self, event: str, _about: object) -> None:
        if self._scope.deadline == math.inf:
            self._began = trio.current_time()
            self.allow(self._seconds)
            if event.startswith("http11."):  # else it begins with connecting
                self.on_reused.deadline = self._began + self._reused_seconds


class _Body:
    """A reply's body, in pieces as they come; entered before, left after.

    What a server is allowed to take does not count the time between two pieces, which is the caller's.
    """

    def __init__(self, reply: httpx.Response, *, about: str) -> None:
        assert isinstance(reply.stream, httpx.AsyncByteStream)
        self._reply = reply
        self._pieces = aiter(reply.stream)
        self._about = about
        self._time = BodyTime()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the reply, and run httpx's generators to their end, which is near then: else they linger."""
        with trio.CancelScope(shield=True), suppress(httpx.HTTPError, httpx.StreamError):
            await self._reply.aclose()
            async for _ in self._pieces:
                pass

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        began = trio.current_time()
        with trio.move_on_after(self._time.left_seconds):
            piece = await anext(self._pieces)
            self._time = self._time.after(len(piece), trio.current_time() - began)
            return piece
        raise TransportError(f"{self._about}: less than {LEAST_BYTES:,} bytes in {LEAST_SECONDS:.0f} s")

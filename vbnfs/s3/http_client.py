"""All requests but those for ranges, by httpx: HEAD, and bodies small enough to be taken as a whole.

This is the only module that imports httpx. Its exceptions become ours here. It has no way with proxies of its own:
tunnels.py opens its connections to them.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpcore
import httpx
import trio

from vbnfs.errors import BadReplyError, StorageError, TransportError
from vbnfs.s3 import proxy_failures
from vbnfs.s3.certificates import Dates, refused
from vbnfs.s3.failures import broken, reason_of, system_reason, unreachable, verification_of
from vbnfs.s3.generations import Generations
from vbnfs.s3.limits import CONNECT_SECONDS, KEEPALIVE, LEAST_BYTES, LEAST_SECONDS, SILENCE_SECONDS, BodyTime
from vbnfs.s3.proxies import Proxy
from vbnfs.s3.ranges import ANONYMOUS_FIELDS, NO_TRANSFORM
from vbnfs.s3.refusals import status_error
from vbnfs.s3.replies import MAX_ERROR_BYTES, Head, check_encoding, says_size
from vbnfs.s3.request_time import WHOLE_SECONDS, RequestTime
from vbnfs.s3.stall import StallTimer
from vbnfs.s3.trust import Trust
from vbnfs.s3.tunnels import ProxyBackend, authorization, connect

# What is asked here may change, as the list of versions does: caches on the way ask the server (RFC 9111, 5.2.1.4).
_FRESH: Final = {"Cache-Control": f"no-cache, {NO_TRANSFORM}"}
_SAY_SIZES: Final = frozenset({200, 206, 416})  # replies to a GET for the first byte, of all that are no error
_KEEPALIVE_SECONDS: Final = 5.0  # that a connection is kept which nothing uses
_LEAST_BYTES_PER_SECOND: Final = 64 << 10  # a reply has a second more for so many bytes that it may have


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
        trust: Trust,
        proxy: Proxy | None,
        max_connections: int,
        generations: Generations | None = None,
    ) -> None:
        self._server = server
        self._trust = trust
        self._tls = trust.context()
        self._proxy = proxy
        self._is_passed_on = proxy is not None and proxy.passes_on(server)
        # The name in the server's certificate never ends in a dot, which a host's name may (RFC 6066, 3).
        self._name = {"sni_hostname": (urlsplit(server).hostname or "").rstrip(".")}
        self._max_connections = max_connections
        self._generations = generations or Generations()
        self._timer = StallTimer()  # of replies' heads
        # The proxy gets a name and a password: all of its certificate is checked, also where the server's is not.
        self._backend: httpcore.AsyncNetworkBackend = httpcore.TrioBackend()
        if proxy is not None:
            self._backend = ProxyBackend(proxy, server, self._tls)
        self._pool = self._new_pool()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._pool.http.aclose()

    def _new_pool(self) -> _Pool:
        return _Pool(self._new_client(self._tls), self._generations.number)

    def _new_client(self, tls: ssl.SSLContext) -> httpx.AsyncClient:
        most = self._max_connections
        transport = httpx.AsyncHTTPTransport(verify=tls, trust_env=False)
        # httpx has no name for a way to open connections; this is how its own constructor makes a pool.
        transport._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=most,
            max_keepalive_connections=most,
            keepalive_expiry=_KEEPALIVE_SECONDS,
            socket_options=KEEPALIVE,
            network_backend=self._backend,
        )
        fields = authorization(self._proxy) if self._proxy is not None and self._is_passed_on else {}
        return httpx.AsyncClient(
            transport=transport,
            trust_env=False,
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, pool=None),
            headers={**ANONYMOUS_FIELDS, **_FRESH, **fields},
            # Requests are anonymous: an endpoint's cookies are neither kept nor sent back (RFC 6265).
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
        )

    def _way_to(self, url: str) -> dict[str, Any]:
        """As extensions of httpx: what a proxy is to pass on is asked for by the whole URL (RFC 9112, 3.2.2)."""
        return {**self._name, **({"target": url.encode("ascii")} if self._is_passed_on else {})}

    def _extensions(self, url: str, time: RequestTime) -> dict[str, Any]:
        return {**self._way_to(url), **time.extensions}

    async def connect(self) -> None:
        """Open a connection as requests do, by the proxy and with TLS, and close it. Raises a `StorageError`."""
        await connect(self._server, self._backend, self._tls, server_name=self._name["sni_hostname"])

    async def dates(self) -> Dates | None:
        """When the server's certificate is valid, and its time; None where it does not say.

        All of the certificate is checked but for its dates, which were refused.
        """
        with trio.move_on_after(CONNECT_SECONDS), suppress(httpx.HTTPError, StorageError, LookupError, ValueError):
            async with self._whenever_valid() as reply:
                shown = reply.extensions["network_stream"].get_extra_info("ssl_object").getpeercert()
                before, after = (ssl.cert_time_to_seconds(shown[name]) for name in ("notBefore", "notAfter"))
                return Dates(before, after, _date(reply))
        return None

    async def server_time(self) -> float | None:
        """What time the server has, in seconds since 1970; None where it does not say, or cannot be asked.

        Its certificate is checked as `dates` does. A server without TLS says it, too.
        """
        with trio.move_on_after(CONNECT_SECONDS), suppress(httpx.HTTPError, StorageError, LookupError, ValueError):
            async with self._whenever_valid() as reply:
                return _date(reply)
        return None

    @asynccontextmanager
    async def _whenever_valid(self) -> AsyncIterator[httpx.Response]:
        """The reply to HEAD for the bucket, whatever it is, of a server whose certificate may have any dates."""
        tls = self._trust.context(checks_time=False)
        way = self._way_to(self._server)
        async with self._new_client(tls) as http, http.stream("HEAD", self._server, extensions=way) as reply:
            yield reply

    async def head(self, url: str, *, about: str) -> Head:
        """The head of the reply to HEAD, which is a 200; or to a GET for the first byte, where that says no size.

        Nor does HEAD's reply say whose refusal it is, if neither S3 nor the proxy has put its name to it.
        """
        async with self._request("HEAD", url, about=about, max_bytes=MAX_ERROR_BYTES) as reply:
            if says_size(found := _head(reply)) and not proxy_failures.may_be_its_own(
                self._proxy, self._server, found
            ):
                # Only a reply that was read to its end leaves its connection to the next request; this has no body.
                await self._check_status(reply, about=about)
                return found
        first_byte = {"Range": "bytes=0-0"}
        async with self._request("GET", url, about=about, max_bytes=MAX_ERROR_BYTES, fields=first_byte) as reply:
            if reply.status_code not in _SAY_SIZES:
                await self._check_status(reply, about=about)
            return _head(reply)

    async def get(self, url: str, *, about: str, max_bytes: int, is_object: bool = False) -> bytes:
        """The whole body of a 200; `BadReplyError` as soon as it proves larger than `max_bytes`.

        `is_object`: an object may have been stored with an encoding among its metadata; and a 203 may do, since the
        caller holds its bytes against what is known of them.
        """
        async with self._request("GET", url, about=about, max_bytes=max_bytes) as reply:
            if reply.status_code not in ({200, 203} if is_object else {200}):
                await self._check_status(reply, about=about)
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
        time = RequestTime(about, reused_seconds=max(self._timer.seconds, self._timer.unusual_seconds))
        has_answered = False
        try:
            with time.limited():
                async with self._reply(method, url, fields or {}, time) as reply:
                    has_answered = True
                    time.allow(WHOLE_SECONDS + max_bytes / _LEAST_BYTES_PER_SECOND)
                    yield reply
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            await self._renew()
            raise _failure(error, about=about, server=self._server, has_answered=has_answered) from error

    @asynccontextmanager
    async def _reply(
        self, method: str, url: str, fields: Mapping[str, str], time: RequestTime
    ) -> AsyncIterator[httpx.Response]:
        """A reply, as soon as its head is there; by a new connection, where an open one brings none soon."""
        self._generations.look_at_clocks()
        if self._pool.number != self._generations.number:
            await self._renew()
        async with self._using(self._pool) as http:
            with trio.CancelScope() as time.on_reused:
                request = http.build_request(method, url, headers=fields, extensions=self._extensions(url, time))
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
            http.stream(method, url, headers=fields, extensions=self._extensions(url, time)) as reply,
        ):
            self._timer = self._timer.after(time.taken_seconds)
            self._generations.retire()  # a new connection answers, and an open one did not
            self._pool.number = self._generations.number
            yield reply

    async def _check_status(self, reply: httpx.Response, *, about: str) -> None:
        """Read the start of the body. Raises what a status other than 200 means."""
        body, request, head = await _start_of_body(reply), reply.request, _head(reply)
        if head.status == 200:
            return
        if (of_proxy := proxy_failures.of_reply(self._proxy, self._server, head, body)) is not None:
            raise of_proxy
        has_version_id = "versionId" in request.url.params
        raise status_error(
            head, body, expected=200, about=about, method=request.method, has_version_id=has_version_id
        )

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


def _date(reply: httpx.Response) -> float:
    """The reply's Date (RFC 9110, 6.6.1), in seconds since 1970. Raises `LookupError`, `ValueError`."""
    sent = parsedate_to_datetime(reply.headers["date"])
    return sent.replace(tzinfo=sent.tzinfo or UTC).timestamp()


def _failure(error: Exception, *, about: str, server: str, has_answered: bool) -> StorageError:
    """What an exception of httpx means."""
    if (verification := verification_of(error)) is not None:
        return refused(server, verification.verify_code, verification.verify_message)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return unreachable(server, _reason(error))
    return broken(about, server, _reason(error), has_answered=has_answered)


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS:.0f} s"
    if isinstance(error, httpx.TimeoutException):
        return f"no byte for {SILENCE_SECONDS:.0f} s"
    if isinstance(error, httpx.ConnectError) and (reason := system_reason(error)):
        return reason
    return reason_of(error)


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

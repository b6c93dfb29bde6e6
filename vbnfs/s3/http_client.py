"""All requests but those for ranges, by httpx: HEAD, and bodies small enough to be taken as a whole.

This is the only module that imports httpx. Its exceptions become ours here.
"""

import math
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx
import trio

from vbnfs.errors import BadReplyError, StorageError, TransportError, UsageError
from vbnfs.s3.failures import broken, is_untrusted, reason_of, status_error, system_reason, unreachable, untrusted
from vbnfs.s3.limits import CONNECT_SECONDS, LEAST_BYTES, LEAST_SECONDS, SILENCE_SECONDS, BodyTime
from vbnfs.s3.ranges import ANONYMOUS_FIELDS
from vbnfs.s3.replies import MAX_ERROR_BYTES, Head, check_encoding

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


class HttpClient:
    """Asks one server. Use as an async context manager; closing ends its connections.

    Every request raises a `StorageError`.
    """

    def __init__(self, server: str, *, tls: ssl.SSLContext, proxy: str | None, max_connections: int) -> None:
        self._server = server
        try:
            self._http = httpx.AsyncClient(
                verify=tls,
                proxy=proxy,
                trust_env=False,  # proxies.py reads it, for ranges as well
                limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
                timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, pool=None),
                headers=ANONYMOUS_FIELDS,
                # Requests are anonymous: an endpoint's cookies are neither kept nor sent back (RFC 6265).
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                follow_redirects=False,
            )
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            raise UsageError(f"HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used: {error}") from error

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._http.aclose()

    async def head(self, url: str, *, about: str) -> Head:
        """The head of the reply to HEAD, which is a 200."""
        async with self._request("HEAD", url, about=about, max_bytes=MAX_ERROR_BYTES) as reply:
            # There is no body; but only a reply that was read to its end leaves its connection to the next request.
            await _check_status(reply, about=about)
            return _head(reply)

    async def get(self, url: str, *, about: str, max_bytes: int) -> bytes:
        """The whole body of a 200; `BadReplyError` as soon as it proves larger than `max_bytes`."""
        async with self._request("GET", url, about=about, max_bytes=max_bytes) as reply:
            if reply.status_code != 200:
                await _check_status(reply, about=about)
            check_encoding(_head(reply), about)
            data = bytearray()
            async with _Body(reply, about=about) as pieces:
                async for piece in pieces:
                    data += piece
                    if len(data) > max_bytes:
                        raise BadReplyError(f"{about}: more than {max_bytes:,} bytes")
            return bytes(data)

    @asynccontextmanager
    async def _request(self, method: str, url: str, *, about: str, max_bytes: int) -> AsyncIterator[httpx.Response]:
        """A reply whose body, of at most `max_bytes`, is not read yet. It has to be at its end in time."""
        time = _Time(about)
        try:
            with time.limited():
                async with self._http.stream(method, url, extensions=time.extensions) as reply:
                    time.allow(_WHOLE_SECONDS + max_bytes / _LEAST_BYTES_PER_SECOND)
                    yield reply
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise _failure(error, about=about, server=self._server) from error


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

    def __init__(self, about: str) -> None:
        self._about = about
        self._scope = trio.CancelScope()
        self._began = 0.0
        self._seconds = _HEAD_SECONDS
        self.extensions = {"trace": self._note}

    @contextmanager
    def limited(self) -> Iterator[None]:
        """What is within is given up in time. Raises `TransportError` then."""
        with self._scope:
            yield
        if self._scope.cancelled_caught:
            raise TransportError(f"{self._about}: not at its end after {self._seconds:.0f} s")

    def allow(self, seconds: float) -> None:
        """So much, from the beginning."""
        self._seconds = seconds
        self._scope.deadline = self._began + seconds

    async def _note(self, _event: str, _about: object) -> None:
        if self._scope.deadline == math.inf:
            self._began = trio.current_time()
            self.allow(self._seconds)


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

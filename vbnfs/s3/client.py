"""S3 over HTTP: ranges with a version id, HEAD and the two listings, and nothing believed unchecked.

Whatever is asked goes through httpx, but for ranges, which are nearly all of the bytes: libcurl brings them (curl.py)
in httpx's words. Requests are anonymous (unsigned). Addresses are virtual-hosted at AWS
(`https://<bucket>.s3.<region>.amazonaws.com/<key>`) and path style at an endpoint (`<endpoint>/<bucket>/<key>`).
Proxies are taken from the usual variables (HTTPS_PROXY, NO_PROXY ...); behind one, ranges are httpx's, too.

References: Amazon S3 API (GetObject, HeadObject, ListObjectsV2, ListObjectVersions), RFC 9110 (14, ranges).
"""

import math
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import lru_cache, partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
import structlog
import trio

from vbnfs.errors import (
    BadReplyError,
    MismatchError,
    NoDescriptorError,
    StorageError,
    TransportError,
    UntrustedServerError,
    UsageError,
)
from vbnfs.host import descriptors
from vbnfs.metrics import Metrics
from vbnfs.objects import (
    ByteRange,
    ListedObject,
    ListedVersion,
    ObjectAttributes,
    ObjectVersion,
    Receive,
)
from vbnfs.s3.addresses import bucket_base, listing_url, object_url
from vbnfs.s3.curl import CurlTransport, trusted_certificates
from vbnfs.s3.failures import (
    broken,
    is_untrusted,
    of_the_bucket,
    reason_of,
    status_error,
    system_reason,
    unreachable,
    untrusted,
)
from vbnfs.s3.listings import OBJECTS, VERSIONS, Listing, Row
from vbnfs.s3.replies import Head, check_encoding, check_range, head_attributes

log = structlog.get_logger()

_MAX_PAGE_BYTES: Final = 4 << 20  # 1,000 rows have well under 1 MB, or 3.7 if all keys are as long as S3 lets them be
_MAX_ROWS: Final = 200_000  # ten times as many as the real datasets have; 100 MB of memory
_MAX_LISTING_BYTES: Final = 128 << 20
_MAX_PAGES: Final = 1_000
_MAX_ERROR_BYTES: Final = 8 << 10
_CONNECT_SECONDS: Final = 10.0
_REACH_SECONDS: Final = 3.0
_SILENCE_SECONDS: Final = 15.0  # without a single byte
_LEAST_BYTES: Final = 64 << 10  # a body that brings less than this, and not its end, ...
_LEAST_SECONDS: Final = 30.0  # ... within that is given up: whoever shares the request would wait for hours
_HEAD_SECONDS: Final = (
    _CONNECT_SECONDS + _SILENCE_SECONDS
)  # until a reply's head is there, however busily it trickles
_WHOLE_SECONDS: Final = 60.0  # for all of a reply but ranges, ...
_LEAST_BYTES_PER_SECOND: Final = 64 << 10  # ... and a second more for so many bytes that it may have
_LISTING_SECONDS: Final = 600.0  # for all pages
_HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": "vbnfs"}
_KNOWN_URLS: Final = 1024  # each is asked for hundreds of times, and taking it apart takes a tenth of a millisecond
_TOLD_AGAIN_SECONDS: Final = 600.0
_CROWDED: Final = "too many open files"


class S3Client:
    """An `ObjectClient` of one bucket. Use as an async context manager; closing ends its connections."""

    def __init__(
        self,
        *,
        bucket: str,
        region: str,
        endpoint_url: str | None,
        ca_bundle: Path | None,
        max_connections: int,
        metrics: Metrics,
        ranges_by: str = "curl",
    ) -> None:
        self._bucket = bucket
        self._base = bucket_base(bucket, region, endpoint_url)
        self._metrics = metrics
        self._told_at = -math.inf
        tls = _tls_context(ca_bundle)
        self._http = _http_client(tls, max_connections)
        self._curl: CurlTransport | None = None
        certificates = trusted_certificates(tls)
        if ranges_by == "curl" and certificates and _proxy_for(urlsplit(self._base)) is None:
            self._curl = CurlTransport(certificates=certificates, max_connections=max_connections)

    async def __aenter__(self) -> "S3Client":
        await self._http.__aenter__()
        if self._curl is not None:
            await self._curl.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._curl is not None:
            await self._curl.aclose()
        await self._http.aclose()

    async def reach(self) -> None:
        """See `ObjectClient`. Connects to the proxy, where one is used."""
        parts = _proxy_for(urlsplit(self._base)) or urlsplit(self._base)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            with trio.fail_after(_REACH_SECONDS):
                stream = await trio.open_tcp_stream(parts.hostname or "", port)
                await stream.aclose()
        except (OSError, UnicodeError, trio.TooSlowError) as error:
            failure = TransportError(f"{parts.hostname}:{port} cannot be reached: {_reason(error)}")
            raise self._explained(failure) from error

    async def list_objects(self, prefix: str) -> list[ListedObject]:
        """See `ObjectClient`."""
        return await self._all_rows(OBJECTS, {"list-type": "2", "prefix": prefix})

    async def list_versions(self, prefix: str) -> list[ListedVersion]:
        """See `ObjectClient`."""
        return await self._all_rows(VERSIONS, {"versions": "", "prefix": prefix})

    async def head(self, version: ObjectVersion) -> ObjectAttributes:
        """See `ObjectClient`."""
        self._metrics.head_requests += 1
        async with self._request("HEAD", self._url(version), about=str(version)) as reply:
            # There is no body; but only a reply that was read to its end leaves its connection to the next request.
            await _check_status(reply, 200, about=str(version))
            return head_attributes(_head(reply), version)

    async def get_object(self, key: str, *, max_bytes: int) -> bytes:
        """See `ObjectClient`."""
        self._metrics.object_requests += 1
        url = self._url(ObjectVersion(key, None))
        async with self._request("GET", url, about=key, max_bytes=max_bytes) as reply:
            return await _whole(reply, max_bytes=max_bytes, about=key)

    async def get_range(
        self, version: ObjectVersion, byte_range: ByteRange, *, size_bytes: int, receive: Receive
    ) -> None:
        """See `ObjectClient`."""
        self._metrics.range_requests += 1
        async with self._requested_range(version, byte_range) as reply:
            if reply.status_code != 206:
                await _check_status(reply, 206, about=str(version))
            check_range(_head(reply), version, byte_range, size_bytes)
            missing = len(byte_range)
            async with _Body(reply, about=str(version)) as pieces:
                async for piece in pieces:
                    missing -= len(piece)
                    if missing < 0:
                        raise MismatchError(f"{version}: a longer body than the {len(byte_range):,} bytes asked for")
                    self._metrics.received_bytes += len(piece)
                    await receive(piece)
            if missing:
                raise TransportError(f"{version}: the body ended {missing:,} bytes too early")

    def _url(self, version: ObjectVersion) -> str:
        return object_url(self._base, version)

    async def _all_rows(self, listing: Listing[Row], query: Mapping[str, str]) -> list[Row]:
        about = f"listing of {query['prefix']!r}"
        with trio.move_on_after(_LISTING_SECONDS):
            return await self._rows_of_pages(listing, query, about=about)
        raise TransportError(f"{about}: not at its end after {_LISTING_SECONDS:.0f} s")

    async def _rows_of_pages(self, listing: Listing[Row], query: Mapping[str, str], *, about: str) -> list[Row]:
        rows: list[Row] = []
        seen: set[tuple[str, ...]] = set()
        position: dict[str, str] = {}
        left_bytes = _MAX_LISTING_BYTES
        for _ in range(_MAX_PAGES):
            more, position, length_bytes = await self._page(
                listing, {**query, "encoding-type": "url", **position}, about=about
            )
            rows += more
            left_bytes -= length_bytes
            if not position:
                return rows
            if len(rows) >= _MAX_ROWS or left_bytes < 0:
                raise BadReplyError(
                    f"{about}: no end after {_MAX_LISTING_BYTES - left_bytes:,} bytes, {len(rows):,} rows"
                )
            if (marker := tuple(position.values())) in seen:
                raise BadReplyError(f"{about}: the server gives the same page again")
            seen.add(marker)
        raise BadReplyError(f"{about}: more than {_MAX_PAGES:,} pages")

    async def _page(
        self, listing: Listing[Row], query: Mapping[str, str], *, about: str
    ) -> tuple[list[Row], dict[str, str], int]:
        """The rows of a page, the query of the next one, and the page's length in bytes."""
        self._metrics.list_requests += 1
        url = listing_url(self._base, query)
        async with self._request("GET", url, about=about, max_bytes=_MAX_PAGE_BYTES) as reply:
            with of_the_bucket():
                body = await _whole(reply, max_bytes=_MAX_PAGE_BYTES, about=about)
            # 1,000 rows take tens of milliseconds: readers must not wait for that.
            read = partial(listing.read, body, prefix=query["prefix"], about=about)
            rows, following = await trio.to_thread.run_sync(read)
            return rows, following, len(body)

    @asynccontextmanager
    async def _request(
        self, method: str, url: str, *, about: str, max_bytes: int = _MAX_ERROR_BYTES
    ) -> AsyncIterator[httpx.Response]:
        """A reply whose body, of at most `max_bytes`, is not read yet. It has to be at its end in time."""
        time = _Time(about)
        with self._failures(about), time.limited():
            async with self._http.stream(method, url, extensions=time.extensions) as reply:
                time.allow(_WHOLE_SECONDS + max_bytes / _LEAST_BYTES_PER_SECOND)
                yield reply

    @asynccontextmanager
    async def _requested_range(self, version: ObjectVersion, byte_range: ByteRange) -> AsyncIterator[httpx.Response]:
        """The same for a range. libcurl is asked without a client around it, which would cost as much again."""
        wanted = {"Range": f"bytes={byte_range.start}-{byte_range.stop - 1}"}
        if version.etag is not None:
            wanted["If-Match"] = f'"{version.etag}"'
        with self._failures(str(version)):
            url = _parsed_url(self._url(version))
            if self._curl is None:
                time = _Time(str(version))
                request = self._http.build_request("GET", url, headers=wanted, extensions=time.extensions)
                with time.limited():
                    reply = await self._http.send(request, stream=True)
            else:  # which limits the time until the head
                timeouts = {"timeout": _timeout().as_dict()}
                request = httpx.Request("GET", url, headers={**_HEADERS, **wanted}, extensions=timeouts)
                reply = await self._curl.handle_async_request(request)
                reply.request = request
            try:
                yield reply
            finally:
                await reply.aclose()

    @contextmanager
    def _failures(self, about: str) -> Iterator[None]:
        """Exceptions of httpx become ours, and every failure is counted."""
        try:
            yield
        except StorageError:
            self._metrics.failed_requests += 1
            raise
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            self._metrics.failed_requests += 1
            raise self._explained(_failure(error, about=about, server=self._base)) from error

    def _explained(self, failure: StorageError) -> StorageError:
        """What failed: the network or the server; or no connection can be opened, which is told of once."""
        if isinstance(failure, UntrustedServerError) or descriptors.are_left():
            return failure
        if trio.current_time() - self._told_at > _TOLD_AGAIN_SECONDS:
            self._told_at = trio.current_time()
            log.warning("no more connections can be opened; going on with those that there are", reason=_CROWDED)
        return NoDescriptorError(f"{failure}: {_CROWDED}")


def _proxy_for(server: SplitResult) -> SplitResult | None:
    """The proxy that the usual variables name for a server."""
    proxies = getproxies()
    proxy = proxies.get(server.scheme) or proxies.get("all")
    return urlsplit(proxy) if proxy and not proxy_bypass(server.netloc) else None


@lru_cache(_KNOWN_URLS)
def _parsed_url(url: str) -> httpx.URL:
    return httpx.URL(url)


def _timeout() -> httpx.Timeout:
    return httpx.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS, pool=None)


def _http_client(tls: ssl.SSLContext, max_connections: int) -> httpx.AsyncClient:
    try:
        return httpx.AsyncClient(
            verify=tls,
            limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
            timeout=_timeout(),
            headers=_HEADERS,
            # Requests are anonymous: an endpoint's cookies are neither kept nor sent back (RFC 6265).
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
        )
    except (ValueError, ImportError, httpx.InvalidURL) as error:  # of a proxy, which httpx looks at now
        raise UsageError(f"HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used: {error}") from error


def _tls_context(ca_bundle: Path | None) -> ssl.SSLContext:
    """The usual trust (SSL_CERT_FILE and SSL_CERT_DIR honoured), or the certificates in a file alone."""
    try:
        return ssl.create_default_context(cafile=ca_bundle) if ca_bundle else httpx.create_ssl_context()
    except OSError as error:
        raise UsageError(f"{ca_bundle or 'SSL_CERT_FILE'}: no usable certificates: {error}") from error


def _failure(error: Exception, *, about: str, server: str) -> StorageError:
    """What an exception of httpx means."""
    if is_untrusted(error):
        return untrusted(server, _reason(error))
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return unreachable(server, _reason(error))
    return broken(about, server, _reason(error))


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {_CONNECT_SECONDS:.0f} s"
    if isinstance(error, httpx.TimeoutException):
        return f"no byte for {_SILENCE_SECONDS:.0f} s"
    is_connecting = isinstance(error, httpx.ConnectError | OSError)
    return (is_connecting and system_reason(error)) or reason_of(error)


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
        self._due_bytes, self._left_seconds = _LEAST_BYTES, _LEAST_SECONDS

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
        with trio.move_on_after(self._left_seconds):
            piece = await anext(self._pieces)
            self._due_bytes -= len(piece)
            self._left_seconds -= trio.current_time() - began
            if self._due_bytes <= 0:
                self._due_bytes, self._left_seconds = _LEAST_BYTES, _LEAST_SECONDS
            return piece
        raise TransportError(f"{self._about}: less than {_LEAST_BYTES:,} bytes in {_LEAST_SECONDS:.0f} s")


async def _whole(reply: httpx.Response, *, max_bytes: int, about: str) -> bytes:
    """The body of a 200."""
    if reply.status_code != 200:
        await _check_status(reply, 200, about=about)
    check_encoding(_head(reply), about)
    data = bytearray()
    async with _Body(reply, about=about) as pieces:
        async for piece in pieces:
            data += piece
            if len(data) > max_bytes:
                raise BadReplyError(f"{about}: more than {max_bytes:,} bytes")
    return bytes(data)


async def _check_status(reply: httpx.Response, expected: int, *, about: str) -> None:
    """Read the start of the body. Raises what a status that is not the `expected` one means."""
    body, request = await _error_body(reply), reply.request
    if reply.status_code != expected:
        has_version_id = "versionId" in request.url.params
        raise status_error(
            _head(reply), body, expected=expected, about=about, method=request.method, has_version_id=has_version_id
        )


def _head(reply: httpx.Response) -> Head:
    return Head(reply.status_code, {name.lower(): text for name, text in reply.headers.items()})


async def _error_body(reply: httpx.Response) -> bytes:
    """The start of an error's body, as far as it can be had."""
    body = b""
    async with _Body(reply, about="error") as pieces:
        with suppress(httpx.HTTPError, TransportError):
            async for piece in pieces:
                body += piece
                if len(body) >= _MAX_ERROR_BYTES:
                    break
    return body[:_MAX_ERROR_BYTES]

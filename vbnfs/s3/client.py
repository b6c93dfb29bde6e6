"""S3 over HTTP: ranges with a version id, HEAD and the two listings, and nothing believed unchecked.

Whatever is asked goes through httpx, but for ranges, which are nearly all of the bytes: libcurl brings them (curl.py)
in httpx's words. Requests are anonymous (unsigned). Addresses are virtual-hosted at AWS
(`https://<bucket>.s3.<region>.amazonaws.com/<key>`) and path style at an endpoint (`<endpoint>/<bucket>/<key>`).
Proxies are taken from the usual variables (HTTPS_PROXY, NO_PROXY ...); behind one, ranges are httpx's, too.

References: Amazon S3 API (GetObject, HeadObject, ListObjectsV2, ListObjectVersions), RFC 9110 (14, ranges).
"""

import math
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from types import TracebackType
from typing import Final, Generic, Self, TypeVar
from urllib.parse import SplitResult, quote, unquote_plus, urlsplit
from urllib.request import getproxies, proxy_bypass
from xml.sax import SAXException
from xml.sax.handler import ContentHandler

import defusedxml.sax
import httpx
import structlog
import trio
from defusedxml.common import DefusedXmlException

from vbnfs.errors import (
    AccessDeniedError,
    BadReplyError,
    BusyError,
    ChangedError,
    ListingDeniedError,
    MismatchError,
    NoBucketError,
    NoDescriptorError,
    ObjectGoneError,
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
from vbnfs.s3.curl import CurlTransport, trusted_certificates

log = structlog.get_logger()

_Row = TypeVar("_Row")

# 48.8 TiB: 10,000 parts of 5 GiB (docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html)
MAX_OBJECT_BYTES: Final = 10_000 * (5 << 30)
_MAX_TIME_NS: Final = (1 << 63) - 1  # what st_mtim can hold
_MAX_PAGE_BYTES: Final = 4 << 20  # 1,000 rows have well under 1 MB, or 3.7 if all keys are as long as S3 lets them be
_MAX_MARKUP: Final = (
    100_000  # signs in a page that begin or end an element, or give it an attribute; 1,000 rows: 30,000
)
_MAX_DEPTH: Final = 8  # of elements; rows have 4
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
_GONE_CODES: Final = frozenset({"NoSuchKey", "NoSuchVersion"})
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.ASCII)


def aws_base(bucket: str, region: str) -> str:
    """The address of a bucket at AWS: virtual-hosted, if AWS's certificate (*.s3...) covers the bucket's name."""
    if "." in bucket:
        return f"https://s3.{region}.amazonaws.com/{bucket}"
    return f"https://{bucket}.s3.{region}.amazonaws.com"


def object_url(base: str, version: ObjectVersion) -> str:
    """The address of an object version in the bucket at `base`."""
    url = f"{base}/{_quoted_key(version.key)}"
    return url if version.version_id is None else f"{url}?versionId={_quoted(version.version_id)}"


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
        self._base = f"{endpoint_url}/{bucket}" if endpoint_url else aws_base(bucket, region)
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
        return await self._all_rows(_OBJECTS, {"list-type": "2", "prefix": prefix})

    async def list_versions(self, prefix: str) -> list[ListedVersion]:
        """See `ObjectClient`."""
        return await self._all_rows(_VERSIONS, {"versions": "", "prefix": prefix})

    async def head(self, version: ObjectVersion) -> ObjectAttributes:
        """See `ObjectClient`."""
        self._metrics.head_requests += 1
        async with self._request("HEAD", self._url(version), about=str(version)) as reply:
            # There is no body; but only a reply that was read to its end leaves its connection to the next request.
            _check_status(reply, await _error_body(reply), 200, about=str(version))
            _check_version_id(reply, version)
            try:
                modified = parsedate_to_datetime(reply.headers["Last-Modified"])
                return _attributes(reply.headers["Content-Length"], modified, _etag(reply.headers.get("ETag", "")))
            except (KeyError, ValueError, OverflowError) as error:
                raise BadReplyError(f"{version}: HEAD gave no usable size or time: {error}") from error

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
                _check_status(reply, await _error_body(reply), 206, about=str(version))
            _check_range(reply, version, byte_range, size_bytes)
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

    async def _all_rows(self, listing: "_Listing[_Row]", query: Mapping[str, str]) -> list[_Row]:
        about = f"listing of {query['prefix']!r}"
        with trio.move_on_after(_LISTING_SECONDS):
            return await self._rows_of_pages(listing, query, about=about)
        raise TransportError(f"{about}: not at its end after {_LISTING_SECONDS:.0f} s")

    async def _rows_of_pages(self, listing: "_Listing[_Row]", query: Mapping[str, str], *, about: str) -> list[_Row]:
        rows: list[_Row] = []
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
        self, listing: "_Listing[_Row]", query: Mapping[str, str], *, about: str
    ) -> tuple[list[_Row], dict[str, str], int]:
        """The rows of a page, the query of the next one, and the page's length in bytes."""
        self._metrics.list_requests += 1
        url = f"{self._base}?" + "&".join(f"{name}={_quoted(value)}" for name, value in query.items())
        async with self._request("GET", url, about=about, max_bytes=_MAX_PAGE_BYTES) as reply:
            with _of_the_bucket():
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


@contextmanager
def _of_the_bucket() -> Iterator[None]:
    """What is forbidden or not there is no single object."""
    try:
        yield
    except AccessDeniedError as error:
        raise ListingDeniedError(str(error)) from error
    except ObjectGoneError as error:
        raise NoBucketError(str(error)) from error


def _proxy_for(server: SplitResult) -> SplitResult | None:
    """The proxy that the usual variables name for a server."""
    proxies = getproxies()
    proxy = proxies.get(server.scheme) or proxies.get("all")
    return urlsplit(proxy) if proxy and not proxy_bypass(server.netloc) else None


def _quoted(text: str, safe: str = "") -> str:
    return quote(text, safe=safe, errors="surrogatepass")  # JSON can hold surrogates; S3 has no such key


def _quoted_key(key: str) -> str:
    """A key as a path. httpx would take parts that are dots for steps in a tree, and leave the bucket by them."""
    parts = _quoted(key, safe="/~").split("/")
    return "/".join(part.replace(".", "%2E") if part in {".", ".."} else part for part in parts)


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
    """What an exception of httpx means. Without a connection it does not matter what was to be asked."""
    if _is_untrusted(error):
        return UntrustedServerError(f"{server}: {_reason(error)}")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return TransportError(f"{server} cannot be reached: {_reason(error)}")
    return TransportError(f"{about}: {_reason(error)} (server: {server})")


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {_CONNECT_SECONDS:.0f} s"
    if isinstance(error, httpx.TimeoutException):
        return f"no byte for {_SILENCE_SECONDS:.0f} s"
    causes = list(_causes(error))
    system = [_system_reason(cause) for cause in causes if isinstance(cause, OSError) and cause.strerror]
    if system and isinstance(error, httpx.ConnectError | OSError):  # the others tell only what was tried
        return system[-1]
    told = next((text for cause in causes if (text := str(cause))), type(error).__name__)
    return f"{told}: {system[-1]}" if system and system[-1] not in told else told


def _system_reason(error: OSError) -> str:
    """The system's words alone: trio puts the address before those of a connection."""
    has_own_numbers = isinstance(error, ssl.SSLError | socket.gaierror)
    return str(error.strerror) if has_own_numbers or error.errno is None else os.strerror(error.errno)


def _is_untrusted(error: Exception) -> bool:
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        error = inner or error.__cause__ or error.__context__


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
        _check_status(reply, await _error_body(reply), 200, about=about)
    _check_encoding(reply, about)
    data = bytearray()
    async with _Body(reply, about=about) as pieces:
        async for piece in pieces:
            data += piece
            if len(data) > max_bytes:
                raise BadReplyError(f"{about}: more than {max_bytes:,} bytes")
    return bytes(data)


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


def error_code(body: bytes) -> str:
    """S3's word for an error (`NoSuchVersion`), or '' where the body has none."""
    match = re.search(rb"<Code>([A-Za-z]{1,64})</Code>", body)
    return match[1].decode() if match else ""


def _check_status(reply: httpx.Response, body: bytes, expected: int, *, about: str) -> None:
    status, code = reply.status_code, error_code(body)
    if status == expected:
        return
    told = f"{about}: HTTP {status}{f' {code}' if code else ''}"
    if status in {408, 429} or (status >= 500 and status != 501):  # 501: the server never does this
        raise BusyError(told, retry_after_seconds=_retry_after(reply.headers.get("Retry-After", "")))
    if status in {401, 403}:
        raise AccessDeniedError(f"{told}: the bucket does not allow anonymous reading of this")
    if code == "NoSuchBucket":
        raise NoBucketError(f"{told}: there is no such bucket")
    if status in {404, 410} or code in _GONE_CODES or _is_unknown_version(reply, code):
        raise ObjectGoneError(f"{told}: S3 does not have this (any more)")
    if 300 <= status < 400:
        where = reply.headers.get("x-amz-bucket-region") or reply.headers.get("Location", "elsewhere")
        raise MismatchError(f"{told}: the server points to {where!r:.200}; check --region and --endpoint-url")
    if status == 200 and expected == 206:
        raise MismatchError(f"{told}: the server ignores Range and sends the whole object")
    if status == 412:
        raise ChangedError(f"{told}: the object was replaced since it was listed, and has no version id of its own")
    if status == 416 and expected == 206:
        raise ChangedError(f"{told}: the object ends before a range within the size that was listed")
    raise BadReplyError(f"{told}: {expected} was expected")


def _retry_after(text: str) -> float | None:
    """Seconds from now, of either form of Retry-After (RFC 9110, 10.2.3); None for anything else."""
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    with suppress(ValueError, OverflowError):
        when = parsedate_to_datetime(text)
        return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    return None


def _is_unknown_version(reply: httpx.Response, code: str) -> bool:
    """AWS: 404 NoSuchVersion, Ceph: 404 NoSuchKey; MinIO, and AWS for an odd id: 400 InvalidArgument.

    Of these, 400 can mean other things, and the reply to HEAD has no body that would tell.
    """
    request = reply.request
    odd = code == "InvalidArgument" or request.method == "HEAD"
    return reply.status_code == 400 and "versionId" in request.url.params and odd


def _check_range(reply: httpx.Response, version: ObjectVersion, byte_range: ByteRange, size_bytes: int) -> None:
    _check_version_id(reply, version)
    told = reply.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(told)
    if match is not None and int(match[3]) != size_bytes:
        raise ChangedError(f"{version}: the object has {match[3]} bytes, but {size_bytes} were listed")
    if match is None or (int(match[1]), int(match[2]) + 1) != (byte_range.start, byte_range.stop):
        raise MismatchError(
            f"{version}: bytes {byte_range.start}-{byte_range.stop - 1} were asked for; Content-Range is {told!r}"
        )
    length = reply.headers.get("Content-Length")
    if length is not None and length != str(len(byte_range)):
        raise MismatchError(f"{version}: Content-Length {length} for a range of {len(byte_range)} bytes")
    _check_encoding(reply, str(version))


def _check_encoding(reply: httpx.Response, about: str) -> None:
    encoding = reply.headers.get("Content-Encoding", "")
    if encoding.lower() not in {"", "identity"}:
        raise MismatchError(f"{about}: the body is encoded ({encoding!r:.40}), though no encoding was accepted")


def _check_version_id(reply: httpx.Response, version: ObjectVersion) -> None:
    """A server may leave the header out, as for what was stored before the bucket had versions."""
    etag = reply.headers.get("ETag")
    if etag is not None and version.etag is not None and _etag(etag) != version.etag:
        raise ChangedError(f"{version}: the server sent another object (ETag {etag!r:.200}) than was listed")
    sent = reply.headers.get("x-amz-version-id")
    if sent is not None and version.version_id is not None and sent != version.version_id:
        raise ChangedError(f"{version}: the server sent version {sent!r:.200}")


# Listings


class Element:
    """A page of a listing, or a row of it: the texts in it by their elements' names, the first of each."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.texts: dict[str, str] = {}
        self.rows: list[Element] = []

    def findtext(self, name: str, default: str = "") -> str:
        """The text of an element; `default` where there is none."""
        return self.texts.get(name, default)


class _PageReader(ContentHandler):
    """Reads a page as it is parsed, without a tree: a server that nests or repeats elements makes nothing large."""

    def __init__(self, row_tag: str) -> None:
        super().__init__()
        self.page = Element("")
        self._row_tag = row_tag
        self._row: Element | None = None
        self._depth = 0
        self._text: list[str] = []

    def startElement(self, name: str, attrs: object) -> None:  # noqa: N802 - the library's own names
        """See `ContentHandler`."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError(f"more than {_MAX_DEPTH} levels")
        tag = name.rpartition(":")[2]
        if self._depth == 1:
            self.page.tag = tag
        elif self._depth == 2 and tag == self._row_tag:
            self._row = Element(tag)
            self.page.rows.append(self._row)
        self._text.clear()

    def characters(self, content: str) -> None:
        """See `ContentHandler`."""
        self._text.append(content)

    def endElement(self, name: str) -> None:  # noqa: N802
        """See `ContentHandler`."""
        part = self.page if self._row is None else self._row
        if self._depth == (2 if self._row is None else 3):
            part.texts.setdefault(name.rpartition(":")[2], "".join(self._text))
        self._text.clear()
        if self._depth == 2:
            self._row = None
        self._depth -= 1


def parse_xml(body: bytes, root_tag: str, row_tag: str, *, about: str) -> Element:
    """A page of an S3 listing; namespaces play no part. Entities and DTDs are refused (`BadReplyError`)."""
    reader = _PageReader(row_tag)
    try:
        if body.count(b"<") + body.count(b"=") > _MAX_MARKUP:
            raise ValueError(f"more than {_MAX_MARKUP:,} elements and attributes")
        defusedxml.sax.parseString(body, reader, forbid_dtd=True)
    except (DefusedXmlException, SAXException, ValueError, LookupError) as error:
        raise BadReplyError(f"{about}: not an S3 listing: {error!r:.200}") from error
    if reader.page.tag != root_tag:
        raise BadReplyError(f"{about}: not an S3 listing: <{reader.page.tag:.40}>, and not <{root_tag}>")
    return reader.page


@dataclass(frozen=True, slots=True)
class _Listing(Generic[_Row]):
    """A kind of listing: its elements' names, and how to read them. `following`: the query of the page after one."""

    root: str
    element: str
    row: Callable[[Element, Element], _Row]
    following: Callable[[Element], dict[str, str]]

    def read(self, body: bytes, *, prefix: str, about: str) -> tuple[list[_Row], dict[str, str]]:
        """The rows of a page, and the query of the next one; empty at the end. Raises `BadReplyError`."""
        page = parse_xml(body, self.root, self.element, about=about)
        for row in page.rows:
            if not _decoded(_field(row, "Key"), page).startswith(prefix):
                raise MismatchError(f"{about}: {row.findtext('Key')!r:.200} is listed, which is not below that")
        return [self.row(row, page) for row in page.rows], self.following(page)


def _next_objects(page: Element) -> dict[str, str]:
    if page.findtext("IsTruncated") != "true":
        return {}
    return {"continuation-token": _field(page, "NextContinuationToken")}


def _next_versions(page: Element) -> dict[str, str]:
    if page.findtext("IsTruncated") != "true":
        return {}
    marker = {"key-marker": _decoded(_field(page, "NextKeyMarker"), page)}
    if version_id := page.findtext("NextVersionIdMarker"):
        marker["version-id-marker"] = version_id
    return marker


def _listed_object(row: Element, page: Element) -> ListedObject:
    return ListedObject(_decoded(_field(row, "Key"), page), _row_attributes(row))


def _listed_version(row: Element, page: Element) -> ListedVersion:
    version = ObjectVersion(_decoded(_field(row, "Key"), page), _field(row, "VersionId"))
    return ListedVersion(version, _row_attributes(row))


def _decoded(key: str, page: Element) -> str:
    """Keys are percent-encoded where the server says that it did so (`encoding-type=url`)."""
    return unquote_plus(key) if page.findtext("EncodingType") == "url" else key


def _row_attributes(row: Element) -> ObjectAttributes:
    try:
        modified = datetime.fromisoformat(_field(row, "LastModified"))
        return _attributes(_field(row, "Size"), modified, _etag(row.findtext("ETag", "")))
    except ValueError as error:
        raise BadReplyError(f"listing: {row.findtext('Key')!r:.200}: no usable size or time: {error}") from error


def _field(element: Element, name: str) -> str:
    text = element.findtext(name)
    if not text:
        raise BadReplyError(f"listing: a row without {name}")
    return text


def _etag(text: str) -> str:
    """An ETag's value, without its quotes; '' for a weak one, which names no bytes (RFC 9110, 8.8.3)."""
    return "" if text.startswith("W/") else text.strip('"')


def _attributes(size: str, modified: datetime, etag: str) -> ObjectAttributes:
    """Whole seconds, since HEAD has no more: a time must not depend on how it was asked for."""
    if not re.fullmatch(r"[0-9]{1,20}", size) or int(size) > MAX_OBJECT_BYTES:
        raise ValueError(f"a size of {size!r:.40}")
    if modified.tzinfo is None:
        modified = modified.replace(tzinfo=UTC)
    modified_ns = int(modified.timestamp()) * 1_000_000_000
    if not 0 <= modified_ns <= _MAX_TIME_NS:
        raise ValueError(f"a time of {modified}")
    return ObjectAttributes(int(size), modified_ns, etag)


_OBJECTS: Final = _Listing("ListBucketResult", "Contents", _listed_object, _next_objects)
_VERSIONS: Final = _Listing("ListVersionsResult", "Version", _listed_version, _next_versions)

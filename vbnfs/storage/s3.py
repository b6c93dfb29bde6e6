"""S3 over HTTP: ranges with a version id, HEAD and the two listings, and nothing believed unchecked.

The only module that imports httpx. Requests are anonymous (unsigned). Addresses are virtual-hosted at AWS
(`https://<bucket>.s3.<region>.amazonaws.com/<key>`) and path style at an endpoint (`<endpoint>/<bucket>/<key>`).

References: Amazon S3 API (GetObject, HeadObject, ListObjectsV2, ListObjectVersions), RFC 9110 (14, ranges).
"""

import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote_plus
from xml.etree.ElementTree import Element

import defusedxml.ElementTree
import httpx
from defusedxml.common import DefusedXmlException

from vbnfs.errors import (
    AccessDeniedError,
    BadReplyError,
    BusyError,
    ObjectGoneError,
    StorageError,
    TransportError,
)
from vbnfs.metrics import Metrics
from vbnfs.objects import (
    ByteRange,
    ListedObject,
    ListedVersion,
    ObjectAttributes,
    ObjectVersion,
    Receive,
)

MAX_OBJECT_BYTES: Final = 1 << 62  # beyond what any S3 stores; keeps st_size a positive 64-bit number
_MAX_LISTING_BYTES: Final = 16 << 20  # a page of 1,000 rows has well under 1 MB
_MAX_ERROR_BYTES: Final = 8 << 10
_MAX_PAGES: Final = 100_000
_PIECE_BYTES: Final = 256 << 10
_CONNECT_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 15.0  # without a single byte
_BUSY_STATUSES: Final = frozenset({429, 500, 502, 503, 504})
_GONE_CODES: Final = frozenset({"NoSuchKey", "NoSuchVersion", "NoSuchBucket"})
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def aws_base(bucket: str, region: str) -> str:
    """The address of a bucket at AWS, virtual-hosted."""
    return f"https://{bucket}.s3.{region}.amazonaws.com"


def object_url(base: str, version: ObjectVersion) -> str:
    """The address of an object version in the bucket at `base`."""
    url = f"{base}/{quote(version.key, safe='/~')}"
    return url if version.version_id is None else f"{url}?versionId={quote(version.version_id, safe='')}"


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
    ) -> None:
        self._bucket = bucket
        self._base = f"{endpoint_url}/{bucket}" if endpoint_url else f"https://{bucket}.s3.{region}.amazonaws.com"
        self._metrics = metrics
        self._http = httpx.AsyncClient(
            verify=_tls_context(ca_bundle),
            limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
            timeout=httpx.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS, pool=None),
            headers={"Accept-Encoding": "identity", "User-Agent": "vbnfs"},
            follow_redirects=False,
        )

    async def __aenter__(self) -> "S3Client":
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._http.aclose()

    async def list_objects(self, prefix: str) -> list[ListedObject]:
        """See `ObjectClient`."""
        rows: list[ListedObject] = []
        async for page in self._pages({"list-type": "2", "prefix": prefix}, _next_objects):
            rows += [_listed_object(row, page) for row in page.findall("Contents")]
        return rows

    async def list_versions(self, prefix: str) -> list[ListedVersion]:
        """See `ObjectClient`."""
        rows: list[ListedVersion] = []
        async for page in self._pages({"versions": "", "prefix": prefix}, _next_versions):
            rows += [_listed_version(row, page) for row in page.findall("Version")]
        return rows

    async def head(self, version: ObjectVersion) -> ObjectAttributes:
        """See `ObjectClient`."""
        self._metrics.head_requests += 1
        async with self._request("HEAD", self._url(version), about=str(version)) as reply:
            _check_status(reply, b"", 200, about=str(version))
            _check_version_id(reply, version)
            try:
                modified = parsedate_to_datetime(reply.headers["Last-Modified"])
                return _attributes(reply.headers["Content-Length"], modified)
            except (KeyError, ValueError) as error:
                raise BadReplyError(f"{version}: HEAD gave no usable size or time: {error}") from error

    async def get_object(self, key: str, *, max_bytes: int) -> bytes:
        """See `ObjectClient`."""
        self._metrics.object_requests += 1
        return await self._whole(self._url(ObjectVersion(key, None)), max_bytes=max_bytes, about=key)

    async def get_range(
        self, version: ObjectVersion, byte_range: ByteRange, *, size_bytes: int, receive: Receive
    ) -> None:
        """See `ObjectClient`."""
        self._metrics.range_requests += 1
        wanted = {"Range": f"bytes={byte_range.start}-{byte_range.stop - 1}"}
        async with self._request("GET", self._url(version), about=str(version), headers=wanted) as reply:
            if reply.status_code != 206:
                _check_status(reply, await _error_body(reply), 206, about=str(version))
            _check_range(reply, version, byte_range, size_bytes)
            missing = len(byte_range)
            async for piece in reply.aiter_raw(_PIECE_BYTES):
                missing -= len(piece)
                if missing < 0:
                    raise BadReplyError(f"{version}: a longer body than the {len(byte_range):,} bytes asked for")
                self._metrics.received_bytes += len(piece)
                await receive(piece)
            if missing:
                raise TransportError(f"{version}: the body ended {missing:,} bytes too early")

    def _url(self, version: ObjectVersion) -> str:
        return object_url(self._base, version)

    async def _pages(
        self, query: Mapping[str, str], following: Callable[[Element], dict[str, str]]
    ) -> AsyncIterator[Element]:
        """All pages of a listing. `following` gives the query of the page after one; empty at the end."""
        seen: set[tuple[str, ...]] = set()
        position: dict[str, str] = {}
        for _ in range(_MAX_PAGES):
            page = await self._page({**query, "encoding-type": "url", **position})
            yield page
            position = following(page)
            if not position:
                return
            if (marker := tuple(position.values())) in seen:
                raise BadReplyError(f"listing of {query['prefix']!r}: the server gives the same page again")
            seen.add(marker)
        raise BadReplyError(f"listing of {query['prefix']!r}: more than {_MAX_PAGES:,} pages")

    async def _page(self, query: Mapping[str, str]) -> Element:
        self._metrics.list_requests += 1
        about = f"listing of {query['prefix']!r}"
        url = f"{self._base}?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        body = await self._whole(url, max_bytes=_MAX_LISTING_BYTES, about=about)
        return parse_xml(body, about=about)

    async def _whole(self, url: str, *, max_bytes: int, about: str) -> bytes:
        async with self._request("GET", url, about=about) as reply:
            if reply.status_code != 200:
                _check_status(reply, await _error_body(reply), 200, about=about)
            return await _body(reply, max_bytes, about)

    @asynccontextmanager
    async def _request(
        self, method: str, url: str, *, about: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        with self._failures_told(about):
            async with self._http.stream(method, url, headers=headers) as reply:
                yield reply

    @contextmanager
    def _failures_told(self, about: str) -> Iterator[None]:
        """Exceptions of httpx become ours; every failure is counted."""
        try:
            yield
        except StorageError:
            self._metrics.failed_requests += 1
            raise
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            self._metrics.failed_requests += 1
            raise TransportError(f"{about}: {_reason(error)} (server: {self._base})") from error


def _tls_context(ca_bundle: Path | None) -> ssl.SSLContext:
    """The usual trust (SSL_CERT_FILE and SSL_CERT_DIR honoured), or the certificates in a file alone."""
    try:
        return ssl.create_default_context(cafile=ca_bundle) if ca_bundle else httpx.create_ssl_context()
    except OSError as error:
        raise TransportError(f"{ca_bundle or 'SSL_CERT_FILE'}: no usable certificates: {error}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {_CONNECT_SECONDS:.0f} s"
    if isinstance(error, httpx.TimeoutException):
        return f"no byte for {_SILENCE_SECONDS:.0f} s"
    return str(error) or type(error).__name__


async def _body(reply: httpx.Response, max_bytes: int, about: str) -> bytes:
    pieces: list[bytes] = []
    length = 0
    async for piece in reply.aiter_raw():
        length += len(piece)
        if length > max_bytes:
            raise BadReplyError(f"{about}: more than {max_bytes:,} bytes")
        pieces.append(piece)
    if (told := reply.headers.get("Content-Length")) is not None and told != str(length):
        raise TransportError(f"{about}: {length:,} of {told} bytes came")
    return b"".join(pieces)


async def _error_body(reply: httpx.Response) -> bytes:
    """The start of an error's body, as far as it can be had."""
    body = b""
    async for piece in reply.aiter_raw():
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
    if status in _BUSY_STATUSES:
        raise BusyError(told)
    if status in {401, 403}:
        raise AccessDeniedError(f"{told}: the bucket does not allow anonymous reading of this")
    # An unknown version id is 404 NoSuchVersion at AWS, 404 NoSuchKey at Ceph, 400 InvalidArgument at MinIO.
    if status in {404, 410} or code in _GONE_CODES or (status == 400 and code == "InvalidArgument"):
        raise ObjectGoneError(f"{told}: S3 does not have this (any more)")
    if 300 <= status < 400:
        where = reply.headers.get("x-amz-bucket-region") or reply.headers.get("Location", "elsewhere")
        raise BadReplyError(f"{told}: the server points to {where!r:.200}; check --region and --endpoint-url")
    if status == 200 and expected == 206:
        raise BadReplyError(f"{told}: the server ignores Range and sends the whole object")
    raise BadReplyError(f"{told}: {expected} was expected")


def _check_range(reply: httpx.Response, version: ObjectVersion, byte_range: ByteRange, size_bytes: int) -> None:
    told = reply.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(told)
    if match is None or (int(match[1]), int(match[2]) + 1) != (byte_range.start, byte_range.stop):
        raise BadReplyError(
            f"{version}: bytes {byte_range.start}-{byte_range.stop - 1} were asked for; Content-Range is {told!r}"
        )
    if int(match[3]) != size_bytes:
        raise BadReplyError(f"{version}: the object has {match[3]} bytes, but {size_bytes} were listed")
    length = reply.headers.get("Content-Length")
    if length is not None and length != str(len(byte_range)):
        raise BadReplyError(f"{version}: Content-Length {length} for a range of {len(byte_range)} bytes")
    if reply.headers.get("Content-Encoding", "identity") != "identity":
        raise BadReplyError(f"{version}: the body is encoded, though no encoding was accepted")
    _check_version_id(reply, version)


def _check_version_id(reply: httpx.Response, version: ObjectVersion) -> None:
    sent = reply.headers.get("x-amz-version-id")
    if sent is not None and version.version_id is not None and sent != version.version_id:
        raise BadReplyError(f"{version}: the server sent version {sent!r:.200}")


# Listings


def parse_xml(body: bytes, *, about: str) -> Element:
    """An S3 reply's XML with its namespaces taken off. Entities and DTDs are refused (`BadReplyError`)."""
    try:
        root: Element = defusedxml.ElementTree.fromstring(body, forbid_dtd=True)
    except (DefusedXmlException, SyntaxError, ValueError, LookupError) as error:
        raise BadReplyError(f"{about}: not an S3 listing: {error!r:.200}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


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
    return ListedObject(_decoded(_field(row, "Key"), page), row.findtext("ETag", "").strip('"'), _row_attributes(row))


def _listed_version(row: Element, page: Element) -> ListedVersion:
    version = ObjectVersion(_decoded(_field(row, "Key"), page), _field(row, "VersionId"))
    return ListedVersion(version, _row_attributes(row))


def _decoded(key: str, page: Element) -> str:
    """Keys are percent-encoded where the server says that it did so (`encoding-type=url`)."""
    return unquote_plus(key) if page.findtext("EncodingType") == "url" else key


def _row_attributes(row: Element) -> ObjectAttributes:
    try:
        return _attributes(_field(row, "Size"), datetime.fromisoformat(_field(row, "LastModified")))
    except ValueError as error:
        raise BadReplyError(f"listing: {row.findtext('Key')!r:.200}: no usable size or time: {error}") from error


def _field(element: Element, name: str) -> str:
    text = element.findtext(name)
    if not text:
        raise BadReplyError(f"listing: a row without {name}")
    return text


def _attributes(size: str, modified: datetime) -> ObjectAttributes:
    """Whole seconds, since HEAD has no more: a time must not depend on how it was asked for."""
    if not re.fullmatch(r"\d{1,20}", size) or int(size) > MAX_OBJECT_BYTES:
        raise ValueError(f"a size of {size!r:.40}")
    if modified.tzinfo is None:
        modified = modified.replace(tzinfo=UTC)
    return ObjectAttributes(int(size), int(modified.timestamp()) * 1_000_000_000)

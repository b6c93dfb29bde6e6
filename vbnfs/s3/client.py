"""The client of a bucket: ranges, HEAD and the two listings, and nothing believed unchecked.

Ranges are nearly all of the bytes, and come by libcurl (curl.py), all else by httpx (http_client.py): by the same
route (routes.py), over the same proxy and with the same trust. Requests are anonymous (unsigned).

References: Amazon S3 API (GetObject, HeadObject, ListObjectsV2, ListObjectVersions), RFC 9110 (14, ranges).
"""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import trio

from vbnfs.errors import (
    ArchivedError,
    BadReplyError,
    ExpiredError,
    MismatchError,
    NoDescriptorError,
    ProxyDeniedError,
    ProxyError,
    StorageError,
    TransportError,
    UntrustedServerError,
    WrongNameError,
)
from vbnfs.host import descriptors
from vbnfs.logs import WARN_AGAIN_SECONDS, WarnOnce
from vbnfs.metrics import Metrics
from vbnfs.objects import (
    ListedObject,
    ListedVersion,
    ObjectAttributes,
    ObjectVersion,
    RangeRequest,
    Receive,
    Received,
)
from vbnfs.rest import Rest
from vbnfs.s3.addresses import bucket_base, listing_url, object_url
from vbnfs.s3.certificates import with_dates
from vbnfs.s3.curl import CurlTransport
from vbnfs.s3.failures import unreachable
from vbnfs.s3.generations import Generations
from vbnfs.s3.http_client import HttpClient
from vbnfs.s3.listings import OBJECTS, VERSIONS, Listing, Page, Row
from vbnfs.s3.ranges import RangeTransport, get_of, receive_all
from vbnfs.s3.refusals import of_the_bucket, restoring
from vbnfs.s3.replies import head_attributes
from vbnfs.s3.resolver import lookups_in_own_threads
from vbnfs.s3.routes import route_to
from vbnfs.s3.server_dates import ServerDates
from vbnfs.s3.trust import installed_at

_MAX_PAGE_BYTES: Final = 4 << 20  # 1,000 rows have well under 1 MB, or 3.7 if all keys are as long as S3 lets them be
_MAX_ROWS: Final = 200_000  # ten times as many as the real datasets have; 100 MB of memory
_MAX_LISTING_BYTES: Final = 128 << 20
_MAX_PAGES: Final = 1_000
_REACH_SECONDS: Final = 3.0
# A server may send a part of a range alone. Parts are to be of some length, or their number would have no bound.
SMALL_PART_BYTES: Final = 64 << 10
MOST_SMALL_PARTS: Final = 4  # of a range
_LISTING_SECONDS: Final = 600.0  # for all pages
_NO_VARIABLES: Final[Mapping[str, str]] = MappingProxyType({})


class S3Client:
    """An `ObjectClient` of one bucket. Use as an async context manager; closing ends its connections.

    `probes` may be under way besides `max_connections` ranges. A range ends of which nothing comes for
    `silence_seconds`, or for as long as any request. `receiver` is the command of the process that receives ranges;
    None: a thread does. `environ` has the variables that name proxies and certificates.
    """

    def __init__(  # noqa: PLR0913 - one for each part
        self,
        *,
        bucket: str,
        region: str,
        endpoint_url: str | None,
        ca_bundle: Path | None,
        max_connections: int,
        metrics: Metrics,
        environ: Mapping[str, str] = _NO_VARIABLES,
        probes: int = 0,
        silence_seconds: float | None = None,
        receiver: Sequence[str] | None = None,
    ) -> None:
        self._base = bucket_base(bucket, region, endpoint_url)
        self._metrics = metrics
        self._warn_once = WarnOnce(again_after_seconds=WARN_AGAIN_SECONDS)
        self._warn_of_row = WarnOnce()
        route = route_to(self._base, ca_bundle=ca_bundle, environ=environ)
        self._proxy, self._trust = route.proxy, route.trust()
        way: Any = {"trust": self._trust, "proxy": self._proxy, "generations": Generations()}
        self._http = HttpClient(self._base, max_connections=max_connections, **way)
        self._dates = ServerDates(self._http.dates)
        own = CurlTransport(max_connections=max_connections + probes, **way)
        self._ranges: RangeTransport = own
        if receiver is not None:
            from vbnfs.s3.receivers import ReceiverTransport  # noqa: PLC0415 - it takes a while, and few want it

            self._ranges = ReceiverTransport(receiver, own, max_connections=max_connections + probes, **way)
        self._silence_seconds = silence_seconds
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._open.enter_context(lookups_in_own_threads())
        await self._open.enter_async_context(self._http)
        await self._open.enter_async_context(self._ranges)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._open.aclose()

    async def reach(self) -> None:
        """See `ObjectClient`. Connects as requests do: by the proxy where one is used, and with TLS.

        A proxy that passes requests on says by its answer to one whether it does.
        """
        async with self._explaining():
            with trio.move_on_after(_REACH_SECONDS):
                await self._http.connect()
                if self._proxy is not None and self._proxy.passes_on(self._base):
                    await self._ask_the_proxy()
                return
            raise unreachable(self._base, f"no connection within {_REACH_SECONDS:g} s")

    async def server_time(self) -> float | None:
        """What time the server has, in seconds since 1970; None where it does not say, or cannot be asked."""
        self._metrics.head_requests += 1
        return await self._http.server_time()

    async def _ask_the_proxy(self) -> None:
        self._metrics.head_requests += 1
        try:
            await self._http.head(self._base, about="the bucket")
        except (ProxyError, ProxyDeniedError):
            raise
        except StorageError:  # of the server, then
            return

    async def list_objects(self, prefix: str) -> list[ListedObject]:
        """See `ObjectClient`. Of a key that stands in two pages the later row counts."""
        rows = await self._all_rows(OBJECTS, {"list-type": "2", "prefix": prefix})
        return list({row.key: row for row in rows}.values())

    async def list_versions(self, prefix: str) -> list[ListedVersion]:
        """See `ObjectClient`. Of a version that stands in two pages the later row counts."""
        rows = await self._all_rows(VERSIONS, {"versions": "", "prefix": prefix})
        return list({row.version: row for row in rows}.values())

    async def head(self, version: ObjectVersion) -> ObjectAttributes:
        """See `ObjectClient`."""
        self._metrics.head_requests += 1
        async with self._failures():
            head = await self._http.head(object_url(self._base, version), about=str(version))
            return head_attributes(head, version)

    async def get_object(self, key: str, *, max_bytes: int) -> bytes:
        """See `ObjectClient`."""
        self._metrics.object_requests += 1
        url = object_url(self._base, ObjectVersion(key, None))
        async with self._failures():
            body = await self._http.get(url, about=key, max_bytes=max_bytes, is_object=True)
        self._metrics.listed_bytes += len(body)
        return body

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        """See `ObjectClient`. Where the server sends less than it was asked for, the rest is asked for."""

        async def receive_and_count(received: Received) -> None:
            self._metrics.received_bytes += len(received)
            await receive(received)

        rest, small_parts = Rest(request.byte_range, receive_and_count), 0
        async with self._failures():
            while rest.byte_range:
                before_bytes = len(rest.byte_range)
                await self._get_a_part(request.after(rest.byte_range.start), rest.receive)
                small_parts += before_bytes - len(rest.byte_range) < min(SMALL_PART_BYTES, before_bytes)
                if rest.byte_range and small_parts > MOST_SMALL_PARTS:
                    raise MismatchError(
                        f"{request.version}: again and again less than {SMALL_PART_BYTES:,} bytes of a range come"
                    )

    async def _get_a_part(self, request: RangeRequest, receive: Receive) -> None:
        """Hand on the beginning of a range, which may be all of it."""
        self._metrics.range_requests += 1
        get = get_of(self._base, request)
        try:
            async with self._ranges.begin(get) as transfer:
                await receive_all(transfer, get, receive, silence_seconds=self._silence_seconds)
        except ArchivedError as error:
            if (better := await self._restoring(request.version)) is not None:
                raise better from error
            raise

    async def _restoring(self, version: ObjectVersion) -> ArchivedError | None:
        """What to say of an object in an archive that is being restored, which only HEAD says; None if it is not."""
        self._metrics.head_requests += 1
        with suppress(StorageError):
            return restoring(await self._http.head(object_url(self._base, version), about=str(version)), version)
        return None

    async def _all_rows(self, listing: Listing[Row], query: Mapping[str, str]) -> list[Row]:
        about = f"listing of {query['prefix']!r}"
        with trio.move_on_after(_LISTING_SECONDS):
            return await self._rows_of_pages(listing, query, about=about)
        raise TransportError(f"{about}: not at its end after {_LISTING_SECONDS:.0f} s")

    async def _rows_of_pages(self, listing: Listing[Row], query: Mapping[str, str], *, about: str) -> list[Row]:
        rows: list[Row] = []
        seen: set[tuple[str, ...]] = {()}
        position: dict[str, str] = {}
        left_bytes = _MAX_LISTING_BYTES
        for _ in range(_MAX_PAGES):
            page, length_bytes = await self._page(listing, {**query, "encoding-type": "url", **position}, about=about)
            rows += page.rows
            left_bytes -= length_bytes
            if not page.following:
                return rows
            if len(rows) >= _MAX_ROWS or left_bytes < 0:
                raise BadReplyError(
                    f"{about}: no end after {_MAX_LISTING_BYTES - left_bytes:,} bytes, {len(rows):,} rows"
                )
            ahead = (one for one in (page.following, page.behind) if tuple(one.values()) not in seen)
            if (position := next(ahead, {})) == {}:
                raise BadReplyError(f"{about}: the server gives the same page again")
            seen.add(tuple(position.values()))
        raise BadReplyError(f"{about}: more than {_MAX_PAGES:,} pages")

    async def _page(self, listing: Listing[Row], query: Mapping[str, str], *, about: str) -> tuple[Page[Row], int]:
        """A page, and its length in bytes. Rows that cannot be read are logged once."""
        self._metrics.list_requests += 1
        async with self._failures():
            with of_the_bucket():
                body = await self._http.get(listing_url(self._base, query), about=about, max_bytes=_MAX_PAGE_BYTES)
                self._metrics.listed_bytes += len(body)
                # 1,000 rows take tens of milliseconds: readers must not wait for that.
                read = partial(listing.read, body, prefix=query["prefix"], about=about)
                page = await trio.to_thread.run_sync(read)
            for row in page.left_out:
                self._warn_of_row("a row of a listing is left out", listing=about, row=row)
            return page, len(body)

    @asynccontextmanager
    async def _failures(self) -> AsyncIterator[None]:
        """Every failure is counted, and explained."""
        async with self._explaining():
            try:
                yield
            except StorageError:
                self._metrics.failed_requests += 1
                raise

    @asynccontextmanager
    async def _explaining(self) -> AsyncIterator[None]:
        try:
            yield
        except StorageError as error:
            failure = await self._explained(error)
            if failure is not error:
                raise failure from error
            raise

    async def _explained(self, failure: StorageError) -> StorageError:
        """What failed, with what is known of the cause.

        Where no connection can be opened, here or in another process, one warning is logged.
        """
        if isinstance(failure, ExpiredError):
            return with_dates(failure, await self._dates.get(), now=time.time(), installed=installed_at())
        if isinstance(failure, UntrustedServerError) and not isinstance(failure, WrongNameError):
            return UntrustedServerError(f"{failure}; trusted: {self._trust.origin}")
        if not isinstance(failure, TransportError):
            return failure
        explained = descriptors.explained(failure)
        if isinstance(explained, NoDescriptorError):
            reason = descriptors.CROWDED
            self._warn_once("no more connections can be opened; going on with those that there are", reason=reason)
        return explained

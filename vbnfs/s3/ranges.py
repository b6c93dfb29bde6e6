"""The seam between what asks for ranges and what brings them: a GET is a value, and what returns are events.

    RangeGet  ->  Head, Piece, Piece, Stored, ..., Done
                  or Failed, at any point, as the last one

What has come when a GET is done is its range, or the beginning of it, which a server may send alone.

What stands behind the seam (`RangeTransport`) checks a reply's head before it gives a single byte, so each piece is
what was asked for: `check_head` and `status_error` are pure, and can be called in any thread or process. Where the
request has a sink, whole blocks go there, and all that is said of them is that they did (`Stored`): of all that
comes, or of a part. Today it is libcurl in a thread (curl.py).
"""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol, Self

import trio

from vbnfs.errors import StorageError, TransportError
from vbnfs.objects import Piece, RangeRequest, Receive, Received, Stored
from vbnfs.s3.addresses import object_url
from vbnfs.s3.failures import broken
from vbnfs.s3.limits import LEAST_BYTES, LEAST_SECONDS, SILENCE_SECONDS, BodyTime
from vbnfs.s3.replies import Head

ANONYMOUS_FIELDS: Final = {"Accept-Encoding": "identity", "User-Agent": "vbnfs"}
NO_TRANSFORM: Final = "no-transform"
_MAX_URL_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class RangeGet:
    """One GET of a range: the server, for messages, the URL, the request's header fields, and what is expected."""

    server: str
    url: str
    fields: tuple[tuple[str, str], ...]
    request: RangeRequest


@dataclass(frozen=True, slots=True)
class Done:
    """All bytes have come, and the end of the body."""


@dataclass(frozen=True, slots=True)
class Failed:
    """No more will come."""

    error: StorageError


Event = Head | Received | Done | Failed


class Transfer(Protocol):
    """A GET under way."""

    async def next(self) -> Event:
        """The next event, as soon as it has come. Being cancelled loses none."""
        ...


class RangeTransport(Protocol):
    """What carries GETs out, some at a time. Entered before the first one; leaving ends all of them."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    def begin(self, get: RangeGet) -> AbstractAsyncContextManager[Transfer]:
        """Begin when it is its turn. It is ended when the context is left, whether it is over or not."""
        ...


def get_of(base: str, request: RangeRequest) -> RangeGet:
    """The GET of a range in the bucket at `base` (RFC 9110, 14.2, Range; 13.1.1, If-Match).

    Proxies are asked to leave the bytes as they are (RFC 9110, 7.7; RFC 9111, 5.2.1.6).
    Raises `TransportError` for a URL that is too long.
    """
    url = object_url(base, request.version)
    if len(url) > _MAX_URL_BYTES:
        raise broken(str(request.version), base, "URL too long")
    fields = {
        **ANONYMOUS_FIELDS,
        "Cache-Control": NO_TRANSFORM,
        "Range": f"bytes={request.byte_range.start}-{request.byte_range.stop - 1}",
    }
    if request.version.etag is not None:
        fields["If-Match"] = f'"{request.version.etag}"'
    return RangeGet(base, url, tuple(fields.items()), request)


async def receive_all(
    transfer: Transfer, get: RangeGet, receive: Receive, *, silence_seconds: float | None = None
) -> None:
    """Hand all that comes by a transfer to `receive`. Raises what it failed with, or that it took too long.

    What a server is allowed to take does not count the time between two events, which is the receiver's.
    """
    about, time = str(get.request.version), BodyTime()
    silence_seconds = SILENCE_SECONDS if silence_seconds is None else silence_seconds
    with trio.move_on_after(silence_seconds) as until_head:
        event = await transfer.next()
    if until_head.cancelled_caught:
        raise broken(about, get.server, f"no reply within {silence_seconds:.0f} s")
    while not isinstance(event, Done):
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Piece | Stored):
            await receive(event)
        event, time = await _next(transfer, get, time, silence_seconds)


async def _next(transfer: Transfer, get: RangeGet, time: BodyTime, silence_seconds: float) -> tuple[Event, BodyTime]:
    began = trio.current_time()
    with trio.move_on_after(min(silence_seconds, time.left_seconds)):
        event = await transfer.next()
        count_bytes = len(event) if isinstance(event, Piece | Stored) else 0
        return event, time.after(count_bytes, trio.current_time() - began)
    if time.left_seconds < silence_seconds:
        text = f"less than {LEAST_BYTES:,} bytes in {LEAST_SECONDS:.0f} s"
        raise TransportError(f"{get.request.version}: {text}")
    raise broken(str(get.request.version), get.server, f"no byte for {silence_seconds:.0f} s")

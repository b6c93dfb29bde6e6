"""The seam: what a GET is as a value, what is made of the events that return, and what may stand behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import pytest
import trio
from trio.testing import MockClock

from tests.fakes.client import MemoryClient
from tests.fakes.store import MemoryStore
from vbnfs.errors import ChangedError, StorageError, TransportError
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ObjectVersion, Piece, RangeRequest, Receive
from vbnfs.s3.breaker import BreakerClient
from vbnfs.s3.hedging import HedgingClient
from vbnfs.s3.pacing import PacedClient
from vbnfs.s3.ranges import Done, Event, Failed, RangeGet, get_of, receive_all
from vbnfs.s3.replies import Head
from vbnfs.s3.retry import RetryingClient

VERSION: Final = ObjectVersion("data/a b.nwb", "id&1", "etag")
REQUEST: Final = RangeRequest(VERSION, ByteRange(10, 20), 100)
GET: Final = get_of("http://s3.example/bucket", REQUEST)
HEAD: Final = Head(206, {})


def test_a_get_is_a_value() -> None:
    """It says everything that is asked, and what has to come back; the same request gives the same value."""
    assert get_of("http://s3.example/bucket", REQUEST) == GET
    assert GET.url == "http://s3.example/bucket/data/a%20b.nwb?versionId=id%261"
    assert dict(GET.fields) == {
        **{"Accept-Encoding": "identity", "User-Agent": "vbnfs"},
        **{"Range": "bytes=10-19", "If-Match": '"etag"'},
    }
    assert GET.request.after(15) == RangeRequest(VERSION, ByteRange(15, 20), 100)


def test_a_part_of_a_piece() -> None:
    """A piece from a byte on is the rest of it, and stands where that byte does."""
    piece = Piece(10, b"abcde")
    assert [piece.after(position) for position in (9, 10, 12, 15)] == [
        *(piece, piece, Piece(12, b"cde"), Piece(15, b"")),
    ]
    assert piece.stop == 15


class Scripted:
    """A transfer that has some events, and then no more."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = list(events)

    async def next(self) -> Event:
        await trio.lowlevel.checkpoint()
        return self._events.pop(0) if self._events else await trio.sleep_forever()


async def received(*events: Event) -> list[Piece]:
    """The pieces that are handed on; then what the transfer failed with is raised."""
    pieces: list[Piece] = []

    async def receive(piece: Piece) -> None:
        pieces.append(piece)

    await receive_all(Scripted(events), GET, receive)
    return pieces


async def test_pieces_are_handed_on_until_it_is_done() -> None:
    """Each piece is handed on, and nothing that comes behind the end."""
    pieces = [Piece(10, b"abc"), Piece(13, b"defghij")]
    assert await received(HEAD, *pieces, Done(), Piece(20, b"more")) == pieces


@pytest.mark.parametrize("before", [(), (HEAD,), (HEAD, Piece(10, b"abc"))])
async def test_a_failure_comes_out(before: tuple[Event, ...]) -> None:
    """What a transfer fails with is raised, at whatever point."""
    failure = ChangedError("another version")
    with pytest.raises(ChangedError) as caught:
        await received(*before, Failed(failure))
    assert caught.value is failure


@pytest.mark.parametrize(
    ("events", "text"),
    [((), "no reply within 15 s"), ((HEAD,), "no byte for 15 s"), ((HEAD, Piece(10, b"a")), "no byte for 15 s")],
)
async def test_silence_is_a_failure(events: tuple[Event, ...], text: str, autojump_clock: MockClock) -> None:
    """Where no event comes, neither the head nor the next piece is waited for longer than 15 seconds."""
    with pytest.raises(TransportError, match=text):
        await received(*events)
    assert trio.current_time() <= 16


@dataclass(frozen=True)
class StoredPiece:
    """Bytes that came and are kept already: the place of them is known, and the bytes are not here."""

    start: int
    stop: int

    def after(self, position: int) -> "StoredPiece":
        return StoredPiece(max(self.start, position), self.stop)


class StoringClient(MemoryClient):
    """Keeps what comes, and says only that it came: a block at a time. The first GET breaks, the second stalls."""

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        self.requests.append(cast(object, request))  # type: ignore[arg-type]
        for start in range(request.byte_range.start, request.byte_range.stop, 100):
            if start == 300 and len(self.requests) == 1:
                raise TransportError("torn")
            if start == 500 and len(self.requests) == 2:
                await trio.sleep_forever()
            await receive(cast(Piece, StoredPiece(start, start + 100)))


async def test_what_keeps_the_bytes_itself_fits_behind_the_clients(autojump_clock: MockClock) -> None:
    """Retries, pace, hedges and the breaker go by where pieces stand: they need no bytes of them."""
    inner = StoringClient(MemoryStore())
    hedging = HedgingClient(BreakerClient(inner), metrics=Metrics())
    client = RetryingClient(PacedClient(hedging, most=4), seconds=60, attempts=3)
    pieces: list[object] = []

    async def receive(piece: Piece) -> None:
        pieces.append(piece)

    await client.get_range(RangeRequest(VERSION, ByteRange(0, 1000), 1000), receive)
    assert pieces == [StoredPiece(start, start + 100) for start in range(0, 1000, 100)]
    asked = [cast(RangeRequest, request).byte_range.start for request in inner.requests]
    assert asked == [0, 300, 500]


def test_a_url_that_is_too_long_is_a_failure() -> None:
    """No server takes such an address."""
    with pytest.raises(StorageError, match="URL too long"):
        get_of("http://s3.example/bucket", RangeRequest(ObjectVersion("x" * 70_000, None), ByteRange(0, 1), 1))
    assert isinstance(GET, RangeGet)

"""The seam: what a GET is as a value, what is made of the events that return, and what may stand behind it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from tests.fakes.client import MemoryClient
from tests.fakes.store import MemoryStore
from tests.s3.asking import open_client
from vbnfs.errors import ChangedError, StorageError, TransportError
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ObjectVersion, Piece, RangeRequest, Receive, Received, Stored
from vbnfs.s3 import client as client_module
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
        **{"Range": "bytes=10-19", "If-Match": '"etag"', "Cache-Control": "no-transform"},
    }
    assert GET.request.after(15) == RangeRequest(VERSION, ByteRange(15, 20), 100)


def test_a_part_of_a_piece() -> None:
    """A piece from a byte on is the rest of it, and stands where that byte does."""
    piece = Piece(10, b"abcde")
    assert [piece.after(position) for position in (9, 10, 12, 15)] == [
        *(piece, piece, Piece(12, b"cde"), Piece(15, b"")),
    ]
    assert (piece.stop, len(piece)) == (15, 5)


def test_a_part_of_what_was_stored() -> None:
    """What was stored already is cut like a piece: from a byte on, it is the rest of it."""
    stored = Stored(10, 15)
    assert [stored.after(position) for position in (9, 10, 12, 15)] == [
        *(stored, stored, Stored(12, 15), Stored(15, 15)),
    ]
    assert (stored.stop, len(stored)) == (15, 5)


class Scripted:
    """A transfer that has some events, and then no more."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = list(events)

    async def next(self) -> Event:
        await trio.lowlevel.checkpoint()
        return self._events.pop(0) if self._events else await trio.sleep_forever()


async def received(*events: Event) -> list[Received]:
    """What is handed on; then what the transfer failed with is raised."""
    came: list[Received] = []

    async def receive(one: Received) -> None:
        came.append(one)

    await receive_all(Scripted(events), GET, receive)
    return came


async def test_what_comes_is_handed_on_until_it_is_done() -> None:
    """Each piece is handed on, and the word of what was stored, and nothing that comes behind the end."""
    came = [Piece(10, b"abc"), Stored(13, 17), Piece(17, b"hij")]
    assert await received(HEAD, *came, Done(), Piece(20, b"more"), Stored(24, 30)) == came


@pytest.mark.parametrize("before", [(), (HEAD,), (HEAD, Piece(10, b"abc")), (HEAD, Stored(10, 13))])
async def test_a_failure_comes_out(before: tuple[Event, ...]) -> None:
    """What a transfer fails with is raised, at whatever point."""
    failure = ChangedError("another version")
    with pytest.raises(ChangedError) as caught:
        await received(*before, Failed(failure))
    assert caught.value is failure


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ((), "no reply within 15 s"),
        *[((HEAD, *came), "no byte for 15 s") for came in ((), (Piece(10, b"a"),), (Stored(10, 11),))],
    ],
)
async def test_silence_is_a_failure(events: tuple[Event, ...], text: str, autojump_clock: MockClock) -> None:
    """Where no event comes, neither the head nor the next piece is waited for longer than 15 seconds."""
    with pytest.raises(TransportError, match=text):
        await received(*events)
    assert trio.current_time() <= 16


class Slow(Scripted):
    """A transfer that has its next event ten seconds later."""

    async def next(self) -> Event:
        await trio.sleep(10)
        return await super().next()


@pytest.mark.parametrize("stored_bytes", [64 << 10, 10])
async def test_what_was_stored_counts_as_come(stored_bytes: int, autojump_clock: MockClock) -> None:
    """A body that brings 64 KiB in 30 s is not too slow, though none of its bytes are here; one with less is."""
    starts = range(0, 6 * stored_bytes, stored_bytes)
    events = [HEAD, *(Stored(start, start + stored_bytes) for start in starts), Done()]
    came: list[Received] = []

    async def receive(one: Received) -> None:
        came.append(one)

    if stored_bytes == 10:
        with pytest.raises(TransportError, match="less than 65,536 bytes in 30 s"):
            await receive_all(Slow(events), GET, receive)
    else:
        await receive_all(Slow(events), GET, receive)
        assert came == events[1:-1]


class ScriptedTransport:
    """The same events for each GET."""

    def __init__(self, *events: Event) -> None:
        self._events = events

    async def __aenter__(self) -> "ScriptedTransport":
        return self

    async def __aexit__(self, *exc_info: object) -> None: ...

    @asynccontextmanager
    async def begin(self, get: RangeGet) -> AsyncIterator[Scripted]:
        yield Scripted(self._events)


async def test_what_was_stored_counts_as_received(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of a body are counted, wherever they are by now."""
    transport = ScriptedTransport(HEAD, Piece(10, b"abc"), Stored(13, 20), Done())
    monkeypatch.setattr(client_module, "CurlTransport", lambda **_: transport)
    metrics, came = Metrics(), list[Received]()

    async def receive(one: Received) -> None:
        came.append(one)

    async with open_client("http://127.0.0.1:9", metrics=metrics) as client:
        await client.get_range(REQUEST, receive)
    assert came == [Piece(10, b"abc"), Stored(13, 20)]
    assert (metrics.received_bytes, metrics.range_requests) == (10, 1)


class StoringClient(MemoryClient):
    """Stores what comes, and says only that: 100 bytes at a time. The first GET breaks, the second stalls."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.asked: list[int] = []

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        self.asked.append(request.byte_range.start)
        for start in range(request.byte_range.start, request.byte_range.stop, 100):
            if start == 300 and len(self.asked) == 1:
                raise TransportError("torn")
            if start == 500 and len(self.asked) == 2:
                await trio.sleep_forever()
            await receive(Stored(start, start + 100))


async def test_what_stores_the_bytes_itself_fits_behind_the_clients(autojump_clock: MockClock) -> None:
    """Retries, pace, hedges and the breaker go by where things stand: a GET goes on behind what was stored."""
    inner = StoringClient()
    hedging = HedgingClient(BreakerClient(inner), metrics=Metrics())
    client = RetryingClient(PacedClient(hedging, most=4), seconds=60, attempts=3)
    came: list[Received] = []

    async def receive(one: Received) -> None:
        came.append(one)

    await client.get_range(RangeRequest(VERSION, ByteRange(0, 1000), 1000), receive)
    assert came == [Stored(start, start + 100) for start in range(0, 1000, 100)]
    assert inner.asked == [0, 300, 500]


def test_a_url_that_is_too_long_is_a_failure() -> None:
    """No server takes such an address."""
    with pytest.raises(StorageError, match="URL too long"):
        get_of("http://s3.example/bucket", RangeRequest(ObjectVersion("x" * 70_000, None), ByteRange(0, 1), 1))
    assert isinstance(GET, RangeGet)

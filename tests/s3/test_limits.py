"""How long a server may take, for a head, for a body, for all pages."""

import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import pytest
import trio
import trio.testing

from tests.fakes.s3_server import (
    FakeS3Server,
    Reply,
    Request,
    held,
    times,
)
from tests.s3.asking import (
    KINDS,
    RANGE,
    SIZE,
    VERSION,
    WANTED,
    Received,
    ask,
    listing,
    open_client,
    raw_range,
    wait_until,
)
from vbnfs.errors import (
    StorageError,
    TransportError,
)
from vbnfs.objects import Piece, RangeRequest
from vbnfs.s3 import curl_thread, ranges
from vbnfs.s3.client import S3Client


@pytest.mark.parametrize("kind", KINDS)
async def test_silence_is_given_up(
    server: FakeS3Server, client: S3Client, mock_clock: trio.testing.MockClock, kind: str
) -> None:
    """A server that takes the request and then says nothing is given up after 15 seconds."""
    server.behaviours.append(held(threading.Event()))

    async def jump() -> None:
        await wait_until(server, lambda s: s.count() == 1)
        await jump_when_blocked(mock_clock, 15.1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(jump)
        with pytest.raises(
            TransportError, match="no reply within 15 s" if kind == "get_range" else "no byte for 15 s"
        ):
            await ask(client, kind)


async def jump_when_blocked(mock_clock: trio.testing.MockClock, seconds: float) -> None:
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(seconds)


async def test_a_host_that_is_not_there_is_given_up(mock_clock: trio.testing.MockClock) -> None:
    """A host that does not even refuse is given up after 10 seconds."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):  # Linux takes one more connection than the queue is long, then none
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with open_client(f"http://127.0.0.1:{full.getsockname()[1]}") as client, trio.open_nursery() as nursery:
            nursery.start_soon(jump_when_blocked, mock_clock, 10.1)
            with pytest.raises(TransportError, match="no connection within 10 s"):
                await client.head(VERSION)


ServeDrops = Callable[[trio.SocketStream], Awaitable[None]]


def _serve_drops(drops: int, jump: Callable[[], None], taken: trio.MemoryReceiveChannel[None]) -> ServeDrops:
    """A connection's handler: a good head, then byte by byte; after each was taken the clock jumps."""

    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.receive_some()
            await stream.send_all(raw_range(b"", "Content-Length: 60000").raw or b"")
            for position in range(drops):
                await stream.send_all(WANTED[position : position + 1])
                await taken.receive()
                await trio.testing.wait_all_tasks_blocked()
                jump()
            await stream.send_all(WANTED[drops:])

    return serve


async def _fetch_in_drops(
    mock_clock: trio.testing.MockClock, *, drops: int, between: float, within: float
) -> bytes | StorageError:
    """Fetch from a server that is slow by `between` seconds a drop, by a receiver that takes `within` for each."""
    received = Received()
    note, taken = trio.open_memory_channel[None](drops + 1)

    async def receive(piece: Piece) -> None:
        mock_clock.jump(within)
        await received(piece)
        if len(received.data) <= drops:
            note.send_nowait(None)

    async with trio.open_nursery() as nursery:
        handler = _serve_drops(drops, partial(mock_clock.jump, between), taken)
        [listener] = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        async with open_client(f"http://127.0.0.1:{listener.socket.getsockname()[1]}") as client:
            try:
                await client.get_range(RangeRequest(VERSION, RANGE, SIZE), receive)
            except StorageError as failure:
                return failure
            finally:
                nursery.cancel_scope.cancel()
    return received.data


@pytest.fixture
def _ticks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """libcurl's thread hands on what came as soon as it has come, and not after some time that no clock here has."""
    monkeypatch.setattr(curl_thread, "TICK_SECONDS", 0.0)


@pytest.mark.usefixtures("_ticks_at_once")
async def test_a_trickle_is_given_up(mock_clock: trio.testing.MockClock) -> None:
    """A byte now and then is no progress: a reader of the block would wait for a day."""
    began = mock_clock.current_time()
    failure = await _fetch_in_drops(mock_clock, drops=100, between=10.0, within=0.0)
    assert isinstance(failure, TransportError)
    assert "less than 65,536 bytes in 30 s" in str(failure)
    assert mock_clock.current_time() - began < 60


@pytest.mark.usefixtures("_ticks_at_once")
async def test_a_slow_receiver_is_not_the_servers_fault(mock_clock: trio.testing.MockClock) -> None:
    """The time that `receive` takes does not count: a full disk queue may hold a GET for minutes."""
    assert await _fetch_in_drops(mock_clock, drops=20, between=0.5, within=60.0) == WANTED


def _serve_slowly(first: bytes, drop: bytes, wait: Callable[[], Awaitable[None]]) -> ServeDrops:
    """A connection's handler: sends `first`, then `drop` again and again, each after `wait`."""

    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.receive_some()
            await stream.send_all(first)
            while True:
                await wait()
                await stream.send_all(drop)

    return serve


async def _ask_slow_server(
    mock_clock: trio.testing.MockClock, kind: str, first: bytes, drop: bytes, *, between: float
) -> float:
    """Ask a server that sends `first`, then a `drop` every `between` seconds. Returns when it was given up."""

    async def wait() -> None:
        await trio.testing.wait_all_tasks_blocked(0.001)
        mock_clock.jump(between)

    began = mock_clock.current_time()
    async with trio.open_nursery() as nursery:
        handler = _serve_slowly(first, drop, wait)
        [listener] = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        async with open_client(f"http://127.0.0.1:{listener.socket.getsockname()[1]}") as client:
            late = "no reply within 15 s" if kind == "get_range" else "not at its end after"
            with pytest.raises(TransportError, match=late):
                await ask(client, kind)
            took = mock_clock.current_time() - began
        nursery.cancel_scope.cancel()
    return took


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"."),
        (b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["a field without end", "fields without end", "interim replies without end"],
)
async def test_a_head_without_end_is_given_up(
    mock_clock: trio.testing.MockClock, kind: str, first: bytes, drop: bytes
) -> None:
    """A reply whose head does not come to its end is given up, though there is never silence for long."""
    assert await _ask_slow_server(mock_clock, kind, first, drop, between=10.0) < 40


@pytest.mark.parametrize("kind", ["list_objects", "list_versions"])
async def test_a_body_without_end_is_given_up(mock_clock: trio.testing.MockClock, kind: str) -> None:
    """A body has a time for the whole of it, though it is never so slow that this alone would end it."""
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n"
    assert await _ask_slow_server(mock_clock, kind, first, bytes(2560), between=1.0) < 130


async def test_pages_have_a_time_for_all_of_them(
    server: FakeS3Server, client: S3Client, mock_clock: trio.testing.MockClock
) -> None:
    """Pages without end, each of them quick enough, are given up after ten minutes."""
    count = 0

    def another(_request: Request, _honest: Reply) -> Reply:
        nonlocal count
        count += 1
        mock_clock.jump(10)  # less than a silence may last
        return listing(head=f"<IsTruncated>true</IsTruncated><NextContinuationToken>{count}</NextContinuationToken>")

    server.behaviours.append(another)
    with pytest.raises(TransportError, match="not at its end after 600 s"):
        await client.list_objects("")
    assert count <= 61


async def test_a_head_without_end_from_libcurl(monkeypatch: pytest.MonkeyPatch) -> None:
    """libcurl's own time until the head is one for the whole of it, too."""
    monkeypatch.setattr(ranges, "SILENCE_SECONDS", 0.5)
    for first, drop in ((b"HTTP/1.1 206 OK\r\nX-Slow: ", b"."), (b"", b"HTTP/1.1 100 Continue\r\n\r\n")):
        async with trio.open_nursery() as nursery:
            handler = _serve_slowly(first, drop, partial(trio.sleep, 0.05))
            [listener] = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
            async with open_client(f"http://127.0.0.1:{listener.socket.getsockname()[1]}") as client:
                with trio.fail_after(60), pytest.raises(TransportError):
                    await ask(client, "get_range")
            nursery.cancel_scope.cancel()


async def test_waiting_for_a_connection_takes_no_time_of_a_request(
    server: FakeS3Server, mock_clock: trio.testing.MockClock
) -> None:
    """A request that waits long for the only connection has all of its time when it gets it."""
    gate = threading.Event()
    server.behaviours.append(times(1, held(gate)))
    sizes: list[int] = []

    async def head(client: S3Client) -> None:
        sizes.append((await client.head(VERSION)).size_bytes)

    async with open_client(server.endpoint_url, max_connections=1) as client, trio.open_nursery() as nursery:
        nursery.start_soon(head, client)
        await wait_until(server, lambda s: s.count() == 1)
        nursery.start_soon(head, client)
        for _ in range(4):
            await jump_when_blocked(mock_clock, 3.0)
        gate.set()
    assert sizes == [SIZE, SIZE]

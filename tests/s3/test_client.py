"""The client of a bucket: its connections, what it gives back, what it counts.

What all clients promise: tests/scenarios/network/test_client_contract.py.
"""

import threading
from contextlib import suppress
from dataclasses import replace

import pytest
import trio
import trio.testing

from tests.fakes.s3_server import (
    Behaviour,
    FakeS3Server,
    Reply,
    always,
    error,
    for_kind,
    header,
    held,
    times,
)
from tests.fakes.store import MemoryStore
from tests.s3.asking import (
    BIG,
    BIG_SIZE,
    KEY,
    KINDS,
    RANGE,
    SIZE,
    VERSION,
    WANTED,
    Received,
    ask,
    fetch,
    open_client,
    wait_until,
)
from vbnfs.errors import (
    BadReplyError,
    BusyError,
    StorageError,
    TransportError,
)
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Piece, RangeRequest
from vbnfs.s3.client import S3Client

pytestmark = pytest.mark.usefixtures("receiving")


async def test_listings_and_heads_give_etags(client: S3Client, store: MemoryStore) -> None:
    """HEAD and listings give an object's ETag without its quotes."""
    [row] = await client.list_versions(KEY)
    assert row.attributes == await client.head(row.version)
    stored = store.get(KEY, row.version.version_id)
    assert stored is not None
    assert row.attributes.etag == stored.etag.strip('"')


async def test_a_large_object_is_not_read_to_the_end(server: FakeS3Server, client: S3Client) -> None:
    """What proves larger than the limit is left, and its connection closed."""
    with pytest.raises(BadReplyError, match="more than 1,000 bytes"):
        await client.get_object(BIG.key, max_bytes=1000)
    await wait_until(server, lambda s: s.open_connections == 0)
    assert server.body_bytes == 0


async def test_connections_are_bounded(server: FakeS3Server, store: MemoryStore) -> None:
    """There are never more connections than were allowed, however many requests wait."""
    gate = threading.Event()
    server.behaviours.append(held(gate))
    async with open_client(server.endpoint_url, max_connections=3) as client, trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(fetch, client, Received())
        await wait_until(server, lambda s: s.count() >= 3)
        await trio.testing.wait_all_tasks_blocked()  # all others have connected by now, or wait for their turn
        gate.set()
    assert server.count() == 12
    assert server.most_connections == 3


async def test_connections_are_kept(server: FakeS3Server, client: S3Client) -> None:
    """A hundred requests in a row, short errors among them, take a connection for ranges and one for all else."""
    server.behaviours.append(times(10, for_kind("get_range", always(error(503, "SlowDown")))))
    for _ in range(50):
        with suppress(BusyError):
            await fetch(client, Received())
        await client.head(VERSION)
    assert server.count() == 100
    assert server.connections == 2


async def test_a_connection_that_died_while_idle_is_replaced(server: FakeS3Server, client: S3Client) -> None:
    """A connection that the server closed after an answer is not used again."""
    await client.head(VERSION)
    server.drop_connections()
    await wait_until(server, lambda s: s.open_connections == 0)
    await client.head(VERSION)
    assert server.connections == 2


@pytest.mark.parametrize("gate_after", [None, 20_000], ids=["before the head", "within the body"])
async def test_being_cancelled_gives_the_connection_back(server: FakeS3Server, gate_after: int | None) -> None:
    """After a cancelled request the only connection there may be is free for the next one."""
    gate = threading.Event()
    server.behaviours.append(times(5, lambda _request, honest: replace(honest, gate=gate, gate_after=gate_after)))
    async with open_client(server.endpoint_url, max_connections=1) as client:
        for number in range(1, 6):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fetch, client, Received())
                sent_bytes = number * (gate_after or 0)
                await wait_until(server, lambda s: s.count() == number and s.body_bytes >= sent_bytes)  # noqa: B023
                nursery.cancel_scope.cancel()
        received = Received()
        await fetch(client, received)
    assert received.data == WANTED
    gate.set()
    await wait_until(server, lambda s: s.open_connections == 0)


async def test_waiting_for_a_connection_can_be_cancelled(server: FakeS3Server) -> None:
    """A request that waits for its turn goes away when cancelled, and takes no turn."""
    gate = threading.Event()
    server.behaviours.append(held(gate))
    async with open_client(server.endpoint_url, max_connections=1) as client, trio.open_nursery() as nursery:
        nursery.start_soon(fetch, client, Received())
        await wait_until(server, lambda s: s.count() == 1)
        async with trio.open_nursery() as waiting:
            waiting.start_soon(fetch, client, Received())
            await trio.testing.wait_all_tasks_blocked()
            waiting.cancel_scope.cancel()
        gate.set()
        await client.head(VERSION)
    assert [request.kind for request in server.requests] == ["get_range", "head"]


@pytest.mark.parametrize("problem", [OSError("disk full"), ValueError("broken"), KeyError("x")])
async def test_what_receive_raises_comes_out_as_it_is(
    server: FakeS3Server, metrics: Metrics, problem: Exception
) -> None:
    """A receiver's own failure is not taken for the network's, and the connection is given back."""

    async def receive(piece: Piece) -> None:
        raise problem

    async with open_client(server.endpoint_url, max_connections=1, metrics=metrics) as client:
        for _ in range(2):
            with pytest.raises(type(problem)) as caught:
                await client.get_range(RangeRequest(BIG, ByteRange(0, BIG_SIZE), BIG_SIZE), receive)
            assert caught.value is problem
    assert metrics.failed_requests == 0
    await wait_until(server, lambda s: s.open_connections == 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_cookies_are_neither_kept_nor_sent(server: FakeS3Server, client: S3Client, kind: str) -> None:
    """An endpoint that sets a cookie does not see it again: requests are anonymous."""
    server.behaviours.append(header(Set_Cookie="who=you; Path=/; Max-Age=1000"))
    for _ in range(2):
        await ask(client, kind)
        await client.head(VERSION)
    assert server.count() == 4
    assert not any("cookie" in request.headers for request in server.requests)


async def test_a_server_is_reached_by_a_connection_alone(server: FakeS3Server) -> None:
    """`reach` connects and asks nothing; a server that is not there is named."""
    async with open_client(server.endpoint_url) as client:
        await client.reach()
    server.wait_until(lambda s: s.connections == 1)
    assert server.count() == 0
    async with open_client("http://127.0.0.1:1") as client:
        with pytest.raises(TransportError, match=r"127\.0\.0\.1:1 cannot be reached"):
            await client.reach()


async def test_requests_are_counted_by_kind(server: FakeS3Server, client: S3Client, metrics: Metrics) -> None:
    """Each page and each request counts once, and bytes of ranges as they come."""
    server.page_size = 1
    for kind in KINDS:
        await ask(client, kind)
    assert (metrics.list_requests, metrics.head_requests, metrics.object_requests) == (4, 1, 1)
    assert (metrics.range_requests, metrics.received_bytes, metrics.failed_requests) == (1, len(RANGE), 0)
    assert metrics.requests == server.count() == 7


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "behaviour",
    [always(error(503, "SlowDown")), always(error(404, "NoSuchKey")), always(Reply(raw=b"")), always(Reply(204))],
    ids=["busy", "gone", "no answer", "another status"],
)
async def test_failures_are_counted(
    server: FakeS3Server, client: S3Client, metrics: Metrics, kind: str, behaviour: Behaviour
) -> None:
    """Every request that was not answered as asked counts once as failed, whatever the reason."""
    server.behaviours.append(behaviour)
    with pytest.raises(StorageError):
        await ask(client, kind)
    assert (metrics.requests, metrics.failed_requests) == (1, 1)


async def test_a_listing_that_cannot_be_read_counts_as_failed(
    server: FakeS3Server, client: S3Client, metrics: Metrics
) -> None:
    """A reply with a good status and no listing in it was not what was asked for."""
    server.behaviours.append(always(Reply(200, {}, b"<html/>")))
    with pytest.raises(BadReplyError):
        await client.list_objects("")
    assert metrics.failed_requests == 1


async def test_a_new_connection_is_made_where_it_is_asked_for(server: FakeS3Server, client: S3Client) -> None:
    """A range that came wrong is asked for on a connection that has brought nothing yet; others are kept in use."""
    for is_anew in (False, False, True):
        await client.get_range(RangeRequest(VERSION, RANGE, SIZE, is_anew=is_anew), received := Received())
        assert received.data == WANTED
    first, second, third = [request.connection for request in server.requests]
    assert first == second != third

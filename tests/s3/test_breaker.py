"""Being offline: when it is found out, what happens then, and how it ends."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import pytest
import structlog
import trio
from trio.testing import MockClock

from tests.fakes.client import MemoryClient, Request
from tests.fakes.store import MemoryStore, Pattern
from vbnfs.errors import AccessDeniedError, BusyError, ObjectGoneError, OfflineError, StorageError, TransportError
from vbnfs.objects import ByteRange, ObjectVersion, Piece, RangeRequest
from vbnfs.s3.breaker import BreakerClient

SIZE: Final = 100_000
DATA: Final = Pattern(SIZE)[:]
VERSION: Final = ObjectVersion("data/file.nwb", "first")
REFUSED: Final = TransportError("connection refused")


@pytest.fixture
def inner() -> MemoryClient:
    store = MemoryStore()
    store.put(VERSION.key, DATA, version_id=VERSION.version_id)
    return MemoryClient(store, piece_bytes=1_000)


async def fetch(client: BreakerClient) -> bytes:
    received = bytearray()

    async def receive(piece: Piece) -> None:
        received.extend(piece.data)

    await client.get_range(RangeRequest(VERSION, ByteRange(0, SIZE), SIZE), receive)
    return bytes(received)


@asynccontextmanager
async def watched(inner: MemoryClient) -> AsyncIterator[BreakerClient]:
    client = BreakerClient(inner)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.watch)
        yield client
        nursery.cancel_scope.cancel()


QUESTIONS: Final[list[Callable[[BreakerClient], Awaitable[object]]]] = [
    fetch,
    lambda client: client.head(VERSION),
    lambda client: client.list_objects("data/"),
    lambda client: client.list_versions("data/"),
    lambda client: client.get_object(VERSION.key, max_bytes=SIZE),
    lambda client: client.reach(),
]


async def test_nothing_is_asked_where_it_is_forbidden(inner: MemoryClient) -> None:
    """--offline: every request is refused at once, and nothing is sent, no probe either."""
    client = BreakerClient(inner, is_forbidden=True)
    await client.watch()
    for ask in QUESTIONS:
        with pytest.raises(OfflineError, match="--offline"):
            await ask(client)
    assert client.is_offline
    assert not await client.probe()
    assert inner.count() == 0


async def test_a_network_that_goes_and_comes(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """Within some seconds it is offline, and refuses at once; within seconds of its return everything resumes."""
    async with watched(inner) as client:
        assert await fetch(client) == DATA
        with structlog.testing.capture_logs() as logs:
            inner.fail_when(lambda request: REFUSED)
            with pytest.raises(TransportError):
                await fetch(client)
            await trio.sleep(3)
            assert client.is_offline
            asked, began = inner.count("get_range"), trio.current_time()
            with pytest.raises(OfflineError, match="connection refused"):
                await fetch(client)
            assert (inner.count("get_range"), trio.current_time()) == (asked, began)
            with trio.fail_after(5):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.wait_online)
                    inner.heal()
        assert not client.is_offline
        assert await fetch(client) == DATA
    assert [line["event"].partition(":")[0] for line in logs] == ["offline", "online again"]


async def test_work_that_waits_for_a_server(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """An outage of seconds refuses nothing while such work goes on; after its end it is offline as ever."""
    async with watched(inner) as client:
        inner.fail_when(lambda request: REFUSED)
        async with client.patient():
            for _ in range(10):
                with pytest.raises(TransportError):
                    await fetch(client)
                await trio.sleep(1)
            assert not client.is_offline
        await trio.sleep(1)
        assert client.is_offline
        inner.heal()
        await trio.sleep(1)
        async with client.patient():
            assert await fetch(client) == DATA


async def test_work_that_begins_when_the_server_is_back(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """It need not wait for the next probe, which may be seconds away; where there is no server, it begins offline."""
    async with watched(inner) as client:
        inner.fail_when(lambda request: REFUSED)
        client.suspect()
        await trio.sleep(400)
        async with client.patient():
            with pytest.raises(OfflineError):
                await fetch(client)
        inner.heal()
        began = trio.current_time()
        async with client.patient():
            assert await fetch(client) == DATA
        assert trio.current_time() == began
        inner.fail_when(lambda request: REFUSED)
        client.suspect()
        await trio.sleep(5)
        assert client.is_offline
    forbidden = BreakerClient(inner, is_forbidden=True)
    asked = inner.count()
    async with forbidden.patient():
        assert forbidden.is_offline
    assert inner.count() == asked


async def test_what_is_under_way_ends(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """Requests that hang when the network goes do not wait for their own end of patience."""
    async with watched(inner) as client:
        assert await fetch(client) == DATA
        gate = inner.hold()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def fail() -> None:
                with pytest.raises(OfflineError):
                    await fetch(client)

            for _ in range(5):
                nursery.start_soon(fail)
            await gate.wait_arrived(5)
            client.suspect()
        assert trio.current_time() - began < 8
        assert inner.in_flight <= 1  # a probe


async def test_a_restart_is_not_offline(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """A server that is away for a second and a half is waited for by retries: it is not offline."""
    async with watched(inner) as client:
        inner.fail_when(lambda request: REFUSED)
        with pytest.raises(TransportError):
            await fetch(client)
        await trio.sleep(1.5)
        inner.heal()
        await trio.sleep(1)
        assert not client.is_offline
        assert await fetch(client) == DATA


async def test_a_server_that_sends_is_not_offline(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """As long as bytes come on any connection, failures of others are not the network's."""
    async with watched(inner) as client, trio.open_nursery() as nursery:
        inner.fail_when(lambda request: None if request.kind == "get_range" else REFUSED)

        async def receive(piece: Piece) -> None:
            await trio.sleep(0.5)

        async def trickle() -> None:
            await client.get_range(RangeRequest(VERSION, ByteRange(0, SIZE), SIZE), receive)

        nursery.start_soon(trickle)
        with pytest.raises(TransportError):
            await client.head(VERSION)
        await trio.sleep(30)
        assert not client.is_offline
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("answer", [BusyError("503"), AccessDeniedError("403"), ObjectGoneError("404")])
async def test_an_answer_is_an_answer(inner: MemoryClient, autojump_clock: MockClock, answer: StorageError) -> None:
    """A server that refuses is there."""
    async with watched(inner) as client:
        inner.fail_when(lambda request: answer if request.kind == "head" else REFUSED)
        with pytest.raises(TransportError):
            await fetch(client)
        await trio.sleep(30)
        assert not client.is_offline


async def test_failures_that_are_answers_are_no_suspicion(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """No probe is sent after an answer, of whatever kind."""
    async with watched(inner) as client:
        for answer in (BusyError("503"), AccessDeniedError("403"), ObjectGoneError("404")):
            inner.fail(answer)
            with pytest.raises(type(answer)):
                await fetch(client)
        await trio.sleep(30)
    assert inner.count("head") == 0


async def test_old_failures_are_no_reason(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """What failed before the server was found to be there does not explain why it is not there later."""
    async with watched(inner) as client:
        inner.fail(TransportError("long ago"))
        with pytest.raises(TransportError):
            await fetch(client)
        await trio.sleep(5)
        inner.hold()
        client.suspect()
        await trio.sleep(10)
        with pytest.raises(OfflineError, match="does not answer"):
            await fetch(client)


async def test_a_server_that_was_never_there(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """Where nothing was ever heard, failing to reach the server is proof enough: a mount starts without waiting."""
    async with watched(inner) as client:
        inner.fail_when(lambda request: REFUSED)
        with pytest.raises(TransportError):
            await client.reach()
        assert client.is_offline
        inner.heal()
        await trio.sleep(3)
        assert not client.is_offline


async def test_looking_tells_how_it_is_now(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """`probe` finds out within two seconds whether the server can be reached, before any read noticed."""
    async with watched(inner) as client:
        assert await client.probe()
        inner.fail_when(lambda request: REFUSED)
        assert not await client.probe()
        await trio.sleep(3)
        assert client.is_offline
        assert not await client.probe()
    assert inner.count("get_range") == 0


async def test_looking_takes_two_seconds_at_most(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """A server that does not even refuse counts as not reached."""

    def is_reach(request: Request) -> bool:
        return request.kind == "reach"

    inner.hold(is_reach)
    client = BreakerClient(inner)
    began = trio.current_time()
    assert not await client.probe()
    assert trio.current_time() - began == pytest.approx(2.0)


async def test_what_receive_raises_is_no_suspicion(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """A receiver's own failure says nothing about the network."""

    async def receive(piece: Piece) -> None:
        raise OSError("disk full")

    async with watched(inner) as client:
        with pytest.raises(OSError, match="disk full"):
            await client.get_range(RangeRequest(VERSION, ByteRange(0, SIZE), SIZE), receive)
        await trio.sleep(30)
    assert inner.count("head") == 0


@pytest.mark.parametrize("seconds", [20, 200])
async def test_a_server_that_hung_is_online_soon(
    inner: MemoryClient, autojump_clock: MockClock, seconds: float
) -> None:
    """What it was asked while it hung is never answered: the next probe, within half a second, is."""
    async with watched(inner) as client:
        assert await fetch(client) == DATA
        hang = [True]
        inner.hold(lambda request: hang[0])
        client.suspect()
        await trio.sleep(seconds + 0.3)
        assert client.is_offline
        assert inner.in_flight <= 6
        hang[0] = False
        with trio.fail_after(0.51):
            await client.wait_online()
        assert await fetch(client) == DATA
        assert inner.in_flight == 0


async def test_probes_are_fewer_after_minutes(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """A network that stays away is asked for every two seconds."""
    async with watched(inner) as client:
        inner.fail_when(lambda request: REFUSED)
        client.suspect()
        await trio.sleep(400)
        asked = inner.count("head")
        await trio.sleep(60)
        assert inner.count("head") - asked == pytest.approx(30, abs=1)

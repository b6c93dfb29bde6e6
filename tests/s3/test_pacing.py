"""How many GETs at a time: fewer when the server says so, more when it does well, and room for readers."""

from typing import Final

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.fakes.client import MemoryClient
from tests.fakes.store import MemoryStore, Pattern
from vbnfs.errors import BusyError, TransportError
from vbnfs.objects import ByteRange, ObjectVersion, Piece, RangeRequest, Receive, Received
from vbnfs.s3.pacing import Pace, PacedClient, prefetches_of
from vbnfs.s3.wrapper import WrapperClient

SIZE: Final = 1_000
MIB: Final = 1 << 20
VERSION: Final = ObjectVersion("data/file.nwb", "first")


@pytest.fixture
def inner() -> MemoryClient:
    store = MemoryStore()
    store.put(VERSION.key, Pattern(SIZE), version_id=VERSION.version_id)
    return MemoryClient(store)


async def fetch(client: PacedClient) -> None:
    async def receive(piece: Piece) -> None:
        """Nothing is kept."""

    await client.get_range(RangeRequest(VERSION, ByteRange(0, SIZE), SIZE), receive)


async def fetch_busy(client: PacedClient, inner: MemoryClient) -> None:
    inner.fail(BusyError("503 SlowDown"))
    with pytest.raises(BusyError):
        await fetch(client)


async def test_slow_down_is_heeded(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """After 503 SlowDown half as many GETs run at a time, and readers wait for their turn; nothing fails for it."""
    client = PacedClient(inner, most=16)
    await fetch_busy(client, inner)
    gate = inner.hold()
    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(fetch, client)
        await gate.wait_arrived(8)
        await trio.testing.wait_all_tasks_blocked()
        assert inner.in_flight == 8
        gate.open()
    assert inner.count() == 41


async def test_it_recovers(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """When the server does well again, there are more GETs with every round, up to all."""
    client = PacedClient(inner, most=8)
    for _ in range(5):
        await fetch_busy(client, inner)
        await trio.sleep(2)
    assert client.pace.gets == 2
    for _ in range(60):
        await fetch(client)
    assert client.pace.gets == 8


async def test_no_get_waits_for_those_that_stall(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """On a full line there are half as many, or four beside those that bring nothing, if that is more."""
    client, gate = PacedClient(inner, most=32), inner.hold()
    async with trio.open_nursery() as nursery:
        for _ in range(24):
            nursery.start_soon(fetch, client)
        await gate.wait_arrived(24)
        client.note_stalls(6)
        assert client.pace.gets == 16
        client.note_stalls(24)
        assert client.pace.gets == 28
        nursery.start_soon(fetch, client)
        await gate.wait_arrived(25)
        gate.open()


async def test_another_failure_is_no_reason(inner: MemoryClient) -> None:
    """A torn reply says nothing about how much is too much."""
    client = PacedClient(inner, most=8)
    inner.fail(TransportError("torn"))
    with pytest.raises(TransportError):
        await fetch(client)
    assert client.pace.gets == 8


async def test_a_turn_can_be_waited_for_and_given_up(inner: MemoryClient) -> None:
    """A request that is cancelled while it waits for a turn takes none."""
    client, gate = PacedClient(inner, most=1), inner.hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch, client)
        await gate.wait_arrived()
        async with trio.open_nursery() as waiting:
            waiting.start_soon(fetch, client)
            await trio.testing.wait_all_tasks_blocked()
            waiting.cancel_scope.cancel()
        gate.open()
    await fetch(client)
    assert inner.count() == 2


async def test_short_gets_run_beside_those_that_fill_the_link(inner: MemoryClient) -> None:
    """Where 24 run, as many more as there are connections, if they are short; none after the server has refused."""
    client, gate = PacedClient(inner, most=32), inner.hold()
    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(fetch, client)
        await gate.wait_arrived(32)
        await trio.testing.wait_all_tasks_blocked()
        assert (client.gets, client.short_gets, inner.in_flight) == (24, 32, 32)
        gate.open()
    await fetch_busy(client, inner)
    assert (client.gets, client.short_gets) == (16, 16)


@given(st.integers(1, 256), st.lists(st.tuples(st.booleans(), st.floats(0, 10)), max_size=100))
def test_the_pace_is_bounded(most: int, answers: list[tuple[bool, float]]) -> None:
    """Whatever the server says there is at least a GET, never more than allowed, and always one left to readers."""
    pace, now = Pace(most, float(most)), 0.0
    for is_busy, later in answers:
        now += later
        pace = pace.after_busy(now) if is_busy else pace.after_answer()
        assert 1 <= pace.gets <= most
        assert 1 <= prefetches_of(pace.gets, demand_waits=True) <= prefetches_of(pace.gets, demand_waits=False)
        assert prefetches_of(pace.gets, demand_waits=False) < pace.gets or pace.gets == 1


def test_one_word_counts_once() -> None:
    """GETs that were under way together are refused together: that halves the pace once, not to nothing."""
    pace = Pace(16, 16.0)
    for moment in range(16):
        pace = pace.after_busy(moment / 100)
    assert pace.gets == 8
    assert pace.after_busy(1.5).gets == 4


@pytest.mark.parametrize(("most", "prefetches"), [(1, 1), (2, 1), (4, 3), (9, 6), (12, 8), (24, 20), (256, 240)])
def test_readers_have_room(most: int, prefetches: int) -> None:
    """Prefetches get a part of what there may be; all but one in sixteen, while no reader comes beside them."""
    assert prefetches_of(most, demand_waits=True) == prefetches
    assert prefetches_of(most, demand_waits=False) == max(1, most - max(1, most // 16))


class SlowClient(WrapperClient):
    """A link: so long to the first byte, then so many bytes a second, in pieces of 1 MiB; connections share none."""

    def __init__(self, inner: MemoryClient, *, first_byte_seconds: float, rate: float) -> None:
        super().__init__(inner)
        self._first_byte_seconds, self._rate = first_byte_seconds, rate
        self.at_a_time = self.most_at_a_time = 0

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        self.at_a_time += 1
        self.most_at_a_time = max(self.most_at_a_time, self.at_a_time)
        await trio.sleep(self._first_byte_seconds)
        for start in range(request.byte_range.start, request.byte_range.stop, MIB):
            length = min(MIB, request.byte_range.stop - start)
            await trio.sleep(length / self._rate)
            await receive(Piece(start, bytes(length)))
        self.at_a_time -= 1


async def fetch_much(client: PacedClient, mebibytes: int) -> None:
    async def receive(received: Received) -> None:
        """Nothing is kept."""

    await client.get_range(RangeRequest(VERSION, ByteRange(0, mebibytes * MIB), mebibytes * MIB), receive)


async def test_gets_measure_the_link(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """60 ms and 25 MB/s: the time that what came first took is none of the first byte's."""
    client = PacedClient(SlowClient(inner, first_byte_seconds=0.06, rate=25e6), most=4)
    for _ in range(4):
        await fetch_much(client, 8)
    assert client.link.first_byte_seconds == pytest.approx(0.06)
    assert client.link.body_rate == pytest.approx(25e6)


@pytest.mark.parametrize(("most", "gets"), [(3, 3), (24, 24), (40, 40), (64, 64)])
async def test_more_gets_run_where_they_bring_more(
    inner: MemoryClient, autojump_clock: MockClock, most: int, gets: int
) -> None:
    """Connections that share nothing: up to all that the user allows, and at no moment more."""
    slow = SlowClient(inner, first_byte_seconds=0.05, rate=5e6)
    client = PacedClient(slow, most=most)
    async with trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(fetch_much, client, 4)
    assert client.gets == slow.most_at_a_time == gets

"""Stalled GETs: when one is taken to be stalled, what is done, what is handed on, and how often it may be done."""

import math
from contextlib import suppress
from typing import Any, ClassVar, Final

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.fakes.client import Failure, MemoryClient, Request
from tests.fakes.store import MemoryStore, Pattern
from vbnfs.errors import AccessDeniedError, MismatchError, SilenceError, StorageError, TransportError
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ObjectVersion, Piece, RangeRequest, Receive, Received, Stored
from vbnfs.s3.hedging import PROBES_AT_ONCE, HedgingClient
from vbnfs.s3.stall import STEP_BYTES, HedgeBudget, Proof, Silence, StallTimer

SIZE: Final = 500_000
DATA: Final = Pattern(SIZE)[:]
VERSION: Final = ObjectVersion("data/file.nwb", "first")
RANGE: Final = ByteRange(1_000, 400_000)


def memory_client() -> MemoryClient:
    store = MemoryStore()
    store.put(VERSION.key, DATA, version_id=VERSION.version_id)
    return MemoryClient(store, piece_bytes=10_000)


@pytest.fixture
def inner() -> MemoryClient:
    return memory_client()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def client(inner: MemoryClient, metrics: Metrics) -> HedgingClient:
    return HedgingClient(inner, metrics=metrics)


async def fetch(client: HedgingClient, into: bytearray | None = None, *, wanted: ByteRange = RANGE) -> bytes:
    received = bytearray() if into is None else into

    async def receive(piece: Piece) -> None:
        received.extend(piece.data)

    await client.get_range(RangeRequest(VERSION, wanted, SIZE), receive)
    return bytes(received)


class Once:
    """Matches the first request that it is asked about, and no other."""

    def __init__(self) -> None:
        self._first: Request | None = None

    def __call__(self, request: Request) -> bool:
        self._first = self._first or request
        return request is self._first


WANTED: Final = DATA[RANGE.start : RANGE.stop]


async def test_a_good_get_is_made_once(client: HedgingClient, inner: MemoryClient, metrics: Metrics) -> None:
    """A range that comes is asked for once, and handed on as it is."""
    assert await fetch(client) == WANTED
    assert (inner.count(), metrics.hedged_requests, inner.sent_bytes) == (1, 0, len(RANGE))


@pytest.mark.parametrize("after_bytes", [0, 10_000, 150_000])
async def test_a_stalled_get_is_taken_over(
    client: HedgingClient, inner: MemoryClient, autojump_clock: MockClock, after_bytes: int
) -> None:
    """The second request begins where the first stopped, no byte is handed on twice, and the first is cancelled."""
    inner.hold(Once(), after_bytes=after_bytes)
    assert await fetch(client) == WANTED
    assert inner.ranges() == [RANGE, ByteRange(RANGE.start + after_bytes, RANGE.stop)]
    assert inner.sent_bytes == len(RANGE)
    assert inner.in_flight == 0


async def test_where_the_second_stalls_as_well_a_third_is_asked(
    client: HedgingClient, inner: MemoryClient, metrics: Metrics, autojump_clock: MockClock
) -> None:
    """Two requests in a row that stall hold nothing up for long; no more than two are under way at a time."""
    gate = inner.hold(lambda request: any(request is one for one in inner.requests[:2]))
    began = trio.current_time()
    assert await fetch(client) == WANTED
    assert trio.current_time() - began < 15
    assert (inner.count("get_range"), metrics.hedged_requests, inner.most_in_flight) == (3, 2, 2)
    assert len(gate.arrived) == 2


async def test_the_first_may_win_after_all(
    client: HedgingClient, inner: MemoryClient, autojump_clock: MockClock
) -> None:
    """Where the first request goes on before the second has begun, the second is cancelled."""
    first, second = inner.hold(Once(), after_bytes=10_000), inner.hold(lambda request: request.byte_range != RANGE)
    async with trio.open_nursery() as nursery:
        received = bytearray()
        nursery.start_soon(fetch, client, received)
        await second.wait_arrived()
        first.open()
    assert bytes(received) == WANTED
    assert (inner.count(), inner.in_flight, inner.sent_bytes) == (2, 0, len(RANGE))


async def test_bytes_of_both_are_handed_on_once(
    client: HedgingClient, inner: MemoryClient, autojump_clock: MockClock
) -> None:
    """Where both bring bytes before one wins, each byte is handed on once, in order."""
    first = inner.hold(Once(), after_bytes=10_000)
    second = inner.hold(lambda request: request.byte_range != RANGE, after_bytes=15_000)
    async with trio.open_nursery() as nursery:
        received = bytearray()
        nursery.start_soon(fetch, client, received)
        await second.wait_arrived()
        first.open()
        second.open()
    assert bytes(received) == WANTED


@pytest.mark.parametrize("failure", [TransportError("torn"), MismatchError("another range")])
async def test_one_may_fail_while_the_other_goes_on(
    client: HedgingClient, inner: MemoryClient, autojump_clock: MockClock, failure: StorageError
) -> None:
    """What may pass and happens to one of the two requests is nothing, as long as the other one brings the bytes."""
    first = inner.hold(Once(), after_bytes=20_000)
    inner.fail(None, failure)
    async with trio.open_nursery() as nursery:
        received = bytearray()
        nursery.start_soon(fetch, client, received)
        await first.wait_arrived()
        while inner.count() < 2 or inner.in_flight > 1:
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(0.5)
        first.open()
    assert bytes(received) == WANTED


async def test_an_answer_to_one_is_the_answer(
    client: HedgingClient, inner: MemoryClient, autojump_clock: MockClock
) -> None:
    """What no other request can mend ends both at once."""
    inner.hold(Once())
    inner.fail(None, AccessDeniedError("no"))
    with pytest.raises(AccessDeniedError):
        await fetch(client)
    assert inner.in_flight == 0


async def test_the_last_failure_comes_out(
    client: HedgingClient, inner: MemoryClient, autojump_clock: MockClock
) -> None:
    """Where both fail, the failure of the last one is the GET's."""
    gate = inner.hold(Once(), after_bytes=20_000)
    inner.fail(Failure(TransportError("first"), after_bytes=30_000), TransportError("second"))
    async with trio.open_nursery() as nursery:

        async def open_later() -> None:
            await gate.wait_arrived()
            await trio.sleep(7)  # between the first stall and the next
            gate.open()

        nursery.start_soon(open_later)
        with pytest.raises(TransportError, match="first"):
            await fetch(client)


@pytest.mark.parametrize("problem", [TransportError("ours"), OSError("full"), KeyError("x")])
async def test_what_receive_raises_comes_out_as_it_is(
    client: HedgingClient, inner: MemoryClient, problem: Exception
) -> None:
    """A receiver's failure is not the server's: it ends the GET, and nothing is asked again."""

    async def receive(piece: Piece) -> None:
        raise problem

    with pytest.raises(type(problem)) as caught:
        await client.get_range(RangeRequest(VERSION, RANGE, SIZE), receive)
    assert caught.value is problem
    assert inner.count() == 1


async def test_a_slow_receiver_is_no_stall(
    client: HedgingClient, inner: MemoryClient, metrics: Metrics, autojump_clock: MockClock
) -> None:
    """The time that `receive` takes is not the server's."""

    async def receive(piece: Piece) -> None:
        await trio.sleep(60)

    await client.get_range(RangeRequest(VERSION, RANGE, SIZE), receive)
    assert (inner.count(), metrics.hedged_requests) == (1, 0)


class TricklingClient(MemoryClient):
    """Brings a piece a second of the first range that it is asked for, and others at once."""

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        is_slow = not self.requests

        async def receive_late(piece: Piece) -> None:
            await trio.sleep(1 if is_slow else 0)
            await receive(piece)

        await super().get_range(request, receive_late)


async def test_a_trickle_is_taken_over(inner: MemoryClient, metrics: Metrics, autojump_clock: MockClock) -> None:
    """A GET that brings bytes, but unusually slowly, is not waited for either."""
    client = HedgingClient(TricklingClient(inner.store, piece_bytes=1_000), metrics=metrics)
    began = trio.current_time()
    assert await fetch(client) == WANTED
    assert trio.current_time() - began < 6
    assert metrics.hedged_requests == 1


async def test_being_cancelled_ends_both(
    client: HedgingClient, inner: MemoryClient, autojump_clock: MockClock
) -> None:
    """A caller that gives up leaves no request behind."""
    inner.hold()
    with trio.move_on_after(8):
        await fetch(client)
    assert (inner.count(), inner.in_flight) == (2, 0)


async def test_a_slow_server_is_not_doubled(
    client: HedgingClient, inner: MemoryClient, metrics: Metrics, autojump_clock: MockClock
) -> None:
    """Where everything stalls, few GETs are made twice: at most four at once, and later one in ten."""
    inner.hold()
    with trio.move_on_after(300):
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(fetch, client)
    assert metrics.hedged_requests == 4
    assert inner.most_in_flight == 44


async def test_a_stall_is_reported(inner: MemoryClient, metrics: Metrics, autojump_clock: MockClock) -> None:
    """Every stall is reported, so that the breaker can send probes."""
    stalls: list[float] = []
    client = HedgingClient(inner, metrics=metrics, on_stall=lambda: stalls.append(trio.current_time()))
    inner.hold()
    began = trio.current_time()
    with trio.move_on_after(12):
        await fetch(client)
    assert [round(when - began, 1) for when in stalls] == [5.0, 10.0]


@settings(deadline=None)  # an event loop and 400 KB for each example
@given(
    stall=st.integers(1, len(RANGE) - 1),
    pieces=st.integers(1_000, 200_000),
    second=st.integers(0, 2 * STEP_BYTES),
)
def test_wherever_it_stalls_the_bytes_come_once(stall: int, pieces: int, second: int) -> None:
    """Wherever a GET stalls, and the second one tears, the bytes are a prefix of what was asked for, each once."""
    inner = memory_client()
    inner._piece_bytes = pieces
    inner.hold(Once(), after_bytes=stall)
    inner.fail(None, Failure(TransportError("torn"), after_bytes=second))
    client, received = HedgingClient(inner, metrics=Metrics()), bytearray()

    async def run() -> None:
        with trio.move_on_after(20):
            with suppress(TransportError):
                await fetch(client, received)

    trio.run(run, clock=MockClock(autojump_threshold=0))
    assert WANTED.startswith(received)
    assert inner.in_flight == 0


class StoringClient(MemoryClient):
    """Of the requests with these numbers it says only that the bytes have come and are stored."""

    def __init__(self, *numbers: int) -> None:
        super().__init__(MemoryStore(), piece_bytes=10_000)
        self.store.put(VERSION.key, DATA, version_id=VERSION.version_id)
        self._numbers = numbers

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        is_stored = len(self.requests) in self._numbers

        async def receive_or_store(piece: Piece) -> None:
            await receive(Stored(piece.start, piece.stop) if is_stored else piece)

        await super().get_range(request, receive_or_store)


async def take_turns(client: HedgingClient, inner: MemoryClient) -> list[Received]:
    """The first request stalls after 20,000 bytes, and the second after 15,000 more; then the first goes on."""
    first = inner.hold(Once(), after_bytes=20_000)
    second = inner.hold(lambda request: request.byte_range != RANGE, after_bytes=15_000)
    came: list[Received] = []

    async def receive(received: Received) -> None:
        came.append(received)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.get_range, RangeRequest(VERSION, RANGE, SIZE), receive)
        await second.wait_arrived()
        first.open()
    return came


@pytest.mark.parametrize("number", [0, 1])
async def test_of_two_one_may_store_and_the_other_bring_bytes(
    number: int, metrics: Metrics, autojump_clock: MockClock
) -> None:
    """Whichever of them stores, each byte is handed on once and in order, and what was stored is no piece."""
    inner = StoringClient(number)
    came = await take_turns(HedgingClient(inner, metrics=metrics), inner)
    assert [received.start for received in came] == [RANGE.start, *(received.stop for received in came[:-1])]
    assert came[-1].stop == RANGE.stop
    assert {type(received) for received in came} == {Piece, Stored}
    pieces = [received for received in came if isinstance(received, Piece)]
    assert all(piece.data == DATA[piece.start : piece.stop] for piece in pieces)
    of_the_second = [received for received in came if 20_000 <= received.start - RANGE.start < 35_000]
    assert {type(received) for received in of_the_second} == {(Piece, Stored)[number]}
    assert metrics.hedged_requests == 1


# Silence


def prober(inner: MemoryClient, **more: Any) -> HedgingClient:
    return HedgingClient(inner, metrics=Metrics(), sends_probes=True, **more)


async def test_no_byte_at_all_is_a_failure_of_its_own(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """A GET of which no byte comes, by hedge and probes either, fails after the time for silence."""
    inner.hold()
    began = trio.current_time()
    with pytest.raises(SilenceError, match="no byte within 15 s on any connection"):
        await fetch(prober(inner, silence_seconds=15.0))
    assert trio.current_time() - began == pytest.approx(15.0)
    assert inner.in_flight == 0


async def test_no_read_fails_of_silence_without_a_fresh_connection(
    inner: MemoryClient, autojump_clock: MockClock
) -> None:
    """Where nothing is saved for asking twice, a silent GET is asked once more after each third of its time."""
    client = HedgingClient(inner, metrics=Metrics(), silence_seconds=15.0)
    client._lately.budget = HedgeBudget(0.0)
    inner.hold(lambda request: any(request is one for one in inner.requests[:2]))
    began = trio.current_time()
    assert await fetch(client) == WANTED
    assert trio.current_time() - began == pytest.approx(10.0)
    assert inner.count("get_range") == 3


async def test_a_trickle_is_asked_for_once_more(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """Where nothing is saved for asking twice, a GET that brings no step in the time for silence is, all the same."""
    began, slow = trio.current_time(), TricklingClient(inner.store, piece_bytes=1_000)
    client = HedgingClient(slow, metrics=Metrics(), silence_seconds=15.0)
    client._lately.budget = HedgeBudget(0.0)
    assert await fetch(client) == WANTED
    assert trio.current_time() - began == pytest.approx(15.0)
    assert slow.count("get_range") == 2


async def test_a_byte_begins_the_time_for_silence_anew(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """A trickle is no silence, however long it takes; nor is the time that a receiver takes."""
    client = HedgingClient(inner, metrics=Metrics(), silence_seconds=3.0)
    inner._piece_bytes = 20_000

    async def receive(piece: Piece) -> None:
        await trio.sleep(10)

    slow = TricklingClient(inner.store, piece_bytes=20_000)
    await client.get_range(RangeRequest(VERSION, RANGE, SIZE), receive)
    assert await fetch(HedgingClient(slow, metrics=Metrics(), silence_seconds=3.0)) == WANTED


async def test_a_silent_get_waits_for_others_that_get_on(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """Where others' bytes come, a GET that brings none waits on a full line: it has more time, with an end."""
    client = HedgingClient(inner, metrics=Metrics(), silence_seconds=3.0, crowded_seconds=20.0)
    inner.hold(lambda request: request.byte_range.start == RANGE.start)
    began, others = trio.current_time(), []

    async def fetch_others() -> None:
        for _ in range(12):
            await trio.sleep(2)
            others.append(await fetch(client, wanted=ByteRange(0, 10_000)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch_others)
        with pytest.raises(SilenceError, match="no byte within 20 s on any connection"):
            await fetch(client)
        assert trio.current_time() - began == pytest.approx(20.0)
    with pytest.raises(SilenceError, match="no byte within 3 s on any connection"):
        await fetch(client)
    assert len(others) == 12


@pytest.mark.parametrize(("stalled", "moving", "is_crowd"), [(8, 1, True), (3, 1, False), (8, 0, False)])
async def test_many_that_stall_while_others_get_on_are_a_crowd(
    inner: MemoryClient, autojump_clock: MockClock, stalled: int, moving: int, is_crowd: bool
) -> None:
    """Many GETs stalled, and bytes by others: there are too many. A few that are stalled say nothing, nor do all."""
    crowds = list[int]()
    client = HedgingClient(inner, metrics=Metrics(), on_crowd=crowds.append)
    inner.hold(lambda request: request.byte_range.start == RANGE.start)

    async def fetch_others() -> None:
        while True:
            await trio.sleep(0.5)
            await fetch(client, wanted=ByteRange(0, 10_000))

    async with trio.open_nursery() as nursery:
        for _ in range(stalled):
            nursery.start_soon(fetch, client)
        for _ in range(moving):
            nursery.start_soon(fetch_others)
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    assert set(crowds) == (set(range(4, stalled + 1)) if is_crowd else set())


async def test_the_end_of_a_silence_is_found_out(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """What was asked during a hang is never answered. Half a second after it all that waits is asked for anew."""
    client = prober(inner)
    await fetch(client)
    hang = [True]
    inner.hold(lambda request: hang[0])
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(fetch, client)
        await trio.sleep(60.1)
        hang[0] = False
        well = trio.current_time()
    assert trio.current_time() - well <= 0.5
    assert inner.in_flight == 0


@pytest.mark.parametrize("patience", [0.4, 1.5, 5.0])
async def test_a_silence_outlasts_the_gets_that_meet_it(
    inner: MemoryClient, autojump_clock: MockClock, patience: float
) -> None:
    """Where each GET fails sooner than a stall is noticed, the next ones know of the silence all the same."""
    client = prober(inner, silence_seconds=patience)
    await fetch(client)
    hang, well, failed = [True], 0.0, [0.0]
    inner.hold(lambda request: hang[0])

    async def read_on() -> None:
        while failed:
            try:
                await fetch(client)
            except SilenceError:
                failed.append(trio.current_time())
            else:
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_on)
        await trio.sleep(20.3)
        hang[0], well = False, trio.current_time()
    assert max(failed) - well < 1
    assert trio.current_time() - well < 1


async def test_probes_are_few_and_small(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """Two a second, of one byte each, however many GETs are silent; none while bytes come by any of them."""
    client = prober(inner)
    await fetch(client)
    inner.hold()
    asked = inner.count()
    with trio.move_on_after(30):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(fetch, client)
    probes = [one for one in inner.ranges()[asked:] if len(one) == 1]
    assert 45 <= len(probes) <= 60
    assert inner.most_in_flight <= 20 + 4 + PROBES_AT_ONCE


async def test_a_server_that_is_always_slow_gets_no_probes(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """Where every first byte takes four seconds, that is no silence."""
    client = prober(SlowClient(inner.store, piece_bytes=len(RANGE)))
    for _ in range(5):
        await fetch(client)
    slow = client._inner
    assert isinstance(slow, SlowClient)
    slow.requests.clear()
    for _ in range(20):
        await fetch(client)
    assert all(len(one) > 1 for one in slow.ranges())


class SlowClient(MemoryClient):
    """Takes four seconds for each answer."""

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        async def receive_late(piece: Piece) -> None:
            await trio.sleep(4)
            await receive(piece)

        await super().get_range(request, receive_late)


class AnewClient(MemoryClient):
    """Answers on new connections alone, as when all others are dead; notes what was asked for so."""

    anew: ClassVar[list[bool]] = []

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        self.anew.append(request.is_anew)
        if not request.is_anew and self.is_dead:
            with self._counted(Request("get_range", "")):
                await trio.sleep_forever()
        await super().get_range(request, receive)

    is_dead = False


async def test_where_all_open_connections_are_dead(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """Thirty GETs on dead connections, and four hedges allowed: the first that brings something proves it to all."""
    dead = AnewClient(inner.store, piece_bytes=10_000)
    client = HedgingClient(dead, metrics=Metrics())
    await fetch(client)
    dead.is_dead = True
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(fetch, client)
    assert trio.current_time() - began < 3
    assert dead.in_flight == 0


def test_a_proof_is_not_lost_by_the_next_one() -> None:
    """Of two new connections the first has ended the silence: that holds for GETs that look after the second."""
    proof = Proof().after(10.0, ends_silence=True).after(10.1, ends_silence=False)
    assert proof.allows(silent_since=9.0, is_stalled=False)
    assert proof.allows(silent_since=10.05, is_stalled=True)
    assert not proof.allows(silent_since=10.05, is_stalled=False)
    assert not proof.allows(silent_since=10.2, is_stalled=True)


@pytest.mark.parametrize("most", [1, 5])
async def test_where_no_connection_is_left_the_stalled_one_is_replaced(
    inner: MemoryClient, autojump_clock: MockClock, most: int
) -> None:
    """As many GETs as there may be, all on dead connections: a hedge takes the place of its own GET."""
    dead = AnewClient(inner.store, piece_bytes=10_000)
    client = HedgingClient(dead, metrics=Metrics(), most=most)
    await fetch(client)
    dead.is_dead, dead.most_in_flight = True, 0
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(most):
            nursery.start_soon(fetch, client)
    assert trio.current_time() - began < 3
    assert dead.most_in_flight == most


@given(st.lists(st.tuples(st.sampled_from(["ask", "byte", "probe"]), st.floats(0, 100)), max_size=50))
def test_a_silence_lasts_from_a_request_to_a_byte(steps: list[tuple[str, float]]) -> None:
    """It begins with the first request that is not answered, and probes of it are half a second apart."""
    silence, now, since, probed = Silence(), 0.0, math.inf, -math.inf
    for what, seconds in steps:
        now += seconds
        if what == "ask":
            silence, since = silence.after_request(now), min(since, now)
        elif what == "byte":
            silence, since = silence.after_byte(), math.inf
        elif now >= silence.next_probe(StallTimer(1.0)):
            assert now - probed >= 0.5 - 1e-9
            assert now - since >= 2 - 1e-9
            silence, probed = silence.after_probe(now), now
        assert silence.is_long(now) == (now - since >= 2)


# StallTimer, and what may be asked twice (pure)


@given(st.lists(st.floats(0, 1e4), max_size=50))
def test_patience_is_bounded(steps: list[float]) -> None:
    """Whatever was observed, a GET is given between 2 and 10 seconds for a step."""
    patience = StallTimer()
    for seconds in steps:
        patience = patience.after(seconds)
        assert 2 <= patience.seconds <= 10


@given(st.floats(0.01, 2))
def test_patience_follows_the_server(seconds: float) -> None:
    """Where steps take long, a step that takes as long is no stall; one that takes ten times as long is."""
    patience = StallTimer()
    for _ in range(60):
        patience = patience.after(seconds)
    assert seconds < patience.seconds < max(2.1, 10 * seconds)


def test_a_single_stall_does_not_make_patient() -> None:
    """After a minute's stall patience is back to its least within some ten ordinary steps."""
    patience = StallTimer()
    for _ in range(20):
        patience = patience.after(0.05)
    patience = patience.after(60)
    assert patience.seconds < 5
    for _ in range(10):
        patience = patience.after(0.05)
    assert patience.seconds == 2


@given(st.lists(st.booleans(), max_size=300))
def test_few_are_asked_twice(stalls: list[bool]) -> None:
    """Of any series of requests at most one in ten, and four more, are made twice."""
    budget, hedges = HedgeBudget(), 0
    for is_stalled in stalls:
        budget = budget.after_request()
        if is_stalled and budget.has_one:
            budget, hedges = budget.after_hedge(), hedges + 1
    assert hedges <= 4 + len(stalls) / 10 + 1e-6

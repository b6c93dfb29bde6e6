"""Trying again: what is, what is not, from where, how often and for how long."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.fakes.client import Failure, Kind, MemoryClient
from tests.fakes.s3_server import FakeS3Server, Reply, Request, for_kind, times
from tests.fakes.store import MemoryStore, Pattern
from vbnfs.errors import (
    AccessDeniedError,
    BadReplyError,
    BusyError,
    ChangedError,
    DeadlineError,
    MismatchError,
    ObjectGoneError,
    OfflineError,
    ReceiverLostError,
    StorageError,
    TransportError,
    UntrustedServerError,
)
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ObjectVersion, Piece, RangeRequest, Receive
from vbnfs.s3.client import S3Client
from vbnfs.s3.retry import RetryingClient, wait_seconds

SIZE: Final = 1_000
DATA: Final = Pattern(SIZE)[:]
VERSION: Final = ObjectVersion("data/file.nwb", "first")
RANGE: Final = ByteRange(100, 900)
KINDS: Final[tuple[Kind, ...]] = ("list_objects", "list_versions", "head", "get_object", "get_range")
TORN: Final = TransportError("torn")


@pytest.fixture
def inner() -> MemoryClient:
    return memory_client()


def memory_client() -> MemoryClient:
    store = MemoryStore()
    store.put(VERSION.key, DATA, version_id=VERSION.version_id)
    return MemoryClient(store, piece_bytes=64)


def retrying(inner: MemoryClient, *, seconds: float = 3600.0, attempts: int = 4) -> RetryingClient:
    return RetryingClient(inner, seconds=seconds, attempts=attempts)


async def fetch(client: RetryingClient, byte_range: ByteRange = RANGE) -> bytes:
    pieces: list[bytes] = []

    async def receive(piece: Piece) -> None:
        pieces.append(piece.data)

    await client.get_range(RangeRequest(VERSION, byte_range, SIZE), receive)
    return b"".join(pieces)


async def ask(client: RetryingClient, kind: Kind) -> object:
    if kind == "list_objects":
        return [row.key for row in await client.list_objects("data/")]
    if kind == "list_versions":
        return [row.version for row in await client.list_versions("data/")]
    if kind == "head":
        return (await client.head(VERSION)).size_bytes
    if kind == "get_object":
        return await client.get_object(VERSION.key, max_bytes=SIZE)
    return await fetch(client)


ANSWERS: Final[dict[Kind, object]] = {
    "list_objects": [VERSION.key],
    "list_versions": [VERSION],
    "head": SIZE,
    "get_object": DATA,
    "get_range": DATA[100:900],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("failure", [TransportError("no answer"), BusyError("503 SlowDown")])
async def test_a_transport_failure_is_tried_again(
    inner: MemoryClient, autojump_clock: MockClock, kind: Kind, failure: StorageError
) -> None:
    """No answer, and a busy server, are asked again in every method, and then the answer is as always."""
    inner.fail(failure, failure, kind=kind)
    assert await ask(retrying(inner), kind) == ANSWERS[kind]
    assert inner.count(kind) == inner.count() == 3


async def test_a_receiver_that_was_lost_is_not_waited_for(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """Something else receives then, and the server has done nothing: the rest is asked for at once, however often."""
    inner.fail(*[ReceiverLostError("killed")] * 3, kind="get_range")
    began = trio.current_time()
    assert await fetch(retrying(inner)) == DATA[100:900]
    assert trio.current_time() == began
    assert inner.count() == 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "failure", [error("an answer") for error in (AccessDeniedError, BadReplyError, ObjectGoneError, DeadlineError)]
)
async def test_an_answer_is_not_asked_for_again(inner: MemoryClient, kind: Kind, failure: StorageError) -> None:
    """Refused, gone, nonsense or too late: that is what the server has to say, and it comes out at once."""
    inner.fail(failure, kind=kind)
    with pytest.raises(StorageError) as caught:
        await ask(retrying(inner), kind)
    assert caught.value is failure
    assert inner.count() == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_attempts_are_bounded(inner: MemoryClient, autojump_clock: MockClock, kind: Kind) -> None:
    """After so many attempts the last failure comes out as it is."""
    failures = [TransportError(f"failure {number}") for number in range(7)]
    inner.fail(*failures, kind=kind)
    with pytest.raises(TransportError) as caught:
        await ask(retrying(inner, attempts=4), kind)
    assert caught.value is failures[3]
    assert inner.count() == 4


async def test_one_attempt_is_no_retry(inner: MemoryClient) -> None:
    """Where one attempt is allowed there is one."""
    inner.fail(TORN)
    with pytest.raises(TransportError):
        await fetch(retrying(inner, attempts=1))
    assert inner.count() == 1


async def test_time_is_bounded(inner: MemoryClient) -> None:
    """When the time has passed with the first attempt, there is no second one."""
    inner.fail(TORN)
    with pytest.raises(TransportError):
        await fetch(retrying(inner, seconds=1e-9))
    assert inner.count() == 1


async def test_no_wait_is_begun_that_is_useless(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """A failure comes out, before the time is out, when the next wait would take longer than what is left."""
    inner.fail_when(lambda _: TORN)
    began = trio.current_time()
    with pytest.raises(TransportError, match="torn"), trio.fail_after(3):
        await fetch(retrying(inner, seconds=3, attempts=10))
    assert inner.count() == 5
    assert 1.5 <= trio.current_time() - began < 2


async def test_waits_grow_and_are_bounded(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """The first wait is short, since most failures pass; they double, with a little chance, up to 5 seconds."""
    asked_at: list[float] = []

    def fail(_request: object) -> StorageError:
        asked_at.append(trio.current_time())
        return TORN

    inner.fail_when(fail)
    with pytest.raises(TransportError):
        await fetch(retrying(inner, attempts=10))
    waits = [later - earlier for earlier, later in itertools.pairwise(asked_at)]
    assert len(waits) == 9
    for number, wait in enumerate(waits):
        least = min(5.0, 0.1 * 2**number)
        assert least <= wait + 1e-6
        assert wait <= min(5.0, least + 0.1) + 1e-6


async def test_a_torn_range_goes_on_where_it_broke(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """What came is not asked for again: no byte travels twice, and none is handed on twice."""
    inner.fail(Failure(TORN, after_bytes=1), Failure(TORN, after_bytes=300), Failure(BusyError("busy")))
    assert await fetch(retrying(inner)) == DATA[100:900]
    assert inner.ranges() == [ByteRange(100, 900), ByteRange(101, 900), ByteRange(401, 900), ByteRange(401, 900)]
    assert inner.sent_bytes == 800


async def test_a_second_try_is_on_a_new_connection(autojump_clock: MockClock) -> None:
    """Open connections may be as dead as the one that broke. After a refusal (503) they are known to be good."""
    asked: list[bool] = []

    class Noting(MemoryClient):
        async def get_range(self, request: RangeRequest, receive: Receive) -> None:
            asked.append(request.is_anew)
            await super().get_range(request, receive)

    inner = Noting(memory_client().store)
    inner.fail(BusyError("busy"), Failure(TORN, after_bytes=300), MismatchError("another range"))
    assert await fetch(retrying(inner)) == DATA[100:900]
    assert asked == [False, False, True, True]


async def test_a_failure_after_the_last_byte_needs_no_request(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """Where all bytes came and only the end of the reply did not, the range is complete."""
    inner.fail(Failure(TORN, after_bytes=800))
    assert await fetch(retrying(inner)) == DATA[100:900]
    assert inner.count() == 1


async def test_an_answer_in_the_middle_ends_the_range(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """An object that goes away between two attempts is gone; what came before stays handed on."""
    inner.fail(Failure(TORN, after_bytes=10), ObjectGoneError("gone"))
    with pytest.raises(ObjectGoneError):
        await fetch(retrying(inner))
    assert inner.sent_bytes == 10


async def test_progress_does_not_make_attempts_endless(inner: MemoryClient, autojump_clock: MockClock) -> None:
    """A server that tears every body after a byte is given up after so many attempts, too."""
    inner.fail_when(lambda _request: Failure(TORN, after_bytes=1))
    with pytest.raises(TransportError):
        await fetch(retrying(inner, attempts=6))
    assert [asked.start for asked in inner.ranges()] == [100, 101, 102, 103, 104, 105]


async def test_a_slow_range_that_breaks_late_goes_on(autojump_clock: MockClock) -> None:
    """On a slow line a range takes longer than there is time to try again: what it brought gives it new time."""
    store, size = MemoryStore(), 1 << 20
    store.put(VERSION.key, Pattern(size), version_id=VERSION.version_id)
    inner = MemoryClient(store, piece_bytes=32 << 10)
    inner.fail(Failure(TORN, after_bytes=400 << 10), Failure(TORN, after_bytes=300 << 10), TORN)
    pieces: list[bytes] = []

    async def receive(piece: Piece) -> None:
        await trio.sleep(5)
        pieces.append(piece.data)

    await retrying(inner, seconds=30).get_range(RangeRequest(VERSION, ByteRange(0, size), size), receive)
    assert b"".join(pieces) == Pattern(size)[:]
    assert inner.sent_bytes == size
    assert inner.count() == 4


@pytest.mark.parametrize("problem", [TORN, BusyError("busy"), BadReplyError("bad"), OSError("full"), KeyError("x")])
async def test_what_receive_raises_is_not_tried_again(inner: MemoryClient, problem: Exception) -> None:
    """Whatever a receiver fails with, it is not handed the same piece a second time."""
    pieces: list[bytes] = []

    async def receive(piece: Piece) -> None:
        pieces.append(piece.data)
        if len(pieces) == 2:
            raise problem

    with pytest.raises(type(problem)) as caught:
        await retrying(inner).get_range(RangeRequest(VERSION, RANGE, SIZE), receive)
    assert caught.value is problem
    assert pieces == [DATA[100:164], DATA[164:228]]
    assert inner.count() == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_wait_can_be_cancelled(inner: MemoryClient, autojump_clock: MockClock, kind: Kind) -> None:
    """A caller that waits for the next attempt is cancelled at once, and nothing is asked any more."""
    inner.fail_when(lambda _request: TORN)
    began = trio.current_time()
    with trio.move_on_after(0.05) as scope:
        await ask(retrying(inner), kind)
    assert scope.cancelled_caught
    assert trio.current_time() - began == pytest.approx(0.05)
    assert inner.count() == 1


@pytest.mark.parametrize("after_bytes", [0, 200])
async def test_a_request_can_be_cancelled(inner: MemoryClient, autojump_clock: MockClock, after_bytes: int) -> None:
    """A request under way is not repeated when it is cancelled."""
    gate = inner.hold(after_bytes=after_bytes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch, retrying(inner))
        await gate.wait_arrived()
        nursery.cancel_scope.cancel()
    assert (inner.count(), inner.in_flight, inner.sent_bytes) == (1, 0, after_bytes)


@given(
    tears=st.lists(st.integers(0, 80), max_size=10),
    pieces=st.integers(1, 100),
    start=st.integers(0, SIZE - 1),
    length=st.integers(1, SIZE),
)
def test_any_series_of_torn_bodies_gives_the_bytes_once(
    tears: list[int], pieces: int, start: int, length: int
) -> None:
    """Wherever bodies break, the bytes come once each, in order, and no more of them travel than were asked for."""
    store = MemoryStore()
    store.put(VERSION.key, DATA, version_id=VERSION.version_id)
    inner = MemoryClient(store, piece_bytes=pieces)
    inner.fail(*(Failure(TORN, after_bytes=after_bytes) for after_bytes in tears))
    byte_range = ByteRange(start, start + length).clip(SIZE)
    client = retrying(inner, attempts=len(tears) + 1)
    assert trio.run(fetch, client, byte_range, clock=MockClock(autojump_threshold=0)) == DATA[start : byte_range.stop]
    assert inner.sent_bytes == len(byte_range)


def _tear(request: Request, honest: Reply) -> Reply:
    """Send a third of what is left, then close the connection."""
    return replace(honest, cut=len(honest.body) // 3)


@pytest.mark.parametrize("tear", [_tear, lambda request, honest: Reply(raw=b"HTTP/1.1 206 Partial")])
async def test_no_byte_travels_twice_over_a_real_connection(tear: Callable[[Request, Reply], Reply]) -> None:
    """With torn connections, too, each byte is received once, and the next request begins where the last ended."""
    store = MemoryStore()
    store.put(VERSION.key, Pattern(3_000_000), version_id=VERSION.version_id)
    metrics, received = Metrics(), bytearray()

    async def receive(piece: Piece) -> None:
        received.extend(piece.data)

    with FakeS3Server(store) as server:
        server.behaviours.append(for_kind("get_range", times(2, tear)))
        async with S3Client(
            bucket=store.bucket,
            region="us-west-2",
            endpoint_url=server.endpoint_url,
            ca_bundle=None,
            max_connections=1,
            metrics=metrics,
        ) as inner:
            client = RetryingClient(inner, seconds=60, attempts=3)
            await client.get_range(RangeRequest(VERSION, ByteRange(5, 2_900_005), 3_000_000), receive)
    assert bytes(received) == store.data(VERSION.key)[5:2_900_005]
    assert metrics.received_bytes == 2_900_000
    assert (metrics.range_requests, metrics.failed_requests, server.count()) == (3, 2, 3)


# Which failures are worth another try (pure)


@given(
    seconds=st.floats(0.001, 1e9),
    left=st.floats(-10, 1e9),
)
def test_retry_after_is_waited_for_or_not_at_all(seconds: float, left: float) -> None:
    """What a server asks for is waited for to the full where there is time, and else nothing is asked again."""
    busy = BusyError("429", retry_after_seconds=seconds)
    decided = wait_seconds(busy, failures=1, mismatches=0, left_seconds=left, chance=0.5)
    assert decided == (seconds if seconds <= left else None)


@pytest.mark.parametrize(
    ("failure", "mismatches", "expected"),
    [
        (TransportError("torn"), 0, True),
        (BusyError("503"), 0, True),
        (BusyError("503", retry_after_seconds=0.0), 0, True),
        (MismatchError("200 for 206"), 1, True),
        (MismatchError("200 for 206"), 4, True),
        (MismatchError("200 for 206"), 5, False),
        (ChangedError("another version"), 4, True),
        (ChangedError("another version"), 5, False),
        (BadReplyError("no listing"), 0, False),
        (UntrustedServerError("certificate"), 0, False),
        (OfflineError("offline"), 0, False),
        (AccessDeniedError("403"), 0, False),
        (ObjectGoneError("404"), 0, False),
        (DeadlineError("late"), 0, False),
    ],
)
def test_which_failures_are_worth_another_try(failure: StorageError, mismatches: int, expected: bool) -> None:
    """The table of the module, line by line."""
    wait = wait_seconds(failure, failures=1, mismatches=mismatches, left_seconds=10.0, chance=0.5)
    assert wait == (pytest.approx(0.15) if expected else None)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_mismatch_is_tried_four_times_more(
    inner: MemoryClient, autojump_clock: MockClock, kind: Kind
) -> None:
    """An answer to another question may be a proxy's: every method asks four times more, whatever is left."""
    failures = [MismatchError(f"mismatch {number}") for number in range(5)]
    inner.fail(*failures, kind=kind)
    with pytest.raises(MismatchError) as caught:
        await ask(retrying(inner, attempts=10), kind)
    assert caught.value is failures[4]
    assert inner.count() == 5

"""Connections that are not used again: what proves them dead, a suspend, and what becomes of requests on them."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.relay import Relay
from tests.fakes.s3_server import FakeS3Server, held, times
from tests.s3.asking import RANGE, SIZE, VERSION, WANTED, Received, open_client, wait_until
from vbnfs.errors import TransportError
from vbnfs.objects import RangeRequest
from vbnfs.s3.client import S3Client
from vbnfs.s3.generations import Evidence, Generations
from vbnfs.s3.limits import KEEPALIVE


class Clocks:
    """Two clocks, of which one stands still while the machine is suspended."""

    def __init__(self) -> None:
        self.awake_seconds = self.asleep_seconds = 100.0

    def awake(self) -> float:
        return self.awake_seconds

    def always(self) -> float:
        return self.awake_seconds + self.asleep_seconds


@given(st.lists(st.tuples(st.floats(0, 1e6), st.one_of(st.floats(0, 4), st.floats(6, 1e6))), max_size=20))
def test_a_suspend_is_seen_by_the_clocks(steps: list[tuple[float, float]]) -> None:
    """More than some seconds by which they differ, since the last look, retire all connections; less do not."""
    clocks = Clocks()
    generations, suspends = Generations(awake=clocks.awake, always=clocks.always), 0
    for awake, asleep in steps:
        clocks.awake_seconds += awake
        clocks.asleep_seconds += asleep
        suspends += asleep > 5
        generations.look_at_clocks()
        assert generations.suspends == generations.number == suspends


def test_the_clocks_of_this_machine_agree() -> None:
    """Nothing is retired where nothing has happened."""
    generations = Generations()
    generations.look_at_clocks()
    assert (generations.number, generations.suspends) == (0, 0)


@pytest.mark.parametrize(
    ("since", "until", "began", "is_proof"),
    [
        (10.0, 13.0, 12.0, True),  # silent, while a newer one answered
        (10.0, 13.0, 14.0, True),  # given up, and then a newer one answered
        (10.0, 10.5, 12.0, False),  # not silent for long
        (10.0, 13.0, 9.0, False),  # the one that answered is older
        (10.0, 13.0, 60.0, False),  # long ago
    ],
)
def test_what_proves_a_connection_dead(since: float, until: float, began: float, *, is_proof: bool) -> None:
    """It was silent for a second or more, and one that was opened later has brought something, in either order."""
    one, other = Evidence().after_silence(since, until), Evidence().after_answer(began)
    assert not one.is_proof
    assert not other.is_proof
    assert one.after_answer(began).is_proof == other.after_silence(since, until).is_proof == is_proof


@pytest.fixture
def relay(server: FakeS3Server) -> Iterator[Relay]:
    with Relay(server.endpoint_url) as relay:
        yield relay


async def fetch(client: S3Client, *, is_anew: bool = False) -> bytes:
    received = Received()
    await client.get_range(RangeRequest(VERSION, RANGE, SIZE, is_anew=is_anew), received)
    return bytes(received.data)


@pytest.mark.usefixtures("receiving")
async def test_one_dead_connection_retires_those_before_it(relay: Relay, server: FakeS3Server) -> None:
    """Four are open and dead. One is found out while a new one works: the others are not asked any more."""
    async with open_client(relay.endpoint_url, max_connections=8) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(fetch, client)
        relay.silence()
        with trio.move_on_after(1.5) as time:
            await fetch(client)
        assert time.cancelled_caught
        assert await fetch(client, is_anew=True) == WANTED
        with trio.fail_after(12):
            for _ in range(4):
                assert await fetch(client) == WANTED


@pytest.mark.usefixtures("receiving")
async def test_a_new_connection_alone_retires_nothing(relay: Relay, server: FakeS3Server) -> None:
    """Where none is silent, the open ones are used again."""
    async with open_client(relay.endpoint_url) as client:
        await fetch(client)
        await fetch(client, is_anew=True)
        for _ in range(5):
            await fetch(client)
        assert server.connections == 2


async def test_a_suspend_retires_all_connections(
    relay: Relay, server: FakeS3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on its way ends, to be asked for again; the next requests, of either kind, open new connections."""
    clocks = Clocks()
    monkeypatch.setattr("vbnfs.s3.client.Generations", lambda: Generations(awake=clocks.awake, always=clocks.always))
    async with open_client(relay.endpoint_url) as client:
        await fetch(client)
        await client.head(VERSION)
        connections = server.connections
        server.behaviours.append(times(1, held(gate := threading.Event())))
        failed = trio.Event()

        async def fail() -> None:
            with pytest.raises(TransportError, match="suspended"):
                await fetch(client)
            failed.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await wait_until(server, lambda s: s.count() == 3)
            clocks.asleep_seconds += 3600
            with trio.fail_after(12):
                await failed.wait()
        gate.set()
        with trio.fail_after(12):
            assert await fetch(client) == WANTED
            await client.head(VERSION)
        assert server.connections == connections + 2


@pytest.mark.usefixtures("receiving")
async def test_a_reply_to_come_by_an_open_connection_is_asked_for_anew(relay: Relay, server: FakeS3Server) -> None:
    """HEAD and listings: on a new connection after two seconds; ranges take new ones from then on, too."""
    async with open_client(relay.endpoint_url) as client:
        await fetch(client)
        await client.head(VERSION)
        relay.silence()
        began = trio.current_time()
        await client.head(VERSION)
        assert 1.9 < trio.current_time() - began < 12
        with trio.fail_after(12):
            assert await fetch(client) == WANTED
            await client.list_objects("")


@pytest.mark.parametrize("kind", ["get_range", "head"])
async def test_connections_are_kept_alive(relay: Relay, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel asks idle connections for a sign of life, those of both libraries."""
    async with open_client(relay.endpoint_url) as client:
        await (fetch(client) if kind == "get_range" else client.head(VERSION))
        options = _options_of_connections_to(relay.port)
    assert options == [tuple(value for _, _, value in KEEPALIVE)]


def _options_of_connections_to(port: int) -> list[tuple[int, ...]]:
    """What is set on the sockets of this process that are connected to a port of its own."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError), socket.socket(fileno=os.dup(int(name))) as one:
            if one.family == socket.AF_INET and one.getpeername()[1] == port:
                found.append(tuple(one.getsockopt(level, option) for level, option, _ in KEEPALIVE))
    return found

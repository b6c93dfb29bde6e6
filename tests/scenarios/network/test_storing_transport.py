"""Behind the seam of ranges stands what stores blocks in the cache itself: all clients, and reading, above it."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.fakes.client import Failure, Request
from tests.fakes.store import MemoryStore
from tests.fakes.storing import StoringClient
from tests.reading.bench import Bench, add, bench
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.errors import BadReplyError, NotKeptError, StorageError, TransportError
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content
from vbnfs.s3 import client as client_module
from vbnfs.s3 import stall
from vbnfs.s3.breaker import BreakerClient
from vbnfs.s3.client import S3Client
from vbnfs.s3.hedging import HedgingClient
from vbnfs.s3.pacing import PacedClient
from vbnfs.s3.ranges import Done, Event, Failed, RangeGet
from vbnfs.s3.replies import Head
from vbnfs.s3.retry import RetryingClient

BLOCKS: Final = 6
DATA: Final = random.Random(31).randbytes((BLOCKS - 1) * BLOCK_BYTES + 99)
ALL: Final = {index: DATA[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES] for index in range(BLOCKS)}
WITHIN: Final = 2 * BLOCK_BYTES + BLOCK_BYTES // 2  # a block


class StoringTransfer:
    """A GET under way: its events, and how to end it."""

    def __init__(self) -> None:
        self.send, self._events = trio.open_memory_channel[Event](0)
        self.scope = trio.CancelScope()

    async def next(self) -> Event:
        return await self._events.receive()


class StoringTransport:
    """Carries GETs out in tasks of `nursery`, by a client that stores what it receives."""

    def __init__(self, client: StoringClient, nursery: trio.Nursery) -> None:
        self._client = client
        self._nursery = nursery

    async def __aenter__(self) -> "StoringTransport":
        return self

    async def __aexit__(self, *exc_info: object) -> None: ...

    @asynccontextmanager
    async def begin(self, get: RangeGet) -> AsyncIterator[StoringTransfer]:
        transfer = StoringTransfer()
        self._nursery.start_soon(self._carry_out, get, transfer)
        try:
            yield transfer
        finally:
            transfer.scope.cancel()

    async def _carry_out(self, get: RangeGet, transfer: StoringTransfer) -> None:
        with transfer.scope:
            await transfer.send.send(Head(206, {}))
            try:
                await self._client.get_range(get.request, transfer.send.send)
            except StorageError as error:
                await transfer.send.send(Failed(error))
            else:
                await transfer.send.send(Done())


class Machine:
    """A reading floor above all clients, and what stands behind the seam."""

    def __init__(self, floor: Bench, storing: StoringClient, content: Content, network: Metrics) -> None:
        self.floor = floor
        self.storing = storing
        self.content = content
        self.network = network

    async def read(self) -> dict[int, bytes | memoryview]:
        with trio.fail_after(30):
            return await self.floor.source.get(self.content, range(BLOCKS))


@pytest.fixture
async def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machine]:
    network, cache = Metrics(), BlockCache(tmp_path, scope="test", metrics=Metrics())
    storing = StoringClient(MemoryStore(), cache, piece_bytes=BLOCK_BYTES // 2)
    async with trio.open_nursery() as nursery:
        monkeypatch.setattr(client_module, "CurlTransport", lambda **_: StoringTransport(storing, nursery))
        async with S3Client(
            bucket="bucket",
            region="us-west-2",
            endpoint_url="http://127.0.0.1:9",
            ca_bundle=None,
            max_connections=4,
            metrics=network,
        ) as s3:
            hedging = HedgingClient(BreakerClient(s3), metrics=network)
            client = RetryingClient(PacedClient(hedging, most=4), seconds=10, attempts=5)
            async with bench(tmp_path, client=client) as floor:  # type: ignore[arg-type]
                yield Machine(floor, storing, add(storing.store, "a", DATA), network)


async def test_all_of_a_get_may_be_stored(machine: Machine) -> None:
    """One GET, whose bytes are counted; readers get what the cache has, and nothing is written a second time."""
    assert await machine.read() == ALL
    assert (machine.storing.count(), machine.network.received_bytes) == (1, len(DATA))
    assert machine.floor.metrics.kept_bytes == 0


@pytest.mark.parametrize("stores_again", [True, False])
async def test_a_get_that_breaks_within_a_block_goes_on_there(machine: Machine, stores_again: bool) -> None:
    """The rest begins within a block: that one comes as bytes, from two GETs, and all others as they were stored."""
    machine.storing.fail(Failure(TransportError("torn"), after_bytes=WITHIN))
    machine.storing.stores = lambda index: stores_again or machine.storing.count() == 1
    assert await machine.read() == ALL
    assert machine.storing.ranges() == [ByteRange(0, len(DATA)), ByteRange(WITHIN, len(DATA))]
    await machine.floor.settled()
    written = range(2, 3) if stores_again else range(2, BLOCKS)
    assert machine.floor.metrics.kept_bytes == sum(len(ALL[index]) for index in written)
    assert machine.floor.cache.missing(machine.content, range(BLOCKS)) == []
    assert machine.network.received_bytes == len(DATA)


@pytest.mark.parametrize("storing_get", [1, 2])
async def test_a_stalled_get_and_its_hedge_may_differ(
    machine: Machine, storing_get: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two GETs stores and the other brings bytes: each block is right, and fetched no third time."""
    monkeypatch.setattr(stall, "_FIRST_SECONDS", 0.5)
    monkeypatch.setattr(stall, "_LEAST_SECONDS", 0.5)
    firsts: list[Request] = []

    def is_first(request: Request) -> bool:
        firsts.append(request)
        return request is firsts[0]

    machine.storing.hold(is_first, after_bytes=WITHIN)
    machine.storing.stores = lambda index: machine.storing.count() == storing_get
    assert await machine.read() == ALL
    assert machine.storing.ranges() == [ByteRange(0, len(DATA)), ByteRange(2 * BLOCK_BYTES, len(DATA))]
    assert (machine.network.hedged_requests, machine.storing.in_flight) == (1, 0)
    await machine.floor.settled()
    assert machine.floor.cache.missing(machine.content, range(BLOCKS)) == []


async def test_what_it_only_says_is_fetched_again(machine: Machine) -> None:
    """A transport that lies costs GETs, and in the end an error that says so; no retry of the network's is made."""
    machine.storing.lies = 2
    assert await machine.read() == ALL
    assert machine.storing.ranges() == [ByteRange(0, len(DATA)), ByteRange(0, 2 * BLOCK_BYTES)]
    machine.floor.cache.drop(machine.content)
    machine.storing.lies = 3 * BLOCKS
    with pytest.raises(NotKeptError):
        await machine.read()
    assert machine.storing.count() == 5


async def test_what_it_fails_with_in_the_middle_comes_out(machine: Machine) -> None:
    """What no retry mends fails the blocks that are lacking, and those before are in the cache."""
    machine.storing.fail(Failure(BadReplyError("odd"), after_bytes=WITHIN))
    with pytest.raises(BadReplyError, match="odd"):
        await machine.read()
    assert machine.floor.cache.missing(machine.content, range(BLOCKS)) == [2, 3, 4, 5]
    assert await machine.read() == ALL

"""Blocks that are stored as they come: readers look for them in the cache, and what it lost is fetched again."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.fakes.client import Failure, MemoryClient
from tests.fakes.store import MemoryStore
from tests.fakes.storing import StoringClient
from tests.reading.bench import Bench, bench
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.claims import Claims
from vbnfs.cache.content_folder import DATA as DATA_FILE
from vbnfs.cache.content_folder import FORMAT
from vbnfs.errors import BadReplyError, NotKeptError, TransportError
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, Content, Piece, RangeRequest, Receive, Received, Stored

BLOCKS = 6
DATA = random.Random(29).randbytes((BLOCKS - 1) * BLOCK_BYTES + 99)
ALL = {index: DATA[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES] for index in range(BLOCKS)}


@asynccontextmanager
async def storing(directory: Path, **options: Any) -> AsyncIterator[tuple[Bench, StoringClient, Content]]:
    """A mount whose client stores what comes, and a content."""
    client = StoringClient(MemoryStore(), BlockCache(directory, scope="test", metrics=Metrics()))
    async with bench(directory, client=client, **options) as floor:
        yield floor, client, floor.add("a", DATA)


@pytest.mark.parametrize("locks_may_wait", [False, True])
async def test_what_was_stored_is_read_from_the_cache(tmp_path: Path, locks_may_wait: bool) -> None:
    """All readers of one GET get the bytes; nothing of them is written again, or remembered."""
    async with storing(tmp_path, locks_may_wait=locks_may_wait) as (floor, client, content):
        gate, got = client.hold(), list[dict[int, bytes | memoryview]]()

        async def get() -> None:
            got.append(await floor.source.get(content, range(BLOCKS)))

        async with trio.open_nursery() as readers:
            for _ in range(3):
                readers.start_soon(get)
            await gate.wait_arrived()
            gate.open()
        assert got == [ALL] * 3
        assert (client.count(), floor.metrics.kept_bytes, len(floor.memory.recent)) == (1, 0, 0)
        await floor.settled()
        assert floor.memory.blocks.held_bytes == 0
        assert await floor.open(content).read(0, len(DATA)) == DATA
        assert client.count() == 1


async def test_some_of_it_may_be_stored_and_some_not(tmp_path: Path) -> None:
    """Every other block comes with its bytes, and is written as ever; in the end the cache has all of them."""
    async with storing(tmp_path) as (floor, client, content):
        client.stores = lambda index: index % 2 == 0
        assert await floor.source.get(content, range(BLOCKS)) == ALL
        await floor.settled()
        assert floor.cache.missing(content, range(BLOCKS)) == []
        assert floor.metrics.kept_bytes == sum(len(ALL[index]) for index in (1, 3, 5))


async def test_a_prefetched_block_that_was_stored_takes_no_memory(tmp_path: Path) -> None:
    """No reader waits: it is on the disk, holds no memory, and a read that comes later finds it there."""
    async with storing(tmp_path) as (floor, client, content):
        floor.source.prefetch(content, range(BLOCKS))
        await floor.settled()
        assert not any(floor.source.is_coming(content, index) for index in range(BLOCKS))
        assert floor.memory.blocks.held_bytes == 0
        requests = client.count()
        assert await floor.open(content).read(0, len(DATA)) == DATA
        assert client.count() == requests


async def test_what_was_stored_is_noticed_like_what_is_written(tmp_path: Path) -> None:
    """Whole files are checked when their last block is there, also if the writer never had it."""
    noticed: list[object] = []
    async with storing(tmp_path, on_stored=noticed.append) as (floor, client, content):
        client.stores = lambda index: index < 3
        await floor.source.get(content, range(3))
        assert noticed
        assert all(contents == {content} for contents in noticed)
        noticed.clear()
        await floor.source.get(content, range(3, BLOCKS))
        await floor.settled()
        assert noticed == [{content}] * len(noticed) != []


async def test_claims_are_given_back(tmp_path: Path) -> None:
    """Other processes see that a block is not being fetched any more, while its GET goes on."""
    claims = Claims(tmp_path / FORMAT / "test")
    async with storing(tmp_path) as (floor, client, content):
        gate = client.hold(after_bytes=2 * BLOCK_BYTES)
        async with trio.open_nursery() as readers:
            readers.start_soon(floor.source.get, content, range(BLOCKS))
            await gate.wait_arrived()
            await trio.testing.wait_all_tasks_blocked()
            assert claims.take(content.content_id, range(BLOCKS)) == [0, 1]
            gate.open()
        await floor.settled()
        assert claims.take(content.content_id, range(2, BLOCKS)) == [2, 3, 4, 5]


async def test_the_end_of_a_get_that_fails_is_all_that_fails(tmp_path: Path) -> None:
    """What was stored before is read; a beginning of a block that came is no block."""
    async with storing(tmp_path) as (floor, client, content):
        client.fail(Failure(TransportError("torn"), after_bytes=2 * BLOCK_BYTES + 5))
        with pytest.raises(TransportError, match="torn"):
            await floor.source.get(content, range(BLOCKS))
        assert await floor.open(content, advises=False).read(0, 2 * BLOCK_BYTES) == DATA[: 2 * BLOCK_BYTES]
        assert client.count() == 1
        assert await floor.source.get(content, range(2, BLOCKS)) == {index: ALL[index] for index in range(2, BLOCKS)}
        assert client.ranges()[1] == ByteRange(2 * BLOCK_BYTES, len(DATA))


# What the cache does not have


@pytest.mark.parametrize("lies", [1, 2, BLOCKS])
async def test_what_the_cache_does_not_have_is_fetched_again(tmp_path: Path, lies: int) -> None:
    """Where something says that it has stored blocks and has not, these are fetched again, and no others."""
    async with storing(tmp_path) as (floor, client, content):
        client.lies = lies
        assert await floor.source.get(content, range(BLOCKS)) == ALL
        stop = min(lies * BLOCK_BYTES, len(DATA))
        assert client.ranges() == [ByteRange(0, len(DATA)), ByteRange(0, stop)]


@pytest.mark.parametrize("locks_may_wait", [False, True])
async def test_what_is_fetched_again_is_claimed_again(tmp_path: Path, locks_may_wait: bool) -> None:
    """The claims of the first fetch are given back before the second takes its own: other processes see that one."""
    claims = Claims(tmp_path / FORMAT / "test")
    async with storing(tmp_path, locks_may_wait=locks_may_wait) as (floor, client, content):
        client.lies = 1
        again = client.hold(lambda request: client.count() == 2)
        async with trio.open_nursery() as readers:
            readers.start_soon(floor.source.get, content, [0])
            await again.wait_arrived()
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert claims.take(content.content_id, range(1)) == []
            again.open()
        await floor.settled()
        assert claims.take(content.content_id, range(1)) == [0]


async def test_it_is_fetched_a_few_times_and_no_more(tmp_path: Path) -> None:
    """Where the cache never has what was stored, a read fails after three GETs; the next one begins anew."""
    async with storing(tmp_path) as (floor, client, content):
        client.lies = 3 * BLOCKS
        with trio.fail_after(60), pytest.raises(NotKeptError, match="3 times in a row"):
            await floor.source.get(content, range(BLOCKS))
        assert client.count() == 3
        assert not floor.source.is_busy
        assert await floor.source.get(content, range(BLOCKS)) == ALL


async def test_what_is_evicted_before_it_is_read_is_fetched_again(tmp_path: Path) -> None:
    """Another process deletes what was stored, once: the second time it is there."""
    async with storing(tmp_path) as (floor, client, content):
        other = BlockCache(tmp_path, scope="test", metrics=Metrics())

        def evict(stored: Content) -> None:
            client.after_storing = lambda content: None
            other.drop(stored)

        client.after_storing = evict
        assert await floor.source.get(content, [2]) == {2: ALL[2]}
        assert client.count() == 2


async def test_a_file_that_was_evicted_and_made_anew_is_found(tmp_path: Path) -> None:
    """What this process still has open is the file that was deleted; the block is in the one that came after it."""
    async with storing(tmp_path) as (floor, client, content):
        await floor.source.get(content, [0])
        BlockCache(tmp_path, scope="test", metrics=Metrics()).drop(content)
        assert await floor.source.get(content, [1]) == {1: ALL[1]}
        assert client.count() == 2


async def test_what_was_stored_is_checked(tmp_path: Path) -> None:
    """A block that is damaged before it is read is not served, and is fetched again."""
    async with storing(tmp_path) as (floor, client, content):

        def damage(_: Content) -> None:
            client.after_storing = lambda content: None
            for path in tmp_path.rglob(DATA_FILE):
                with path.open("r+b") as file:
                    data = file.read()
                    file.seek(0)
                    file.write(bytes(255 - byte for byte in data))

        client.after_storing = damage
        assert await floor.source.get(content, [3]) == {3: ALL[3]}
        assert client.count() == 2


async def test_being_cancelled_while_looking_leaves_nothing(tmp_path: Path) -> None:
    """A reader that gives up while it looks for a stored block holds nothing up."""
    async with storing(tmp_path) as (floor, client, content):
        client.lies = BLOCKS
        with trio.CancelScope() as scope:
            client.after_storing = lambda _: scope.cancel()
            await floor.source.get(content, range(BLOCKS))
        assert scope.cancelled_caught
        await floor.settled()
        assert floor.memory.blocks.held_bytes == 0
        assert await floor.source.get(content, range(BLOCKS)) == ALL


# Beginning within a block


class Mixed(StoringClient):
    """Brings the beginning of each block as bytes, and says that the rest was stored, as two GETs do that race."""

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        async def receive_halves(received: Received) -> None:
            if isinstance(received, Stored):
                middle = received.start + len(received) // 2
                await receive(Piece(received.start, DATA[received.start : middle]))
                received = received.after(middle)
            await receive(received)

        await super().get_range(request, receive_halves)


async def test_a_block_of_which_a_part_was_stored_is_read_from_the_cache(tmp_path: Path) -> None:
    """Its beginning is here and not needed: the cache has all of it."""
    client = Mixed(MemoryStore(), BlockCache(tmp_path, scope="test", metrics=Metrics()))
    async with bench(tmp_path, client=client) as floor:
        content = floor.add("a", DATA)
        assert await floor.source.get(content, range(BLOCKS)) == ALL
        assert (client.count(), floor.metrics.kept_bytes) == (1, 0)
        client.lies = 1
        floor.cache.drop(content)
        assert await floor.source.get(content, range(BLOCKS)) == ALL
        assert client.ranges()[1:] == [ByteRange(0, len(DATA)), ByteRange(0, BLOCK_BYTES)]


class Odd(MemoryClient):
    """Says that it has stored so much, whatever it was asked for."""

    stop = 0

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        await receive(Stored(0, self.stop))


@pytest.mark.parametrize("stop", [5, len(DATA) + 1])
async def test_a_word_of_too_little_or_too_much_fails_the_read(tmp_path: Path, stop: int) -> None:
    """What was not asked for, or not all of it, ends the fetch, and no reader waits without end."""
    client = Odd(MemoryStore())
    client.stop = stop
    async with bench(tmp_path, client=client) as floor:
        content = floor.add("a", DATA)
        with trio.fail_after(60), pytest.raises(BadReplyError, match="bytes than were asked for"):
            await floor.source.get(content, range(BLOCKS))
        await floor.settled()
        assert floor.memory.blocks.held_bytes == 0

"""Several mounts on one cache directory: what one fetches the others wait for, and each wait ends."""

import random
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, aclosing
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.fakes.client import MemoryClient, Request
from tests.fakes.store import MemoryStore
from tests.reading.bench import Bench, bench
from tests.waiting import until
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.claims import Claims
from vbnfs.cache.content_folder import FORMAT
from vbnfs.cache.host_claims import STRETCH, HostClaims
from vbnfs.errors import StorageError, TransportError
from vbnfs.host.places import folder_at
from vbnfs.metrics import Metrics
from vbnfs.objects import Content, ObjectVersion
from vbnfs.reading import other_processes
from vbnfs.reading.other_processes import SharedFetches

DATA = random.Random(8).randbytes(40 * BLOCK_BYTES + 1)


async def several(
    stack: AsyncExitStack, directory: Path, count: int, *, locks_may_wait: bool = False, has_other_hosts: bool = False
) -> tuple[MemoryClient, list[Bench], Content]:
    """Mounts that share a cache directory and a server, and a content."""
    client = MemoryClient(MemoryStore())
    floors = [
        await stack.enter_async_context(
            bench(directory, client=client, locks_may_wait=locks_may_wait, has_other_hosts=has_other_hosts)
        )
        for _ in range(count)
    ]
    return client, floors, floors[0].add("a", DATA)


async def read_all(floor: Bench, content: Content) -> None:
    got = await floor.source.get(content, range(41))
    assert b"".join(got[index] for index in range(41)) == DATA


async def test_each_block_is_fetched_by_one(tmp_path: Path) -> None:
    """Eight mounts read the same cold file at once: its bytes come once, and reach all of them."""
    async with AsyncExitStack() as stack:
        client, floors, content = await several(stack, tmp_path, 8)
        async with trio.open_nursery() as readers:
            for floor in floors:
                readers.start_soon(read_all, floor, content)
        assert client.sent_bytes == len(DATA)
        assert sum(floor.metrics.shared_blocks for floor in floors) == 7 * 41


async def test_what_is_claimed_in_part_is_fetched_in_part(tmp_path: Path) -> None:
    """Of a run whose middle is on its way to another mount, the ends are fetched, and the middle is waited for."""
    async with AsyncExitStack() as stack:
        client, (one, other), content = await several(stack, tmp_path, 2)
        gate = client.hold(lambda request: request.byte_range is not None and request.byte_range.start > 0)
        async with trio.open_nursery() as readers:
            readers.start_soon(one.source.get, content, range(10, 20))
            await gate.wait_arrived()
            readers.start_soon(other.source.get, content, range(30))
            await gate.wait_arrived(2)
            gate.open()
        ranges = [(part.start // BLOCK_BYTES, part.stop // BLOCK_BYTES) for part in client.ranges()]
        assert ranges == [(10, 20), (0, 10), (20, 30)]


async def test_prefetched_blocks_that_came_meanwhile_are_not_fetched(tmp_path: Path) -> None:
    """A GET that waited in the queue while another mount brought its blocks asks S3 for nothing."""
    async with AsyncExitStack() as stack:
        client, (one, other), content = await several(stack, tmp_path, 2)
        await one.source.get(content, range(5))
        await one.settled()
        other.source.prefetch(content, range(5))  # found missing before
        await other.settled()
        assert client.count() == 1
        assert other.metrics.shared_blocks == 5


async def test_a_failure_gives_the_blocks_back(tmp_path: Path) -> None:
    """Where the GET of the process with the claims fails, the one that waits for the blocks fetches them."""
    async with AsyncExitStack() as stack:
        client, (one, other), content = await several(stack, tmp_path, 2)
        gate = client.hold()
        client.fail(TransportError("reset"))

        async def fail() -> None:
            with pytest.raises(StorageError):
                await one.source.get(content, [3])

        async with trio.open_nursery() as readers:
            readers.start_soon(fail)
            await gate.wait_arrived()
            readers.start_soon(other.source.get, content, [3])
            gate.open()
        assert client.count() == 2


async def test_without_threads_claims_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came while there was no thread to write it is free at once: another mount does not wait for it."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    async with bench(tmp_path) as floor:
        content = floor.add("a", DATA)
        with monkeypatch.context() as patch:
            patch.setattr("trio._threads.start_thread_soon", refuse)
            await floor.source.get(content, range(41))
            await floor.settled()
        assert Claims(tmp_path / FORMAT / "test").take(content.content_id, range(41)) == list(range(41))


async def test_where_locks_may_wait_claims_are_given_back_as_soon_as_there_is_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop asks a network file system for nothing: what is owed goes with the next that is given back."""
    claims, other = Claims(tmp_path), Claims(tmp_path)
    cache = BlockCache(tmp_path, scope="test", metrics=Metrics())
    ours = SharedFetches(claims, cache, may_wait=True, metrics=Metrics())
    content = Content("a", len(DATA), ObjectVersion("a", None))
    claims.take("a", range(8))

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("trio._threads.start_thread_soon", refuse)
        await ours.drop_all(content, range(4))
    assert other.take("a", range(8)) == []
    await ours.drop_all(content, range(4, 8))
    assert other.take("a", range(8)) == list(range(8))


@pytest.mark.parametrize("may_wait", [False, True])
async def test_who_is_cancelled_gives_its_claims_back(tmp_path: Path, *, may_wait: bool) -> None:
    """Cancelled while it claims, or with claims in hand: both are free afterwards, also where that takes a thread."""
    other = Claims(tmp_path)
    cache = BlockCache(tmp_path, scope="test", metrics=Metrics())
    ours = SharedFetches(Claims(tmp_path), cache, may_wait=may_wait, metrics=Metrics())
    content = Content("a", len(DATA), ObjectVersion("a", None))

    async def claim(*, at_once: bool) -> None:
        with trio.CancelScope() as scope:
            if at_once:
                scope.cancel()
            try:
                async with aclosing(ours.rounds(content, range(8))) as rounds:
                    async for _ in rounds:
                        assert other.take("a", range(8)) == []
                        scope.cancel()
                        await trio.sleep_forever()
            finally:
                await ours.drop_all(content, range(8))

    for at_once in (True, False):
        await claim(at_once=at_once)
        free = partial(until, lambda: other.take("a", range(8)) == list(range(8)))
        await trio.to_thread.run_sync(free)
        other.drop("a", range(8))


async def test_patience_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the processes that wait for one that hangs, one fetches after a while, and the others do after another."""
    monkeypatch.setattr(other_processes, "_PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(other_processes, "_MOST_PATIENCE_SECONDS", 0.5)
    async with AsyncExitStack() as stack:
        client, floors, content = await several(stack, tmp_path, 4)
        gate = client.hold(lambda request: client.count() <= 2)  # the claimant and the impatient one hang
        came, half = [], trio.Event()

        async def read(floor: Bench) -> None:
            await floor.source.get(content, [7])
            came.append(floor)
            if len(came) == 2:
                half.set()

        async with trio.open_nursery() as readers:
            for floor in floors:
                readers.start_soon(read, floor)
            await half.wait()
            assert len(gate.arrived) == 2
            gate.open()
        assert 3 <= client.count() <= 4


@pytest.mark.parametrize("has_other_hosts", [False, True])
async def test_locks_that_may_wait_are_taken_in_threads(tmp_path: Path, has_other_hosts: bool) -> None:
    """Where a lock, or a link, may wait for the network, the loop asks for none; the outcome is the same."""
    async with AsyncExitStack() as stack:
        client, floors, content = await several(
            stack, tmp_path, 3, locks_may_wait=True, has_other_hosts=has_other_hosts
        )
        client.fail_when(lambda request: TransportError("reset") if is_first(client, request) else None)
        with pytest.raises(StorageError):
            await floors[0].source.get(content, [0])
        async with trio.open_nursery() as readers:
            for floor in floors:
                readers.start_soon(read_all, floor, content)
        assert client.sent_bytes == len(DATA)


async def test_a_host_that_gets_on_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the one that has claimed a block gives others back, it is slow, and is waited for; then it hangs."""
    monkeypatch.setattr(other_processes, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(other_processes, "_MOST_PATIENCE_SECONDS", 0.1)
    pulses = iter(range(8))  # so often it is seen to get on: eight times as long as patience would last
    monkeypatch.setattr(HostClaims, "pulse", lambda *_: ("process", next(pulses, 7.0)))
    async with AsyncExitStack() as stack:
        client, (one, other), content = await several(stack, tmp_path, 2, has_other_hosts=True)
        gate = client.hold(lambda request: client.count() <= 1)
        async with trio.open_nursery() as readers:
            readers.start_soon(one.source.get, content, [7])
            await gate.wait_arrived()
            await other.source.get(content, [7])
            assert next(pulses, None) is None
            gate.open()
        assert client.count() == 2


async def test_a_host_that_was_given_up_is_not_waited_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a dead host has claimed costs patience once: its next claim costs none, as long as it is silent."""
    monkeypatch.setattr(other_processes, "_PATIENCE_SECONDS", 0.2)
    looks: list[int] = []

    def pulse(_claims: HostClaims, _content_id: str, index: int) -> tuple[str, float]:
        looks.append(index)
        return "dead", 1.0

    monkeypatch.setattr(HostClaims, "pulse", pulse)
    dead = HostClaims(folder_at(tmp_path) / "claims-v1/test")
    async with AsyncExitStack() as stack:
        _, (floor,), content = await several(stack, tmp_path, 1, has_other_hosts=True)
        dead.take(content.content_id, range(2 * STRETCH))
        await floor.source.get(content, [0])
        assert looks.count(0) > 2
        await floor.source.get(content, [STRETCH])
        assert looks.count(STRETCH) == 1


async def test_a_pulse_is_shown_while_something_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a block takes to come, the process that fetches it is seen to be at work; else it is not."""
    monkeypatch.setattr(other_processes, "PULSE_SECONDS", 0.001)
    shown: list[bool] = []
    async with AsyncExitStack() as stack:
        client, (floor,), content = await several(stack, tmp_path, 1, has_other_hosts=True)
        monkeypatch.setattr(HostClaims, "show_pulse", lambda claims: shown.append(claims.are_held))
        floor.services.start_soon(floor.others.show_pulse)
        await trio.testing.wait_all_tasks_blocked()
        assert shown == []
        gate = client.hold()
        async with trio.open_nursery() as readers:
            readers.start_soon(floor.source.get, content, [0])
            await gate.wait_arrived()
            await trio.to_thread.run_sync(until, lambda: len(shown) > 3)
            assert all(shown[:3])
            gate.open()


async def test_what_another_host_has_stored_is_not_waited_for(tmp_path: Path) -> None:
    """A block that is on the disk is read at once, though the host that brought it has claimed others beside it."""
    stranger = HostClaims(folder_at(tmp_path) / "claims-v1/test")
    async with AsyncExitStack() as stack:
        client, (one, other), content = await several(stack, tmp_path, 2, has_other_hosts=True)
        await one.source.get(content, [0])
        await one.settled()
        assert stranger.take(content.content_id, range(1, 2)) == [1]
        assert await other.source.get(content, [0]) == {0: DATA[:BLOCK_BYTES]}
        assert client.count() == 1
        assert other.metrics.shared_blocks == 1
        assert stranger.are_held


async def test_what_came_just_before_the_claim_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that this host is just getting is as it was: so a claim is followed by two looks."""
    looks: list[str] = []
    missing = BlockCache.missing

    def as_it_was(cache: BlockCache, content: Content, indices: Iterable[int]) -> list[int]:
        return missing(cache, content, indices) if len(looks) == 2 else list(indices)

    async with AsyncExitStack() as stack:
        client, (one, other), content = await several(stack, tmp_path, 2, has_other_hosts=True)
        await one.source.get(content, [0])
        await one.settled()
        monkeypatch.setattr(BlockCache, "missing", as_it_was)
        monkeypatch.setattr(BlockCache, "refresh", lambda _cache, content: looks.append(content.content_id))
        assert await other.source.get(content, [0]) == {0: DATA[:BLOCK_BYTES]}
        assert client.count() == 1
        assert other.metrics.shared_blocks == 1


async def test_claims_are_given_back_before_readers_get_the_failure(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that gets a failure may ask anew; by then the failed GET has nothing more to give back."""
    async with AsyncExitStack() as stack:
        client, floors, content = await several(stack, tmp_path, 1)
        others, giving_back, go_on, failed = floors[0].others, trio.Event(), trio.Event(), trio.Event()

        async def give_back(content: Content, indices: Sequence[int]) -> None:
            giving_back.set()
            await go_on.wait()
            others.drop(content, indices)

        async def read() -> None:
            with pytest.raises(StorageError):
                await floors[0].source.get(content, [0])
            failed.set()

        monkeypatch.setattr(others, "drop_all", give_back)
        client.fail_when(lambda request: TransportError("reset"))
        nursery.start_soon(read)
        await giving_back.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert not failed.is_set()
        go_on.set()
        await failed.wait()


def is_first(client: MemoryClient, request: Request) -> bool:
    return len(client.requests) == 1

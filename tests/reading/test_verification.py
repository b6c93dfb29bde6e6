"""Whole files against their hash, by several processes at once."""

import hashlib
import itertools
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.fakes.client import MemoryClient
from tests.fakes.store import MemoryStore
from tests.reading.bench import Bench, add, bench
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.verdict import Verdict, is_good
from vbnfs.errors import HashMismatchError
from vbnfs.objects import Content
from vbnfs.reading.hashing import Hashes

WRONG = bytes(2 * BLOCK_BYTES + 5)
RIGHT = b"1" + WRONG[1:]


async def test_the_same_bytes_are_not_wrong_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two mounts hash a file that came wrong once, and one learns of the other's verdict while it hashes.

    That is one fetch that went wrong, not two: the file is not given up, and is good when fetched anew.
    """
    client = MemoryClient(MemoryStore())
    content = add(client.store, "a", WRONG, file_hash=hashlib.blake2b(RIGHT).hexdigest())
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(bench(tmp_path, client=client)) for _ in range(2)]
        await one.source.get(content, range(3))
        await one.settled()
        hashing = other.verifier._hasher.hash

        async def hash_slowly(content: Content, *, fetch: bool) -> Hashes | None:
            hashes = await hashing(content, fetch=fetch)
            await one.verifier.verify(content, fetch=False)
            await other.verifier.refresh()
            return hashes

        monkeypatch.setattr(other.verifier._hasher, "hash", hash_slowly)
        verdict = await other.verifier.verify(content, fetch=False)
        assert verdict is not None
        assert verdict.mismatches == 1
        monkeypatch.undo()
        assert one.verdicts.bad(content) is not None

        good = Content(content.content_id, content.size_bytes, content.source, hashlib.blake2b(WRONG).hexdigest())
        verdict = await other.verifier.verify(good, fetch=True)
        assert verdict is not None
        assert verdict.mismatches == 0
        await one.verifier.refresh()
        assert one.verdicts.bad(content) is None


def put(floor: Bench, content: Content, data: bytes) -> None:
    """Have blocks on the disk as they would be if a server had sent these bytes."""
    blocks = [data[start : start + BLOCK_BYTES] for start in range(0, len(data), BLOCK_BYTES)]
    assert floor.cache.put(content, 0, *blocks) == len(data)


async def judged_late(
    stack: AsyncExitStack,
    directory: Path,
    meanwhile: Callable[[Bench, Content], Awaitable[object]],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Bench, Bench, Content, Verdict | None]:
    """Two mounts; the second hashes WRONG bytes, and `meanwhile` happens before it judges. What it then says."""
    client = MemoryClient(MemoryStore())
    content = add(client.store, "a", RIGHT, file_hash=hashlib.blake2b(RIGHT).hexdigest())
    one, other = [await stack.enter_async_context(bench(directory, client=client)) for _ in range(2)]
    put(one, content, WRONG)
    hashing, times = other.verifier._hasher.hash, itertools.count()

    async def hash_slowly(content: Content, *, fetch: bool) -> Hashes | None:
        hashes = await hashing(content, fetch=fetch)
        if next(times) == 0:
            await meanwhile(one, content)
        return hashes

    monkeypatch.setattr(other.verifier._hasher, "hash", hash_slowly)
    return one, other, content, await other.verifier.verify(content, fetch=False)


async def fetched_anew(one: Bench, content: Content) -> None:
    """Found wrong, deleted, and fetched again: now the bytes are right."""
    await one.verifier.verify(content, fetch=False)
    await one.source.get(content, range(3))
    await one.settled()


async def test_a_late_verdict_condemns_no_bytes_that_were_fetched_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another mount has fetched anew and found good stays, is read, and is what the late one then goes by."""

    async def found_good(one: Bench, content: Content) -> None:
        await fetched_anew(one, content)
        verdict = await one.verifier.verify(content, fetch=False)
        assert verdict is not None
        assert is_good(content, verdict)

    async with AsyncExitStack() as stack:
        one, other, content, verdict = await judged_late(stack, tmp_path, found_good, monkeypatch)
        assert verdict is not None
        assert is_good(content, verdict)
        assert one.cache.cached_bytes(content) == len(RIGHT)
        for floor in (one, other):
            await floor.verifier.refresh()
            assert bytes(await floor.open(content).read(0, len(RIGHT))) == RIGHT
        assert not (tmp_path / "verified-v1" / "test" / "bad" / "a").exists()


async def test_what_was_fetched_since_and_not_judged_yet_is_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The late verdict says nothing of those bytes: they are hashed in their turn, and are good."""
    async with AsyncExitStack() as stack:
        one, _, content, verdict = await judged_late(stack, tmp_path, fetched_anew, monkeypatch)
        assert verdict is not None
        assert is_good(content, verdict)
        assert one.cache.cached_bytes(content) == len(RIGHT)


async def test_a_verdict_in_the_middle_of_a_fetch_deletes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another mount has deleted the blocks and some have come again: they stay, and the file is refused as it was."""

    async def begin_anew(one: Bench, content: Content) -> None:
        await one.verifier.verify(content, fetch=False)
        await one.source.get(content, [0])
        await one.settled()

    async with AsyncExitStack() as stack:
        one, other, content, verdict = await judged_late(stack, tmp_path, begin_anew, monkeypatch)
        assert one.cache.missing(content, range(3)) == [1, 2]
        assert verdict == one.verdicts.bad(content) == other.verdicts.bad(content)
        assert verdict is not None
        assert verdict.mismatches == 1


async def test_what_was_evicted_while_it_was_hashed_is_refused_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else was found of the file since: what was read of it was wrong, and may still be in use."""

    async def evict(one: Bench, content: Content) -> None:
        one.cache.drop(content)

    async with AsyncExitStack() as stack:
        one, other, content, verdict = await judged_late(stack, tmp_path, evict, monkeypatch)
        assert verdict is not None
        assert verdict.mismatches == 1
        with pytest.raises(HashMismatchError):
            other.verdicts.refuse(content)
        await one.verifier.refresh()
        with pytest.raises(HashMismatchError):
            one.verdicts.refuse(content)


class Counted(bytes):
    """Bytes that are counted while they are in memory."""

    alive = most = 0

    def __init__(self, _: bytes) -> None:
        Counted.alive += 1
        Counted.most = max(Counted.most, Counted.alive)

    def __del__(self) -> None:
        Counted.alive -= 1


async def test_hashing_takes_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long file that is in the cache: 4 MiB of it are in memory at a time, whatever its length."""
    checked_block = BlockCache.checked_block

    def counted(cache: BlockCache, content: Content, index: int) -> bytes | None:
        data = checked_block(cache, content, index)
        return None if data is None else Counted(data)

    monkeypatch.setattr(BlockCache, "checked_block", counted)
    data = bytes(100 * BLOCK_BYTES + 5)
    async with bench(tmp_path) as floor:
        content = floor.add("a", data, file_hash=hashlib.blake2b(data).hexdigest())
        await floor.source.get(content, range(101))
        await floor.settled()
        verdict = await floor.verifier.verify(content, fetch=False)
    assert verdict is not None
    assert verdict.mismatches == 0
    assert 0 < Counted.most <= 16


async def test_what_is_wrong_does_not_come_to_the_disk_behind_its_verdict(tmp_path: Path) -> None:
    """A file is fetched, and hashed before a slow disk has taken it: where it is found wrong, nothing of it stays."""
    client = MemoryClient(MemoryStore())
    content = add(client.store, "a", WRONG, file_hash=hashlib.blake2b(RIGHT).hexdigest())
    async with bench(tmp_path, client=client, keeps_blocks=False) as floor, trio.open_nursery() as nursery:
        verdicts: list[Verdict | None] = []

        async def verify() -> None:
            verdicts.append(await floor.verifier.verify(content, fetch=True))

        nursery.start_soon(verify)
        await trio.testing.wait_all_tasks_blocked(0.05)
        floor.start_keeping()
        with trio.fail_after(60):
            while not verdicts:
                await trio.testing.wait_all_tasks_blocked(0.01)
        await floor.settled()
        assert floor.verdicts.bad(content) is not None
        assert floor.cache.cached_bytes(content) == 0


async def test_digests_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with proven digests that is hashed again keeps them, and makes no others."""
    async with bench(tmp_path) as floor:
        content = floor.add("a", RIGHT, file_hash=hashlib.blake2b(RIGHT).hexdigest())
        put(floor, content, RIGHT)
        await floor.verifier.verify(content, fetch=False)
        proven = floor.digests.proven(content.file_hash or "")
        assert proven is not None
        monkeypatch.setattr(floor.digests, "keep_proven", lambda digests: pytest.fail("made again"))
        assert await floor.verifier.verify(content, fetch=False) is not None
        assert floor.digests.proven(content.file_hash or "") == proven

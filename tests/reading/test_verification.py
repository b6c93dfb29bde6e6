"""Whole files against their hash, by several processes at once."""

import hashlib
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.fakes.client import MemoryClient
from tests.fakes.store import MemoryStore
from tests.reading.bench import add, bench
from vbnfs.objects import Content
from vbnfs.storage.block_cache import BlockCache
from vbnfs.storage.segment import BLOCK_BYTES

WRONG = bytes(2 * BLOCK_BYTES + 5)
RIGHT = b"1" + WRONG[1:]


async def test_the_same_bytes_are_not_wrong_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two mounts hash a file that came wrong once, and one is told of the other's verdict while it hashes.

    That is one fetch that went wrong, not two: the file is not given up, and is good when fetched anew.
    """
    client = MemoryClient(MemoryStore())
    content = add(client.store, "a", WRONG, file_hash=hashlib.blake2b(RIGHT).hexdigest())
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(bench(tmp_path, client=client)) for _ in range(2)]
        await one.source.get(content, range(3))
        await one.settled()
        hashing = other.verifier._hash

        async def hash_slowly(content: Content, *, fetch: bool) -> tuple[str, str] | None:
            hashes = await hashing(content, fetch=fetch)
            await one.verifier.verify(content, fetch=False)
            await other.verifier.refresh()
            return hashes

        monkeypatch.setattr(other.verifier, "_hash", hash_slowly)
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

"""Blocks against their digests, as they come: a wrong one reaches no reader, no memory and no disk."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.fakes.client import MemoryClient
from tests.fakes.store import MemoryStore
from tests.reading.bench import Bench, bench
from vbnfs.blocks import BLOCK_BYTES, digest
from vbnfs.cache.digests import DigestSet, DigestStore
from vbnfs.errors import HashMismatchError, ObjectGoneError, WrongBlockError
from vbnfs.objects import Content, ObjectVersion, Piece, RangeRequest, Receive, Received

BLOCKS = [bytes([number]) * BLOCK_BYTES for number in range(6)] + [b"end"]
RIGHT = b"".join(BLOCKS)
HASH = hashlib.blake2b(RIGHT).hexdigest()
PROVEN = DigestSet(HASH, len(RIGHT), b"".join(map(digest, BLOCKS)))


def damaged(*indices: int, by: int = 1) -> bytes:
    """The bytes of the file with some blocks wrong."""
    data = bytearray(RIGHT)
    for index in indices:
        data[index * BLOCK_BYTES] ^= by
    return bytes(data)


def set_of(data: bytes) -> DigestSet:
    """What a cache with these bytes would say of the file."""
    starts = range(0, len(data), BLOCK_BYTES)
    return DigestSet(HASH, len(data), b"".join(digest(data[start : start + BLOCK_BYTES]) for start in starts))


class Turns(MemoryClient):
    """A client of which the first replies are damaged as `wrong` says: one entry for each request, then none."""

    def __init__(self, store: MemoryStore, wrong: Sequence[bytes]) -> None:
        super().__init__(store)
        self.wrong = list(wrong)
        self.anew: list[bool] = []

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        self.anew.append(request.is_anew)
        data = self.wrong.pop(0) if self.wrong else None

        async def receive_instead(piece: Received) -> None:
            await receive(piece if data is None else Piece(piece.start, data[piece.start : piece.stop]))

        await super().get_range(request, receive_instead)


def floor_of(*objects: bytes, wrong: Sequence[bytes] = ()) -> tuple[Turns, Content]:
    """A client, and a content whose sources hold `objects`."""
    store = MemoryStore()
    versions = [ObjectVersion(f"{number}", store.put(f"{number}", data)) for number, data in enumerate(objects)]
    return Turns(store, wrong), Content("content", len(RIGHT), versions[0], HASH, tuple(versions[1:]))


def asked(client: MemoryClient) -> list[tuple[str, int]]:
    """Which source was asked, and from which block on."""
    return [
        (request.name, request.byte_range.start // BLOCK_BYTES)
        for request in client.requests
        if request.byte_range is not None
    ]


async def all_of(floor: Bench, content: Content) -> bytes:
    found = await floor.source.get(content, range(len(BLOCKS)))
    return b"".join(found[index] for index in range(len(BLOCKS)))


async def test_a_file_that_has_its_hash_has_digests(tmp_path: Path) -> None:
    """Hashing a whole file makes the digests of its blocks, for all processes; a file that is wrong gives none."""
    client, content = floor_of(RIGHT)
    async with bench(tmp_path, client=client) as floor:
        assert await all_of(floor, content) == RIGHT
        await floor.settled()
        assert await floor.verifier.verify(content, fetch=False) is not None
        assert floor.digests.proven(HASH) == PROVEN
        assert DigestStore(tmp_path).proven(HASH) == PROVEN
    wrong, content = floor_of(damaged(2))
    async with bench(tmp_path / "other", client=wrong) as floor:
        await all_of(floor, content)
        await floor.settled()
        assert await floor.verifier.verify(content, fetch=False) is not None
        assert floor.digests.proven(HASH) is None


async def test_a_wrong_block_is_asked_for_on_another_connection(tmp_path: Path) -> None:
    """The blocks before it are taken, the rest is asked for anew; readers, memory and disk get the right bytes."""
    client, content = floor_of(RIGHT, wrong=[damaged(2, 4)])
    async with bench(tmp_path, client=client) as floor:
        floor.digests.keep_proven(PROVEN)
        assert await all_of(floor, content) == RIGHT
        assert (asked(client), client.anew) == ([("0", 0), ("0", 2)], [False, True])
        assert floor.metrics.wrong_blocks == 1
        await floor.settled()
        assert b"".join(floor.cache.checked_block(content, index) or b"" for index in range(7)) == RIGHT


async def test_each_wrong_block_is_asked_for_again(tmp_path: Path) -> None:
    """A way that damages one block after the other: as long as it goes on, it is asked again."""
    client, content = floor_of(RIGHT, wrong=[damaged(1), damaged(2), damaged(4), damaged(5, 6), damaged(6)])
    async with bench(tmp_path, client=client) as floor:
        floor.digests.keep_proven(PROVEN)
        assert await all_of(floor, content) == RIGHT
        assert [start for _, start in asked(client)] == [0, 1, 2, 4, 5, 6]
        assert floor.metrics.wrong_blocks == 5


async def test_another_source_has_the_right_block(tmp_path: Path) -> None:
    """A source that has a block wrong is asked no more: the next one gives the rest."""
    client, content = floor_of(damaged(3), RIGHT)
    async with bench(tmp_path, client=client) as floor:
        floor.digests.keep_proven(PROVEN)
        assert await all_of(floor, content) == RIGHT
        assert asked(client) == [("0", 0), ("1", 3)]
        assert floor.source.origin_of(content, known="") == str(content.others[0])


async def test_a_block_that_is_wrong_everywhere(tmp_path: Path) -> None:
    """Each source was asked, the first one twice: reads of this block fail with the reason; the others are there."""
    client, content = floor_of(damaged(3), damaged(3))
    async with bench(tmp_path, client=client) as floor:
        floor.digests.keep_proven(PROVEN)
        with pytest.raises(WrongBlockError, match=r"0\?versionId=.*: block 3 came as blake2b-128:"):
            await floor.source.get(content, [3])
        assert (asked(client), client.anew) == ([("0", 3), ("1", 3), ("0", 3)], [False, False, True])
        assert floor.source.in_memory(content, 3) is None
        await floor.settled()
        assert floor.cache.missing(content, range(7)) == list(range(7))
        assert floor.metrics.wrong_blocks == 3
        found = await floor.source.get(content, [2, 4])
        assert (bytes(found[2]), bytes(found[4])) == (BLOCKS[2], BLOCKS[4])


async def test_a_source_that_is_gone_is_not_asked_twice(tmp_path: Path) -> None:
    """Only a wrong block is a reason to ask the same object once more."""
    client, content = floor_of(RIGHT)
    client.fail_when(lambda request: ObjectGoneError("gone"))
    async with bench(tmp_path, client=client) as floor:
        floor.digests.keep_proven(PROVEN)
        with pytest.raises(ObjectGoneError):
            await floor.source.get(content, [0])
        assert len(asked(client)) == 1


async def test_imported_digests_find_a_wrong_block(tmp_path: Path) -> None:
    """A claim that is right finds damage on the way as proven digests do."""
    client, content = floor_of(RIGHT, wrong=[damaged(2)])
    async with bench(tmp_path, client=client) as floor:
        floor.digests.take_in(PROVEN)
        assert await all_of(floor, content) == RIGHT
        assert [start for _, start in asked(client)] == [0, 2]


async def test_imported_digests_that_are_wrong_refuse_no_file(tmp_path: Path) -> None:
    """Two replies agree, and not with the claim: the file is read without it, and its hash replaces the claim."""
    client, content = floor_of(RIGHT)
    async with bench(tmp_path, client=client) as floor:
        floor.digests.take_in(set_of(damaged(3)))
        assert await all_of(floor, content) == RIGHT
        assert [start for _, start in asked(client)] == [0, 3, 3]
        await floor.settled()
        assert await floor.verifier.verify(content, fetch=False) is not None
        assert DigestStore(tmp_path).proven(HASH) == PROVEN
        assert not list((tmp_path / "digests-v1" / "imported").glob("*/*"))


async def test_a_line_that_damages_at_random_is_no_reason_to_doubt(tmp_path: Path) -> None:
    """Replies that agree neither with the claim nor with one another are at fault themselves: the read fails."""
    client, content = floor_of(RIGHT, wrong=[damaged(3, by=1), damaged(3, by=2)])
    async with bench(tmp_path, client=client) as floor:
        floor.digests.take_in(PROVEN)
        with pytest.raises(WrongBlockError):
            await floor.source.get(content, [3])
        assert bytes((await floor.source.get(content, [3]))[3]) == BLOCKS[3]


async def test_a_claim_that_the_hash_disproves_is_deleted(tmp_path: Path) -> None:
    """All blocks are what was imported, and the file has not its hash: the claim is wrong, and is gone."""
    client, content = floor_of(damaged(3))
    async with bench(tmp_path, client=client) as floor:
        floor.digests.take_in(set_of(damaged(3)))
        await all_of(floor, content)
        await floor.settled()
        verdict = await floor.verifier.verify(content, fetch=False)
        assert verdict is not None
        assert verdict.mismatches == 1
        assert floor.digests.of(content) is None


async def test_without_threads_blocks_are_checked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be had, the event loop hashes."""
    client, content = floor_of(RIGHT, wrong=[damaged(0)])

    async def no_thread(*arguments: Any, **more: Any) -> Any:
        raise RuntimeError("can't start new thread")

    async with bench(tmp_path, client=client) as floor:
        floor.digests.keep_proven(PROVEN)
        with monkeypatch.context() as patched:
            patched.setattr(trio.to_thread, "run_sync", no_thread)
            assert bytes((await floor.source.get(content, [0]))[0]) == BLOCKS[0]
        assert floor.metrics.wrong_blocks == 1


async def test_a_file_that_is_wrong_everywhere_is_given_up(tmp_path: Path) -> None:
    """It was refused, and a block of it proves wrong at each source: then it is not fetched again without end."""
    client, content = floor_of(damaged(3))
    async with bench(tmp_path, client=client) as floor:
        await all_of(floor, content)
        await floor.settled()
        floor.digests.keep_proven(PROVEN)  # a file with this hash, from another object
        await floor.verifier._check(content)
        bad = floor.verdicts.bad(content)
        assert bad is not None
        assert bad.mismatches == 2
        asked_for = len(client.requests)
        await floor.verifier._check(content)
        assert len(client.requests) == asked_for
        with pytest.raises(HashMismatchError, match="S3 has other bytes"):
            await floor.open(content).read(0, 1)


async def test_a_file_that_was_not_refused_is_not_given_up(tmp_path: Path) -> None:
    """A wrong block alone is no verdict: the caller is given the reason, and the next attempt begins anew."""
    client, content = floor_of(damaged(3))
    async with bench(tmp_path, client=client) as floor:
        floor.digests.keep_proven(PROVEN)
        with pytest.raises(WrongBlockError):
            await floor.verifier.verify(content, fetch=True)
        assert floor.verdicts.bad(content) is None

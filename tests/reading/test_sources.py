"""A content that several objects should hold: which one is asked, and when the next."""

import hashlib
from pathlib import Path

import pytest

from tests.fakes.client import Failure, MemoryClient
from tests.fakes.store import MemoryStore
from tests.reading.bench import bench
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.verdict import Verdict
from vbnfs.errors import (
    AccessDeniedError,
    BadReplyError,
    ChangedError,
    NoBucketError,
    ObjectGoneError,
    StorageError,
    TransportError,
)
from vbnfs.objects import Content, ObjectVersion

RIGHT = b"".join(bytes([number]) * BLOCK_BYTES for number in range(3)) + b"end"
WRONG = RIGHT[:BLOCK_BYTES] + b"x" + RIGHT[BLOCK_BYTES + 1 :]
HASH = hashlib.blake2b(RIGHT).hexdigest()


def content_of(*sources: ObjectVersion) -> Content:
    return Content("content", len(RIGHT), sources[0], HASH, sources[1:])


def store_of(**objects: bytes) -> tuple[MemoryClient, list[ObjectVersion]]:
    """A client of these objects, and what they are called."""
    store = MemoryStore()
    return MemoryClient(store), [ObjectVersion(name, store.put(name, data)) for name, data in objects.items()]


def asked(client: MemoryClient) -> list[str]:
    """The keys of the ranges that were asked for since this was asked last."""
    keys = [request.name for request in client.requests if request.kind == "get_range"]
    client.requests.clear()
    return keys


@pytest.mark.parametrize(
    "error", [ObjectGoneError("404"), AccessDeniedError("403"), ChangedError("another"), BadReplyError("200")]
)
async def test_the_next_source_is_asked(tmp_path: Path, error: StorageError) -> None:
    """An object that is gone, forbidden or another one is no reason to fail while another object has the bytes.

    The one that answered is asked first from then on.
    """
    client, (first, second) = store_of(first=RIGHT, second=RIGHT)
    client.fail_when(lambda request: error if request.name == "first" else None)
    async with bench(tmp_path, client=client) as floor:
        content = content_of(first, second)
        assert await floor.source.get(content, [0]) == {0: RIGHT[:BLOCK_BYTES]}
        assert asked(client) == ["first", "second"]
        assert await floor.source.get(content, [3]) == {3: b"end"}
        assert asked(client) == ["second"]


async def test_where_no_source_gives_it_the_first_failure_is_raised(tmp_path: Path) -> None:
    """Each source is asked once, and the shown one's failure is what the reader is given."""
    client, sources = store_of(a=RIGHT, b=RIGHT, c=RIGHT)
    errors = {"a": AccessDeniedError("of a"), "b": ObjectGoneError("of b"), "c": ChangedError("of c")}
    client.fail_when(lambda request: errors.get(request.name))
    async with bench(tmp_path, client=client) as floor:
        with pytest.raises(AccessDeniedError, match="of a"):
            await floor.source.get(content_of(*sources), [0])
        assert asked(client) == ["a", "b", "c"]


@pytest.mark.parametrize("error", [TransportError("no route"), NoBucketError("no bucket")])
async def test_a_failure_of_the_server_is_no_reason_for_another_source(tmp_path: Path, error: StorageError) -> None:
    """All sources are in one bucket: where that cannot be reached, nobody is asked for another object."""
    client, sources = store_of(a=RIGHT, b=RIGHT)
    client.fail(error, error)
    async with bench(tmp_path, client=client) as floor:
        with pytest.raises(type(error)):
            await floor.source.get(content_of(*sources), [0])
        assert asked(client) == ["a"]


async def test_bytes_that_came_are_not_asked_for_again(tmp_path: Path) -> None:
    """A source that goes away within a range: the next one is asked for the rest."""
    client, sources = store_of(a=RIGHT, b=RIGHT)
    client.fail(Failure(ObjectGoneError("gone"), after_bytes=BLOCK_BYTES))
    async with bench(tmp_path, client=client) as floor:
        blocks = await floor.source.get(content_of(*sources), [0, 1])
        assert b"".join(blocks[index] for index in (0, 1)) == RIGHT[: 2 * BLOCK_BYTES]
        assert [(r.start, r.stop) for r in client.ranges()] == [(0, 2 * BLOCK_BYTES), (BLOCK_BYTES, 2 * BLOCK_BYTES)]


async def test_wrong_bytes_are_fetched_from_the_next_source(tmp_path: Path) -> None:
    """A whole file that does not match is fetched from another source, and the verdict names the one that is good.

    A process that begins later asks that one first.
    """
    client, sources = store_of(wrong=WRONG, right=RIGHT)
    content = content_of(*sources)
    async with bench(tmp_path, client=client) as floor:
        await floor.source.get(content, range(4))
        await floor.settled()
        assert {*asked(client)} == {"wrong"}
        verdict = await floor.verifier.verify(content, fetch=False)
        assert verdict is not None
        assert (verdict.mismatches, verdict.source) == (1, str(sources[0]))
        verdict = await floor.verifier.verify(content, fetch=True)
        assert {*asked(client)} == {"right"}
        assert verdict is not None
        assert (verdict.mismatches, verdict.source) == (0, str(sources[1]))
        await floor.settled()
        floor.cache.drop(content)  # evicted
    async with bench(tmp_path, client=client) as later:
        assert await later.source.get(content, [1]) == {1: RIGHT[BLOCK_BYTES : 2 * BLOCK_BYTES]}
        assert asked(client) == ["right"]


async def test_who_judges_what_another_process_fetched_names_its_source(tmp_path: Path) -> None:
    """A process that hashes blocks which are here already leaves the known source in the verdict."""
    client, sources = store_of(wrong=WRONG, right=RIGHT)
    content = content_of(*sources)
    async with bench(tmp_path, client=client) as floor:
        await floor.source.get(content, range(4))
        await floor.settled()
        for fetch in (False, True):
            await floor.verifier.verify(content, fetch=fetch)
        await floor.settled()
    async with bench(tmp_path, client=client) as later:
        verdict = await later.verifier.verify(content, fetch=True)
        assert verdict is not None
        assert (verdict.mismatches, verdict.source) == (0, str(sources[1]))


async def test_each_source_is_tried_before_a_file_is_given_up(tmp_path: Path) -> None:
    """Where all sources are wrong, each is fetched, and then nothing is fetched again."""
    client, sources = store_of(a=WRONG, b=WRONG[::-1], c=b"y" * len(RIGHT))
    content = content_of(*sources)
    async with bench(tmp_path, client=client) as floor:
        await floor.source.get(content, range(4))
        await floor.settled()
        await floor.verifier._check(content)
        assert list(dict.fromkeys(asked(client))) == ["a", "b", "c"]
        bad = floor.verdicts.bad(content)
        assert bad is not None
        assert bad.mismatches == 4
        await floor.verifier._check(content)
        assert asked(client) == []


async def test_a_source_that_was_good_and_is_wrong(tmp_path: Path) -> None:
    """Where the source that proved good gives wrong bytes later, the one after it is asked, and not itself again."""
    client, sources = store_of(wrong=WRONG, right=RIGHT)
    content = content_of(sources[1], sources[0])
    async with bench(tmp_path, client=client) as floor:
        good = Verdict(HASH, "of other blocks", "2026-01-01T00:00:00Z", source=str(sources[0]))
        floor.verdicts.keep(content, good)
        await floor.source.get(content, range(4))
        await floor.settled()
        verdict = await floor.verifier.verify(content, fetch=False)
        assert verdict is not None
        assert verdict.source == str(sources[0])
        verdict = await floor.verifier.verify(content, fetch=True)
        assert verdict is not None
        assert (verdict.mismatches, verdict.source) == (0, str(sources[1]))


async def test_the_source_that_answered_is_blamed(tmp_path: Path) -> None:
    """A wrong source that stands in for a forbidden one is blamed itself: the other one is still tried."""
    client, sources = store_of(wrong=WRONG, right=RIGHT)
    content = content_of(*sources)
    async with bench(tmp_path, client=client) as floor:
        await floor.source.get(content, range(4))
        await floor.settled()
        assert await floor.verifier.verify(content, fetch=False) is not None
        client.fail_when(lambda request: AccessDeniedError("403") if request.name == "right" else None)
        verdict = await floor.verifier.verify(content, fetch=True)
        assert verdict is not None
        assert (verdict.mismatches, verdict.source) == (2, str(sources[0]))
        client.heal()
        verdict = await floor.verifier.verify(content, fetch=True)
        assert verdict is not None
        assert (verdict.mismatches, verdict.source) == (0, str(sources[1]))

"""A mirror is asked first, and what it sends is the dataset's only when it is proven."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from tests.fakes.client import Failure, MemoryClient
from tests.fakes.store import MemoryStore
from tests.reading.bench import Bench, add, bench
from vbnfs.blocks import BLOCK_BYTES, digest
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.digests import DigestSet
from vbnfs.cache.verdict import is_good
from vbnfs.cache.verdicts import Verdicts
from vbnfs.errors import (
    AccessDeniedError,
    BusyError,
    ChangedError,
    NoBucketError,
    ObjectGoneError,
    StorageError,
    TransportError,
    WrongBlockError,
)
from vbnfs.metrics import Metrics
from vbnfs.objects import (
    NULL_VERSION,
    ByteRange,
    Content,
    ObjectVersion,
    Piece,
    RangeRequest,
    Receive,
    Received,
)
from vbnfs.reading.mirror import Mirror

BLOCKS = [bytes([number]) * BLOCK_BYTES for number in range(5)] + [b"end"]
RIGHT = b"".join(BLOCKS)
WRONG = RIGHT[: 3 * BLOCK_BYTES] + b"x" + RIGHT[3 * BLOCK_BYTES + 1 :]
HASH = hashlib.blake2b(RIGHT).hexdigest()
PROVEN = DigestSet(HASH, len(RIGHT), b"".join(map(digest, BLOCKS)))
ALL = range(len(BLOCKS))


def clients(mirrored: bytes = RIGHT, *, bucket: bytes = RIGHT) -> tuple[MemoryClient, MemoryClient, Content]:
    """The bucket's client, the mirror's, and the content: the mirror has the object under other version ids."""
    client, mirror = MemoryClient(MemoryStore()), MemoryClient(MemoryStore("lab-copy"))
    content = add(client.store, "a", bucket, file_hash=HASH)
    mirror.store.put("a", b"an older version")
    mirror.store.put("a", mirrored)
    return client, mirror, content


def scope(directory: Path, name: str) -> BlockCache:
    """The blocks of one scope, as a process without a mirror sees them."""
    return BlockCache(directory, scope=name, metrics=Metrics())


async def read(floor: Bench, content: Content, indices: range = ALL) -> bytes:
    """These blocks, by a file handle, and on the disk when it returns."""
    wanted = ByteRange(indices.start * BLOCK_BYTES, indices.stop * BLOCK_BYTES).clip(content.size_bytes)
    data = bytes(await floor.open(content, advises=False).read(wanted.start, len(wanted)))
    await floor.settled()
    return data


async def test_unproven_bytes_stay_in_the_mirrors_scope(tmp_path: Path) -> None:
    """Without digests the mirror's blocks are read from its own scope; the dataset's has none."""
    client, mirror, content = clients()
    async with bench(tmp_path, client=client, mirror_client=mirror) as floor:
        assert await read(floor, content, range(1, 4)) == RIGHT[BLOCK_BYTES : 4 * BLOCK_BYTES]
        assert (client.count(), mirror.count("get_range")) == (0, 1)
        assert mirror.requests[0].version_id is None
        assert floor.metrics.mirror_blocks == 3
        assert scope(tmp_path, "mirror").missing(content, ALL) == [0, 4, 5]
        assert scope(tmp_path, "test").missing(content, ALL) == list(ALL)
        assert floor.cache.cached_bytes(content) == 3 * BLOCK_BYTES
    async with bench(tmp_path, client=client, mirror_client=mirror) as later:
        assert await read(later, content, range(1, 4)) == RIGHT[BLOCK_BYTES : 4 * BLOCK_BYTES]
        assert mirror.count("get_range") == 1
    async with bench(tmp_path, client=client) as without:
        assert await read(without, content, range(1, 2)) == BLOCKS[1]
        assert client.count("get_range") == 1


async def test_a_file_that_has_its_hash_is_taken_over(tmp_path: Path) -> None:
    """When all of it is there, in either scope, and the hash is right, all of it is in the dataset's scope."""
    client, mirror, content = clients()
    async with bench(tmp_path, client=client) as without:
        await read(without, content, range(2, 3))
    async with bench(tmp_path, client=client, mirror_client=mirror) as floor:
        assert await read(floor, content) == RIGHT
        assert client.count("get_range") == 1
        assert scope(tmp_path, "mirror").missing(content, ALL) == [2]
        assert floor.cache.cached_bytes(content) == len(RIGHT)
        verdict = await floor.verifier.verify(content, fetch=False)
        assert verdict is not None
        assert is_good(content, verdict)
        assert scope(tmp_path, "test").missing(content, ALL) == []
        assert scope(tmp_path, "mirror").missing(content, ALL) == list(ALL)
        assert await read(floor, content) == RIGHT


async def test_what_is_not_proven_is_not_taken_over(tmp_path: Path) -> None:
    """A block of the mirror that has changed since the file was hashed is found wrong, and deleted there."""
    client, mirror, content = clients()
    async with bench(tmp_path, client=client, mirror_client=mirror) as floor:
        await read(floor, content)
        judged = floor.digests.keep_proven

        def change(digests: DigestSet) -> None:
            other = scope(tmp_path, "mirror")  # another process
            other.drop(content)
            other.put(content, 0, *BLOCKS[:3], WRONG[3 * BLOCK_BYTES : 4 * BLOCK_BYTES], *BLOCKS[4:])
            floor.cache.forget_deleted()
            judged(digests)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(floor.digests, "keep_proven", change)
            await floor.verifier.verify(content, fetch=False)
        assert scope(tmp_path, "test").missing(content, ALL) == [3]
        assert scope(tmp_path, "mirror").missing(content, ALL) == list(ALL)
        assert await read(floor, content) == RIGHT


async def test_a_mirror_that_has_a_file_wrong(tmp_path: Path) -> None:
    """Its bytes are deleted, and fetched from the bucket; nobody is refused the file, and the mirror is not asked."""
    client, mirror, content = clients(WRONG)
    async with AsyncExitStack() as stack:
        without = await stack.enter_async_context(bench(tmp_path, client=client))
        await read(without, content, range(1))
        floor = await stack.enter_async_context(bench(tmp_path, client=client, mirror_client=mirror))
        assert await read(floor, content) == WRONG
        assert await floor.verifier.verify(content, fetch=False) is None
        assert floor.metrics.mismatched_files == 1
        assert floor.cache.missing(content, ALL) == [1, 2, 3, 4, 5]
        asked = mirror.count()
        assert await read(floor, content) == RIGHT
        await without.verifier.refresh()
        assert await read(without, content) == RIGHT
        verdict = await floor.verifier.verify(content, fetch=False)
        assert verdict is not None
        assert is_good(content, verdict)
        assert mirror.count() == asked


async def test_other_mounts_learn_that_the_mirror_has_it_wrong(tmp_path: Path) -> None:
    """A mount that has read the mirror's bytes forgets them when another one has found them wrong."""
    client, mirror, content = clients(WRONG)
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(bench(tmp_path, client=client, mirror_client=mirror)) for _ in range(2)
        ]
        await read(one, content)
        assert await read(other, content, range(3, 4)) == WRONG[3 * BLOCK_BYTES : 4 * BLOCK_BYTES]
        await one.verifier.verify(content, fetch=False)
        await other.verifier.refresh()
        assert await read(other, content) == RIGHT


async def test_fetching_goes_on_until_the_file_is_good(tmp_path: Path) -> None:
    """A file that is to be completed, and that the mirror has wrong, is good at the end, also with a full disk."""
    client, mirror, content = clients(WRONG)
    async with bench(tmp_path, client=client, mirror_client=mirror) as floor:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(BlockCache, "put", lambda *arguments: 0)
            verdict = await floor.verifier.verify(content, fetch=True)
        assert verdict is not None
        assert is_good(content, verdict)
        assert floor.verdicts.bad(content) is None


async def test_proven_blocks_are_the_datasets(tmp_path: Path) -> None:
    """With digests that were proven here, the mirror's right blocks go to the dataset's scope; a wrong one does not.

    From the wrong one on the bucket is asked, and the mirror no more for this file.
    """
    client, mirror, content = clients(WRONG)
    async with bench(tmp_path, client=client, mirror_client=mirror) as floor:
        floor.digests.keep_proven(PROVEN)
        assert await read(floor, content) == RIGHT
        assert [part.start for part in client.ranges()] == [3 * BLOCK_BYTES]
        assert (floor.metrics.wrong_blocks, floor.metrics.mirror_blocks) == (1, 3)
        assert scope(tmp_path, "test").missing(content, ALL) == []
        floor.cache.drop(content)
        floor.source.forget(content.content_id)
        assert await read(floor, content) == RIGHT
        assert mirror.count("get_range") == 1


async def test_a_claim_takes_nothing_over(tmp_path: Path) -> None:
    """Imported digests find the mirror's wrong block; its right ones stay in its scope until the file is hashed."""
    client, mirror, content = clients(WRONG)
    async with bench(tmp_path, client=client, mirror_client=mirror) as floor:
        floor.digests.take_in(PROVEN)
        assert await read(floor, content) == RIGHT
        assert scope(tmp_path, "test").missing(content, ALL) == [0, 1, 2]
        await floor.verifier.verify(content, fetch=False)
        assert scope(tmp_path, "test").missing(content, ALL) == []


async def test_a_wrong_claim_is_doubted_when_mirror_and_bucket_agree(tmp_path: Path) -> None:
    """Two replies are enough, one of them the mirror's."""
    client, mirror, content = clients()
    async with bench(tmp_path, client=client, mirror_client=mirror) as floor:
        floor.digests.take_in(DigestSet(HASH, len(RIGHT), PROVEN.digests[::-1]))
        assert await read(floor, content) == RIGHT


async def test_digests_that_become_known_find_what_the_mirror_has_sent(tmp_path: Path) -> None:
    """A wrong block in the mirror's scope is found before the file is complete, and comes from the bucket."""
    client, mirror, content = clients(WRONG)
    async with bench(tmp_path, client=client, mirror_client=mirror) as floor:
        assert await read(floor, content, range(3, 5)) == WRONG[3 * BLOCK_BYTES : 5 * BLOCK_BYTES]
        floor.digests.take_in(PROVEN)
    async with bench(tmp_path, client=client, mirror_client=mirror) as later:
        assert await read(later, content, range(3, 5)) == RIGHT[3 * BLOCK_BYTES : 5 * BLOCK_BYTES]
        assert [part.start for part in client.ranges()] == [3 * BLOCK_BYTES]
        assert len(client.ranges()[0]) == BLOCK_BYTES
        assert scope(tmp_path, "test").missing(content, ALL) == [0, 1, 2, 4, 5]


@contextmanager
def failing(mirror: MemoryClient, error: StorageError) -> Iterator[None]:
    """While entered, the mirror answers so."""
    mirror.fail_when(lambda request: error)
    yield
    mirror.heal()


@pytest.mark.parametrize(
    "error", [ObjectGoneError("404"), AccessDeniedError("403"), ChangedError("size"), NoBucketError("no bucket")]
)
async def test_what_the_mirror_does_not_have(tmp_path: Path, error: StorageError) -> None:
    """The bucket is asked; the mirror for this file no more, and for others it is."""
    client, mirror, content = clients()
    other = add(client.store, "other", RIGHT, file_hash=HASH)
    mirror.store.put("other", RIGHT)
    async with bench(tmp_path, client=client, mirror_client=mirror) as floor:
        with failing(mirror, error):
            assert await read(floor, content, range(1)) == BLOCKS[0]
        assert await read(floor, content, range(4, 5)) == BLOCKS[4]
        assert (client.count("get_range"), mirror.count("get_range")) == (2, 1)
        assert await read(floor, other, range(1)) == BLOCKS[0]
        assert (client.count("get_range"), mirror.count("get_range")) == (2, 2)


@pytest.mark.parametrize("error", [TransportError("refused"), BusyError("503")])
async def test_a_mirror_that_fails_is_left_alone(tmp_path: Path, error: StorageError) -> None:
    """What has come is not asked for again; the mirror is asked for nothing, until half a minute has passed."""
    client, mirror, content = clients()
    other = add(client.store, "other", RIGHT, file_hash=HASH)
    mirror.store.put("other", RIGHT)
    mirror.fail(Failure(error, after_bytes=2 * BLOCK_BYTES))
    async with bench(tmp_path, client=client, mirror_client=mirror) as floor:
        assert await read(floor, content) == RIGHT
        assert [part.start for part in client.ranges()] == [2 * BLOCK_BYTES]
        assert await read(floor, other, range(1)) == BLOCKS[0]
        assert mirror.count("get_range") == 1
        with pytest.MonkeyPatch.context() as patched:
            now = trio.current_time() + 31
            patched.setattr("vbnfs.reading.mirror.trio.current_time", lambda: now)
            assert await read(floor, other, range(2, 3)) == BLOCKS[2]
        assert mirror.count("get_range") == 2


async def test_a_mirror_that_fails_in_the_middle_each_time(tmp_path: Path) -> None:
    """Each failure in a row has it left alone for longer, though something came before it."""
    client, mirror, content = clients()
    now = trio.current_time()
    async with bench(tmp_path, client=client, mirror_client=mirror) as floor:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("vbnfs.reading.mirror.trio.current_time", lambda: now)
            for count, first in enumerate((0, 2), start=1):
                mirror.fail(Failure(TransportError("torn"), after_bytes=BLOCK_BYTES))
                assert await read(floor, content, range(first, first + 2)) == b"".join(BLOCKS[first : first + 2])
                assert mirror.count("get_range") == count
                now += 2.1
            assert await read(floor, content, range(4, 5)) == BLOCKS[4]
            assert mirror.count("get_range") == 2
            now += 2.1
            assert await read(floor, content, range(5, 6)) == BLOCKS[5]
            assert mirror.count("get_range") == 3


async def test_a_mirror_that_is_silent(tmp_path: Path) -> None:
    """It brings a part and then nothing: after its time the bucket is asked for the rest."""
    client, mirror, content = clients()
    mirror.hold(after_bytes=BLOCK_BYTES)
    async with bench(tmp_path, client=client, mirror_client=mirror) as floor:
        assert await read(floor, content) == RIGHT
        assert [part.start for part in client.ranges()] == [BLOCK_BYTES]
        assert mirror.in_flight == 0


async def test_a_file_without_a_hash_is_the_buckets(tmp_path: Path) -> None:
    """Nothing could prove it."""
    client, mirror, _ = clients(WRONG)
    content = add(client.store, "a", RIGHT)
    async with bench(tmp_path, client=client, mirror_client=mirror) as floor:
        assert await read(floor, content) == RIGHT
        assert mirror.count() == 0


async def test_what_may_be_replaced_is_not_a_site_caches(tmp_path: Path) -> None:
    """A site cache keeps what it has: the null version may be another one by now. A mirror has no versions."""
    null = Content("a", len(RIGHT), ObjectVersion("a", NULL_VERSION, "etag"), HASH)
    client, verdicts = MemoryClient(MemoryStore()), Verdicts(tmp_path, scope="test")
    for has_versions in (True, False):
        server = Mirror(
            *(client, scope(tmp_path, "test"), verdicts), name="lab", patience_seconds=1, has_versions=has_versions
        )
        assert server.may_have(null, None) is not has_versions
        assert server.may_have(replace(null, source=ObjectVersion("a", "1")), None)


async def test_where_neither_has_it_the_buckets_failure_is_raised(tmp_path: Path) -> None:
    """A reader is given what the dataset's bucket says."""
    client, mirror, content = clients()
    client.fail_when(lambda request: AccessDeniedError("of the bucket"))
    async with bench(tmp_path, client=client, mirror_client=mirror) as floor:
        with failing(mirror, ObjectGoneError("of the mirror")), pytest.raises(AccessDeniedError, match="the bucket"):
            await floor.source.get(content, [0])


class Damaging(MemoryClient):
    """Of its replies, one in `every` has a byte wrong."""

    def __init__(self, store: MemoryStore, order: random.Random, *, every: int) -> None:
        super().__init__(store, piece_bytes=100_000)
        self.order, self.every = order, every

    async def get_range(self, request: RangeRequest, receive: Receive) -> None:
        wrong = self.order.choice(request_bytes(request)) if self.order.randrange(self.every) == 0 else -1

        async def receive_damaged(received: Received) -> None:
            assert isinstance(received, Piece)
            data = bytearray(received.data)
            if received.start <= wrong < received.stop:
                data[wrong - received.start] ^= 1
            await receive(Piece(received.start, bytes(data)))

        await super().get_range(request, receive_damaged)


def request_bytes(request: RangeRequest) -> range:
    return range(request.byte_range.start, request.byte_range.stop)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("are_known", [True, False], ids=["with digests", "without"])
async def test_nothing_wrong_is_ever_the_datasets(tmp_path: Path, seed: int, *, are_known: bool) -> None:
    """Whatever a mirror damages, the dataset's scope has no wrong byte; with digests no reader is given one, either.

    With digests the bucket may damage, too.
    """
    order, store, copy = random.Random(seed), MemoryStore(), MemoryStore("lab-copy")
    content = add(store, "a", RIGHT, file_hash=HASH)
    copy.put("a", RIGHT)
    client, mirror = Damaging(store, order, every=4 if are_known else 10**9), Damaging(copy, order, every=3)
    async with bench(tmp_path, client=client, mirror_client=mirror) as floor:
        if are_known:
            floor.digests.keep_proven(PROVEN)
        for _ in range(20):
            first = order.randrange(len(BLOCKS))
            indices = range(first, order.randint(first + 1, len(BLOCKS)))
            with suppress(WrongBlockError):
                data = await read(floor, content, indices)
                assert not are_known or data == b"".join(BLOCKS[index] for index in indices)
            await floor.verifier.verify(content, fetch=False)
            own = scope(tmp_path, "test")
            kept = {index: own.checked_block(content, index) for index in ALL}
            assert {index: data for index, data in kept.items() if data not in {None, BLOCKS[index]}} == {}
            if order.random() < 0.3:
                floor.cache.drop(content)
                floor.source.forget(content.content_id)

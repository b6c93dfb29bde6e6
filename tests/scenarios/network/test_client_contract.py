"""What every `ObjectClient` promises, kept by the one in memory, and by the HTTP one against two servers.

The fakes are thereby held to what a real S3 server does.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.fakes.client import MemoryClient
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import MemoryStore
from tests.fixtures_receiving import PROGRAM, until_ready
from vbnfs.demo.server import SeaweedServer
from vbnfs.errors import BadReplyError, ObjectGoneError
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ObjectClient, ObjectVersion, Piece, RangeRequest
from vbnfs.s3.breaker import BreakerClient
from vbnfs.s3.client import S3Client
from vbnfs.s3.hedging import HedgingClient
from vbnfs.s3.pacing import PacedClient
from vbnfs.s3.retry import RetryingClient

_BUCKET: Final = "contract-bucket"
_OLD: Final = bytes(range(256)) * 3
_NEW: Final = _OLD[::-1] + b"a longer one"
_ODD_KEYS: Final = (
    "odd/a b.txt",
    "odd/a+b.txt",
    "odd/100%.txt",
    "odd/%41.txt",
    "odd/a&b=c;d.txt",
    "odd/naïve-µ-日本-🧠.txt",
    "odd/it's (1)!*~.txt",
)
_MANY: Final = [f"many/{number:04d}" for number in range(1_050)]
_UNKNOWN_ID: Final = "0" * 32


@dataclass(frozen=True)
class Origin:
    """A bucket, filled in the same way for each client, and how to open a client of it."""

    old: ObjectVersion
    new: ObjectVersion
    deleted: ObjectVersion
    open: Callable[[], AbstractAsyncContextManager[ObjectClient]]


def _fill(put: Callable[[str, bytes], str], delete: Callable[[str], object]) -> dict[str, ObjectVersion]:
    old = ObjectVersion("data/file.nwb", put("data/file.nwb", _OLD))
    new = ObjectVersion("data/file.nwb", put("data/file.nwb", _NEW))
    deleted = ObjectVersion("data/gone.nwb", put("data/gone.nwb", b"was here"))
    delete("data/gone.nwb")
    put("data/empty.csv", b"")
    for key in _ODD_KEYS:
        put(key, key.encode())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: put(key, b"x"), _MANY))
    return {"old": old, "new": new, "deleted": deleted}


@asynccontextmanager
async def _s3_client(endpoint_url: str, receiver: Sequence[str] | None) -> AsyncIterator[ObjectClient]:
    async with S3Client(
        bucket=_BUCKET,
        region="us-west-2",
        endpoint_url=endpoint_url,
        ca_bundle=None,
        max_connections=4,
        metrics=Metrics(),
        receiver=receiver,
    ) as client:
        await until_ready(client._ranges)
        yield client


def _memory_origin() -> Origin:
    store = MemoryStore(_BUCKET)
    versions = _fill(store.put, store.delete)

    @asynccontextmanager
    async def open_client() -> AsyncIterator[ObjectClient]:
        yield MemoryClient(store, piece_bytes=100)

    return Origin(**versions, open=open_client)


def _wrapped_origin() -> Origin:
    inner = _memory_origin()

    @asynccontextmanager
    async def open_client() -> AsyncIterator[ObjectClient]:
        async with inner.open() as client:
            paced = PacedClient(HedgingClient(BreakerClient(client), metrics=Metrics()), most=4)
            yield RetryingClient(paced, seconds=60, attempts=2)

    return Origin(inner.old, inner.new, inner.deleted, open_client)


@pytest.fixture(scope="module")
def seaweed_versions(seaweed: SeaweedServer) -> dict[str, ObjectVersion]:
    seaweed.make_bucket(_BUCKET)
    boto3: Any = seaweed.client()

    def put(key: str, data: bytes) -> str:
        return str(boto3.put_object(Bucket=_BUCKET, Key=key, Body=data)["VersionId"])

    return _fill(put, lambda key: boto3.delete_object(Bucket=_BUCKET, Key=key))


_BY_HTTP: Final = ("fake server", "SeaweedFS")


_ORIGINS: Final = ("memory", "wrapped", *_BY_HTTP, *(f"{name}, by a process" for name in _BY_HTTP))


@pytest.fixture(scope="module", params=_ORIGINS)
def origin(request: pytest.FixtureRequest) -> Iterator[Origin]:
    name, _, process = request.param.partition(", ")
    receiver = PROGRAM if process else None
    if name == "memory":
        yield _memory_origin()
    elif name == "wrapped":
        yield _wrapped_origin()
    elif name == "SeaweedFS":
        url = request.getfixturevalue("seaweed").endpoint_url
        yield Origin(**request.getfixturevalue("seaweed_versions"), open=lambda: _s3_client(url, receiver))
    else:
        store = MemoryStore(_BUCKET)
        versions = _fill(store.put, store.delete)
        with FakeS3Server(store) as server:
            yield Origin(**versions, open=lambda: _s3_client(server.endpoint_url, receiver))


async def _range(client: ObjectClient, version: ObjectVersion, start: int, stop: int, size_bytes: int) -> bytes:
    pieces: list[bytes] = []

    async def receive(piece: Piece) -> None:
        pieces.append(piece.data)

    await client.get_range(RangeRequest(version, ByteRange(start, stop), size_bytes), receive)
    return b"".join(pieces)


async def test_a_server_that_is_there_is_reached(origin: Origin) -> None:
    """Whether the server is there can be found out without asking it for anything."""
    async with origin.open() as client:
        await client.reach()


async def test_a_listing_has_all_pages_in_order(origin: Origin) -> None:
    """More objects than fit on a page are all listed, once each, in the order of their keys."""
    async with origin.open() as client:
        rows = await client.list_objects("many/")
    assert [row.key for row in rows] == _MANY
    assert {row.attributes.size_bytes for row in rows} == {1}


async def test_a_listing_of_versions_has_all_pages(origin: Origin) -> None:
    """More versions than fit on a page are all listed, once each."""
    async with origin.open() as client:
        rows = await client.list_versions("many/")
    assert [row.version.key for row in rows] == _MANY
    assert all(row.version.version_id for row in rows)


async def test_keys_come_back_as_they_were_stored(origin: Origin) -> None:
    """Blanks, pluses, percent signs and letters of all scripts survive both listings."""
    async with origin.open() as client:
        assert sorted(row.key for row in await client.list_objects("odd/")) == sorted(_ODD_KEYS)
        assert sorted(row.version.key for row in await client.list_versions("odd/")) == sorted(_ODD_KEYS)


@pytest.mark.parametrize("key", _ODD_KEYS)
async def test_an_odd_key_can_be_asked_for(origin: Origin, key: str) -> None:
    """A listed key leads to its own object, whatever characters are in it."""
    async with origin.open() as client:
        [row] = [row for row in await client.list_versions(key) if row.version.key == key]
        size_bytes = len(key.encode())
        assert (await client.head(row.version)).size_bytes == row.attributes.size_bytes == size_bytes
        assert await _range(client, row.version, 0, size_bytes, size_bytes) == key.encode()
        assert await client.get_object(key, max_bytes=1000) == key.encode()


async def test_a_prefix_of_odd_characters_is_understood(origin: Origin) -> None:
    """A prefix is taken literally, pluses and percent signs included."""
    async with origin.open() as client:
        assert [row.key for row in await client.list_objects("odd/a+")] == ["odd/a+b.txt"]
        assert [row.version.key for row in await client.list_versions("odd/%4")] == ["odd/%41.txt"]


async def test_all_versions_of_a_key_are_listed(origin: Origin) -> None:
    """Every version of a key has its own id and size, the newest first."""
    async with origin.open() as client:
        rows = await client.list_versions("data/file.nwb")
    assert [(row.version, row.attributes.size_bytes) for row in rows] == [
        (origin.new, len(_NEW)),
        (origin.old, len(_OLD)),
    ]


async def test_a_deleted_object_keeps_its_versions(origin: Origin) -> None:
    """A delete marker hides the object, is itself not listed, and leaves the version before it readable."""
    async with origin.open() as client:
        assert [row.key for row in await client.list_objects("data/")] == ["data/empty.csv", "data/file.nwb"]
        assert [row.version for row in await client.list_versions("data/gone.nwb")] == [origin.deleted]
        assert await _range(client, origin.deleted, 0, 8, 8) == b"was here"
        with pytest.raises(ObjectGoneError):
            await client.get_object("data/gone.nwb", max_bytes=1000)


async def test_nothing_below_a_prefix_is_an_empty_listing(origin: Origin) -> None:
    """A prefix that nothing has gives no rows, and no error."""
    async with origin.open() as client:
        assert await client.list_objects("nothing/") == []
        assert await client.list_versions("nothing/") == []


async def test_head_of_an_old_version(origin: Origin) -> None:
    """HEAD tells the size of the version asked for, not of the current one."""
    async with origin.open() as client:
        assert (await client.head(origin.old)).size_bytes == len(_OLD)
        assert (await client.head(origin.new)).size_bytes == len(_NEW)
        assert (await client.head(ObjectVersion(origin.new.key, None))).size_bytes == len(_NEW)


async def test_head_and_listing_agree(origin: Origin) -> None:
    """Size and time of a version do not depend on how they were asked for."""
    async with origin.open() as client:
        rows = await client.list_versions("data/")
        assert len(rows) == 4
        for row in rows:
            assert await client.head(row.version) == row.attributes
        for listed in await client.list_objects("data/"):
            assert await client.head(ObjectVersion(listed.key, None)) == listed.attributes


@pytest.mark.parametrize("which", ["old", "new"])
@pytest.mark.parametrize(("start", "stop"), [(0, 1), (-1, None), (0, None), (100, 356)])
async def test_ranges_of_each_version(origin: Origin, which: str, start: int, stop: int | None) -> None:
    """First byte, last byte, all and the middle: exactly the bytes of the version that was named."""
    version, data = (origin.old, _OLD) if which == "old" else (origin.new, _NEW)
    start, stop, _ = slice(start, stop).indices(len(data))
    async with origin.open() as client:
        assert await _range(client, version, start, stop, len(data)) == data[start:stop]


async def test_a_wrong_idea_of_the_size_is_noticed(origin: Origin) -> None:
    """A range of an object that has another size than was listed is refused before a byte is handed on."""
    async with origin.open() as client:
        with pytest.raises(BadReplyError):
            await _range(client, origin.old, 0, 10, len(_OLD) + 1)


async def test_unknown_keys_and_versions_are_gone(origin: Origin) -> None:
    """An unknown key, and an unknown version of a known key, are `ObjectGoneError` in every method."""
    async with origin.open() as client:
        for version in (ObjectVersion("no/such.key", None), ObjectVersion("data/file.nwb", _UNKNOWN_ID)):
            with pytest.raises(ObjectGoneError):
                await client.head(version)
            with pytest.raises(ObjectGoneError):
                await _range(client, version, 0, 1, 1)
        with pytest.raises(ObjectGoneError):
            await client.get_object("no/such.key", max_bytes=1000)


async def test_whole_objects_are_bounded(origin: Origin) -> None:
    """An object of exactly `max_bytes` is given whole, one of a byte more is refused."""
    async with origin.open() as client:
        assert await client.get_object("data/file.nwb", max_bytes=len(_NEW)) == _NEW
        assert await client.get_object("data/empty.csv", max_bytes=0) == b""
        with pytest.raises(BadReplyError):
            await client.get_object("data/file.nwb", max_bytes=len(_NEW) - 1)

"""The HTTP client against servers that differ, fail and lie. What all clients promise: test_client_contract.py."""

import gzip
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.certificates import Certificate, make_certificate
from tests.fakes.s3_server import (
    RANGE_IGNORED,
    Behaviour,
    FakeS3Server,
    Reply,
    Request,
    always,
    cut_after,
    error,
    for_kind,
    header,
    held,
    times,
)
from tests.fakes.store import MemoryStore, Pattern
from vbnfs.errors import (
    AccessDeniedError,
    BadReplyError,
    BusyError,
    ChangedError,
    ListingDeniedError,
    MismatchError,
    NoBucketError,
    ObjectGoneError,
    StorageError,
    TransportError,
    UntrustedServerError,
    UsageError,
    with_remedy,
)
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ObjectVersion
from vbnfs.s3 import client as module
from vbnfs.s3.addresses import aws_base, object_url
from vbnfs.s3.client import S3Client
from vbnfs.s3.failures import error_code, retry_after
from vbnfs.s3.listings import OBJECTS, parse_xml
from vbnfs.s3.replies import MAX_OBJECT_BYTES, Head, check_range

KEY: Final = "data/file.nwb"
SIZE: Final = 100_000
DATA: Final = Pattern(SIZE)[:]
VERSION: Final = ObjectVersion(KEY, "first-version-id")
CURRENT: Final = ObjectVersion(KEY, None)
BIG: Final = ObjectVersion("data/big.nwb", "big-version-id")
BIG_SIZE: Final = 32 << 20  # more than the buffers of a connection take
RANGE: Final = ByteRange(10, 60_010)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ranges by libcurl and by httpx; by httpx alone where a test winds the clock, of which libcurl knows nothing."""
    ways = ["httpx"] if "mock_clock" in metafunc.fixturenames else ["curl", "httpx"]
    metafunc.parametrize("ranges_by", ways, indirect=True)


@pytest.fixture(autouse=True)
def ranges_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How every client of a test fetches ranges."""
    way = str(request.param)
    monkeypatch.setattr(sys.modules[__name__], "RANGES_BY", way)
    return way


RANGES_BY = ""


def open_client(
    endpoint_url: str | None,
    *,
    bucket: str = "data-bucket",
    ca_bundle: Path | None = None,
    max_connections: int = 4,
    metrics: Metrics | None = None,
) -> S3Client:
    return S3Client(
        bucket=bucket,
        region="us-west-2",
        endpoint_url=endpoint_url,
        ca_bundle=ca_bundle,
        max_connections=max_connections,
        metrics=metrics or Metrics(),
        ranges_by=RANGES_BY,
    )


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    made.put(KEY, DATA, version_id=VERSION.version_id)
    made.put(BIG.key, bytes(BIG_SIZE), version_id=BIG.version_id)
    return made


@pytest.fixture
def server(store: MemoryStore) -> Iterator[FakeS3Server]:
    with FakeS3Server(store) as running:
        yield running


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def client(server: FakeS3Server, metrics: Metrics) -> AsyncIterator[S3Client]:
    async with open_client(server.endpoint_url, metrics=metrics) as opened:
        yield opened


class Received:
    """A `receive` that keeps what it is given."""

    def __init__(self) -> None:
        self.data = b""

    async def __call__(self, piece: bytes) -> None:
        self.data += piece


async def fetch(
    client: S3Client,
    received: Received,
    version: ObjectVersion = VERSION,
    byte_range: ByteRange = RANGE,
    size_bytes: int = SIZE,
) -> None:
    await client.get_range(version, byte_range, size_bytes=size_bytes, receive=received)


async def ask(client: S3Client, kind: str) -> object:
    """A request of the kind, answered honestly or not."""
    if kind == "get_range":
        await fetch(client, received := Received())
        return received.data
    if kind == "head":
        return await client.head(VERSION)
    if kind == "get_object":
        return await client.get_object(KEY, max_bytes=SIZE)
    return await client.list_objects("") if kind == "list_objects" else await client.list_versions("")


KINDS: Final = ("get_range", "head", "get_object", "list_objects", "list_versions")


async def wait_until(server: FakeS3Server, condition: Callable[[FakeS3Server], bool]) -> None:
    await trio.to_thread.run_sync(server.wait_until, condition)


# What a status becomes


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "InvalidRequest", BadReplyError),
        (401, "Unauthorized", AccessDeniedError),
        (403, "AccessDenied", AccessDeniedError),
        (404, "NoSuchKey", ObjectGoneError),
        (404, "NoSuchVersion", ObjectGoneError),
        (404, "NoSuchBucket", NoBucketError),
        (405, "MethodNotAllowed", BadReplyError),
        (408, "RequestTimeout", BusyError),
        (410, "Gone", ObjectGoneError),
        (416, "InvalidRange", ChangedError),
        (429, "TooManyRequests", BusyError),
        (500, "InternalError", BusyError),
        (501, "NotImplemented", BadReplyError),
        (502, "BadGateway", BusyError),
        (503, "SlowDown", BusyError),
        (504, "GatewayTimeout", BusyError),
        (520, "Unknown", BusyError),
    ],
)
async def test_a_status_becomes_an_error(
    server: FakeS3Server, client: S3Client, status: int, code: str, expected: type[StorageError]
) -> None:
    """Each status has its class of error, in every method; only those worth another try are transport errors."""
    server.behaviours.append(always(error(status, code)))
    for kind in KINDS:
        with pytest.raises(StorageError, match=f"HTTP {status}") as caught:
            await ask(client, kind)
        # The reply to HEAD has no body that would tell the one 400, or the one 404, from the other.
        if kind == "head" and (status == 400 or expected is NoBucketError):
            assert type(caught.value) is ObjectGoneError
        elif kind != "get_range" and expected is ChangedError:  # no range was asked for
            assert type(caught.value) is BadReplyError
        elif kind.startswith("list"):  # where it is no single object that is forbidden, or not there
            of_a_bucket = {AccessDeniedError: ListingDeniedError, ObjectGoneError: NoBucketError}
            assert type(caught.value) is of_a_bucket.get(expected, expected)
        else:
            assert type(caught.value) is expected


@pytest.mark.parametrize("kind", ["get_range", "head"])
@pytest.mark.parametrize("told", [(404, "NoSuchVersion"), (404, "NoSuchKey"), (400, "InvalidArgument")])
async def test_an_unknown_version_is_gone_whatever_the_server(
    server: FakeS3Server, client: S3Client, kind: str, told: tuple[int, str]
) -> None:
    """AWS, SeaweedFS, Ceph and MinIO say in different words that a version id is not known."""
    server.unknown_version = told
    version = ObjectVersion(KEY, "unknown")
    with pytest.raises(ObjectGoneError):
        await (client.head(version) if kind == "head" else fetch(client, Received(), version))


@pytest.mark.parametrize("kind", ["get_object", "list_objects", "list_versions"])
async def test_an_invalid_argument_is_no_missing_object(server: FakeS3Server, client: S3Client, kind: str) -> None:
    """Where no version id was sent, 400 InvalidArgument does not mean that a version is gone."""
    server.behaviours.append(always(error(400, "InvalidArgument")))
    with pytest.raises(BadReplyError):
        await ask(client, kind)


async def test_a_missing_bucket_names_the_remedy(server: FakeS3Server) -> None:
    """The bucket's name may be mistyped: the message says which settings to check."""
    async with open_client(server.endpoint_url, bucket="other-bucket") as client:
        with pytest.raises(NoBucketError, match="NoSuchBucket") as caught:
            await client.list_objects("")
    assert "--bucket" in with_remedy(caught.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize(
    ("headers", "told"),
    [({"x_amz_bucket_region": "eu-central-1"}, "eu-central-1"), ({}, "/elsewhere")],
)
async def test_a_redirect_is_not_followed(
    server: FakeS3Server, client: S3Client, status: int, headers: dict[str, str], told: str
) -> None:
    """A redirect is an error that tells where it points and which settings to check; nobody is asked there."""
    server.behaviours.append(always(error(status, "Redirect", Location="/elsewhere", **headers)))
    with pytest.raises(BadReplyError, match=f"{told}.*--region"):
        await fetch(client, Received())
    assert server.count() == 1


# Ranges: what is checked before a byte is believed


@pytest.mark.parametrize(
    "told",
    [
        "",
        "bytes 11-60010/100000",
        "bytes 0-60009/100000",
        "bytes 10-60008/100000",
        "bytes 10-60010/100000",
        "bytes 10-60009/100001",
        "bytes 10-60009/*",
        "bytes */100000",
        "bytes 10-60009",
        "bytes=10-60009/100000",
        "items 10-60009/100000",
        "bytes -10-60009/100000",
        "bytes 10-60009/100000, bytes 10-60009/100000",
        "bytes 10-60009/" + "1" * 5_000,
        "bytes 10-60009/１０００００",
    ],
)
async def test_another_range_is_refused(server: FakeS3Server, client: S3Client, told: str) -> None:
    """A Content-Range that is not the one asked for, to the byte and to the size, is refused unread."""
    received = Received()
    server.behaviours.append(header(Content_Range=told.encode().decode("latin-1")))
    with pytest.raises(BadReplyError):
        await fetch(client, received)
    assert received.data == b""


@pytest.mark.parametrize("length", [59_999, 60_001])
async def test_another_length_is_refused(server: FakeS3Server, client: S3Client, length: int) -> None:
    """A Content-Length that contradicts the range is refused unread."""
    received = Received()
    server.behaviours.append(header(Content_Length=str(length)))
    with pytest.raises(BadReplyError, match="Content-Length"):
        await fetch(client, received)
    assert received.data == b""


@pytest.mark.parametrize("kind", ["get_range", "head"])
async def test_another_version_is_refused(server: FakeS3Server, client: S3Client, kind: str) -> None:
    """A reply that says it is of another version than was asked for is refused: what is there has changed."""
    server.behaviours.append(header(x_amz_version_id="another"))
    with pytest.raises(ChangedError, match="another"):
        await ask(client, kind)


@pytest.mark.parametrize("told", ["bytes 10-60009/100001", "bytes 10-49999/50000"])
async def test_another_size_is_a_change(server: FakeS3Server, client: S3Client, told: str) -> None:
    """An object of another size than was listed has changed, also where it ends within the range."""
    server.behaviours.append(header(Content_Range=told))
    with pytest.raises(ChangedError, match="100000 were listed"):
        await fetch(client, Received())


@pytest.mark.parametrize("told", ["bytes 11-60010/100000", "bytes 10-60009/*", ""])
async def test_another_range_is_no_change(server: FakeS3Server, client: S3Client, told: str) -> None:
    """A range that was not asked for says nothing about the object: whoever sends it answers another question."""
    server.behaviours.append(header(Content_Range=told))
    with pytest.raises(MismatchError) as caught:
        await fetch(client, Received())
    assert not isinstance(caught.value, ChangedError)


@pytest.mark.parametrize("heeds_if_match", [True, False])
async def test_an_object_that_was_replaced(
    server: FakeS3Server, client: S3Client, store: MemoryStore, *, heeds_if_match: bool
) -> None:
    """An object that is bound to its ETag is read as long as it has it; another one has changed, and is not read.

    That holds also where the server does not know If-Match.
    """
    store.put(KEY, DATA, version_id="null")
    attributes = await client.head(ObjectVersion(KEY, "null"))
    bound = ObjectVersion(KEY, "null", attributes.etag)
    received = Received()
    await client.get_range(bound, RANGE, size_bytes=SIZE, receive=received)
    assert received.data == DATA[RANGE.start : RANGE.stop]
    store.put(KEY, DATA[::-1], version_id="null")
    if not heeds_if_match:
        server.behaviours.append(lambda request, _: without_condition(server, request))
    received = Received()
    with pytest.raises(ChangedError):
        await client.get_range(bound, RANGE, size_bytes=SIZE, receive=received)
    assert received.data == b""


def without_condition(server: FakeS3Server, request: Request) -> Reply:
    """The reply of a server that does not know If-Match."""
    headers = {name: text for name, text in request.headers.items() if name != "if-match"}
    behaviours, server.behaviours = server.behaviours, []
    reply = server.answer(replace(request, headers=headers))
    server.behaviours = behaviours
    return reply


async def test_listings_and_heads_give_etags(client: S3Client, store: MemoryStore) -> None:
    """HEAD and listings give an object's ETag without its quotes."""
    [row] = await client.list_versions(KEY)
    assert row.attributes == await client.head(row.version)
    stored = store.get(KEY, row.version.version_id)
    assert stored is not None
    assert row.attributes.etag == stored.etag.strip('"')


async def test_a_reply_may_keep_its_version_to_itself(server: FakeS3Server, client: S3Client) -> None:
    """Servers that send no version id are believed, if range and size are right."""
    received = Received()
    server.behaviours.append(header(x_amz_version_id=""))
    await fetch(client, received)
    assert received.data == DATA[RANGE.start : RANGE.stop]
    assert (await client.head(VERSION)).size_bytes == SIZE


async def test_the_current_version_has_any_id(client: S3Client) -> None:
    """Who asks for the current version takes the id that it happens to have."""
    received = Received()
    await fetch(client, received, CURRENT)
    assert received.data == DATA[RANGE.start : RANGE.stop]


@pytest.mark.parametrize("kind", ["get_range", "get_object", "list_objects"])
async def test_an_encoded_body_is_refused(server: FakeS3Server, client: S3Client, kind: str) -> None:
    """No encoding was accepted: a body that claims one is not what was asked for."""

    def compress(_request: Request, honest: Reply) -> Reply:
        body = gzip.compress(honest.body)
        return replace(honest, body=body).with_headers(Content_Encoding="gzip", Content_Length=str(len(body)))

    server.behaviours.append(header(Content_Encoding="gzip") if kind == "get_range" else compress)
    with pytest.raises(BadReplyError, match="encoded"):
        await ask(client, kind)
    assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_no_encoding_may_be_called_identity(server: FakeS3Server, client: S3Client) -> None:
    """Some servers say that they did not encode the body."""
    server.behaviours.append(header(Content_Encoding="Identity"))
    assert await ask(client, "get_range") == WANTED


async def test_a_key_that_makes_no_url_is_a_failure_like_others(client: S3Client, metrics: Metrics) -> None:
    """A hostile manifest can name one that httpx refuses: the error is ours, and counted."""
    key = "x" * 70_000
    with pytest.raises(TransportError, match="URL too long"):
        await client.get_range(ObjectVersion(key, None), RANGE, size_bytes=SIZE, receive=Received())
    assert metrics.failed_requests == 1


async def test_the_whole_object_instead_of_a_range_is_not_read(server: FakeS3Server, client: S3Client) -> None:
    """A server that ignores Range is found out by its status; the body is left where it is."""
    received = Received()
    server.behaviours.append(RANGE_IGNORED)
    with pytest.raises(BadReplyError, match="ignores Range"):
        await fetch(client, received, BIG, ByteRange(0, BIG_SIZE), BIG_SIZE)
    assert received.data == b""
    await wait_until(server, lambda s: s.open_connections == 0)
    assert server.body_bytes == 0


def raw_range(body: bytes, *headers: str) -> Reply:
    head = "\r\n".join(["HTTP/1.1 206 Partial Content", f"Content-Range: bytes 10-60009/{SIZE}", *headers])
    return Reply(raw=head.encode() + b"\r\n\r\n" + body)


WANTED: Final = DATA[RANGE.start : RANGE.stop]


@pytest.mark.parametrize("sent_bytes", [0, 1, 30_000, 59_999])
@pytest.mark.parametrize("headers", [["Content-Length: 60000"], ["Connection: close"]])
async def test_a_torn_range_keeps_what_came(
    server: FakeS3Server, client: S3Client, sent_bytes: int, headers: list[str]
) -> None:
    """A body that ends early is a transport error, announced length or not, and what came was handed on."""
    received = Received()
    server.behaviours.append(always(raw_range(WANTED[:sent_bytes], *headers)))
    with pytest.raises(TransportError):
        await fetch(client, received)
    assert received.data == WANTED[:sent_bytes]


async def test_a_body_that_is_too_long_is_refused(server: FakeS3Server, client: S3Client) -> None:
    """Without an announced length, a body that goes on after the range is refused, and not handed on."""
    received = Received()
    server.behaviours.append(always(raw_range(WANTED + b"more", "Connection: close")))
    with pytest.raises(BadReplyError, match="longer"):
        await fetch(client, received)
    assert WANTED.startswith(received.data)


async def test_a_chunked_body_is_taken(server: FakeS3Server, client: S3Client) -> None:
    """Transfer-Encoding chunked is HTTP's own, and says nothing about the object."""
    received = Received()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (WANTED[:7], WANTED[7:])) + b"0\r\n\r\n"
    server.behaviours.append(always(raw_range(chunks, "Transfer-Encoding: chunked")))
    await fetch(client, received)
    assert received.data == WANTED


async def test_a_torn_chunked_body_is_noticed(server: FakeS3Server, client: S3Client) -> None:
    """A chunked body without its last chunk is torn, even if all bytes of the range came."""
    received = Received()
    chunk = b"%x\r\n%b\r\n" % (len(WANTED), WANTED)
    server.behaviours.append(always(raw_range(chunk, "Transfer-Encoding: chunked")))
    with pytest.raises(TransportError):
        await fetch(client, received)
    assert received.data == WANTED


@pytest.mark.parametrize("kind", ["get_object", "list_objects", "list_versions"])
async def test_a_torn_whole_body_is_noticed(server: FakeS3Server, client: S3Client, kind: str) -> None:
    """A manifest or a listing that ends early is a transport error, not a short one."""
    server.behaviours.append(cut_after(50))
    with pytest.raises(TransportError):
        await ask(client, kind)


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x16\x03\x01\x02\x00 this is no HTTP\r\n\r\n", b"HTTP/1.1 206", b"HTTP/9.9 abc\r\n\r\n", b"\0" * 200_000],
    ids=["nothing", "binary", "half a line", "bad status line", "zeros"],
)
async def test_garbage_is_a_transport_error(server: FakeS3Server, client: S3Client, raw: bytes) -> None:
    """Whatever is not HTTP, or no answer at all, may be better at the next try."""
    server.behaviours.append(always(Reply(raw=raw)))
    for kind in KINDS:
        with pytest.raises(TransportError):
            await ask(client, kind)


# HEAD and whole objects


@pytest.mark.parametrize(
    "headers",
    [
        {"Last_Modified": ""},
        {"Last_Modified": "yesterday"},
        {"Last_Modified": "Mon, 32 Jan 2023 00:00:00 GMT"},
        {"Last_Modified": "Mon, 02 Jan 2023 00:00:00 +99999999999999999999"},
        {"Last_Modified": "Mon, 01 Jan 1601 00:00:00 GMT"},
        {"Last_Modified": "Fri, 31 Dec 9999 00:00:00 GMT"},
        {"Content_Length": ""},
        {"Content_Length": str(MAX_OBJECT_BYTES + 1)},
    ],
)
async def test_head_without_size_or_time_is_refused(
    server: FakeS3Server, client: S3Client, headers: dict[str, str]
) -> None:
    """A size and a time that a file can have, or an error: nothing is made up."""
    server.behaviours.append(header(**headers))
    with pytest.raises(BadReplyError, match="no usable size or time"):
        await client.head(VERSION)


def test_the_largest_size_is_s3s_own() -> None:
    """48.8 TiB, as AWS says; what is listed or told with more is refused."""
    assert round(MAX_OBJECT_BYTES / (1 << 40), 1) == 48.8


async def test_the_largest_size_is_taken(server: FakeS3Server, client: S3Client) -> None:
    """The limit on sizes is one that no object reaches."""
    server.behaviours.append(header(Content_Length=str(MAX_OBJECT_BYTES)))
    assert (await client.head(VERSION)).size_bytes == MAX_OBJECT_BYTES


async def test_a_large_object_is_not_read_to_the_end(server: FakeS3Server, client: S3Client) -> None:
    """What proves larger than the limit is left, and its connection closed."""
    with pytest.raises(BadReplyError, match="more than 1,000 bytes"):
        await client.get_object(BIG.key, max_bytes=1000)
    await wait_until(server, lambda s: s.open_connections == 0)
    assert server.body_bytes == 0


async def test_a_large_error_is_not_read_to_the_end(server: FakeS3Server, client: S3Client) -> None:
    """Of an error's body only the start is looked at."""
    body = b"<Error><Code>AccessDenied</Code>" + b" " * BIG_SIZE
    server.behaviours.append(always(Reply(403, {}, body)))
    with pytest.raises(AccessDeniedError, match="AccessDenied"):
        await fetch(client, Received())
    await wait_until(server, lambda s: s.open_connections == 0)
    assert server.body_bytes == 0


async def test_a_torn_error_is_still_that_error(server: FakeS3Server, client: S3Client) -> None:
    """The status came, and counts, if the body that explains it does not come whole."""
    server.behaviours.append(lambda _request, _honest: replace(error(403, "AccessDenied"), cut=10))
    with pytest.raises(AccessDeniedError):
        await fetch(client, Received())


# Connections


async def test_connections_are_bounded(server: FakeS3Server, store: MemoryStore) -> None:
    """There are never more connections than were allowed, however many requests wait."""
    gate = threading.Event()
    server.behaviours.append(held(gate))
    async with open_client(server.endpoint_url, max_connections=3) as client, trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(fetch, client, Received())
        await wait_until(server, lambda s: s.count() >= 3)
        await trio.testing.wait_all_tasks_blocked()  # all others have connected by now, or wait for their turn
        gate.set()
    assert server.count() == 12
    assert server.most_connections == 3


async def test_connections_are_kept(server: FakeS3Server, client: S3Client, ranges_by: str) -> None:
    """A hundred requests in a row, errors with short bodies among them, take one connection; libcurl has its own."""
    server.behaviours.append(times(10, for_kind("get_range", always(error(503, "SlowDown")))))
    for _ in range(50):
        with suppress(BusyError):
            await fetch(client, Received())
        await client.head(VERSION)
    assert server.count() == 100
    assert server.connections == (2 if ranges_by == "curl" else 1)


async def test_a_connection_that_died_while_idle_is_replaced(server: FakeS3Server, client: S3Client) -> None:
    """A connection that the server closed after an answer is not used again."""
    await client.head(VERSION)
    server.drop_connections()
    await wait_until(server, lambda s: s.open_connections == 0)
    await client.head(VERSION)
    assert server.connections == 2


@pytest.mark.parametrize("gate_after", [None, 20_000], ids=["before the head", "within the body"])
async def test_being_cancelled_gives_the_connection_back(server: FakeS3Server, gate_after: int | None) -> None:
    """After a cancelled request the only connection there may be is free for the next one."""
    gate = threading.Event()
    server.behaviours.append(times(5, lambda _request, honest: replace(honest, gate=gate, gate_after=gate_after)))
    async with open_client(server.endpoint_url, max_connections=1) as client:
        for number in range(1, 6):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fetch, client, Received())
                sent_bytes = number * (gate_after or 0)
                await wait_until(server, lambda s: s.count() == number and s.body_bytes >= sent_bytes)  # noqa: B023
                nursery.cancel_scope.cancel()
        received = Received()
        await fetch(client, received)
    assert received.data == WANTED
    gate.set()
    await wait_until(server, lambda s: s.open_connections == 0)


async def test_waiting_for_a_connection_can_be_cancelled(server: FakeS3Server) -> None:
    """A request that waits for its turn goes away when cancelled, and takes no turn."""
    gate = threading.Event()
    server.behaviours.append(held(gate))
    async with open_client(server.endpoint_url, max_connections=1) as client, trio.open_nursery() as nursery:
        nursery.start_soon(fetch, client, Received())
        await wait_until(server, lambda s: s.count() == 1)
        async with trio.open_nursery() as waiting:
            waiting.start_soon(fetch, client, Received())
            await trio.testing.wait_all_tasks_blocked()
            waiting.cancel_scope.cancel()
        gate.set()
        await client.head(VERSION)
    assert [request.kind for request in server.requests] == ["get_range", "head"]


@pytest.mark.parametrize("problem", [OSError("disk full"), ValueError("broken"), KeyError("x")])
async def test_what_receive_raises_comes_out_as_it_is(
    server: FakeS3Server, metrics: Metrics, problem: Exception
) -> None:
    """A receiver's own failure is not taken for the network's, and the connection is given back."""

    async def receive(piece: bytes) -> None:
        raise problem

    async with open_client(server.endpoint_url, max_connections=1, metrics=metrics) as client:
        for _ in range(2):
            with pytest.raises(type(problem)) as caught:
                await client.get_range(BIG, ByteRange(0, BIG_SIZE), size_bytes=BIG_SIZE, receive=receive)
            assert caught.value is problem
    assert metrics.failed_requests == 0
    await wait_until(server, lambda s: s.open_connections == 0)


async def test_a_refused_connection_names_the_server() -> None:
    """Nobody listens: the message says where, once, and why, and no more."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        endpoint_url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        async with open_client(endpoint_url) as client:
            with pytest.raises(TransportError, match="Connection refused") as caught:
                await client.head(VERSION)
    told = str(caught.value)
    assert endpoint_url in told
    assert told.count(endpoint_url.rpartition(":")[2]) == 1
    assert len(told) < 120


# Time


@pytest.mark.parametrize("kind", KINDS)
async def test_silence_is_given_up(
    server: FakeS3Server, client: S3Client, mock_clock: trio.testing.MockClock, kind: str
) -> None:
    """A server that takes the request and then says nothing is given up after 15 seconds."""
    server.behaviours.append(held(threading.Event()))

    async def jump() -> None:
        await wait_until(server, lambda s: s.count() == 1)
        await jump_when_blocked(mock_clock, 15.1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(jump)
        with pytest.raises(TransportError, match="no byte for 15 s"):
            await ask(client, kind)


async def jump_when_blocked(mock_clock: trio.testing.MockClock, seconds: float) -> None:
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(seconds)


async def test_a_host_that_is_not_there_is_given_up(mock_clock: trio.testing.MockClock) -> None:
    """A host that does not even refuse is given up after 10 seconds."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):  # Linux takes one more connection than the queue is long, then none
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with open_client(f"http://127.0.0.1:{full.getsockname()[1]}") as client, trio.open_nursery() as nursery:
            nursery.start_soon(jump_when_blocked, mock_clock, 10.1)
            with pytest.raises(TransportError, match="no connection within 10 s"):
                await client.head(VERSION)


ServeDrops = Callable[[trio.SocketStream], Awaitable[None]]


def _serve_drops(drops: int, jump: Callable[[], None], taken: trio.MemoryReceiveChannel[None]) -> ServeDrops:
    """A connection's handler: a good head, then byte by byte; after each was taken the clock jumps."""

    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.receive_some()
            await stream.send_all(raw_range(b"", "Content-Length: 60000").raw or b"")
            for position in range(drops):
                await stream.send_all(WANTED[position : position + 1])
                await taken.receive()
                await trio.testing.wait_all_tasks_blocked()
                jump()
            await stream.send_all(WANTED[drops:])

    return serve


async def _fetch_in_drops(
    mock_clock: trio.testing.MockClock, *, drops: int, between: float, within: float
) -> bytes | StorageError:
    """Fetch from a server that is slow by `between` seconds a drop, by a receiver that takes `within` for each."""
    received = Received()
    tell, taken = trio.open_memory_channel[None](drops + 1)

    async def receive(piece: bytes) -> None:
        mock_clock.jump(within)
        await received(piece)
        if len(received.data) <= drops:
            tell.send_nowait(None)

    async with trio.open_nursery() as nursery:
        handler = _serve_drops(drops, partial(mock_clock.jump, between), taken)
        [listener] = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        async with open_client(f"http://127.0.0.1:{listener.socket.getsockname()[1]}") as client:
            try:
                await client.get_range(VERSION, RANGE, size_bytes=SIZE, receive=receive)
            except StorageError as failure:
                return failure
            finally:
                nursery.cancel_scope.cancel()
    return received.data


async def test_a_trickle_is_given_up(mock_clock: trio.testing.MockClock) -> None:
    """A byte now and then is no progress: who waits for the block would wait for a day."""
    began = mock_clock.current_time()
    failure = await _fetch_in_drops(mock_clock, drops=100, between=10.0, within=0.0)
    assert isinstance(failure, TransportError)
    assert "less than 65,536 bytes in 30 s" in str(failure)
    assert mock_clock.current_time() - began < 60


async def test_a_slow_receiver_is_not_the_servers_fault(mock_clock: trio.testing.MockClock) -> None:
    """The time that `receive` takes does not count: a full disk queue may hold a GET for minutes."""
    assert await _fetch_in_drops(mock_clock, drops=20, between=0.5, within=60.0) == WANTED


def _serve_slowly(first: bytes, drop: bytes, wait: Callable[[], Awaitable[None]]) -> ServeDrops:
    """A connection's handler: sends `first`, then `drop` again and again, each after `wait`."""

    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.receive_some()
            await stream.send_all(first)
            while True:
                await wait()
                await stream.send_all(drop)

    return serve


async def _ask_slow_server(
    mock_clock: trio.testing.MockClock, kind: str, first: bytes, drop: bytes, *, between: float
) -> float:
    """Ask a server that sends `first`, then a `drop` every `between` seconds. Returns when it was given up."""

    async def wait() -> None:
        await trio.testing.wait_all_tasks_blocked(0.001)
        mock_clock.jump(between)

    began = mock_clock.current_time()
    async with trio.open_nursery() as nursery:
        handler = _serve_slowly(first, drop, wait)
        [listener] = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        async with open_client(f"http://127.0.0.1:{listener.socket.getsockname()[1]}") as client:
            with pytest.raises(TransportError, match="not at its end after"):
                await ask(client, kind)
        nursery.cancel_scope.cancel()
    return mock_clock.current_time() - began


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"."),
        (b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["a field without end", "fields without end", "interim replies without end"],
)
async def test_a_head_without_end_is_given_up(
    mock_clock: trio.testing.MockClock, kind: str, first: bytes, drop: bytes
) -> None:
    """A reply whose head does not come to its end is given up, though there is never silence for long."""
    assert await _ask_slow_server(mock_clock, kind, first, drop, between=10.0) < 40


@pytest.mark.parametrize("kind", ["list_objects", "list_versions"])
async def test_a_body_without_end_is_given_up(mock_clock: trio.testing.MockClock, kind: str) -> None:
    """A body has a time for the whole of it, though it is never so slow that this alone would end it."""
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n"
    assert await _ask_slow_server(mock_clock, kind, first, bytes(2560), between=1.0) < 130


async def test_pages_have_a_time_for_all_of_them(
    server: FakeS3Server, client: S3Client, mock_clock: trio.testing.MockClock
) -> None:
    """Pages without end, each of them quick enough, are given up after ten minutes."""
    count = 0

    def another(_request: Request, _honest: Reply) -> Reply:
        nonlocal count
        count += 1
        mock_clock.jump(20)
        return listing(head=f"<IsTruncated>true</IsTruncated><NextContinuationToken>{count}</NextContinuationToken>")

    server.behaviours.append(another)
    with pytest.raises(TransportError, match="not at its end after 600 s"):
        await client.list_objects("")
    assert count <= 31


async def test_a_head_without_end_from_libcurl(monkeypatch: pytest.MonkeyPatch, ranges_by: str) -> None:
    """libcurl's own time until the head is one for the whole of it, too."""
    monkeypatch.setattr(module, "_SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(module, "_HEAD_SECONDS", 0.5)
    for first, drop in ((b"HTTP/1.1 206 OK\r\nX-Slow: ", b"."), (b"", b"HTTP/1.1 100 Continue\r\n\r\n")):
        async with trio.open_nursery() as nursery:
            handler = _serve_slowly(first, drop, partial(trio.sleep, 0.05))
            [listener] = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
            async with open_client(f"http://127.0.0.1:{listener.socket.getsockname()[1]}") as client:
                with trio.fail_after(10), pytest.raises(TransportError):
                    await ask(client, "get_range")
            nursery.cancel_scope.cancel()


async def test_waiting_for_a_connection_takes_no_time_of_a_request(
    server: FakeS3Server, mock_clock: trio.testing.MockClock
) -> None:
    """A request that waits long for the only connection has all of its time when it gets it."""
    gate = threading.Event()
    server.behaviours.append(times(1, held(gate)))
    sizes: list[int] = []

    async def head(client: S3Client) -> None:
        sizes.append((await client.head(VERSION)).size_bytes)

    async with open_client(server.endpoint_url, max_connections=1) as client, trio.open_nursery() as nursery:
        nursery.start_soon(head, client)
        await wait_until(server, lambda s: s.count() == 1)
        nursery.start_soon(head, client)
        for _ in range(4):
            await jump_when_blocked(mock_clock, 3.0)
        gate.set()
    assert sizes == [SIZE, SIZE]


# Cookies


@pytest.mark.parametrize("kind", KINDS)
async def test_cookies_are_neither_kept_nor_sent(server: FakeS3Server, client: S3Client, kind: str) -> None:
    """An endpoint that sets a cookie does not see it again: requests are anonymous."""
    server.behaviours.append(header(Set_Cookie="who=you; Path=/; Max-Age=1000"))
    for _ in range(2):
        await ask(client, kind)
        await client.head(VERSION)
    assert server.count() == 4
    assert not any("cookie" in request.headers for request in server.requests)


# TLS, proxies, addresses


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    directory = tmp_path_factory.mktemp("certificate")
    return make_certificate(
        directory, "IP:127.0.0.1", "DNS:*.s3.us-west-2.amazonaws.com", "DNS:s3.us-west-2.amazonaws.com"
    )


async def test_an_unknown_certificate_is_refused(store: MemoryStore, certificate: Certificate) -> None:
    """A server whose certificate nobody vouches for gets no request, and people are told what to do."""
    with FakeS3Server(store, tls=certificate.server_context()) as server:
        async with open_client(server.endpoint_url) as client:
            with pytest.raises(UntrustedServerError, match=r"(?i)certificate") as caught:
                await client.head(VERSION)
    assert "--ca-bundle" in with_remedy(caught.value)
    assert server.count() == 0


async def test_a_ca_bundle_is_trusted(store: MemoryStore, certificate: Certificate) -> None:
    """With the authority named, an HTTPS server of one's own works."""
    received = Received()
    with FakeS3Server(store, tls=certificate.server_context()) as server:
        async with open_client(server.endpoint_url, ca_bundle=certificate.path) as client:
            await fetch(client, received)
    assert received.data == WANTED


async def test_ssl_cert_file_is_honoured(
    store: MemoryStore, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual variable works where no bundle is named."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    with FakeS3Server(store, tls=certificate.server_context()) as server:
        async with open_client(server.endpoint_url) as client:
            assert (await client.head(VERSION)).size_bytes == SIZE


async def test_a_certificate_for_another_name_is_refused(
    store: MemoryStore, certificate: Certificate, tmp_path: Path
) -> None:
    """A trusted authority does not make a certificate good for every host."""
    other = make_certificate(tmp_path, "DNS:elsewhere.example")
    with FakeS3Server(store, tls=other.server_context()) as server:
        async with open_client(server.endpoint_url, ca_bundle=other.path) as client:
            with pytest.raises(UntrustedServerError, match=r"(?i)certificate"):
                await client.head(VERSION)


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_an_unusable_ca_bundle_is_the_users_mistake(tmp_path: Path, text: str | None) -> None:
    """A bundle that is not there, empty or something else is told at once, by name."""
    bundle = tmp_path / "bundle.pem"
    if text is not None:
        bundle.write_text(text)
    with pytest.raises(UsageError, match=r"bundle\.pem"):
        open_client(None, ca_bundle=bundle)


def test_an_unusable_ssl_cert_file_is_the_users_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the variable."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(UsageError, match="SSL_CERT_FILE"):
        open_client(None)


@pytest.mark.parametrize(
    ("bucket", "host", "path"),
    [
        ("data-bucket", "data-bucket.s3.us-west-2.amazonaws.com", "/data/file.nwb"),
        ("data.bucket", "s3.us-west-2.amazonaws.com", "/data.bucket/data/file.nwb"),
    ],
)
async def test_aws_is_asked_by_the_buckets_own_name(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch, bucket: str, host: str, path: str
) -> None:
    """At AWS the bucket is part of the host's name, but for dots in it, which AWS's certificate does not cover.

    HTTPS goes through the proxy of HTTPS_PROXY, which here ends the tunnel itself.
    """
    store = MemoryStore(bucket)
    store.put(KEY, DATA, version_id=VERSION.version_id)
    received = Received()
    with FakeS3Server(store, tunnel_tls=certificate.server_context()) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.endpoint_url)
        async with open_client(None, bucket=bucket, ca_bundle=certificate.path) as client:
            await fetch(client, received)
            assert [row.version for row in await client.list_versions("")] == [VERSION]
    assert received.data == WANTED
    assert (server.requests[0].headers["host"], server.requests[0].path) == (host, path)


@pytest.mark.parametrize("endpoint_url", ["http://s3.example:8333", "http://[2001:db8::1]:8333"])
async def test_http_proxy_is_honoured(
    server: FakeS3Server, monkeypatch: pytest.MonkeyPatch, endpoint_url: str
) -> None:
    """Plain HTTP goes through the proxy of HTTP_PROXY, which is told the server's name or IPv6 address."""
    monkeypatch.setenv("HTTP_PROXY", server.endpoint_url)
    received = Received()
    async with open_client(endpoint_url) as client:
        await fetch(client, received)
    assert received.data == WANTED
    assert server.requests[0].headers["host"] == endpoint_url.removeprefix("http://")


async def test_a_server_is_reached_by_a_connection_alone(server: FakeS3Server) -> None:
    """`reach` connects and asks nothing; a server that is not there is named."""
    async with open_client(server.endpoint_url) as client:
        await client.reach()
    server.wait_until(lambda s: s.connections == 1)
    assert server.count() == 0
    async with open_client("http://127.0.0.1:1") as client:
        with pytest.raises(TransportError, match=r"127\.0\.0\.1:1 cannot be reached"):
            await client.reach()


async def test_reaching_a_server_means_reaching_its_proxy(
    server: FakeS3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a proxy it is the proxy that is connected to, unless NO_PROXY names the server."""
    monkeypatch.setenv("HTTP_PROXY", server.endpoint_url)
    async with open_client("http://server.invalid") as client:
        await client.reach()
        monkeypatch.setenv("NO_PROXY", "server.invalid")
        with pytest.raises(TransportError, match=r"server\.invalid:80"):
            await client.reach()


async def test_no_proxy_is_honoured(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts named in NO_PROXY are asked without the proxy, which here would answer nothing."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with open_client(server.endpoint_url) as client:
        assert (await client.head(VERSION)).size_bytes == SIZE


@pytest.mark.parametrize("proxy", ["ftp://proxy.example", "http://[::1"])
def test_an_unusable_proxy_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """A proxy variable that cannot be used is told at once, by name."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(UsageError, match="HTTPS_PROXY"):
        open_client(None)


async def test_an_endpoint_may_have_a_path(server: FakeS3Server) -> None:
    """A gateway below a path is asked below it, for objects and listings."""
    async with open_client(f"{server.endpoint_url}/gateway/s3") as client:
        for kind in ("head", "list_objects"):
            with pytest.raises(ObjectGoneError):
                await ask(client, kind)
    assert [request.path for request in server.requests] == [
        f"/gateway/s3/data-bucket/{KEY}",
        "/gateway/s3/data-bucket",
    ]


@pytest.mark.parametrize(
    "key",
    ["../../other-bucket/secret", "a/./b/../c", "..", ".", "a//b/", "a\r\nX-Evil: 1\r\n\r\n", "a?versionId=1#x"],
)
async def test_a_key_stays_a_key(server: FakeS3Server, client: S3Client, store: MemoryStore, key: str) -> None:
    """No character of a key leaves the bucket, adds a header or becomes part of the query."""
    version_id = store.put(key, key.encode(), version_id="an&id=1?/\r\nX-Evil: 2")
    received = Received()
    version = ObjectVersion(key, version_id)
    server.behaviours.append(header(x_amz_version_id=""))  # this one cannot stand in a header
    await fetch(client, received, version, ByteRange(0, len(key)), len(key))
    assert received.data == key.encode()
    [request] = server.requests
    assert request.query == {"versionId": version_id}
    assert "x-evil" not in request.headers


async def test_a_key_that_is_no_text_is_an_error_of_ours(client: S3Client) -> None:
    """A manifest can hold half of a surrogate pair: no object has such a name, and nothing breaks."""
    with pytest.raises(StorageError):
        await client.head(ObjectVersion("data/\ud800", "\udfff"))


async def test_an_address_that_is_too_long_is_an_error_of_ours(client: S3Client) -> None:
    """What httpx refuses to ask for is a storage error, too."""
    with pytest.raises(StorageError):
        await client.head(ObjectVersion("x" * 100_000, None))


def test_the_address_at_aws_can_be_told() -> None:
    """The address of an object version, as it is shown to people."""
    url = object_url(aws_base("data-bucket", "us-west-2"), ObjectVersion("a b/c+d.nwb", "id/1"))
    assert url == "https://data-bucket.s3.us-west-2.amazonaws.com/a%20b/c%2Bd.nwb?versionId=id%2F1"


# Listings

ROW: Final = "<Key>a</Key><LastModified>2023-01-01T00:00:00.000Z</LastModified><Size>1</Size>"


def listing(*rows: str, root: str = "ListBucketResult", head: str = "", attributes: str = "") -> Reply:
    return Reply(200, {}, f"<{root}{attributes}>{head}{''.join(rows)}</{root}>".encode())


@pytest.mark.parametrize("kind", ["list_objects", "list_versions"])
@pytest.mark.parametrize(
    "body",
    [
        "",
        "garbage",
        "<ListBucketResult>",
        "<ListVersionsResult><Version>",
        "<html><body>Please log in</body></html>",
        "<Error><Code>InternalError</Code></Error>",
        "<Other xmlns='http://s3.amazonaws.com/doc/2006-03-01/'/>",
        "<!DOCTYPE x><ListBucketResult/>",
        "<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]><ListBucketResult>&b;</ListBucketResult>",
        "<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><ListVersionsResult>&a;</ListVersionsResult>",
        "<?xml version='1.0' encoding='no-such'?><ListBucketResult/>",
        "<?xml version='1.0' encoding='utf-16'?><ListBucketResult/>",
        "<?xml version='1.0' encoding='cp037'?><ListBucketResult/>",
        "<ListBucketResult>\0</ListBucketResult>",
    ],
)
async def test_what_is_no_listing_is_refused(server: FakeS3Server, client: S3Client, kind: str, body: str) -> None:
    """Broken XML, declarations of entities, and other documents (a login page, say) are not an empty listing."""
    server.behaviours.append(always(Reply(200, {}, body.encode())))
    with pytest.raises(BadReplyError, match="not an S3 listing"):
        await ask(client, kind)


async def test_one_listing_is_not_the_other(server: FakeS3Server, client: S3Client) -> None:
    """A server that does not know `versions` and lists objects instead is found out."""
    server.behaviours.append(always(listing(f"<Contents>{ROW}</Contents>")))
    assert [row.key for row in await client.list_objects("")] == ["a"]
    with pytest.raises(BadReplyError):
        await client.list_versions("")


@pytest.mark.parametrize(
    "row",
    [
        ROW.replace("<Key>a</Key>", ""),
        ROW.replace("<Key>a</Key>", "<Key/>"),
        ROW.replace("<Size>1</Size>", ""),
        ROW.replace("<Size>1</Size>", "<Size>-1</Size>"),
        ROW.replace("<Size>1</Size>", "<Size>1.5</Size>"),
        ROW.replace("<Size>1</Size>", "<Size>1e3</Size>"),
        ROW.replace("<Size>1</Size>", "<Size>many</Size>"),
        ROW.replace("<Size>1</Size>", "<Size>１</Size>"),
        ROW.replace("<Size>1</Size>", f"<Size>{MAX_OBJECT_BYTES + 1}</Size>"),
        ROW.replace("<Size>1</Size>", f"<Size>{'9' * 5_000}</Size>"),
        ROW.replace("2023-01-01T00:00:00.000Z", ""),
        ROW.replace("2023-01-01T00:00:00.000Z", "yesterday"),
        ROW.replace("2023-01-01T00:00:00.000Z", "2023-13-01T00:00:00.000Z"),
        ROW.replace("2023-01-01", "0001-01-01"),
        ROW.replace("2023-01-01", "9999-12-31"),
    ],
)
async def test_a_row_without_a_proper_size_or_time_is_refused(
    server: FakeS3Server, client: S3Client, row: str
) -> None:
    """Every row has a key, a size that a file can have, and a time that a file can have."""
    server.behaviours.append(
        for_kind("list_objects", always(listing(f"<Contents>{ROW}</Contents>", f"<Contents>{row}</Contents>")))
    )
    version = f"<Version><VersionId>1</VersionId>{row}</Version>"
    server.behaviours.append(for_kind("list_versions", always(listing(version, root="ListVersionsResult"))))
    for kind in ("list_objects", "list_versions"):
        with pytest.raises(BadReplyError, match="listing"):
            await ask(client, kind)


async def test_a_version_without_an_id_is_refused(server: FakeS3Server, client: S3Client) -> None:
    """A version that has no id could only be asked for as the current one."""
    server.behaviours.append(always(listing(f"<Version>{ROW}</Version>", root="ListVersionsResult")))
    with pytest.raises(BadReplyError, match="VersionId"):
        await client.list_versions("")


@pytest.mark.parametrize(
    ("root", "attributes"),
    [
        ("ListBucketResult", ""),
        ("ListBucketResult", " xmlns='http://s3.amazonaws.com/doc/2006-03-01/'"),
        ("ListBucketResult", " xmlns='http://another.example/'"),
    ],
)
async def test_namespaces_play_no_part(server: FakeS3Server, client: S3Client, root: str, attributes: str) -> None:
    """Servers differ in the namespace that they give, if they give one."""
    server.behaviours.append(always(listing(f"<Contents>{ROW}</Contents>", root=root, attributes=attributes)))
    [row] = await client.list_objects("")
    assert (row.key, row.etag, row.attributes.size_bytes) == ("a", "", 1)
    assert row.attributes.modified_ns == 1_672_531_200 * 10**9


@pytest.mark.parametrize(
    "time", ["2023-01-01T00:00:00Z", "2023-01-01T00:00:00.999Z", "2023-01-01T01:00:00+01:00", "2023-01-01T00:00:00"]
)
async def test_times_are_whole_seconds_of_utc(server: FakeS3Server, client: S3Client, time: str) -> None:
    """Fractions are dropped, since HEAD has none, and a time without a zone is UTC's."""
    row = ROW.replace("2023-01-01T00:00:00.000Z", time)
    server.behaviours.append(always(listing(f"<Contents>{row}</Contents>")))
    [listed] = await client.list_objects("")
    assert listed.attributes.modified_ns == 1_672_531_200 * 10**9


@pytest.mark.parametrize(
    ("head", "key"), [("", "a%2Bb+c"), ("<EncodingType>url</EncodingType>", "a+b c"), ("<EncodingType/>", "a%2Bb+c")]
)
async def test_keys_are_decoded_where_they_are_encoded(
    server: FakeS3Server, client: S3Client, head: str, key: str
) -> None:
    """A server that does not say that it encoded keys did not."""
    row = ROW.replace("<Key>a</Key>", "<Key>a%2Bb+c</Key>")
    server.behaviours.append(always(listing(f"<Contents>{row}</Contents>", head=head)))
    assert [listed.key for listed in await client.list_objects("")] == [key]


@pytest.mark.parametrize("page_size", [1, 2, 3, 7])
async def test_pages_of_any_size_give_the_same_rows(server: FakeS3Server, client: S3Client, page_size: int) -> None:
    """Versions of a key, and delete markers, may lie on both sides of a page's end."""
    for number in range(12):
        server.store.put(f"many/a b+{number % 3}", b"x" * number)
    server.store.delete("many/a b+1")
    expected = [row for row in server.store.versions("many/") if row.data is not None]
    server.page_size = page_size
    rows = await client.list_versions("many/")
    assert [row.version for row in rows] == [ObjectVersion(row.key, row.version_id) for row in expected]
    assert [row.key for row in await client.list_objects("many/")] == ["many/a b+0", "many/a b+2"]
    assert server.count("list_versions") == -(-13 // page_size)


async def test_the_next_page_may_begin_at_a_key(server: FakeS3Server, client: S3Client) -> None:
    """Where a server gives only the next key, the next page is asked for by the key alone."""
    more = "<IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>"
    server.behaviours.append(times(1, always(listing(head=more, root="ListVersionsResult"))))
    await client.list_versions("")
    assert "version-id-marker" not in server.requests[1].query
    assert server.requests[1].query["key-marker"] == "k"


@pytest.mark.parametrize("tokens", ["a", "ab", "abc"])
async def test_pages_that_go_round_are_refused(server: FakeS3Server, client: S3Client, tokens: str) -> None:
    """A server that gives a page's mark a second time would be asked for ever."""
    following = {"": tokens[0], **dict(zip(tokens, tokens[1:] + tokens[0], strict=True))}

    def turn(request: Request, _honest: Reply) -> Reply:
        token = following[request.query.get("continuation-token", "")]
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
        return listing(head=more)

    server.behaviours.append(turn)
    with pytest.raises(BadReplyError, match="same page"):
        await client.list_objects("")
    assert server.count() == len(tokens) + 1


async def test_endless_pages_are_refused(
    server: FakeS3Server, client: S3Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing has so many pages at the most, and is not given short."""
    monkeypatch.setattr(module, "_MAX_PAGES", 3)
    for number in range(4):
        server.store.put(f"many/{number}", b"")
    server.page_size = 1
    with pytest.raises(BadReplyError, match="more than 3 pages"):
        await client.list_objects("many/")
    assert server.count() == 3


@pytest.mark.parametrize("root", ["ListBucketResult", "ListVersionsResult"])
async def test_a_page_that_hides_the_next_is_refused(server: FakeS3Server, client: S3Client, root: str) -> None:
    """A page that is not the last must say where the next one begins: half a listing is none."""
    server.behaviours.append(always(listing(head="<IsTruncated>true</IsTruncated>", root=root)))
    with pytest.raises(BadReplyError, match="Next"):
        await ask(client, "list_objects" if root == "ListBucketResult" else "list_versions")


async def test_a_page_that_is_too_large_is_refused(server: FakeS3Server, client: S3Client) -> None:
    """A page has a bounded number of bytes, however small its rows."""
    server.behaviours.append(always(listing(" " * (4 << 20))))
    with pytest.raises(BadReplyError, match="more than 4,194,304 bytes"):
        await client.list_objects("")


@pytest.mark.parametrize(("limit", "most"), [("_MAX_ROWS", 5), ("_MAX_LISTING_BYTES", 1000)])
async def test_rows_without_end_are_refused(
    server: FakeS3Server, client: S3Client, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    """A listing has so many rows and bytes in all its pages at the most, and takes no more memory."""
    monkeypatch.setattr(module, limit, most)
    for number in range(40):
        server.store.put(f"many/{number}", b"")
    server.page_size = 2
    for ask_for in (client.list_objects, client.list_versions):
        with pytest.raises(BadReplyError, match=r"listing of 'many/': no end after .* bytes, .* rows"):
            await ask_for("many/")
    assert server.count() < 10


@pytest.mark.parametrize("kind", ["list_objects", "list_versions"])
async def test_rows_of_another_listing_are_refused(server: FakeS3Server, client: S3Client, kind: str) -> None:
    """A page with a row that is not below the prefix is the answer to another question."""
    server.behaviours.append(for_kind("list_objects", always(listing(f"<Contents>{ROW}</Contents>"))))
    version = f"<Version><VersionId>1</VersionId>{ROW}</Version>"
    server.behaviours.append(for_kind("list_versions", always(listing(version, root="ListVersionsResult"))))
    with pytest.raises(MismatchError, match="'a' is listed, which is not below that"):
        await (client.list_objects("b") if kind == "list_objects" else client.list_versions("b"))


HOSTILE_PAGES: Final = {
    "nested": "'<a>' * (5 << 20)",
    "many elements": "'<ListBucketResult>' + '<a/>' * (4 << 20)",
    "many attributes": "'<ListBucketResult ' + ' '.join(f'a{n}=\"\"' for n in range(1 << 20)) + '/>'",
    "long namespace": "'<a xmlns=\"' + 'x' * (1 << 20) + '\">' + ''.join(f'<a{n}/>' for n in range(1 << 16))",
    "many rows": "'<ListBucketResult>' + '<Contents/>' * (1 << 20)",
    "one long text": "'<ListBucketResult><Key>' + 'x' * (15 << 20)",
}


@pytest.mark.parametrize("page", HOSTILE_PAGES.values(), ids=HOSTILE_PAGES)
def test_a_page_takes_little_memory(page: str, ranges_by: str) -> None:
    """However a page is made, reading it takes no more than some times its bytes."""
    if ranges_by == "httpx":
        return  # nothing is fetched
    script = f"""
import resource
from vbnfs.errors import BadReplyError
from vbnfs.s3.listings import parse_xml
body = ({page}).encode()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    parse_xml(body, "ListBucketResult", "Contents", about="x")
except BadReplyError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, len(body) >> 10)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    grown_kib, body_kib = map(int, done.stdout.split())
    assert grown_kib < 4 * body_kib + (8 << 10)


async def test_the_listing_of_a_full_size_dataset_takes_22_requests(server: FakeS3Server, client: S3Client) -> None:
    """21,490 versions are 22 pages of 1,000."""
    for number in range(21_490):
        server.store.put(f"full/{number % 4_298}", b"")
    assert len(await client.list_versions("full/")) == 21_490
    assert server.count() == 22


# What is counted


async def test_requests_are_counted_by_kind(server: FakeS3Server, client: S3Client, metrics: Metrics) -> None:
    """Each page and each request counts once, and bytes of ranges as they come."""
    server.page_size = 1
    for kind in KINDS:
        await ask(client, kind)
    assert (metrics.list_requests, metrics.head_requests, metrics.object_requests) == (4, 1, 1)
    assert (metrics.range_requests, metrics.received_bytes, metrics.failed_requests) == (1, len(RANGE), 0)
    assert metrics.requests == server.count() == 7


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "behaviour",
    [always(error(503, "SlowDown")), always(error(404, "NoSuchKey")), always(Reply(raw=b"")), always(Reply(204))],
    ids=["busy", "gone", "no answer", "another status"],
)
async def test_failures_are_counted(
    server: FakeS3Server, client: S3Client, metrics: Metrics, kind: str, behaviour: Behaviour
) -> None:
    """Every request that was not answered as asked counts once as failed, whatever the reason."""
    server.behaviours.append(behaviour)
    with pytest.raises(StorageError):
        await ask(client, kind)
    assert (metrics.requests, metrics.failed_requests) == (1, 1)


async def test_a_listing_that_cannot_be_read_counts_as_failed(
    server: FakeS3Server, client: S3Client, metrics: Metrics
) -> None:
    """A reply with a good status and no listing in it was not what was asked for."""
    server.behaviours.append(always(Reply(200, {}, b"<html/>")))
    with pytest.raises(BadReplyError):
        await client.list_objects("")
    assert metrics.failed_requests == 1


# For all inputs

LISTING: Final = (
    b"<?xml version='1.0'?><ListBucketResult xmlns='x'><IsTruncated>true</IsTruncated>"
    b"<NextContinuationToken>t</NextContinuationToken><EncodingType>url</EncodingType><Contents><Key>a%2Bb</Key>"
    b"<LastModified>2023-01-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>12</Size></Contents>"
    b"</ListBucketResult>"
)


def _read_listing(body: bytes) -> None:
    """All that is done with a page of a listing."""
    with suppress(StorageError):
        page = parse_xml(body, "ListBucketResult", "Contents", about="test")
        OBJECTS.following(page)
        for row in page.rows:
            with suppress(StorageError):
                assert OBJECTS.row(row, page).attributes.size_bytes >= 0


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(body: bytes) -> None:
    """Random bytes are refused with a storage error or are a listing."""
    _read_listing(body)


@given(
    st.lists(
        st.tuples(st.integers(0, len(LISTING)), st.integers(0, 12), st.binary(max_size=12)), min_size=1, max_size=4
    )
)
def test_no_mutated_listing_breaks_the_parser(changes: list[tuple[int, int, bytes]]) -> None:
    """A listing with parts cut out, overwritten and put in is refused with a storage error or is a listing."""
    body = LISTING
    for start, removed, added in changes:
        body = body[:start] + added + body[start + removed :]
    _read_listing(body)


@given(st.text(), st.text(), st.text())
def test_no_texts_in_a_row_break_the_parser(key: str, size: str, modified: str) -> None:
    """Whatever stands in the fields of a row, it is refused with a storage error or is a row."""
    page = parse_xml(LISTING, "ListBucketResult", "Contents", about="test")
    [row] = page.rows
    row.texts.update(Key=key, Size=size, LastModified=modified)
    with suppress(StorageError):
        assert OBJECTS.row(row, page).attributes.size_bytes == int(size)


@given(st.datetimes(timezones=st.timezones() | st.none()))
def test_every_time_is_taken_or_refused(modified: object) -> None:
    """A time fits into a file's, or the row is refused."""
    page = parse_xml(
        LISTING.replace(b"2023-01-01T00:00:00.000Z", str(modified).encode()), "ListBucketResult", "Contents", about=""
    )
    with suppress(BadReplyError):
        attributes = OBJECTS.row(page.rows[0], page).attributes
        assert 0 <= attributes.modified_ns < 1 << 63


@given(st.binary() | st.binary().map(lambda code: b"<Code>" + code + b"</Code>"))
def test_an_errors_code_is_a_word(body: bytes) -> None:
    """The word for an error is letters, or nothing: it goes into messages."""
    assert error_code(body) == "" or error_code(body).isalpha()


_RANGE_HEADERS: Final = st.text(alphabet="bytes 0123456789-/*,=", max_size=30) | st.builds(
    "bytes {}-{}/{}".format, st.integers(0, 12), st.integers(0, 12), st.integers(0, 12)
)


@given(
    _RANGE_HEADERS, st.text(alphabet="0123456789 ", max_size=3) | st.none(), st.integers(0, 10), st.integers(1, 10)
)
def test_only_the_exact_range_passes(told: str, length: str | None, start: int, count: int) -> None:
    """Of all headers only the one that states exactly the range asked for, and the size, is let through."""
    head = Head(206, {"content-range": told} | ({"content-length": length} if length is not None else {}))
    byte_range = ByteRange(start, start + count)
    is_exact = told == f"bytes {start}-{start + count - 1}/12" and length in {None, str(count)}
    try:
        check_range(head, CURRENT, byte_range, 12)
    except BadReplyError:
        assert not is_exact
    else:
        assert is_exact


_PARTS: Final = ["Fri,", "31", "Dec", "1999", "23:59:59", "0001", "9999", "24:60", "GMT", "+9999", "-2400", "-", "am"]
_DATES: Final = st.lists(st.sampled_from(_PARTS) | st.text(max_size=4), max_size=9).map(" ".join)


@given(st.text() | st.integers().map(str) | st.datetimes().map(format_datetime) | _DATES)
def test_any_retry_after_is_a_time_or_none(text: str) -> None:
    """Whatever stands in Retry-After, it is a finite number of seconds, not below 0, or as good as none."""
    seconds = retry_after(text)
    assert seconds is None or 0 <= seconds < float("inf")


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("0", 0, 0),
        ("120", 120, 120),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0, 0),
        ("in an hour", 3000, 3600),
    ],
)
async def test_retry_after_is_told(
    server: FakeS3Server, client: S3Client, text: str, least: float, most: float
) -> None:
    """Seconds and dates (RFC 9110, 10.2.3): what a busy server asks for goes with the error."""
    if text == "in an hour":
        text = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    server.behaviours.append(always(error(503, "SlowDown", Retry_After=text)))
    with pytest.raises(BusyError) as caught:
        await client.head(VERSION)
    assert caught.value.retry_after_seconds is not None
    assert least <= caught.value.retry_after_seconds <= most


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "Fri, 99 Dec 1999 23:59:59 GMT", "9" * 5_000])
async def test_an_odd_retry_after_is_none(server: FakeS3Server, client: S3Client, text: str) -> None:
    """A Retry-After that says nothing usable is as good as none."""
    server.behaviours.append(always(error(503, "SlowDown", Retry_After=text)))
    with pytest.raises(BusyError) as caught:
        await client.head(VERSION)
    assert caught.value.retry_after_seconds is None

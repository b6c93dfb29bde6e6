"""What is checked before a byte is believed: ranges, versions, sizes, times, encodings."""

import gzip
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.s3_server import (
    RANGE_IGNORED,
    FakeS3Server,
    Reply,
    Request,
    always,
    cut_after,
    header,
)
from tests.fakes.store import MemoryStore
from tests.s3.asking import (
    BIG,
    BIG_SIZE,
    CURRENT,
    DATA,
    KEY,
    RANGE,
    SIZE,
    VERSION,
    WANTED,
    Received,
    ask,
    fetch,
    raw_range,
    wait_until,
)
from vbnfs.errors import (
    BadReplyError,
    ChangedError,
    MismatchError,
    TransportError,
)
from vbnfs.objects import ByteRange, ObjectVersion, RangeRequest
from vbnfs.s3.client import S3Client
from vbnfs.s3.replies import MAX_OBJECT_BYTES, Head, check_range


@pytest.mark.parametrize(
    "text",
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
async def test_another_range_is_refused(server: FakeS3Server, client: S3Client, text: str) -> None:
    """A Content-Range that is not the one asked for, to the byte and to the size, is refused unread."""
    received = Received()
    server.behaviours.append(header(Content_Range=text.encode().decode("latin-1")))
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


@pytest.mark.parametrize("text", ["bytes 10-60009/100001", "bytes 10-49999/50000"])
async def test_another_size_is_a_change(server: FakeS3Server, client: S3Client, text: str) -> None:
    """An object of another size than was listed has changed, also where it ends within the range."""
    server.behaviours.append(header(Content_Range=text))
    with pytest.raises(ChangedError, match="100000 were listed"):
        await fetch(client, Received())


@pytest.mark.parametrize("text", ["bytes 11-60010/100000", "bytes 10-60009/*", ""])
async def test_another_range_is_no_change(server: FakeS3Server, client: S3Client, text: str) -> None:
    """A range that was not asked for says nothing about the object: it is the answer to another question."""
    server.behaviours.append(header(Content_Range=text))
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
    await client.get_range(RangeRequest(bound, RANGE, SIZE), received)
    assert received.data == DATA[RANGE.start : RANGE.stop]
    store.put(KEY, DATA[::-1], version_id="null")
    if not heeds_if_match:
        server.behaviours.append(lambda request, _: without_condition(server, request))
    received = Received()
    with pytest.raises(ChangedError):
        await client.get_range(RangeRequest(bound, RANGE, SIZE), received)
    assert received.data == b""


def without_condition(server: FakeS3Server, request: Request) -> Reply:
    """The reply of a server that does not know If-Match."""
    headers = {name: text for name, text in request.headers.items() if name != "if-match"}
    behaviours, server.behaviours = server.behaviours, []
    reply = server.answer(replace(request, headers=headers))
    server.behaviours = behaviours
    return reply


async def test_a_reply_may_keep_its_version_to_itself(server: FakeS3Server, client: S3Client) -> None:
    """Servers that send no version id are believed, if range and size are right."""
    received = Received()
    server.behaviours.append(header(x_amz_version_id=""))
    await fetch(client, received)
    assert received.data == DATA[RANGE.start : RANGE.stop]
    assert (await client.head(VERSION)).size_bytes == SIZE


async def test_the_current_version_has_any_id(client: S3Client) -> None:
    """A request for the current version takes the id that it happens to have."""
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


async def test_the_whole_object_instead_of_a_range_is_not_read(server: FakeS3Server, client: S3Client) -> None:
    """A server that ignores Range is found out by its status; the body is left where it is."""
    received = Received()
    server.behaviours.append(RANGE_IGNORED)
    with pytest.raises(BadReplyError, match="ignores Range"):
        await fetch(client, received, BIG, ByteRange(0, BIG_SIZE), BIG_SIZE)
    assert received.data == b""
    await wait_until(server, lambda s: s.open_connections == 0)
    assert server.body_bytes == 0


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
    """48.8 TiB, as AWS says; what a listing or HEAD gives with more is refused."""
    assert round(MAX_OBJECT_BYTES / (1 << 40), 1) == 48.8


async def test_the_largest_size_is_taken(server: FakeS3Server, client: S3Client) -> None:
    """The limit on sizes is one that no object reaches."""
    server.behaviours.append(header(Content_Length=str(MAX_OBJECT_BYTES)))
    assert (await client.head(VERSION)).size_bytes == MAX_OBJECT_BYTES


_RANGE_HEADERS: Final = st.text(alphabet="bytes 0123456789-/*,=", max_size=30) | st.builds(
    "bytes {}-{}/{}".format, st.integers(0, 12), st.integers(0, 12), st.integers(0, 12)
)


@given(
    _RANGE_HEADERS, st.text(alphabet="0123456789 ", max_size=3) | st.none(), st.integers(0, 10), st.integers(1, 10)
)
def test_only_the_exact_range_passes(text: str, length: str | None, start: int, count: int) -> None:
    """Of all headers only the one that states exactly the range asked for, and the size, is let through."""
    head = Head(206, {"content-range": text} | ({"content-length": length} if length is not None else {}))
    byte_range = ByteRange(start, start + count)
    is_exact = text == f"bytes {start}-{start + count - 1}/12" and length in {None, str(count)}
    try:
        check_range(head, RangeRequest(CURRENT, byte_range, 12))
    except BadReplyError:
        assert not is_exact
    else:
        assert is_exact

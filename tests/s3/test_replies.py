"""What is checked before a byte is believed: ranges, versions, sizes, times, encodings."""

import gzip
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.s3_server import (
    RANGE_IGNORED,
    Behaviour,
    FakeS3Server,
    Reply,
    Request,
    always,
    at_most,
    cut_after,
    for_kind,
    header,
)
from tests.fakes.store import MemoryStore
from tests.s3.asking import (
    BIG,
    BIG_SIZE,
    CURRENT,
    DATA,
    KEY,
    KINDS,
    RANGE,
    SIZE,
    VERSION,
    WANTED,
    Received,
    ask,
    fetch,
    open_client,
    raw_range,
    wait_until,
)
from vbnfs.errors import (
    BadReplyError,
    ChangedError,
    MismatchError,
    StorageError,
    TransportError,
)
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ObjectVersion, RangeRequest
from vbnfs.s3.client import MOST_SMALL_PARTS, SMALL_PART_BYTES, S3Client
from vbnfs.s3.replies import MAX_OBJECT_BYTES, Head, check_range


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bytes 11-60010/100000",
        "bytes 0-60009/100000",
        "bytes 10-9/100000",
        "bytes 10-60010/100000",
        "bytes 10-60009/100001",
        "bytes */100000",
        "bytes 11-60010/*",
        "bytes10-60009/100000",
        "bytes 10-60009/100000 ,",
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


@pytest.mark.usefixtures("receiving")
@pytest.mark.parametrize(("most_bytes", "parts"), [(59_999, [10, 60_009]), (25_000, [10, 25_010, 50_010])])
async def test_a_part_of_a_range_is_taken(server: FakeS3Server, most_bytes: int, parts: list[int]) -> None:
    """A server may send the beginning of a range alone (RFC 9110, 15.3.7): it is kept, and the rest is asked for."""
    server.behaviours.append(at_most(most_bytes))
    async with open_client(server.endpoint_url, metrics=(metrics := Metrics())) as client:
        assert await ask(client, "get_range") == WANTED
    assert [request.headers["range"] for request in server.requests] == [f"bytes={at}-60009" for at in parts]
    assert (metrics.range_requests, metrics.received_bytes, metrics.failed_requests) == (len(parts), len(WANTED), 0)


@pytest.mark.usefixtures("receiving")
async def test_a_server_that_sends_no_range_whole(server: FakeS3Server) -> None:
    """One that sends 64 KiB at a time, or more, is asked as often as it takes; fewer bytes are taken four times."""
    async with open_client(server.endpoint_url) as client:
        server.behaviours.append(at_most(SMALL_PART_BYTES))
        await fetch(client, received := Received(), BIG, ByteRange(0, 4 << 20), BIG_SIZE)
        assert (len(received.data), server.count("get_range")) == (4 << 20, 64)
        server.forget_requests()
        server.behaviours[:] = [at_most(SMALL_PART_BYTES - 1)]
        with pytest.raises(MismatchError, match="less than 65,536 bytes of a range"):
            await fetch(client, received := Received(), BIG, ByteRange(0, 4 << 20), BIG_SIZE)
        assert server.count("get_range") == MOST_SMALL_PARTS + 1
        assert len(received.data) == (MOST_SMALL_PARTS + 1) * (SMALL_PART_BYTES - 1)


@pytest.mark.parametrize(
    "text",
    ["Bytes 10-60009/100000", "BYTES 10-60009/100000", "bytes  10 - 60009 / 100000", "bytes\t10-60009/100000"],
)
async def test_a_range_may_be_spelled_in_several_ways(server: FakeS3Server, client: S3Client, text: str) -> None:
    """The unit's letters play no part (RFC 9110, 14.1), nor do blanks that a server puts in."""
    server.behaviours.append(header(Content_Range=text))
    assert await ask(client, "get_range") == WANTED


async def test_a_size_that_is_not_said(server: FakeS3Server, client: S3Client, store: MemoryStore) -> None:
    """`*` stands for a size that is not known (RFC 9110, 14.4): the version, or the ETag, has to prove the object."""
    server.behaviours.append(for_kind("get_range", header(Content_Range="bytes 10-60009/*")))
    assert await ask(client, "get_range") == WANTED
    store.put("other.nwb", DATA, version_id="null")
    bound = ObjectVersion("other.nwb", "null", (await client.head(ObjectVersion("other.nwb", "null"))).etag)
    await fetch(client, received := Received(), bound)
    assert received.data == WANTED
    server.behaviours.append(header(x_amz_version_id=""))
    with pytest.raises(MismatchError, match="neither the size nor the version"):
        await fetch(client, received := Received())
    with pytest.raises(MismatchError, match="neither the size nor the version"):
        await fetch(client, received, CURRENT)
    assert received.data == b""


async def test_a_body_of_several_parts_is_refused(server: FakeS3Server, client: S3Client) -> None:
    """A reply to one range has one part (RFC 9110, 15.3.7.2); one with more is refused, in these words."""
    server.behaviours.append(header(Content_Range="", Content_Type="multipart/byteranges; boundary=x"))
    with pytest.raises(MismatchError, match="several parts"):
        await fetch(client, received := Received())
    assert received.data == b""


@pytest.mark.parametrize(
    ("text", "is_right"), [("60000, 60000", True), ("060000", True), ("60000, 59999", False), ("some", False)]
)
def test_a_length_may_stand_twice(text: str, *, is_right: bool) -> None:
    """Proxies repeat Content-Length (RFC 9110, 8.6): the same length twice is that length, anything else is none."""
    head = Head(206, {"content-range": "bytes 10-60009/100000", "content-length": text})
    request = RangeRequest(CURRENT, RANGE, SIZE)
    if is_right:
        check_range(head, request)
    else:
        with pytest.raises(MismatchError, match="Content-Length"):
            check_range(head, request)


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


@pytest.mark.parametrize("text", ["bytes 11-60010/100000", "bytes 11-60010/*", ""])
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


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [('"{}"', True), ("{}", True), ('W/"{}"', True), ("", True), ('"another"', False), ('W/"another"', False)],
)
async def test_etags_in_several_forms(
    server: FakeS3Server, client: S3Client, store: MemoryStore, text: str, *, is_taken: bool
) -> None:
    """An ETag without quotes, a weak one (a proxy makes it so), or none: taken, if it is not another object's."""
    store.put(KEY, DATA, version_id="null")
    etag = (await client.head(ObjectVersion(KEY, "null"))).etag
    server.behaviours.append(header(ETag=text.format(etag)))
    bound, received = ObjectVersion(KEY, "null", etag), Received()
    if is_taken:
        await fetch(client, received, bound)
        assert received.data == WANTED
    else:
        with pytest.raises(ChangedError, match="another"):
            await fetch(client, received, bound)


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


def _compressed(_request: Request, honest: Reply) -> Reply:
    """As a proxy compresses, which does not know how long that gets: to the end of the connection."""
    body = gzip.compress(honest.body, mtime=0)
    return replace(honest, body=body, cut=len(body)).with_headers(Content_Encoding="gzip", Content_Length="")


@pytest.mark.parametrize("kind", ["get_range", "get_object", "list_objects"])
async def test_an_encoded_body_is_refused(server: FakeS3Server, client: S3Client, kind: str) -> None:
    """No encoding was accepted: a body that was encoded on its way is not what was asked for."""
    server.behaviours.append(_compressed)
    with pytest.raises(MismatchError, match="encoded"):
        await ask(client, kind)
    assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_a_listing_is_no_stored_object(server: FakeS3Server, client: S3Client) -> None:
    """It has no metadata that could name an encoding: one that is encoded is refused, its length given or not."""
    server.behaviours.append(header(Content_Encoding="gzip"))
    for kind in ("list_objects", "list_versions"):
        with pytest.raises(MismatchError, match="encoded"):
            await ask(client, kind)


@pytest.mark.parametrize("text", ["Identity", "gzip", "aws-chunked", "aws-chunked,gzip", "GZIP, identity", "br"])
@pytest.mark.parametrize("kind", ["get_range", "get_object", "head"])
async def test_an_encoding_among_the_metadata_is_taken(
    server: FakeS3Server, client: S3Client, kind: str, text: str
) -> None:
    """S3 gives back what an object was stored with: its bytes, of its length, are those that were stored."""
    server.behaviours.append(header(Content_Encoding=text))
    expected = {"get_range": WANTED, "get_object": DATA}
    found = await ask(client, kind)
    assert getattr(found, "size_bytes", None) == SIZE if kind == "head" else found == expected[kind]


async def test_uploads_in_chunks_need_no_length(server: FakeS3Server, client: S3Client) -> None:
    """`aws-chunked` is S3's own, of uploads. Nothing on the way applies it, so a body without a length is taken."""
    server.behaviours.append(always(raw_range(WANTED, "Connection: close", "Content-Encoding: aws-chunked")))
    assert await ask(client, "get_range") == WANTED


@pytest.mark.parametrize("text", ["gzip", "gzip, chunked"])
def test_a_transfer_coding_is_refused(text: str) -> None:
    """None but `chunked` was accepted (RFC 9110, 10.1.4; RFC 9112, 6.1)."""
    head = Head(206, {"content-range": "bytes 10-60009/100000", "transfer-encoding": text})
    with pytest.raises(MismatchError, match="encoded for the transfer"):
        check_range(head, RangeRequest(CURRENT, RANGE, SIZE))


@pytest.mark.parametrize("byte_range", [(0, SIZE), (0, 10), (10, 60_010), (SIZE - 1, SIZE)])
@pytest.mark.parametrize("has_length", [True, False])
async def test_the_whole_object_instead_of_a_range_is_taken(
    server: FakeS3Server, client: S3Client, byte_range: tuple[int, int], *, has_length: bool
) -> None:
    """A server may ignore Range (RFC 9110, 14.2): of a whole object the range is taken, and nothing else."""
    server.ignores_range = True
    if not has_length:
        server.behaviours.append(lambda _, honest: replace(honest, cut=SIZE).with_headers(Content_Length=""))
    for _ in range(2):
        await fetch(client, received := Received(), VERSION, ByteRange(*byte_range))
        assert received.data == DATA[slice(*byte_range)]


async def test_the_beginning_of_a_large_object_is_taken(server: FakeS3Server, client: S3Client) -> None:
    """Behind a range that begins in the first MiB the connection is closed: the rest of the object stays away."""
    server.ignores_range = True
    await fetch(client, received := Received(), BIG, ByteRange(1 << 20, 2 << 20), BIG_SIZE)
    assert len(received.data) == 1 << 20
    await wait_until(server, lambda s: s.open_connections == 0)
    assert server.body_bytes == 0  # it was not at its end


async def test_the_whole_object_instead_of_a_far_range_is_not_read(server: FakeS3Server, client: S3Client) -> None:
    """Where much stands before the range, the server is found out by its status; the body is left where it is."""
    server.ignores_range = True
    with pytest.raises(MismatchError, match="ignores Range"):
        await fetch(client, received := Received(), BIG, ByteRange((1 << 20) + 1, 2 << 20), BIG_SIZE)
    assert received.data == b""
    await wait_until(server, lambda s: s.open_connections == 0)
    assert server.body_bytes == 0


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (RANGE_IGNORED, MismatchError),  # the length of the range, and not of the object
        (header(x_amz_version_id="another"), ChangedError),
        (always(Reply(200, {"Content-Type": "text/html"}, b"<html>log in</html>")), MismatchError),
        (always(Reply(raw=b"HTTP/1.1 200 OK\r\n\r\n" + DATA)), MismatchError),  # neither a length nor a version
    ],
)
async def test_another_whole_is_not_taken(
    server: FakeS3Server, client: S3Client, behaviour: Behaviour, error: type[StorageError]
) -> None:
    """A 200 that is not of the listed size, or of another version, is not the object."""
    server.ignores_range = behaviour is not RANGE_IGNORED
    server.behaviours.append(behaviour)
    with pytest.raises(error):
        await fetch(client, received := Received())
    assert received.data == b""


async def test_what_plays_no_part(server: FakeS3Server, client: S3Client) -> None:
    """Interim replies, trailers, fields of caches (RFC 9111, 5.1 and 5.5) and names in any letters change nothing."""
    chunk = b"%x\r\n%b\r\n0\r\nX-Trailer: Content-Range\r\n\r\n" % (len(WANTED), WANTED)
    fields = ("TRANSFER-ENCODING: chunked", "aGe: 86400", 'Warning: 110 - "Response is Stale"', "ETAG: x")
    reply = raw_range(chunk, *fields)
    assert reply.raw is not None
    server.behaviours.append(always(Reply(raw=b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + reply.raw)))
    assert await ask(client, "get_range") == WANTED


async def test_what_may_change_is_asked_for_anew(server: FakeS3Server, client: S3Client) -> None:
    """Listings, manifests and sizes: caches on the way are to ask the server (RFC 9111, 5.2.1.4).

    Of all replies they are to leave the bytes as they are (5.2.1.6).
    """
    for kind in KINDS:
        await ask(client, kind)
    fresh = {request.kind: request.headers.get("cache-control") for request in server.requests}
    assert fresh == {kind: "no-transform" if kind == "get_range" else "no-cache, no-transform" for kind in KINDS}


TRANSFORMED: Final = {"203": (203, {}), "Warning": (200, {"Warning": '214 proxy "Transformation Applied"'})}


@pytest.mark.parametrize("how", TRANSFORMED)
async def test_a_body_that_a_proxy_has_changed(server: FakeS3Server, client: S3Client, how: str) -> None:
    """A 203, or Warning 214: of an object with its own length it is taken; of a listing nothing shows what it was.

    Sizes are then asked for by a GET for the first byte, of which Content-Range has the object's.
    """
    status, headers = TRANSFORMED[how]

    def changed(request: Request, honest: Reply) -> Reply:
        return replace(honest, status=status if honest.status == 200 else honest.status).with_headers(**headers)

    server.behaviours.append(changed)
    assert await ask(client, "get_range") == WANTED  # a 206
    assert await ask(client, "get_object") == DATA
    assert (await client.head(VERSION)).size_bytes == SIZE
    assert [request.kind for request in server.requests[-2:]] == ["head", "get_range"]
    for kind in ("list_objects", "list_versions"):
        with pytest.raises(MismatchError, match="a proxy says that it has changed"):
            await ask(client, kind)
    server.ignores_range = True
    assert await ask(client, "get_range") == WANTED  # the whole object
    with pytest.raises(MismatchError, match="a proxy says that it has changed"):
        await client.head(VERSION)
    server.behaviours.append(lambda _, honest: replace(honest, cut=SIZE).with_headers(Content_Length=""))
    for kind in ("get_range", "get_object"):
        with pytest.raises(MismatchError, match="a proxy says that it has changed"):
            await ask(client, kind)


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
        {"Content_Length": "", "Content_Range": ""},
        {"Content_Length": "", "Content_Range": "bytes 0-0/*"},
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


@pytest.mark.parametrize("behaviour", [header(Content_Length=""), always(Reply(405)), always(Reply(501))])
async def test_a_head_without_a_size(server: FakeS3Server, client: S3Client, behaviour: Behaviour) -> None:
    """A reply to HEAD may leave the size out (RFC 9110, 9.3.2), and a server HEAD: a GET for one byte says it."""
    expected = await client.head(VERSION)
    server.behaviours.append(lambda request, honest: behaviour(request, honest) if request.kind == "head" else None)
    assert await client.head(VERSION) == expected
    assert [request.headers.get("range") for request in server.requests] == [None, None, "bytes=0-0"]


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
def test_only_the_range_or_its_beginning_passes(text: str, length: str | None, start: int, count: int) -> None:
    """Of all fields only one is let through that states the range asked for, or its beginning, and the size."""
    head = Head(206, {"content-range": text} | ({"content-length": length} if length is not None else {}))
    request = RangeRequest(CURRENT, ByteRange(start, start + count), 12)
    right = {
        f"bytes {start}-{start + sent - 1}/12": ByteRange(start, start + sent)
        for sent in range(1, count + 1)
        if length is None or (length.strip().isdigit() and int(length) == sent)
    }
    try:
        found = check_range(head, request)
    except BadReplyError:
        assert text not in right
    else:
        assert found == right[text]

"""What a failure means: a status, a refusal, no answer at all."""

import re
import socket
from dataclasses import replace
from email.utils import format_datetime
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fakes.s3_server import (
    FakeS3Server,
    Reply,
    always,
    error,
)
from tests.s3.asking import BIG_SIZE, KEY, KINDS, VERSION, Received, ask, fetch, open_client, wait_until
from vbnfs.errors import (
    AccessDeniedError,
    BadReplyError,
    BusyError,
    ChangedError,
    ListingDeniedError,
    NoBucketError,
    ObjectGoneError,
    StorageError,
    TransportError,
    with_remedy,
)
from vbnfs.objects import ObjectVersion
from vbnfs.s3.client import S3Client
from vbnfs.s3.refusals import error_code, retry_after


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
        # The reply to HEAD has no body by which one 400, or 404, differs from the other.
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
@pytest.mark.parametrize("text", [(404, "NoSuchVersion"), (404, "NoSuchKey"), (400, "InvalidArgument")])
async def test_an_unknown_version_is_gone_whatever_the_server(
    server: FakeS3Server, client: S3Client, kind: str, text: tuple[int, str]
) -> None:
    """AWS, SeaweedFS, Ceph and MinIO say in different words that a version id is not known."""
    server.unknown_version = text
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
    ("headers", "text"),
    [({"x_amz_bucket_region": "eu-central-1"}, "eu-central-1"), ({}, "/elsewhere")],
)
async def test_a_redirect_is_not_followed(
    server: FakeS3Server, client: S3Client, status: int, headers: dict[str, str], text: str
) -> None:
    """A redirect is an error that says where it points and which settings to check; no request is sent there."""
    server.behaviours.append(always(error(status, "Redirect", Location="/elsewhere", **headers)))
    with pytest.raises(BadReplyError, match=f"{text}.*--region"):
        await fetch(client, Received())
    assert server.count() == 1


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


async def test_a_large_error_is_not_read_to_the_end(server: FakeS3Server, client: S3Client) -> None:
    """Of an error's body only the start is read."""
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


async def test_a_refused_connection_names_the_server() -> None:
    """Nothing listens: the message says where, once, and why, and no more."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        endpoint_url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        async with open_client(endpoint_url) as client:
            with pytest.raises(TransportError, match="Connection refused") as caught:
                await client.head(VERSION)
    text = str(caught.value)
    assert endpoint_url in text
    assert text.count(endpoint_url.rpartition(":")[2]) == 1
    assert len(text) < 120


@given(st.binary() | st.binary().map(lambda code: b"<Code>" + code + b"</Code>"))
@example(b"<Code>A.</Code>")
def test_an_errors_code_is_a_word(body: bytes) -> None:
    """The word for an error that messages show: at most 64 letters, digits and dots, a letter first; or nothing."""
    assert re.fullmatch(r"([A-Za-z][A-Za-z0-9.]{0,63})?", error_code(body), re.ASCII)


_PARTS: Final = ["Fri,", "31", "Dec", "1999", "23:59:59", "0001", "9999", "24:60", "GMT", "+9999", "-2400", "-", "am"]
_DATES: Final = st.lists(st.sampled_from(_PARTS) | st.text(max_size=4), max_size=9).map(" ".join)


_TEXTS: Final = st.text() | st.integers().map(str) | st.datetimes().map(format_datetime) | _DATES


@given(_TEXTS, _TEXTS)
def test_any_retry_after_is_a_time_or_none(text: str, date: str) -> None:
    """Whatever stands in Retry-After, it is a number of seconds, from 0 to an hour, or as good as none."""
    seconds = retry_after(text, date)
    assert seconds is None or 0 <= seconds <= 3600


_DATE: Final = "Fri, 31 Dec 1999 23:59:59 GMT"  # of replies: nothing that a right clock of today would say


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *[("0", 0), ("120", 120), ("0120", 120), ("999999999", 3600)],
        *[("Fri, 31 Dec 1999 23:58:59 GMT", 0), (_DATE, 0), ("Sat, 01 Jan 2000 00:00:09 GMT", 10)],
        *[("Friday, 31-Dec-99 23:59:59 GMT", 0), ("Fri, 01 Jan 2100 00:00:00 GMT", 3600)],
    ],
)
@pytest.mark.parametrize("kind", ["head", "get_range"])
async def test_retry_after_goes_with_the_error(
    server: FakeS3Server, client: S3Client, kind: str, text: str, seconds: float
) -> None:
    """Seconds, and dates from the reply's own (RFC 9110, 10.2.3): what a busy server asks for, up to an hour.

    This machine's clock plays no part in it.
    """
    server.behaviours.append(always(error(503, "SlowDown", Retry_After=text, Date=_DATE)))
    with pytest.raises(BusyError) as caught:
        await ask(client, kind)
    assert caught.value.retry_after_seconds == seconds


async def test_a_date_without_the_replys_own_is_none(server: FakeS3Server, client: S3Client) -> None:
    """A time in a reply that has no Date says nothing: by this machine's clock it would be a guess."""
    server.behaviours.append(always(error(503, "SlowDown", Retry_After="Fri, 01 Jan 2100 00:00:00 GMT")))
    with pytest.raises(BusyError) as caught:
        await client.head(VERSION)
    assert caught.value.retry_after_seconds is None


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "Fri, 99 Dec 1999 23:59:59 GMT", "9" * 5_000])
async def test_an_odd_retry_after_is_none(server: FakeS3Server, client: S3Client, text: str) -> None:
    """A Retry-After that says nothing usable is as good as none."""
    server.behaviours.append(always(error(503, "SlowDown", Retry_After=text)))
    with pytest.raises(BusyError) as caught:
        await client.head(VERSION)
    assert caught.value.retry_after_seconds is None

"""What is refused, by more than its status: moved, archived, deleted, not S3 at all."""

from functools import partial
from typing import Any

import pytest

from tests.fakes.s3_server import FakeS3Server, Reply, always, error, for_kind, times
from tests.fakes.store import MemoryStore
from tests.s3.asking import KEY, KINDS, Received, ask, fetch, open_client
from vbnfs.errors import (
    AccessDeniedError,
    ArchivedError,
    BadReplyError,
    BusyError,
    ListingDeniedError,
    MismatchError,
    MovedError,
    NoBucketError,
    ObjectGoneError,
    StorageError,
    UntrustedServerError,
    copy_error,
    with_remedy,
)
from vbnfs.objects import ObjectVersion
from vbnfs.s3.client import S3Client
from vbnfs.s3.retry import RetryingClient, wait_seconds

REGION = {"x_amz_bucket_region": "eu-central-1"}


def moved(status: int, code: str, inside: str = "", **headers: str) -> Reply:
    body = f"<Error><Code>{code}</Code><Message>no</Message>{inside}</Error>" if code else ""
    return Reply(status, {"Content-Type": "application/xml"}, body.encode()).with_headers(**headers)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (moved(301, "PermanentRedirect", **REGION), "in the region 'eu-central-1': give --region eu-central-1"),
        (moved(301, "", **REGION), "in the region 'eu-central-1': give --region eu-central-1"),
        (moved(400, "", **REGION), "in the region 'eu-central-1'"),
        (moved(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"), "give --region eu-west-1"),
        (moved(400, "IllegalLocationConstraintException"), "in another region"),
        (moved(301, "PermanentRedirect", "<Endpoint>b.s3.aws.com</Endpoint>"), "points to 'b.s3.aws.com'.*--region"),
        (moved(301, "PermanentRedirect", x_amz_bucket_region="x; rm -r"), "points to 'x; rm -r'"),
    ],
)
async def test_a_bucket_that_has_moved_names_its_region(
    server: FakeS3Server, client: S3Client, reply: Reply, words: str
) -> None:
    """Where S3 says that the bucket is elsewhere, each request says where, and what to set; none is sent there."""
    server.behaviours.append(always(reply))
    kinds = [kind for kind in KINDS if kind != "head" or not reply.body]  # which has no body
    for kind in kinds:
        with pytest.raises(MovedError, match=words) as caught:
            await ask(client, kind)
        assert "--region" in with_remedy(caught.value)
    assert server.count() == len(kinds)


@pytest.mark.parametrize(
    "body",
    [
        b"<html><center>The plain HTTP request was sent to HTTPS port</center></html>",  # nginx
        b"Client sent an HTTP request to an HTTPS server.\n",  # Go's, as MinIO and SeaweedFS have it
        b"<!DOCTYPE HTML>\n<p>Reason: You're speaking plain HTTP to an SSL-enabled server port.</p>",  # Apache
    ],
)
async def test_a_server_that_wants_tls(server: FakeS3Server, client: S3Client, body: bytes) -> None:
    """What servers answer to plain HTTP at a port that is for TLS leads to https://, and is not asked again."""
    server.behaviours.append(always(Reply(400, {}, body)))
    for kind in KINDS:
        if kind == "head":  # which has no body
            continue
        with pytest.raises(BadReplyError, match="was asked in plain HTTP") as caught:
            await ask(client, kind)
        assert with_remedy(caught.value).endswith("; write https:// in --endpoint-url")


def test_what_has_moved_is_not_asked_for_again() -> None:
    """Nothing changes in seconds."""
    assert wait_seconds(MovedError("301"), failures=1, mismatches=1, left_seconds=10, chance=0) is None


async def test_a_temporary_redirect_names_where_it_points(server: FakeS3Server, client: S3Client) -> None:
    """It is another server's, or a login page's: it is not followed, and may be gone at the next try."""
    server.behaviours.append(always(error(307, "TemporaryRedirect", Location="http://127.0.0.1:1/x", **REGION)))
    for kind in KINDS:
        with pytest.raises(MismatchError, match=r"the server points to 'eu-central-1'; check --region"):
            await ask(client, kind)


async def test_an_archived_object_says_so(server: FakeS3Server, client: S3Client) -> None:
    """An object in an archive is no forbidden one: the message names the archive, and who can help."""
    body = b"<Error><Code>InvalidObjectState</Code><StorageClass>DEEP_ARCHIVE</StorageClass></Error>"
    server.behaviours.append(for_kind("get_range", always(Reply(403, {}, body))))
    with pytest.raises(
        ArchivedError, match=r"HTTP 403 InvalidObjectState: .* in an archive \(DEEP_ARCHIVE\)"
    ) as caught:
        await fetch(client, Received())
    assert "owner to restore it" in with_remedy(caught.value)
    assert isinstance(caught.value, AccessDeniedError)  # so another source is asked


@pytest.mark.parametrize("kind", ["get_range", "head"])
async def test_an_archived_object_that_is_being_restored(server: FakeS3Server, client: S3Client, kind: str) -> None:
    """HEAD says it, and some servers say it at once: trying again later helps."""
    restoring = {"x_amz_restore": 'ongoing-request="true"'}
    server.behaviours.append(
        lambda request, honest: (
            honest.with_headers(**restoring)
            if kind == "head" and request.kind == "head"
            else error(403, "InvalidObjectState", **({} if kind == "head" else restoring))
        )
    )
    with pytest.raises(ArchivedError, match="being restored") as caught:
        await fetch(client, Received())
    assert "again in some hours" in with_remedy(caught.value)


@pytest.mark.parametrize("kind", ["get_range", "head", "get_object"])
async def test_a_delete_marker_is_known_as_one(
    server: FakeS3Server, client: S3Client, store: MemoryStore, kind: str
) -> None:
    """A marker asked for by its id (405), and an object that it hides (404): both were deleted."""
    marker = ObjectVersion(KEY, store.delete(KEY))
    asked: Any = {
        "get_range": partial(fetch, client, Received(), marker),
        "head": partial(client.head, marker),
        "get_object": partial(client.get_object, KEY, max_bytes=10),
    }[kind]
    with pytest.raises(ObjectGoneError, match="was deleted: a delete marker"):
        await asked()


async def test_a_page_of_html_is_no_word_of_s3(server: FakeS3Server, client: S3Client) -> None:
    """What a proxy, a firewall or a login page answers is not taken for S3's word: the message says what came."""
    page = b"\n<!DOCTYPE html><title>Please log in</title>"
    for status in (403, 404, 511):
        server.behaviours[:] = [always(Reply(status, {"Content-Type": "text/html"}, page))]
        for kind in ("get_range", "get_object", "list_objects"):
            with pytest.raises(StorageError, match=f"HTTP {status}: .*a page of HTML came") as caught:
                await ask(client, kind)
            assert "login page" in with_remedy(caught.value)
    server.behaviours[:] = [always(Reply(503, {}, page))]
    with pytest.raises(BusyError, match="a page of HTML came") as caught:
        await ask(client, "get_range")
    assert "again later" in with_remedy(caught.value)


async def test_remedies_stay_with_refused_listings(server: FakeS3Server, client: S3Client) -> None:
    """What is the matter with a listing has the remedy of its cause; only what is forbidden has the listing's own."""
    for code, kind, words in (
        ("AccessDenied", ListingDeniedError, "--versions"),
        ("RequestTimeTooSkewed", ListingDeniedError, "set the clock"),
        ("AllAccessDisabled", ListingDeniedError, "ask the bucket's owner"),
        ("NoSuchAccessPoint", NoBucketError, "alias"),
    ):
        server.behaviours[:] = [always(error(403, code))]
        for listing in ("list_objects", "list_versions"):
            with pytest.raises(kind) as caught:
                await ask(client, listing)
            assert words in with_remedy(caught.value)
            assert words in with_remedy(copy_error(caught.value))


async def test_a_request_that_timed_out_is_asked_again(server: FakeS3Server) -> None:
    """S3 says RequestTimeout with status 400, which would else be an answer."""
    server.behaviours.append(times(1, always(error(400, "RequestTimeout"))))
    async with open_client(server.endpoint_url) as client:
        retrying = RetryingClient(client, seconds=10, attempts=2)
        assert await retrying.get_object(KEY, max_bytes=1 << 20)
    assert server.count() == 2


async def test_an_answer_of_a_cache_to_nothing(server: FakeS3Server, client: S3Client) -> None:
    """304 answers a condition that was never sent: nothing points anywhere, and another connection may do."""
    server.behaviours.append(always(Reply(304)))
    for kind in KINDS:
        with pytest.raises(MismatchError, match="a cache on the way"):
            await ask(client, kind)


def test_a_certificate_has_its_own_remedy() -> None:
    """An error with a remedy of its own says that; one without says its class's."""
    own = UntrustedServerError("no", remedy="do this")
    assert (with_remedy(own), own.own_remedy) == ("no; do this", "do this")
    assert UntrustedServerError("no").own_remedy is None
    assert "--ca-bundle" in with_remedy(UntrustedServerError("no"))

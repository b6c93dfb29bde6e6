"""Pages of listings: what is read, and what is refused."""

import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Final

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.s3_server import (
    FakeS3Server,
    Reply,
    Request,
    always,
    for_kind,
    times,
)
from tests.s3.asking import ROW, ask, listing
from vbnfs.errors import (
    BadReplyError,
    BusyError,
    ListingDeniedError,
    MismatchError,
    StorageError,
)
from vbnfs.objects import ObjectVersion
from vbnfs.s3 import client as module
from vbnfs.s3.client import S3Client
from vbnfs.s3.listings import OBJECTS, parse_xml
from vbnfs.s3.replies import MAX_OBJECT_BYTES


@pytest.mark.parametrize("kind", ["list_objects", "list_versions"])
@pytest.mark.parametrize(
    "body",
    [
        "",
        "garbage",
        "<ListBucketResult>",
        "<ListVersionsResult><Version>",
        "<html><body>Please log in</body></html>",
        "<Error/>",
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
async def test_an_odd_row_is_left_out(server: FakeS3Server, client: S3Client, row: str) -> None:
    """A row without a key, a size and a time that a file can have hides none of the others; the log names it once."""
    good = ROW.replace("<Key>a</Key>", "<Key>good</Key>")
    server.behaviours.append(
        for_kind("list_objects", always(listing(f"<Contents>{row}</Contents>", f"<Contents>{good}</Contents>")))
    )
    versions = [f"<Version><VersionId>1</VersionId>{one}</Version>" for one in (row, good)]
    server.behaviours.append(for_kind("list_versions", always(listing(*versions, root="ListVersionsResult"))))
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            assert [one.key for one in await client.list_objects("")] == ["good"]
            assert [one.version.key for one in await client.list_versions("")] == ["good"]
    assert [log["event"] for log in logs] == ["a row of a listing is left out"]
    assert logs[0]["row"].startswith("'a': " if "<Key>a" in row else "'': ")


async def test_a_version_without_an_id_is_left_out(server: FakeS3Server, client: S3Client) -> None:
    """A version that has no id could only be asked for as the current one."""
    good = f"<Version><VersionId>1</VersionId>{ROW}</Version>"
    server.behaviours.append(always(listing(f"<Version>{ROW}</Version>", good, root="ListVersionsResult")))
    with structlog.testing.capture_logs() as logs:
        assert [one.version.version_id for one in await client.list_versions("")] == ["1"]
    assert "VersionId" in logs[0]["row"]


async def test_one_row_of_another_folder_is_left_out(server: FakeS3Server, client: S3Client) -> None:
    """A server that lists more than was asked for is believed in what was."""
    rows = [f"<Contents>{ROW.replace('<Key>a', f'<Key>{key}')}</Contents>" for key in ("a/1", "b/1", "a/2", "a/")]
    server.behaviours.append(always(listing(*rows)))
    with structlog.testing.capture_logs() as logs:
        assert [one.key for one in await client.list_objects("a/")] == ["a/1", "a/2", "a/"]
    assert [log["row"] for log in logs] == ["'b/1': not below 'a/'"]


async def test_odd_rows_beyond_number_are_named_in_part(server: FakeS3Server, client: S3Client) -> None:
    """Of a page that has nothing but odd rows the log names some."""
    server.behaviours.append(always(listing(*(f"<Contents><Key>{n}</Key></Contents>" for n in range(1000)))))
    with structlog.testing.capture_logs() as logs:
        assert await client.list_objects("") == []
    assert len(logs) == 20


async def test_an_error_in_the_body_of_a_listing(server: FakeS3Server, client: S3Client) -> None:
    """A server that has sent 200 before it failed says so in the body: that means what its code means."""
    for kind in ("list_objects", "list_versions"):
        for code, kind_of_error in (("InternalError", BusyError), ("AccessDenied", ListingDeniedError)):
            server.behaviours[:] = [always(Reply(200, {}, f"<Error><Code>{code}</Code></Error>".encode()))]
            with pytest.raises(kind_of_error, match=code):
                await ask(client, kind)


@pytest.mark.parametrize("odd", ["\x01", "&#x1;", "&#1;", "\x1f", "&#X0b;", "\udcff"])
async def test_a_key_with_what_xml_does_not_have(server: FakeS3Server, client: S3Client, odd: str) -> None:
    """Servers write such keys as they are: that row is left out, and the others are read."""
    page = listing(*(f"<Contents>{ROW.replace('<Key>a', f'<Key>{key}')}</Contents>" for key in ("a", "b-ODD", "c")))
    body = page.body.replace(b"ODD", odd.encode(errors="surrogateescape"))
    server.behaviours.append(always(replace(page, body=body)))
    with structlog.testing.capture_logs() as logs:
        assert [one.key for one in await client.list_objects("")] == ["a", "c"]
    assert len(logs) == 1


async def test_a_key_that_is_no_text_is_left_out(server: FakeS3Server, client: S3Client) -> None:
    """Percent-encoded bytes that are not UTF-8 name no key that could be asked for."""
    rows = [f"<Contents>{ROW.replace('<Key>a', f'<Key>{key}')}</Contents>" for key in ("a", "b%FF", "c%2F")]
    server.behaviours.append(always(listing(*rows, head="<EncodingType>url</EncodingType>")))
    assert [one.key for one in await client.list_objects("")] == ["a", "c/"]


@pytest.mark.parametrize("page_size", [1, 2, 5])
async def test_rows_that_stand_twice(server: FakeS3Server, client: S3Client, page_size: int) -> None:
    """A page that repeats rows of the one before adds none; of two for one key the later one counts."""
    for number in range(4):
        server.store.put(f"many/{number}", b"x")

    def doubled(_: Request, honest: Reply) -> Reply:
        again = re.sub(rb"(<(Contents|Version)>.*?</\2>)", rb"\1\1", honest.body)
        return replace(honest, body=again)

    server.page_size = page_size
    expected = await client.list_objects("many/"), await client.list_versions("many/")
    server.behaviours.append(doubled)
    assert (await client.list_objects("many/"), await client.list_versions("many/")) == expected
    server.behaviours.append(lambda _, honest: replace(honest, body=honest.body.replace(b"<Size>1<", b"<Size>2<", 1)))
    assert {row.attributes.size_bytes for row in (await client.list_objects("many/"))} == {1}


async def test_what_else_stands_in_a_listing(server: FakeS3Server, client: S3Client) -> None:
    """Delete markers, folders, owners, elements that are not known: none of them is a version."""
    row = ROW.replace("</Key>", "</Key><Owner><ID>1</ID></Owner><New><Key>no</Key></New><RestoreStatus/>")
    marker = "<DeleteMarker><Key>a</Key><VersionId>2</VersionId></DeleteMarker>"
    folder = "<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>"
    version = f"<Version><VersionId>1</VersionId>{row}</Version>"
    page = listing(marker, version, folder, marker, "<Later/>", root="ListVersionsResult")
    server.behaviours.append(for_kind("list_versions", always(page)))
    assert [one.version for one in await client.list_versions("")] == [ObjectVersion("a", "1")]


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
    "time",
    [
        *("2023-01-01T00:00:00Z", "2023-01-01T00:00:00.999Z", "2023-01-01T01:00:00+01:00", "2023-01-01T00:00:00"),
        *("2023-01-01T00:00:00.123456789Z", "2023-01-01 00:00:00", "Sun, 01 Jan 2023 00:00:00 GMT"),
    ],
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


@pytest.mark.parametrize("kind", ["list_objects", "list_versions"])
async def test_a_page_that_does_not_say_where_the_next_begins(
    server: FakeS3Server, client: S3Client, kind: str
) -> None:
    """Some servers leave the mark of the next page out: that begins behind the last row, so no row is missed."""
    for number in range(5):
        server.store.put(f"many/{number}", b"1")
        server.store.put(f"many/{number}", b"2")
    server.page_size = 3

    def unmarked(_: Request, honest: Reply) -> Reply:
        return replace(honest, body=re.sub(rb"<(Next\w+)>.*?</\1>", b"", honest.body))

    list_all = client.list_objects if kind == "list_objects" else client.list_versions
    expected = await list_all("many/")
    server.behaviours.append(unmarked)
    assert await list_all("many/") == expected
    assert len(expected) == (5 if kind == "list_objects" else 10)


async def test_a_mark_that_comes_again(server: FakeS3Server, client: S3Client) -> None:
    """A server that gives the mark of a page once more is asked for what is behind the last row."""
    for number in range(7):
        server.store.put(f"many/{number}", b"1")
    server.page_size = 2
    marks: list[bytes] = []

    def stuck(_: Request, honest: Reply) -> Reply:
        marks.extend(re.findall(rb"<NextContinuationToken>.*?</NextContinuationToken>", honest.body))
        return replace(honest, body=re.sub(rb"<NextCont.*?</NextContinuationToken>", marks[0], honest.body))

    server.behaviours.append(stuck)
    assert [row.key for row in await client.list_objects("many/")] == [f"many/{number}" for number in range(7)]


@pytest.mark.parametrize("tokens", ["a", "ab", "abc"])
async def test_pages_that_go_round_are_refused(server: FakeS3Server, client: S3Client, tokens: str) -> None:
    """A server that gives a page's mark a second time would be asked without end."""
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
    """A page without rows that is not the last must say where the next one begins: half a listing is none."""
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
def test_a_page_takes_little_memory(page: str) -> None:
    """However a page is made, reading it takes no more than some times its bytes."""
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
            with suppress(StorageError, ValueError):
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
    with suppress(StorageError, ValueError):
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

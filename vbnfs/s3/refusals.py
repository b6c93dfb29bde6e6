"""What a reply means that is not the expected one: by its head, and by S3's words in its body (pure).

What S3's codes and HTTP's statuses mean is the table of codes.py.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from vbnfs.errors import (
    AccessDeniedError,
    ArchivedError,
    BadReplyError,
    BusyError,
    ListingDeniedError,
    NoBucketError,
    ObjectGoneError,
    StorageError,
)
from vbnfs.objects import ObjectVersion
from vbnfs.s3.codes import (
    ARCHIVED,
    DELETED,
    DENIED,
    ENCRYPTED,
    GONE,
    MEANINGS,
    MOVED,
    REDIRECTED,
    REQUESTER_PAYS,
    RESTORING,
    WANTS_TLS,
    Meaning,
    of_status,
)
from vbnfs.s3.replies import Head

_LONGEST_WAIT_SECONDS: Final = 3_600.0  # that a server may ask for
_CODE: Final = re.compile(rb"<Code>\s*(?:[0-9]{3} )?([A-Za-z][A-Za-z0-9.]{0,63})\s*</Code>")
_HTML: Final = re.compile(rb"\s*(?:<!doctype html|<html)", re.IGNORECASE)
# What servers say at a port that is for TLS: nginx, Go's (MinIO, SeaweedFS, Caddy), Apache.
_ASKED_PLAINLY: Final = re.compile(
    rb"plain HTTP request was sent to HTTPS|HTTP request to an HTTPS server|speaking plain HTTP to an SSL"
)
_REGION: Final = re.compile(r"[a-z0-9-]{1,32}")
_REQUESTER_PAYS: Final = re.compile(r"request(?:er)?[- ]?pay", re.IGNORECASE)
_ANOTHER_ANSWERS: Final = (
    "a proxy, a firewall or a login page seems to answer in S3's place: log in to the network, and check the proxy"
    " variables and --endpoint-url"
)


def error_code(body: bytes) -> str:
    """S3's word for an error (`NoSuchVersion`), or '' where the body has none."""
    match = _CODE.search(body)
    return match[1].decode() if match else ""


def error_field(body: bytes, name: str) -> str:
    """The text of another element of S3's error (`Message`, `Region`); '' where the body has none."""
    match = re.search(rb"<%b>([^<]{0,500})</%b>" % (name.encode(), name.encode()), body)
    return match[1].decode(errors="replace").strip() if match else ""


def status_error(
    head: Head, body: bytes, *, expected: int, about: str, method: str, has_version_id: bool
) -> StorageError:
    """What a status that is not the `expected` one means; `body` is the start of the reply's body.

    `has_version_id`: the request had one.
    """
    code = error_code(body)
    if head.status == 400 and has_version_id and (code == "InvalidArgument" or (method == "HEAD" and not code)):
        # AWS: 404 NoSuchVersion, Ceph: 404 NoSuchKey; MinIO, and AWS for an odd id: 400 InvalidArgument.
        # Of these, 400 can mean other things, and the reply to HEAD has no body that would name one.
        meaning = _of_place(head, body, code) or GONE
    else:
        meaning = _meaning(head, body, code, expected)
    return _error(meaning, head, about=about, code=code)


def body_error(body: bytes, *, about: str) -> StorageError:
    """What an error means that came in the body of a 200, as S3's do where the status was sent before."""
    head, code = Head(200, {}), error_code(body)
    return _error(_meaning(head, body, code, 200), head, about=about, code=code)


def _error(meaning: Meaning, head: Head, *, about: str, code: str) -> StorageError:
    text = f"{about}: HTTP {head.status}{f' {code}' if code else ''}: {meaning.cause}"
    if issubclass(meaning.kind, BusyError):
        seconds = retry_after(head.field("retry-after"), head.field("date"))
        return meaning.kind(text, retry_after_seconds=seconds, remedy=meaning.remedy)
    return meaning.kind(text, remedy=meaning.remedy)


def _meaning(head: Head, body: bytes, code: str, expected: int) -> Meaning:
    """By where the reply says that the bucket is, by S3's code, or by its status; with what else it says of it."""
    if head.field("x-amz-delete-marker").lower() == "true" and head.status in {404, 405}:
        return DELETED
    by_code = None if code == "InvalidRange" else MEANINGS.get(code)  # which may be no range's
    known = _of_place(head, body, code) or by_code or of_status(head.status, expected=expected)
    if known is ARCHIVED:
        return _archived(error_field(body, "StorageClass"), head.field("x-amz-restore"))
    if head.status == 400 and _ASKED_PLAINLY.search(body):
        return WANTS_TLS
    if code:
        return _in_its_words(known, body, code)
    if _HTML.match(body):
        cause = f"{known.cause} (a page of HTML came, and not S3's words)"
        return replace(known, cause=cause, remedy=known.remedy if known.kind is BusyError else _ANOTHER_ANSWERS)
    return known


def _in_its_words(known: Meaning, body: bytes, code: str) -> Meaning:
    """With what the server says itself, where the code says little."""
    message = error_field(body, "Message")
    if known is DENIED and _REQUESTER_PAYS.search(message):
        return REQUESTER_PAYS
    if code == "InvalidRequest" and "encryption" in message.lower():  # with a key of the customer's (SSE-C)
        return ENCRYPTED
    if message and (code not in MEANINGS or known.kind is BadReplyError):
        return replace(known, cause=f"{known.cause} ({message!r:.200})")
    return known


def _archived(storage_class: str, restore: str) -> Meaning:
    """An object in an archive, of which x-amz-restore may say that it is being restored."""
    if 'ongoing-request="true"' in restore.replace(" ", ""):
        return RESTORING
    name = f" ({storage_class})" if re.fullmatch(r"[A-Z_]{1,40}", storage_class) else ""
    return replace(ARCHIVED, cause=ARCHIVED.cause.replace("an archive", f"an archive{name}", 1))


def restoring(head: Head, version: ObjectVersion) -> ArchivedError | None:
    """What to say of an object in an archive, by the reply to its HEAD; None where it is not being restored."""
    is_restoring = _archived("", head.field("x-amz-restore")) is RESTORING
    return ArchivedError(f"{version}: {RESTORING.cause}", remedy=RESTORING.remedy) if is_restoring else None


def _of_place(head: Head, body: bytes, code: str) -> Meaning | None:
    """Where the reply says that the bucket is, if that is elsewhere; None if it says no such thing."""
    status, region = head.status, head.field("x-amz-bucket-region") or error_field(body, "Region")
    names_region = status in {301, 308, 400} and code in {"", "AuthorizationHeaderMalformed"}
    has_moved = MEANINGS.get(code) is MOVED or (names_region and region)
    if has_moved and _REGION.fullmatch(region):
        return replace(MOVED, cause=f"the bucket is in the region {region!r}: give --region {region}")
    if not has_moved and (status == 304 or not 300 <= status < 400):
        return None
    kind = MOVED if has_moved else REDIRECTED
    where = region or error_field(body, "Endpoint") or head.field("location")
    if not where:
        return kind
    return replace(kind, cause=f"the server points to {where!r:.200}; check --region and --endpoint-url")


def retry_after(text: str, date: str) -> float | None:
    """Seconds of either form of Retry-After (RFC 9110, 10.2.3), an hour at the most; None for anything else.

    A time is counted from the reply's own `date`: this machine's clock may be wrong.
    """
    if re.fullmatch(r"[0-9]{1,9}", text):
        return min(float(text), _LONGEST_WAIT_SECONDS)
    with suppress(ValueError, OverflowError):
        when, now = (parsedate_to_datetime(one) for one in (text, date))
        seconds = (_in_utc(when) - _in_utc(now)).total_seconds()
        return min(max(0.0, seconds), _LONGEST_WAIT_SECONDS)
    return None


def _in_utc(when: datetime) -> datetime:
    return when.replace(tzinfo=when.tzinfo or UTC)


@contextmanager
def of_the_bucket() -> Iterator[None]:
    """Within, what is forbidden or not there is no single object, but the bucket or a listing of it."""
    try:
        yield
    except AccessDeniedError as error:
        raise ListingDeniedError(str(error), remedy=error.own_remedy) from error
    except ObjectGoneError as error:
        raise NoBucketError(str(error), remedy=error.own_remedy) from error

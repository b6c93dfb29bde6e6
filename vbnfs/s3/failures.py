"""What a failure means: the status of a reply, or an exception, as one of our errors (pure)."""

import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

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
)
from vbnfs.s3.replies import Head

_LONGEST_WAIT_SECONDS: Final = 3_600.0  # that a server may ask for
_GONE_CODES: Final = frozenset({"NoSuchKey", "NoSuchVersion"})

# The status of a reply


def error_code(body: bytes) -> str:
    """S3's word for an error (`NoSuchVersion`), or '' where the body has none."""
    match = re.search(rb"<Code>([A-Za-z]{1,64})</Code>", body)
    return match[1].decode() if match else ""


def status_error(
    head: Head, body: bytes, *, expected: int, about: str, method: str, has_version_id: bool
) -> StorageError:
    """What a status that is not the `expected` one means; `body` is the start of the reply's body.

    `has_version_id`: the request had one.
    """
    status, code = head.status, error_code(body)
    text = f"{about}: HTTP {status}{f' {code}' if code else ''}"
    if status in {408, 429} or (status >= 500 and status != 501):  # 501: the server never does this
        return BusyError(text, retry_after_seconds=retry_after(head.field("retry-after"), head.field("date")))
    if status in {401, 403}:
        return AccessDeniedError(f"{text}: the bucket does not allow anonymous reading of this")
    if code == "NoSuchBucket":
        return NoBucketError(f"{text}: there is no such bucket")
    is_unknown_version = has_version_id and _may_be_unknown_version(status, code, method)
    if status in {404, 410} or code in _GONE_CODES or is_unknown_version:
        return ObjectGoneError(f"{text}: S3 does not have this (any more)")
    return _unusable(head, text, expected)


def _unusable(head: Head, text: str, expected: int) -> BadReplyError:
    """A status that is not how the server answers this question, or not about this object."""
    status = head.status
    if 300 <= status < 400:
        where = head.field("x-amz-bucket-region") or head.field("location") or "elsewhere"
        return MismatchError(f"{text}: the server points to {where!r:.200}; check --region and --endpoint-url")
    if status == 200 and expected == 206:
        return MismatchError(f"{text}: the server ignores Range and sends the whole object")
    if status == 412:
        return ChangedError(f"{text}: the object was replaced since it was listed, and has no version id of its own")
    if status == 416 and expected == 206:
        return ChangedError(f"{text}: the object ends before a range within the size that was listed")
    return BadReplyError(f"{text}: {expected} was expected")


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


def _may_be_unknown_version(status: int, code: str, method: str) -> bool:
    """AWS: 404 NoSuchVersion, Ceph: 404 NoSuchKey; MinIO, and AWS for an odd id: 400 InvalidArgument.

    Of these, 400 can mean other things, and the reply to HEAD has no body that would name one.
    """
    return status == 400 and (code == "InvalidArgument" or method == "HEAD")


@contextmanager
def of_the_bucket() -> Iterator[None]:
    """Within, what is forbidden or not there is no single object, but the bucket or a listing of it."""
    try:
        yield
    except AccessDeniedError as error:
        raise ListingDeniedError(str(error)) from error
    except ObjectGoneError as error:
        raise NoBucketError(str(error)) from error


# An exception


def unreachable(server: str, reason: str) -> TransportError:
    """There is no connection; what was to be asked does not matter."""
    return TransportError(f"{server} cannot be reached: {reason}")


def broken(about: str, server: str, reason: str) -> TransportError:
    """There was a connection, and no whole reply came by it."""
    return TransportError(f"{about}: {reason} (server: {server})")


def reason_of(error: BaseException) -> str:
    """Why something failed, in the system's words where it has some for it."""
    causes = list(_causes(error))
    system = system_reason(error)
    text = next((text for cause in causes if (text := str(cause))), type(error).__name__)
    return f"{text}: {system}" if system and system not in text else text


def system_reason(error: BaseException) -> str:
    """The system's words for the innermost cause that has some, or ''. Others say only what was tried."""
    system = [_words(cause) for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror]
    return system[-1] if system else ""


def verification_of(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """The cause, if it is a certificate that is not trusted."""
    return next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLCertVerificationError)), None)


def _words(error: OSError) -> str:
    """The system's words alone: trio puts the address before those of a connection."""
    has_own_numbers = isinstance(error, ssl.SSLError | socket.gaierror)
    return str(error.strerror) if has_own_numbers or error.errno is None else os.strerror(error.errno)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        error = inner or error.__cause__ or error.__context__

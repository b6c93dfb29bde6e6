"""S3's error codes, and statuses without one: the class of the error, its errno, cause and remedy, and the docs."""

import errno
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from vbnfs.errors import (
    AccessDeniedError,
    ArchivedError,
    BadReplyError,
    BusyError,
    ChangedError,
    MismatchError,
    MovedError,
    NoBucketError,
    ObjectGoneError,
    StorageError,
    with_remedy,
)
from vbnfs.s3.codes import MEANINGS, TABLE, Meaning, of_status
from vbnfs.s3.refusals import status_error
from vbnfs.s3.replies import Head

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "s3-replies.md"

# What Amazon S3's reference gives as the status of each code that a GET, a HEAD or a listing can get.
STATUS: Final = {
    "AccessDenied": 403, "AccountProblem": 403, "AllAccessDisabled": 403, "AuthorizationHeaderMalformed": 400,
    "AuthorizationQueryParametersError": 400, "BadDigest": 400, "ConditionalRequestConflict": 409,
    "ConnectionClosedByRequester": 400, "CredentialsNotSupported": 400, "DeviceNotActiveError": 400,
    "EndpointNotFound": 400, "ExpiredToken": 400, "IllegalLocationConstraintException": 400, "IncompleteBody": 400,
    "IncorrectEndpoint": 400, "InternalError": 500, "InvalidAccessKeyId": 403, "InvalidAccessPoint": 400,
    "InvalidAccessPointAliasError": 400, "InvalidAddressingHeader": 400, "InvalidArgument": 400,
    "InvalidBucketName": 400, "InvalidBucketState": 409, "InvalidDigest": 400, "InvalidHostHeader": 400,
    "InvalidHttpMethod": 400, "InvalidObjectState": 403, "InvalidPayer": 403, "InvalidRange": 416,
    "InvalidRegion": 403, "InvalidRequest": 400, "InvalidSecurity": 403, "InvalidSessionException": 400,
    "InvalidSignature": 400, "InvalidToken": 400, "InvalidURI": 400, "KMS.DisabledException": 400,
    "KMS.InvalidKeyUsageException": 400, "KMS.KMSInvalidStateException": 400, "KMS.NotFoundException": 400,
    "KeyTooLongError": 400, "MalformedXML": 400, "MaxMessageLengthExceeded": 400, "MethodNotAllowed": 405,
    "MissingAuthenticationToken": 403, "MissingSecurityElement": 400, "MissingSecurityHeader": 400,
    "NoSuchAccessPoint": 404, "NoSuchBucket": 404, "NoSuchKey": 404, "NoSuchMultiRegionAccessPoint": 404,
    "NoSuchVersion": 404, "NoTransformationDefined": 404, "NotDeviceOwnerError": 400, "NotImplemented": 501,
    "NotModified": 304, "NotSignedUp": 403, "OperationAborted": 409, "PermanentRedirect": 301,
    "PermanentRedirectControlError": 301, "PreconditionFailed": 412, "Redirect": 307,
    "RequestHeaderSectionTooLarge": 400, "RequestTimeTooSkewed": 403, "RequestTimeout": 400,
    "ResponseInterrupted": 400, "RestoreAlreadyInProgress": 409, "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403, "SlowDown": 503, "TemporaryRedirect": 307, "TokenCodeInvalidError": 400,
    "TokenRefreshRequired": 400, "UnauthorizedAccessError": 403, "UnexpectedContent": 400, "UnexpectedIPError": 403,
    "UnsupportedArgument": 400, "UnsupportedSignature": 400,
}  # fmt: skip


def error_of(status: int, code: str, *, expected: int = 206, message: str = "") -> StorageError:
    body = f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return status_error(Head(status, {}), body, expected=expected, about="x", method="GET", has_version_id=False)


@pytest.mark.parametrize("code", STATUS)
def test_each_code_of_s3_says_cause_and_remedy(code: str) -> None:
    """Each code that S3's reference has for reading is in the table: its message has the cause, then what to do."""
    found, meaning = error_of(STATUS[code], code), MEANINGS[code]
    assert type(found) is meaning.kind
    assert f"HTTP {STATUS[code]} {code}: " in str(found)
    if STATUS[code] not in {301, 307}:  # which say where it points
        assert meaning.cause in str(found)
    assert with_remedy(found) == f"{found}; {found.remedy}"
    assert found.remedy


@pytest.mark.parametrize(
    ("codes", "kind", "number", "words"),
    [
        ("InvalidObjectState", ArchivedError, errno.EACCES, "archive.*restore"),
        ("RestoreAlreadyInProgress", ArchivedError, errno.EACCES, "being restored.*again in some hours"),
        ("RequestPaymentRequired RequestPayerDenied", AccessDeniedError, errno.EACCES, "Requester Pays.*copy"),
        ("AccountProblem AllAccessDisabled InvalidPayer", AccessDeniedError, errno.EACCES, "account.*owner"),
        ("RequestTimeTooSkewed", AccessDeniedError, errno.EACCES, "clock.*timedatectl"),
        ("ExpiredToken InvalidAccessKeyId", AccessDeniedError, errno.EACCES, "credentials.*signs no request"),
        ("PermanentRedirect IncorrectEndpoint", MovedError, errno.EIO, "another region.*--region"),
        ("NoSuchBucket InvalidBucketName", NoBucketError, errno.ESTALE, "no such bucket.*--bucket"),
        ("NoSuchAccessPoint InvalidAccessPoint", NoBucketError, errno.ESTALE, "access point.*alias"),
        ("NoTransformationDefined LambdaTimeout", BadReplyError, errno.EIO, "Object Lambda.*--bucket"),
        ("NoSuchKey NoSuchVersion", ObjectGoneError, errno.ESTALE, "does not have this.*another dataset version"),
        ("SlowDown ServiceUnavailable InternalError RequestTimeout", BusyError, errno.EIO, "again later"),
        ("KMS.DisabledException", AccessDeniedError, errno.EACCES, "key that encrypts.*owner"),
        ("BadDigest", MismatchError, errno.EIO, "changed on its way"),
        ("NotModified", MismatchError, errno.EIO, "a cache on the way"),
        ("PreconditionFailed InvalidRange", ChangedError, errno.ESTALE, "listed"),
    ],
)
def test_the_errors_of_codes(codes: str, kind: type[StorageError], number: int, words: str) -> None:
    """Codes that mean different things to a reader differ in class, errno or words."""
    for code in codes.split():
        found = error_of(STATUS.get(code, 400), code)
        assert (type(found), found.errno) == (kind, number)
        with pytest.raises(StorageError, match=f"(?s){words}"):
            raise StorageError(with_remedy(found))


def test_a_code_counts_more_than_its_status() -> None:
    """Servers differ in the statuses that they give with a code."""
    for status in (400, 403, 404, 409, 418, 500, 503):
        assert type(error_of(status, "SlowDown")) is BusyError
        assert type(error_of(status, "NoSuchBucket")) is NoBucketError
    assert type(error_of(503, "503 SlowDown")) is BusyError


def test_an_unknown_code_has_the_servers_words() -> None:
    """A code that is not known means what its status does; what the server says stands in the message."""
    found = error_of(403, "Strange", message="the moon is full")
    assert type(found) is AccessDeniedError
    assert "HTTP 403 Strange" in str(found)
    assert "'the moon is full'" in str(found)


def test_requester_pays_is_known_by_the_words() -> None:
    """S3 itself and others say AccessDenied to anonymous readers of such a bucket, and the reason in the message."""
    for message in ("Bucket is requester pays, no x-amz-request-payer header", "pay-by-requester: request-payer"):
        assert "Requester Pays" in str(error_of(403, "AccessDenied", message=message))
    assert "Requester Pays" not in str(error_of(403, "AccessDenied", message="Access Denied"))


def test_an_object_encrypted_with_a_customers_key() -> None:
    """Objects that need a key of the customer's (SSE-C) are refused with InvalidRequest, and known by the words."""
    message = "The object was stored using a form of Server Side Encryption. Provide the parameters."
    assert "encrypts" in str(error_of(400, "InvalidRequest", message=message))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (203, MismatchError), (304, MismatchError), (401, AccessDeniedError), (402, AccessDeniedError),
        (407, BadReplyError), (410, ObjectGoneError), (414, BadReplyError), (421, MismatchError),
        (425, BusyError), (431, BadReplyError),
        (451, AccessDeniedError), (505, BadReplyError), (511, MismatchError), (599, BusyError), (299, BadReplyError),
    ],
)  # fmt: skip
def test_statuses_without_a_code(status: int, kind: type[StorageError]) -> None:
    """What no code explains is known by its status (RFC 9110, 15; RFC 6585, 6; RFC 7725)."""
    assert type(status_error(
        Head(status, {}), b"", expected=206, about="x", method="GET", has_version_id=False
    )) is kind  # fmt: skip


# docs/s3-replies.md


def rows_of_codes() -> Iterator[str]:
    """A row for each meaning, in the table's order: codes, cause, remedy, errno."""
    for meaning, group in itertools.groupby(TABLE, key=lambda row: row[0]):
        codes = ", ".join(f"`{code}`" for _, words in group for code in words.split())
        yield _row(codes, meaning)


def rows_of_statuses() -> Iterator[str]:
    """A row for each meaning of statuses that no code explains."""
    found: dict[Meaning, list[int]] = {}
    for status in (200, 203, 301, 302, 303, 304, 307, 308, *range(400, 432), 451, 500, 501, 503, 505, 511):
        meaning = of_status(status, expected=206)
        if "was expected" not in meaning.cause:
            found.setdefault(meaning, []).append(status)
    for meaning, statuses in found.items():
        yield _row(", ".join(map(str, statuses)), meaning)


def _row(first: str, meaning: Meaning) -> str:
    return f"| {first} | {meaning.cause} | {meaning.what_to_do} | {errno.errorcode[meaning.kind.errno]} |"


@pytest.mark.parametrize("rows", [rows_of_codes, rows_of_statuses])
def test_the_documented_table_is_the_code(rows: Callable[[], Iterator[str]]) -> None:
    """docs/s3-replies.md has these rows, word for word, and in this order, in one table."""
    assert "\n" + "\n".join(rows()) + "\n\n" in DOCUMENT.read_text(encoding="utf-8")

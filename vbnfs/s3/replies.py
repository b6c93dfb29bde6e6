"""What a reply has to be before anything of it is believed (pure).

References: Amazon S3 API (GetObject, HeadObject), RFC 9110 (8.8.3, ETag; 14.4, Content-Range).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from vbnfs.errors import BadReplyError, ChangedError, MismatchError
from vbnfs.objects import ObjectAttributes, ObjectVersion, RangeRequest

# 48.8 TiB: 10,000 parts of 5 GiB (docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html)
MAX_OBJECT_BYTES: Final = 10_000 * (5 << 30)
MAX_ERROR_BYTES: Final = 8 << 10  # of an error's body are read
_MAX_TIME_NS: Final = (1 << 63) - 1  # what st_mtim can hold
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Head:
    """A reply's head: its status, and its fields by their names in small letters."""

    status: int
    fields: Mapping[str, str]

    def field(self, name: str) -> str:
        """A field's text; '' where the reply does not have it."""
        return self.fields.get(name, "")


def check_range(head: Head, request: RangeRequest) -> None:
    """Check a 206: the version, the range to the byte, the object's size, and that the body is not encoded.

    Raises `ChangedError` for another object than was listed, `MismatchError` for another range of it.
    """
    version, byte_range, size_bytes = request.version, request.byte_range, request.size_bytes
    check_version(head, version)
    text = head.field("content-range")
    match = _CONTENT_RANGE.fullmatch(text)
    if match is not None and int(match[3]) != size_bytes:
        raise ChangedError(f"{version}: the object has {match[3]} bytes, but {size_bytes} were listed")
    if match is None or (int(match[1]), int(match[2]) + 1) != (byte_range.start, byte_range.stop):
        raise MismatchError(
            f"{version}: bytes {byte_range.start}-{byte_range.stop - 1} were asked for; Content-Range is {text!r}"
        )
    length = head.fields.get("content-length")
    if length is not None and length != str(len(byte_range)):
        raise MismatchError(f"{version}: Content-Length {length} for a range of {len(byte_range)} bytes")
    check_encoding(head, str(version))


def check_encoding(head: Head, about: str) -> None:
    """Raises `MismatchError` for a body that is encoded (RFC 9110, 8.4): no encoding was accepted."""
    encoding = head.field("content-encoding")
    if encoding.lower() not in {"", "identity"}:
        raise MismatchError(f"{about}: the body is encoded ({encoding!r:.40}), though no encoding was accepted")


def check_version(head: Head, version: ObjectVersion) -> None:
    """Raises `ChangedError` for a reply that names another ETag or version id.

    A server may leave the version id out, as for what was stored before the bucket had versions.
    """
    etag = head.fields.get("etag")
    if etag is not None and version.etag is not None and etag_value(etag) != version.etag:
        raise ChangedError(f"{version}: the server sent another object (ETag {etag!r:.200}) than was listed")
    sent = head.fields.get("x-amz-version-id")
    if sent is not None and version.version_id is not None and sent != version.version_id:
        raise ChangedError(f"{version}: the server sent version {sent!r:.200}")


def head_attributes(head: Head, version: ObjectVersion) -> ObjectAttributes:
    """What the reply to HEAD says of an object version. Raises `BadReplyError`."""
    check_version(head, version)
    try:
        modified = parsedate_to_datetime(head.fields["last-modified"])
        return attributes(head.fields["content-length"], modified, etag_value(head.field("etag")))
    except (KeyError, ValueError, OverflowError) as error:
        raise BadReplyError(f"{version}: HEAD gave no usable size or time: {error}") from error


def attributes(size: str, modified: datetime, etag: str) -> ObjectAttributes:
    """A size, in digits, and a time that a file can have. Raises `ValueError` for others.

    The time has whole seconds, since HEAD has no more: it must not depend on how it was asked for.
    """
    if not re.fullmatch(r"[0-9]{1,20}", size) or int(size) > MAX_OBJECT_BYTES:
        raise ValueError(f"a size of {size!r:.40}")
    if modified.tzinfo is None:
        modified = modified.replace(tzinfo=UTC)
    modified_ns = int(modified.timestamp()) * 1_000_000_000
    if not 0 <= modified_ns <= _MAX_TIME_NS:
        raise ValueError(f"a time of {modified}")
    return ObjectAttributes(int(size), modified_ns, etag)


def etag_value(text: str) -> str:
    """An ETag's value, without its quotes; '' for a weak one, which names no bytes (RFC 9110, 8.8.3)."""
    return "" if text.startswith("W/") else text.strip('"')

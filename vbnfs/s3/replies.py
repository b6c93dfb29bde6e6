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
from vbnfs.objects import ByteRange, ObjectAttributes, ObjectVersion, RangeRequest

# 48.8 TiB: 10,000 parts of 5 GiB (docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html)
MAX_OBJECT_BYTES: Final = 10_000 * (5 << 30)
MAX_ERROR_BYTES: Final = 8 << 10  # of an error's body are read
_MAX_TIME_NS: Final = (1 << 63) - 1  # what st_mtim can hold
# "bytes" in letters of either case (14.1), blanks where a server may have put some, and `*` for a size not known.
_CONTENT_RANGE: Final = re.compile(
    r"bytes[ \t]+(\d{1,19})[ \t]*-[ \t]*(\d{1,19})[ \t]*/[ \t]*(\d{1,19}|\*)", re.ASCII | re.IGNORECASE
)
_TRANSFORMATION: Final = re.compile(r"(?:^|,)\s*214(?![0-9])")
MOST_SKIPPED_BYTES: Final = 1 << 20  # before a range, where the whole object comes instead of it


@dataclass(frozen=True, slots=True)
class Head:
    """A reply's head: its status, and its fields by their names in small letters."""

    status: int
    fields: Mapping[str, str]

    def field(self, name: str) -> str:
        """A field's text; '' where the reply does not have it."""
        return self.fields.get(name, "")


def check_range(head: Head, request: RangeRequest) -> ByteRange:
    """Check a 206: the version, the range to the byte, the object's size, and that the body is as it is stored.

    Returns what the body brings: the range that was asked for, or its beginning, which a server may send alone (RFC
    9110, 15.3.7). Raises `ChangedError` for another object than was listed, `MismatchError` for another range of it.
    """
    version, byte_range, size_bytes = request.version, request.byte_range, request.size_bytes
    check_version(head, version)
    text = head.field("content-range")
    match = _CONTENT_RANGE.fullmatch(text)
    size = None if match is None or match[3] == "*" else int(match[3])
    if size is not None and size != size_bytes:
        raise ChangedError(f"{version}: the object has {size} bytes, but {size_bytes} were listed")
    if match is None or not (int(match[1]) == byte_range.start <= int(match[2]) < byte_range.stop):
        wanted = f"{version}: bytes {byte_range.start}-{byte_range.stop - 1} were asked for"
        if head.field("content-type").lower().startswith("multipart/byteranges"):
            raise MismatchError(f"{wanted}, in one part; a body of several parts came (multipart/byteranges)")
        raise MismatchError(f"{wanted}; Content-Range is {text!r:.200}")
    if size is None and not _names(head, version):
        raise MismatchError(f"{version}: neither the size nor the version is said; Content-Range is {text!r:.200}")
    sent = ByteRange(byte_range.start, int(match[2]) + 1)
    length = content_length(head)
    if length not in {None, len(sent)}:
        raise MismatchError(f"{version}: Content-Length {length} for a range of {len(sent)} bytes")
    check_encoding(head, str(version), is_object=True)
    return sent


def is_whole(head: Head, request: RangeRequest) -> bool:
    """Whether a 200 or 203 is the whole object, and what stands in it before the range is little (RFC 9110, 14.2).

    A server may ignore Range. Raises `ChangedError` for another object than was listed.
    """
    if request.byte_range.start > MOST_SKIPPED_BYTES or "content-range" in head.fields:
        return False
    length = content_length(head)
    if length != request.size_bytes and not (length is None and _names(head, request.version)):
        return False
    check_version(head, request.version)
    check_encoding(head, str(request.version), is_object=True)
    return True


def content_length(head: Head) -> int | None:
    """The length that a reply gives its body; None where it gives none. -1 for a text that is no length.

    Proxies may repeat it, with commas between (RFC 9110, 8.6).
    """
    if (text := head.fields.get("content-length")) is None:
        return None
    lengths = {part.strip() for part in text.split(",")}
    [length] = lengths if len(lengths) == 1 else {""}
    return int(length) if re.fullmatch(r"[0-9]{1,19}", length) else -1


def check_encoding(head: Head, about: str, *, is_object: bool = False) -> None:
    """Raises `MismatchError` for a body that was encoded on its way (RFC 9110, 8.4): no encoding was accepted.

    So it is for one of which a proxy says that it has changed it: only the object's own length shows that it has not.
    An object may have been stored with an encoding among its metadata: S3 gives that back, and the bytes are the
    object's. Then they have the object's length, which is given before. What encodes a body on its way does not know
    how long that gets. `aws-chunked` is S3's own, of uploads: nothing on the way applies it.
    """
    transfer = {word.strip().lower() for word in head.field("transfer-encoding").split(",")}
    if transfer - {"", "chunked", "identity"}:
        raise MismatchError(f"{about}: the body is encoded for the transfer, though no encoding was accepted")
    text = head.field("content-encoding")
    encodings = {word.strip().lower() for word in text.split(",")} - {"", "identity"}
    if is_object and "content-length" in head.fields:
        return
    if was_transformed(head):
        raise MismatchError(f"{about}: a proxy says that it has changed the body (HTTP 203, or Warning 214)")
    if encodings - ({"aws-chunked"} if is_object else set()):
        raise MismatchError(f"{about}: the body is encoded ({text!r:.40}), though no encoding was accepted")


def was_transformed(head: Head) -> bool:
    """Whether a proxy says that it has changed what the server sent (RFC 9110, 15.3.4; RFC 7234, 5.5.6)."""
    return head.status == 203 or _TRANSFORMATION.search(head.field("warning")) is not None


def check_version(head: Head, version: ObjectVersion) -> None:
    """Raises `ChangedError` for a reply that names another ETag or version id.

    A server may leave the version id out, as for what was stored before the bucket had versions. A proxy may make an
    ETag a weak one (RFC 9110, 8.8.1), which still tells objects apart.
    """
    etag = head.field("etag")
    if etag and version.etag is not None and etag.removeprefix("W/").strip('"') != version.etag:
        raise ChangedError(f"{version}: the server sent another object (ETag {etag!r:.200}) than was listed")
    sent = head.field("x-amz-version-id")
    if sent and version.version_id is not None and sent != version.version_id:
        raise ChangedError(f"{version}: the server sent version {sent!r:.200}")


def _names(head: Head, version: ObjectVersion) -> bool:
    """Whether a reply names the very version that was asked for."""
    has_id = version.is_immutable and head.field("x-amz-version-id") == version.version_id
    return has_id or (version.etag is not None and etag_value(head.field("etag")) == version.etag)


def says_size(head: Head) -> bool:
    """Whether the reply to HEAD answers it: it may have no size (RFC 9110, 9.3.2), and some servers refuse HEAD.

    The size that a proxy gives that changes bodies may be that of the changed one.
    """
    is_refused = head.status in {405, 501} and "x-amz-delete-marker" not in head.fields
    return not is_refused and not was_transformed(head) and (head.status != 200 or "content-length" in head.fields)


def head_attributes(head: Head, version: ObjectVersion) -> ObjectAttributes:
    """What the reply to HEAD, or to a GET for the first byte, says of an object version. Raises `BadReplyError`."""
    check_version(head, version)
    if was_transformed(head) and "content-range" not in head.fields:
        raise MismatchError(
            f"{version}: a proxy says that it has changed the body, so its length is not the object's"
        )
    try:
        size = head.field("content-range").rpartition("/")[2] or head.fields["content-length"]
        modified = parsedate_to_datetime(head.fields["last-modified"])
        return attributes(size, modified, etag_value(head.field("etag")))
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

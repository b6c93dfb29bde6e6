"""Reading the pages of a bucket's listings (pure): XML to rows, within bounds for whatever a server sends.

How large a page may be, and how many pages and rows a listing may have, are constants of client.py.

A row that cannot be read (no size, no time, an odd key) is left out, and named: it hides none of the others. A page
that is no listing, or of another folder, is refused as a whole.

References: Amazon S3 API (ListObjectsV2, ListObjectVersions).
"""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final, Generic, TypeVar
from urllib.parse import unquote_plus
from xml.sax import SAXException
from xml.sax.handler import ContentHandler

import defusedxml.sax
from defusedxml.common import DefusedXmlException

from vbnfs.errors import BadReplyError, MismatchError
from vbnfs.objects import ListedObject, ListedVersion, ObjectAttributes, ObjectVersion
from vbnfs.s3.refusals import body_error
from vbnfs.s3.replies import attributes, etag_value

Row = TypeVar("Row")

# Characters in a page that begin or end an element, or give it an attribute; 1,000 rows have 30,000.
_MAX_MARKUP: Final = 100_000
_MAX_DEPTH: Final = 8  # of elements; rows have 4
_NO_CHARACTER: Final = "\ufffd"  # stands for what is none
# What XML 1.0 does not allow (2.2, Char), plain or by its number. Some servers write keys with it as they are.
_NOT_IN_XML: Final = re.compile(
    r"[\x01-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|&#(?:0*(?:[1-8]|1[124-9]|2\d|3[01])|[xX]0*(?:[1-8bcefBCEF]|1[0-9a-fA-F]));"
)
_MOST_NAMED: Final = 20  # rows that are left out, of a page


class Element:
    """A page of a listing, or a row of it: the texts in it by their elements' names, the first of each."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.texts: dict[str, str] = {}
        self.rows: list[Element] = []

    def findtext(self, name: str, default: str = "") -> str:
        """The text of an element; `default` where there is none."""
        return self.texts.get(name, default)


class _PageReader(ContentHandler):
    """Reads a page as it is parsed, without a tree: a server that nests or repeats elements makes nothing large."""

    def __init__(self, row_tag: str) -> None:
        super().__init__()
        self.page = Element("")
        self._row_tag = row_tag
        self._row: Element | None = None
        self._depth = 0
        self._text: list[str] = []

    def startElement(self, name: str, attrs: object) -> None:  # noqa: N802 - the library's own names
        """See `ContentHandler`."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError(f"more than {_MAX_DEPTH} levels")
        tag = name.rpartition(":")[2]
        if self._depth == 1:
            self.page.tag = tag
        elif self._depth == 2 and tag == self._row_tag:
            self._row = Element(tag)
            self.page.rows.append(self._row)
        self._text.clear()

    def characters(self, content: str) -> None:
        """See `ContentHandler`."""
        self._text.append(content)

    def endElement(self, name: str) -> None:  # noqa: N802
        """See `ContentHandler`."""
        part = self.page if self._row is None else self._row
        if self._depth == (2 if self._row is None else 3):
            part.texts.setdefault(name.rpartition(":")[2], "".join(self._text))
        self._text.clear()
        if self._depth == 2:
            self._row = None
        self._depth -= 1


def parse_xml(body: bytes, root_tag: str, row_tag: str, *, about: str) -> Element:
    """A page of an S3 listing; namespaces play no part. Entities and DTDs are refused (`BadReplyError`).

    Raises what an S3 error means that comes in place of the page.
    """
    try:
        if body.count(b"<") + body.count(b"=") > _MAX_MARKUP:
            raise ValueError(f"more than {_MAX_MARKUP:,} elements and attributes")
        page = _parsed(body, row_tag)
    except (DefusedXmlException, SAXException, ValueError, LookupError) as error:
        raise BadReplyError(f"{about}: not an S3 listing: {error!r:.200}") from error
    if page.tag == "Error" and page.findtext("Code"):
        raise body_error(body, about=about)
    if page.tag != root_tag:
        raise BadReplyError(f"{about}: not an S3 listing: <{page.tag:.40}>, and not <{root_tag}>")
    return page


def _parsed(body: bytes, row_tag: str) -> Element:
    """The page; where a key has characters that XML does not have, without these."""
    reader = _PageReader(row_tag)
    try:
        defusedxml.sax.parseString(body, reader, forbid_dtd=True)
    except SAXException:
        mended = _NOT_IN_XML.sub(_NO_CHARACTER, body.decode(errors="replace")).encode()
        if mended == body:
            raise
        reader = _PageReader(row_tag)
        defusedxml.sax.parseString(mended, reader, forbid_dtd=True)
    return reader.page


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """A page of a listing: its rows, and in words why others are left out.

    `following` is the query of the next page, empty at the end. `behind` is that of what comes behind the last row:
    for a server that does not say where the next page begins, or says it again; empty where there is no row.
    """

    rows: list[Row]
    left_out: list[str]
    following: dict[str, str]
    behind: dict[str, str]


@dataclass(frozen=True, slots=True)
class Listing(Generic[Row]):
    """A kind of listing: its elements' names, and how to read them.

    `following` is the query of the page after one, as that says it; `behind` that of what comes behind a key and a
    version id.
    """

    root: str
    element: str
    row: Callable[[Element, Element], Row]
    following: Callable[[Element], dict[str, str]]
    behind: Callable[[str, str], dict[str, str]]

    def read(self, body: bytes, *, prefix: str, about: str) -> Page[Row]:
        """A page. Raises `BadReplyError` for what is none, `MismatchError` for another folder's."""
        page = parse_xml(body, self.root, self.element, about=about)
        rows: list[Row] = []
        left_out: list[str] = []
        elsewhere: list[str] = []
        for one in page.rows:
            try:
                if (key := _key(one, page)).startswith(prefix):
                    rows.append(self.row(one, page))
                else:
                    elsewhere.append(f"{key!r:.200}")
            except (BadReplyError, ValueError) as error:
                left_out.append(f"{one.findtext('Key')!r:.200}: {error}")
        if elsewhere and not rows and not left_out:
            raise MismatchError(f"{about}: {elsewhere[0]} is listed, which is not below that")
        left_out += [f"{key}: not below {prefix!r:.200}" for key in elsewhere]
        behind = self._behind_the_last(page)
        return Page(rows, left_out[:_MOST_NAMED], self._following(page, behind, about), behind)

    def _following(self, page: Element, behind: dict[str, str], about: str) -> dict[str, str]:
        if page.findtext("IsTruncated").strip().lower() != "true":
            return {}
        if query := self.following(page) or behind:
            return query
        raise BadReplyError(f"{about}: not the last page, and it does not say where the next one begins (Next...)")

    def _behind_the_last(self, page: Element) -> dict[str, str]:
        for last in page.rows[::-1]:
            with suppress(BadReplyError, ValueError):
                return self.behind(_key(last, page), last.findtext("VersionId"))
        return {}


def _next_objects(page: Element) -> dict[str, str]:
    token = page.findtext("NextContinuationToken")
    return {"continuation-token": token} if token else {}


def _next_versions(page: Element) -> dict[str, str]:
    key = page.findtext("NextKeyMarker")
    return _behind_version(_decoded(key, page), page.findtext("NextVersionIdMarker")) if key else {}


def _behind_object(key: str, _version_id: str) -> dict[str, str]:
    return {"start-after": key}


def _behind_version(key: str, version_id: str) -> dict[str, str]:
    return {"key-marker": key, **({"version-id-marker": version_id} if version_id else {})}


def _listed_object(row: Element, page: Element) -> ListedObject:
    return ListedObject(_key(row, page), _row_attributes(row))


def _listed_version(row: Element, page: Element) -> ListedVersion:
    return ListedVersion(ObjectVersion(_key(row, page), _field(row, "VersionId")), _row_attributes(row))


def _key(row: Element, page: Element) -> str:
    """The key of a row. Raises `BadReplyError` where there is none, or it is not whole."""
    key = _decoded(_field(row, "Key"), page)
    if _NO_CHARACTER in key:
        raise BadReplyError("a key that cannot be read")
    return key


def _decoded(key: str, page: Element) -> str:
    """Keys are percent-encoded where the server says that it did so (`encoding-type=url`). Raises `ValueError`."""
    return unquote_plus(key, errors="strict") if page.findtext("EncodingType") == "url" else key


def _row_attributes(row: Element) -> ObjectAttributes:
    try:
        size, modified = _field(row, "Size"), _time(_field(row, "LastModified"))
        return attributes(size, modified, etag_value(row.findtext("ETag", "")))
    except (ValueError, OverflowError) as error:
        raise BadReplyError(f"no usable size or time: {error}") from error


def _time(text: str) -> datetime:
    """A time as S3 writes it (ISO 8601), or as HTTP does (RFC 9110, 5.6.7). Raises `ValueError`."""
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    return parsedate_to_datetime(text)


def _field(element: Element, name: str) -> str:
    text = element.findtext(name)
    if not text:
        raise BadReplyError(f"no {name}")
    return text


OBJECTS: Final = Listing("ListBucketResult", "Contents", _listed_object, _next_objects, _behind_object)
VERSIONS: Final = Listing("ListVersionsResult", "Version", _listed_version, _next_versions, _behind_version)

"""Reading the pages of a bucket's listings (pure): XML to rows, within bounds for whatever a server sends.

How large a page may be, and how many pages and rows a listing may have, are constants of client.py.

References: Amazon S3 API (ListObjectsV2, ListObjectVersions).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, TypeVar
from urllib.parse import unquote_plus
from xml.sax import SAXException
from xml.sax.handler import ContentHandler

import defusedxml.sax
from defusedxml.common import DefusedXmlException

from vbnfs.errors import BadReplyError, MismatchError
from vbnfs.objects import ListedObject, ListedVersion, ObjectAttributes, ObjectVersion
from vbnfs.s3.replies import attributes, etag_value

Row = TypeVar("Row")

# Characters in a page that begin or end an element, or give it an attribute; 1,000 rows have 30,000.
_MAX_MARKUP: Final = 100_000
_MAX_DEPTH: Final = 8  # of elements; rows have 4


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
    """A page of an S3 listing; namespaces play no part. Entities and DTDs are refused (`BadReplyError`)."""
    reader = _PageReader(row_tag)
    try:
        if body.count(b"<") + body.count(b"=") > _MAX_MARKUP:
            raise ValueError(f"more than {_MAX_MARKUP:,} elements and attributes")
        defusedxml.sax.parseString(body, reader, forbid_dtd=True)
    except (DefusedXmlException, SAXException, ValueError, LookupError) as error:
        raise BadReplyError(f"{about}: not an S3 listing: {error!r:.200}") from error
    if reader.page.tag != root_tag:
        raise BadReplyError(f"{about}: not an S3 listing: <{reader.page.tag:.40}>, and not <{root_tag}>")
    return reader.page


@dataclass(frozen=True, slots=True)
class Listing(Generic[Row]):
    """A kind of listing: its elements' names, and how to read them. `following`: the query of the page after one."""

    root: str
    element: str
    row: Callable[[Element, Element], Row]
    following: Callable[[Element], dict[str, str]]

    def read(self, body: bytes, *, prefix: str, about: str) -> tuple[list[Row], dict[str, str]]:
        """The rows of a page, and the query of the next one; empty at the end. Raises `BadReplyError`."""
        page = parse_xml(body, self.root, self.element, about=about)
        for row in page.rows:
            if not _decoded(_field(row, "Key"), page).startswith(prefix):
                raise MismatchError(f"{about}: {row.findtext('Key')!r:.200} is listed, which is not below that")
        return [self.row(row, page) for row in page.rows], self.following(page)


def _next_objects(page: Element) -> dict[str, str]:
    if page.findtext("IsTruncated") != "true":
        return {}
    return {"continuation-token": _field(page, "NextContinuationToken")}


def _next_versions(page: Element) -> dict[str, str]:
    if page.findtext("IsTruncated") != "true":
        return {}
    marker = {"key-marker": _decoded(_field(page, "NextKeyMarker"), page)}
    if version_id := page.findtext("NextVersionIdMarker"):
        marker["version-id-marker"] = version_id
    return marker


def _listed_object(row: Element, page: Element) -> ListedObject:
    return ListedObject(_decoded(_field(row, "Key"), page), _row_attributes(row))


def _listed_version(row: Element, page: Element) -> ListedVersion:
    version = ObjectVersion(_decoded(_field(row, "Key"), page), _field(row, "VersionId"))
    return ListedVersion(version, _row_attributes(row))


def _decoded(key: str, page: Element) -> str:
    """Keys are percent-encoded where the server says that it did so (`encoding-type=url`)."""
    return unquote_plus(key) if page.findtext("EncodingType") == "url" else key


def _row_attributes(row: Element) -> ObjectAttributes:
    try:
        modified = datetime.fromisoformat(_field(row, "LastModified"))
        return attributes(_field(row, "Size"), modified, etag_value(row.findtext("ETag", "")))
    except ValueError as error:
        raise BadReplyError(f"listing: {row.findtext('Key')!r:.200}: no usable size or time: {error}") from error


def _field(element: Element, name: str) -> str:
    text = element.findtext(name)
    if not text:
        raise BadReplyError(f"listing: a row without {name}")
    return text


OBJECTS: Final = Listing("ListBucketResult", "Contents", _listed_object, _next_objects)
VERSIONS: Final = Listing("ListVersionsResult", "Version", _listed_version, _next_versions)

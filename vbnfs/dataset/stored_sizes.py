"""What earlier processes learned of object versions: sizes, times and ETags, below the cache directory.

    attributes    from listings: [[key, version id, bytes, nanoseconds, ETag], ...], replaced as a whole
    heads         from HEAD: such a row in each line, appended; where both files have a row, this one is right

Reading them parses JSON, a tenth of a second for a release of the real size: every method is called in a thread.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from vbnfs.dataset.stored_files import StoredFolder
from vbnfs.objects import ObjectAttributes, ObjectVersion

AttributesTable = dict[ObjectVersion, ObjectAttributes]

_LISTED: Final = "attributes"
_HEADS: Final = "heads"


class StoredSizes:
    """The two files in `folder`. No method raises `OSError`: a damaged file counts as absent."""

    def __init__(self, folder: StoredFolder) -> None:
        self._folder = folder
        self._complete: bytes | None = None  # digest of `attributes` when it was last seen to lack nothing

    def have_listing(self) -> bool:
        """Whether rows of a listing are stored."""
        return (self._folder / _LISTED).is_file()

    def read(self) -> AttributesTable:
        """All rows of both files."""
        rows = attribute_rows(self._folder.read(_LISTED) or b"[]")
        for version, row in self._read_heads().items():
            if version not in rows or row.etag is not None:
                rows[version] = row
        return rows

    def add_listed(self, rows: Mapping[ObjectVersion, ObjectAttributes]) -> None:
        """Store rows of a listing, beside those that other processes have stored."""
        self._write({**self.read(), **rows})

    def add_head(self, version: ObjectVersion, attributes: ObjectAttributes) -> None:
        """Store the reply to a HEAD."""
        self._folder.append_line(_HEADS, json.dumps(_row(version, attributes)).encode())

    def restore(self, known: AttributesTable, heads: Mapping[ObjectVersion, ObjectAttributes]) -> None:
        """Store again what the disk lacks: it may have been full, or emptied.

        `heads` are those of `known` that HEAD returned to this process. If `attributes` is as it was at the last
        call, only `heads` is read, which is short.
        """
        digest = self._digest()
        if known and digest != self._complete:
            stored = self.read()
            if not known.keys() <= stored.keys():
                self._write({**stored, **known})
                digest = self._digest()
            self._complete = digest
        elif heads:
            stored = self._read_heads()
            for version in heads.keys() - stored.keys():
                self.add_head(version, heads[version])

    def _read_heads(self) -> AttributesTable:
        rows: AttributesTable = {}
        for line in self._folder.read_lines(_HEADS):
            for version, row in attribute_rows(b"[%s]" % line).items():
                if version not in rows or row.etag is not None:
                    rows[version] = row
        return rows

    def _write(self, table: AttributesTable) -> None:
        rows = [_row(version, attributes) for version, attributes in table.items()]
        self._folder.write(_LISTED, json.dumps(rows).encode())

    def _digest(self) -> bytes | None:
        data = self._folder.read(_LISTED)
        return None if data is None else hashlib.blake2b(data, digest_size=16).digest()


def stored_rows(data: bytes, *, length: int = 4) -> list[list[Any]]:
    """The rows of a stored table with `length` columns; none for anything else, which is fetched again."""
    try:
        rows = json.loads(data)
    except ValueError:
        return []
    are_rows = isinstance(rows, list) and all(isinstance(row, list) and len(row) == length for row in rows)
    return rows if are_rows else []


def attribute_rows(data: bytes) -> AttributesTable:
    """Stored sizes and times. Rows of four columns are from before ETags were stored."""
    rows = [*stored_rows(data, length=4), *stored_rows(data, length=5)]
    return {ObjectVersion(key, id_): ObjectAttributes(*attributes) for key, id_, *attributes in rows}


def _row(version: ObjectVersion, attributes: ObjectAttributes) -> list[str | int | None]:
    return [version.key, version.version_id, attributes.size_bytes, attributes.modified_ns, attributes.etag]

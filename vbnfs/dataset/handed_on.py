"""What is known of a dataset, as a file that a cache elsewhere can take in: it may never have reached S3.

    {"format": 1, "bucket": ..., "project": ...,
     "manifests": [[key, ETag, bytes, nanoseconds], ...],                   as ListObjectsV2 had them
     "objects": [[key, version id, bytes, nanoseconds, ETag], ...]}         sizes and times of all object versions

All versions of the dataset are in it: what a content is called in a cache depends on the versions that came before.
It comes from outside: what takes it in goes by it only where it knows nothing better, and asks S3 at the next chance.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from vbnfs.dataset.manifest import version_of_file_name
from vbnfs.dataset.names import check_printable
from vbnfs.dataset.stored_sizes import AttributesTable
from vbnfs.errors import DatasetError
from vbnfs.objects import ListedObject, ObjectAttributes, ObjectVersion

FORMAT: Final = 1
MAX_BYTES: Final = 64 << 20  # of 250,000 objects; the real ones have under 2 MB
_MOST_MANIFESTS: Final = 1_000
_MOST_BYTES: Final = 5 << 40  # of an object (S3 User Guide, "Uploading objects")
_MOST_NS: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class HandedOn:
    """The manifests of the dataset `project` in `bucket`, and what is known of its object versions."""

    bucket: str
    project: str
    manifests: tuple[ListedObject, ...]
    objects: AttributesTable

    def encode(self) -> bytes:
        """The file."""
        manifests = [[o.key, o.etag, o.attributes.size_bytes, o.attributes.modified_ns] for o in self.manifests]
        objects = [[v.key, v.version_id, a.size_bytes, a.modified_ns, a.etag] for v, a in self.objects.items()]
        about = {"format": FORMAT, "bucket": self.bucket, "project": self.project}
        return json.dumps({**about, "manifests": manifests, "objects": objects}).encode()

    def joined(self, earlier: "HandedOn") -> "HandedOn":
        """The same, and what an earlier one of the dataset knew besides."""
        keys = {one.key for one in self.manifests}
        more = tuple(one for one in earlier.manifests if one.key not in keys)
        return HandedOn(self.bucket, self.project, self.manifests + more, {**earlier.objects, **self.objects})


def file_name_of(manifest: ListedObject) -> str:
    """The name of a manifest's file."""
    return manifest.key.rpartition("/")[2]


def decode(data: bytes) -> HandedOn:
    """What `HandedOn.encode` gave. Raises `DatasetError` for anything else."""
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r} instead of {FORMAT}")
        manifests = tuple(_manifest(row) for row in document["manifests"])
        if len(manifests) > _MOST_MANIFESTS:
            raise ValueError(f"{len(manifests):,} manifests; at most {_MOST_MANIFESTS:,} are taken")
        objects = dict(_object(row) for row in document["objects"])
        return HandedOn(_text(document["bucket"]), _text(document["project"]), manifests, objects)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(f"not what an export has written: {error}") from error


def _manifest(row: Any) -> ListedObject:
    key, etag, size_bytes, modified_ns = row
    listed = ListedObject(_text(key), _attributes(size_bytes, modified_ns, etag))
    if version_of_file_name(file_name_of(listed)) is None:
        raise ValueError(f"{key!r} is no manifest")
    return listed


def _object(row: Any) -> tuple[ObjectVersion, ObjectAttributes]:
    key, version_id, size_bytes, modified_ns, etag = row
    return ObjectVersion(_text(key), _text(version_id)), _attributes(size_bytes, modified_ns, etag)


def _attributes(size_bytes: Any, modified_ns: Any, etag: Any) -> ObjectAttributes:
    return ObjectAttributes(
        _number(size_bytes, _MOST_BYTES), _number(modified_ns, _MOST_NS), None if etag is None else _text(etag)
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.100} is no text")
    check_printable(value)
    return value


def _number(value: Any, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{value!r:.100} is no number of bytes or nanoseconds")
    return value

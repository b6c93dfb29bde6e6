"""Read a manifest, which says what a dataset version consists of (pure).

The format is that of AllenSDK's cloud cache (allensdk/api/cloud_cache/manifest.py):

    {"project_name": ..., "manifest_version": ..., "metadata_files": {name: entry}, "data_files": {id: entry}}
    entry = {"url": "https://<bucket>.s3.<region>.amazonaws.com/<project>/<path>",
             "version_id": <S3's>, "file_hash": <blake2b of the whole file, 128 hex digits>}

A file's place in the tree is its URL's path less the first part, as in AllenSDK; the path is not percent-decoded.
`Manifest.names` has the two values by which AllenSDK names its folders; the rest of the document is ignored. One bad
entry refuses the whole manifest: a dataset version that silently lacks a file is worse than none.
"""

import hashlib
import json
import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import total_ordering
from typing import Any, Final
from urllib.parse import urlsplit

import semver

from vbnfs.dataset.names import check_name, check_printable, split_path
from vbnfs.errors import ManifestError
from vbnfs.objects import ObjectVersion
from vbnfs.partitions import DOMAINS

MAX_MANIFEST_BYTES: Final = 48 << 20  # the real ones have under 2 MB; 48 MB describe 150,000 files
# Each value, name and table of a JSON text has one of these bytes, and takes some 100 bytes of memory when it is
# parsed, however short it is. An entry has 9 of them in 280 to 400 bytes.
_MARKS: Final = (b"[", b"{", b",", b":")
_BYTES_A_MARK: Final = 32
_FREE_MARKS: Final = 100_000
_MANIFEST_NAME: Final = re.compile(r".*_manifest_v(?P<version>.+)\.json")
_FILE_HASH: Final = re.compile(r"[0-9a-fA-F]{128}")
# There is one way to match each character, and a bucket has at most 63: no host makes the match take long.
_AWS_HOST: Final = re.compile(
    r"(?:(?P<bucket>[a-z0-9][a-z0-9.-]{0,62})\.)?s3(?:[.-][a-z0-9]+)*"
    rf"\.(?:{'|'.join(map(re.escape, DOMAINS))})"
)
_METADATA: Final = "metadata_files"
_SECTIONS: Final = (_METADATA, "data_files")
# Without these AllenSDK ends with a KeyError.
_READ_BY_ALLENSDK: Final = frozenset({"metadata_file_id_column_name", "data_pipeline"})


@total_ordering
@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """The version of a dataset, from its manifest's file name: `0.5.0`.

    Ordered by semantic version (semver.org, 11). Names that are not semantic versions (AllenSDK's own tests use `A`
    and `B`) are ordered as text, before all that are.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    def __lt__(self, other: "DatasetVersion") -> bool:
        return self._key() < other._key()

    def _key(self) -> tuple[Any, ...]:
        try:
            return (1, semver.Version.parse(self.text), self.text)
        except ValueError:
            return (0, self.text)

    @property
    def folder(self) -> str:
        """The name of its folder below `manifests/`."""
        return f"v{self.text}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a dataset's URLs may point: its bucket at AWS or, path-style, at the configured endpoint."""

    bucket: str
    endpoint_url: str | None = None

    def key_of(self, url: str) -> str:
        """The key that `url` names. Raises `ValueError` for another host or bucket."""
        check_printable(url)
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"}:
            raise ValueError("not an http or https URL")
        if parts.query or parts.fragment:
            raise ValueError("a URL with a query or a fragment")
        path = parts.path.removeprefix("/")
        if (bucket := self._bucket_of_host(parts.netloc)) is None:
            bucket, _, path = path.partition("/")
        if bucket != self.bucket:
            raise ValueError(f"another bucket ({_shown(bucket)}) than the dataset's ({self.bucket!r})")
        return path

    def _bucket_of_host(self, netloc: str) -> str | None:
        """The bucket in a virtual-hosted name; None where the path names it."""
        if self.endpoint_url is not None and netloc == urlsplit(self.endpoint_url).netloc:
            return None
        match = _AWS_HOST.fullmatch(netloc)
        if match is None:
            raise ValueError(f"another host ({_shown(netloc)}) than the dataset's")
        return match["bucket"]


@dataclass(frozen=True, slots=True)
class DataFile:
    """An entry: its place in the tree, its object version, and the blake2b of its bytes, if the manifest has it.

    `is_table`: it is one of the project's tables.
    """

    path: tuple[str, ...]
    version: ObjectVersion
    file_hash: str | None
    is_table: bool = False

    def has_bytes_of(self, other: "DataFile") -> bool:
        """Whether another entry of the same bucket has the same `content_id`."""
        if self.file_hash is None and other.file_hash is None:
            ours, theirs = self.version, other.version
            return (ours.key, ours.version_id or "") == (theirs.key, theirs.version_id or "")
        return self.file_hash == other.file_hash

    def content_id(self, bucket: str) -> str:
        """A name of the bytes, if this entry is right: equal for equal hashes in one bucket.

        It serves to compare manifests. The names under which bytes are cached are made in `contents.py`.
        """
        named_by_hash = ("hash", bucket, self.file_hash or "")
        named_by_version = ("version", bucket, self.version.key, self.version.version_id or "")
        parts = named_by_version if self.file_hash is None else named_by_hash
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=20).hexdigest()


@dataclass(frozen=True, slots=True)
class ReleaseNames:
    """The names of dataset and version inside a manifest, which AllenSDK uses for folders.

    The object's key and file name may have others.
    """

    project_name: str
    manifest_version: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A dataset version: the manifest's own bytes and file name, and the files that it lists.

    `modified_ns` is S3's LastModified since 1970. `names` is None if AllenSDK could not load the manifest.
    """

    file_name: str
    dataset_version: DatasetVersion
    data: bytes
    modified_ns: int
    files: tuple[DataFile, ...]
    names: "ReleaseNames | None" = None
    source: ObjectVersion | None = None  # its object, if it was read from a bucket


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as the manifest has it; `Manifest.files` is made of entries. `file_hash` is any text, or None."""

    section: str
    name: str
    url: str
    version_id: str
    file_hash: str | None

    @property
    def is_metadata(self) -> bool:
        """Whether it is one of the project's tables, and not a data file."""
        return self.section == _METADATA


def entries_of(manifest: Manifest) -> list[Entry]:
    """The entries that `manifest.files` were made of, in the same order.

    A mount does not need them, so the manifest is parsed again here.
    """
    document = _load(manifest.data, manifest.file_name)
    return [_entry(section, name, entry) for section, name, entry in _entries(document, manifest.file_name)]


def tables_of(manifest: Manifest) -> dict[str, DataFile]:
    """The project's tables by name, which is the file's without `.csv`, in the manifest's order."""
    found: dict[str, DataFile] = {}
    for file in manifest.files:
        if file.is_table:
            found.setdefault(file.path[-1].removesuffix(".csv"), file)
    return found


def files_by_id(manifest: Manifest) -> dict[str, DataFile]:
    """The data files, by the id that the tables have of them."""
    pairs = zip(manifest.files, entries_of(manifest), strict=True)
    return {entry.name: file for file, entry in pairs if not entry.is_metadata}


def version_of_file_name(file_name: str) -> DatasetVersion | None:
    """The version in a manifest's file name; None for other names."""
    match = _MANIFEST_NAME.fullmatch(file_name)
    if match is None:
        return None
    try:
        check_name(file_name)
    except ValueError:
        return None
    return DatasetVersion(match["version"])


def parse_manifest(data: bytes, *, file_name: str, modified_ns: int, origin: Origin) -> Manifest:
    """Parse a manifest. Raises `ManifestError`, which names the file and the faulty entry."""
    version = version_of_file_name(file_name)
    if version is None:
        raise ManifestError(f"{_shown(file_name)}: not a manifest's name")
    _check_size(data, file_name)
    document = _load(data, file_name)
    files = tuple(
        _file(section, key, entry, origin, file_name) for section, key, entry in _entries(document, file_name)
    )
    _refuse_clashes(files, file_name)
    return Manifest(file_name, version, data, modified_ns, files, _names(document))


def _check_size(data: bytes, file_name: str) -> None:
    """Refuse, without parsing it, what would take more than a few times its bytes of memory when parsed."""
    # Python stores a text that has a character beyond U+FFFF with four bytes for each character.
    length_bytes = len(data) if data.isascii() else 4 * len(data)
    if length_bytes > MAX_MANIFEST_BYTES:
        kind = "" if length_bytes == len(data) else "; of text that is not ASCII a quarter"
        raise ManifestError(f"{file_name}: {len(data):,} bytes; at most {MAX_MANIFEST_BYTES:,} are taken{kind}")
    if sum(map(data.count, _MARKS)) > _FREE_MARKS + len(data) // _BYTES_A_MARK:
        raise ManifestError(f"{file_name}: not a manifest: more values than {len(data):,} bytes of entries have")


def _load(data: bytes, file_name: str) -> Mapping[str, Any]:
    try:
        document = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ManifestError(f"{file_name}: not a manifest: {reason}") from error
    if not isinstance(document, dict):
        raise ManifestError(f"{file_name}: not a manifest: not a JSON object")
    return document


def _names(document: Mapping[str, Any]) -> ReleaseNames | None:
    values = [document.get(key) for key in ("project_name", "manifest_version")]
    if not all(isinstance(value, str) for value in values) or not document.keys() >= _READ_BY_ALLENSDK:
        return None
    return ReleaseNames(*map(str, values))


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"the name {_shown(name)} stands twice")
        table[name] = value
    return table


def _entries(document: Mapping[str, Any], file_name: str) -> Iterator[tuple[str, str, Any]]:
    for section in _SECTIONS:
        table = document.get(section)
        if not isinstance(table, dict):
            raise ManifestError(f"{file_name}: not a manifest: no table {section!r}")
        for key, entry in table.items():
            yield section, key, entry


def _file(section: str, key: str, entry: Any, origin: Origin, file_name: str) -> DataFile:
    try:
        url, version_id = _text(entry, "url"), _text(entry, "version_id")
        check_printable(version_id)
        object_key = origin.key_of(url)
        parts = split_path(object_key)
        if len(parts) < 2:
            raise ValueError("a URL whose path has no folder")
        version = ObjectVersion(object_key, version_id)
        return DataFile(parts[1:], version, _file_hash(entry), is_table=section == _METADATA)
    except ValueError as error:
        raise ManifestError(f"{file_name}: entry {section}[{_shown(key)}]: {error}: {_shown(entry)}") from error


def _entry(section: str, name: str, entry: Any) -> Entry:
    file_hash = entry.get("file_hash")
    text = file_hash if isinstance(file_hash, str) else None
    return Entry(section, name, _text(entry, "url"), _text(entry, "version_id"), text)


def _text(entry: Any, name: str) -> str:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, str) or not value:
        raise ValueError(f"no text {name!r}")
    return value


def _file_hash(entry: Mapping[str, Any]) -> str | None:
    """The hash; None for a text that is not one, since equal placeholders must not make two files the same."""
    value = entry.get("file_hash")
    if isinstance(value, str) and _FILE_HASH.fullmatch(value):
        return value.lower()
    return None


def _shown(value: object) -> str:
    """A value from outside, for a message: the ends of a long one, the outer levels of a deeply nested one."""
    short = reprlib.Repr()
    short.maxstring = 250
    return short.repr(value)


def _refuse_clashes(files: tuple[DataFile, ...], file_name: str) -> None:
    taken: dict[tuple[str, ...], DataFile] = {}
    for file in files:
        if file.path in taken:
            raise ManifestError(f"{file_name}: {'/'.join(file.path)!r} stands twice")
        if file.path[0] == file_name:
            raise ManifestError(f"{file_name}: {'/'.join(file.path)!r} takes the manifest's own name")
        taken[file.path] = file
    for file in files:
        for length in range(1, len(file.path)):
            if file.path[:length] in taken:
                folder = "/".join(file.path[:length])
                raise ManifestError(f"{file_name}: {folder!r} is a file and also the folder of {file.path[length]!r}")

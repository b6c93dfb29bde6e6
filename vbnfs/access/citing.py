"""Which files of which dataset versions were read, or match a query, as text for a paper: `vbnfs cite`, and Python's.

Of a record everything is known without network. The list of files is as b2sum(1) writes it; its
hashes are the manifests'.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vbnfs.access.opening import url_of
from vbnfs.access.session_files import OpenTables
from vbnfs.access.versions import Versions
from vbnfs.access.wanted import Wanted, find
from vbnfs.amounts import files as files_text
from vbnfs.amounts import size
from vbnfs.config.settings import Config
from vbnfs.dataset.manifest import DatasetVersion
from vbnfs.dataset.names import MANIFESTS, split_path
from vbnfs.dataset.read_records import ReadFile, ReadRecord
from vbnfs.errors import RecordError
from vbnfs.objects import ObjectVersion
from vbnfs.s3.addresses import bucket_base, object_url


@dataclass(frozen=True, slots=True)
class CitedFile:
    """A file; of one from a record also how much of it was read (bytes), by which programs, and when."""

    path: str
    version: ObjectVersion
    file_hash: str | None
    size_bytes: int | None
    url: str
    read: ReadFile | None = None

    def as_json(self) -> dict[str, Any]:
        """Its values by name."""
        values = {
            "path": self.path,
            "key": self.version.key,
            "version_id": self.version.version_id,
            "hash": self.file_hash,
            "size": self.size_bytes,
            "url": self.url,
        }
        if self.read is None:
            return values
        first, last = min(self.read.times), max(self.read.times)
        return {
            **values,
            "read_bytes": self.read.ranges.count_bytes,
            "opens": len(self.read.opens),
            "programs": sorted(self.read.programs),
            "first": first,
            "last": last,
        }


@dataclass(frozen=True, slots=True)
class CitedVersion:
    """The files of one dataset version, by path."""

    bucket: str
    project: str
    dataset_version: str
    files: Sequence[CitedFile]

    def lines(self, *, below: str = "") -> list[str]:
        """The files as b2sum(1) writes them, sorted by path; `#` before one without a hash."""
        return [f"{file.file_hash or '# no hash:'}  {below}{file.path}" for file in self.files]

    @property
    def list_hash(self) -> str:
        """One hash for all of them: the BLAKE2b-256 of their lines, sorted, each with its end."""
        text = "".join(f"{line}\n" for line in sorted(self.lines()))
        return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()

    @property
    def folder(self) -> str:
        """Where its files are in a mount, whichever version is at the top."""
        return f"{MANIFESTS}/{DatasetVersion(self.dataset_version).folder}/"

    @property
    def times(self) -> tuple[str, str] | None:
        """When its files were read first and last; None where that is not known."""
        times = [time for file in self.files if file.read is not None for time in file.read.times]
        return (min(times), max(times)) if times else None

    def paragraph(self) -> str:
        """For a paper's methods."""
        known = [file.size_bytes for file in self.files if file.size_bytes is not None]
        text = f"Data: {self.project}, version {self.dataset_version} (s3://{self.bucket}/{self.project}), "
        text += f"{files_text(len(self.files))}, {size(sum(known))}"
        if self.times is not None:
            read = sum(file.read.ranges.count_bytes for file in self.files if file.read is not None)
            first, last = (time.partition("T")[0] for time in self.times)
            text += f", of which {size(read)} were read, " + (
                f"on {first}" if first == last else f"{first} to {last}"
            )
        return (
            f"{text}. Each file is identified by its S3 object version and by the BLAKE2b hash that the version's"
            f" manifest has of it; the BLAKE2b-256 hash of the list of all of them is {self.list_hash}."
        )

    def as_json(self) -> dict[str, Any]:
        """Its values by name."""
        return {
            "bucket": self.bucket,
            "project": self.project,
            "dataset_version": self.dataset_version,
            "list_hash": self.list_hash,
            "files": [file.as_json() for file in self.files],
        }


def text_of(versions: Sequence[CitedVersion]) -> list[str]:
    """Paragraphs, and behind them the lines of the files."""
    found = [version.paragraph() for version in versions]
    for version in versions:
        found += ["", *version.lines(below=version.folder if len(versions) > 1 else "")]
    return found


def of_record(config: Config, record: ReadRecord, name: str) -> list[CitedVersion]:
    """The versions and files that a record names, which were read. Raises `RecordError` where none was."""
    read = [file for file in record.files if file.ranges or not file.size_bytes]
    if not read:
        raise RecordError(f"{name}: no file was read in it")
    keys = sorted({(file.bucket, file.project, file.dataset_version) for file in read})
    return [
        _version(
            key, (_of_read(config, one) for one in read if (one.bucket, one.project, one.dataset_version) == key)
        )
        for key in keys
    ]


def _version(key: tuple[str, str, str], files: Iterable[CitedFile]) -> CitedVersion:
    return CitedVersion(*key, sorted(files, key=lambda file: file.path))


def _of_read(config: Config, file: ReadFile) -> CitedFile:
    is_asked = file.bucket == config.bucket  # a server of one's own has that bucket, and perhaps no other
    base = bucket_base(file.bucket, config.region, config.endpoint_url if is_asked else None)
    url = object_url(base, file.version)
    return CitedFile(file.path, file.version, file.file_hash, file.size_bytes, url, file)


async def of_wanted(versions: Versions, wanted: Wanted, open_tables: OpenTables) -> list[CitedVersion]:
    """The files that are asked for, of one version. Raises a `VbnfsError`."""
    dataset = versions.dataset
    config, sizes = dataset.config, dataset.catalog.sizes
    found = await find(versions, wanted, open_tables)
    await sizes.fetch_all([node.content for _, node in found.files])
    files = []
    for _, node in found.files:
        attributes = sizes.get(node.content)
        files.append(
            CitedFile(
                path="/".join(split_path(node.source.key)[1:]),
                version=node.source,
                file_hash=node.content.file_hash,
                size_bytes=None if attributes is None else attributes.size_bytes,
                url=url_of(config, node.source),
            )
        )
    return [_version((config.bucket, config.project, found.dataset_version), files)]

"""A release in S3: its files as object versions, and a manifest for each dataset version.

An object that a version no longer has is deleted as in any versioned bucket: its older versions stay, and can be read
by their ids only. So a program that reads without version ids soon reads the wrong bytes, or none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vbnfs.demo.release import LocalRelease, LocalVersion

BUCKET = "visual-behavior-neuropixels-data"
PROJECT = "visual-behavior-neuropixels"
REGION = "us-west-2"

_PIPELINES = {"0.1.0": "2.13.2", "0.2.0": "2.13.4", "0.4.0": "2.15.0"}
_PIPELINE = "2.16.2"
_UPLOADS_AT_ONCE = 4
_HASHED_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class ReleasedFile:
    """One file of one dataset version, as its manifest names it; and where its bytes came from."""

    url: str
    version_id: str
    file_hash: str
    size_bytes: int
    source: Path


@dataclass(frozen=True, slots=True)
class DemoRelease:
    """A release in S3. `files` maps a dataset version to its files by path, relative to the project's prefix."""

    bucket: str
    project: str
    region: str
    files: Mapping[str, Mapping[str, ReleasedFile]]

    @property
    def versions(self) -> tuple[str, ...]:
        """The dataset versions, oldest first."""
        return tuple(self.files)

    def key(self, path: str) -> str:
        """Return the S3 key of the file at `path`."""
        return f"{self.project}/{path}"

    def manifest_key(self, version: str) -> str:
        """Return the S3 key of a dataset version's manifest."""
        return self.key(f"manifests/{self.project}_project_manifest_v{version}.json")


def upload(
    release: LocalRelease,
    client: Any,
    *,
    bucket: str = BUCKET,
    project: str = PROJECT,
    report: Callable[[str], None] = lambda message: None,
) -> DemoRelease:
    """Put `release` into `bucket`, which exists and keeps versions, through a boto3 S3 client.

    Dataset versions are uploaded one after the other, oldest first. `report` is called with a message before each
    upload. Raises what boto3 raises.
    """
    files: dict[str, Mapping[str, ReleasedFile]] = {}
    uploaded = DemoRelease(bucket, project, REGION, MappingProxyType(files))
    before: Mapping[str, ReleasedFile] = {}
    for local in release.versions:
        before = _upload_version(local, before, uploaded, client, report)
        files[local.version] = MappingProxyType(before)
        manifest = json.dumps(_manifest(local, before, project), indent=2).encode()
        client.put_object(Bucket=bucket, Key=uploaded.manifest_key(local.version), Body=manifest)
    return uploaded


def _upload_version(
    local: LocalVersion,
    before: Mapping[str, ReleasedFile],
    target: DemoRelease,
    client: Any,
    report: Callable[[str], None],
) -> dict[str, ReleasedFile]:
    """Upload what is new in a version or to be uploaded anew, and delete what it no longer has."""

    def place(path: str) -> ReleasedFile:
        source, old = local.sources[path], before.get(path)
        file_hash = _blake2b(source)
        if old is not None and old.file_hash == file_hash and path not in local.anew:
            return old
        report(f"uploading {path} of {local.version}")
        return _put(client, target, path, source, file_hash)

    with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
        placed = dict(zip(local.sources, pool.map(place, local.sources), strict=True))
    for path in before.keys() - placed.keys():
        client.delete_object(Bucket=target.bucket, Key=target.key(path))
    return placed


def _put(client: Any, target: DemoRelease, path: str, source: Path, file_hash: str) -> ReleasedFile:
    with source.open("rb") as body:
        reply = client.put_object(Bucket=target.bucket, Key=target.key(path), Body=body)
    url = f"https://{target.bucket}.s3.{target.region}.amazonaws.com/{target.key(path)}"
    return ReleasedFile(url, reply["VersionId"], file_hash, source.stat().st_size, source)


def _manifest(local: LocalVersion, files: Mapping[str, ReleasedFile], project: str) -> dict[str, object]:
    """Return a manifest with exactly the keys that the real ones have."""
    return {
        "project_name": project,
        "manifest_version": local.version,
        "data_pipeline": [{"name": "AllenSDK", "version": _PIPELINES.get(local.version, _PIPELINE), "comment": ""}],
        "metadata_file_id_column_name": "file_id",
        "metadata_files": {stem: _entry(files[path]) for stem, path in local.metadata.items()},
        "data_files": {str(file_id): _entry(files[path]) for file_id, path in local.data.items()},
    }


def _entry(file: ReleasedFile) -> dict[str, str]:
    return {"url": file.url, "version_id": file.version_id, "file_hash": file.file_hash}


def _blake2b(path: Path) -> str:
    digest = hashlib.blake2b()
    with path.open("rb") as file:
        while block := file.read(_HASHED_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()

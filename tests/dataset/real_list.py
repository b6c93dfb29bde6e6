"""Manifests as large as the real ones: the names of release 0.4.0, with hashes that are made up."""

import functools
import hashlib
import json
import lzma
from pathlib import Path
from typing import Final

import semver

BUCKET: Final = "visual-behavior-neuropixels-data"
PROJECT: Final = "visual-behavior-neuropixels"
REAL_VERSION: Final = "0.4.0"
RELEASES: Final = ("0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0")

_URLS: Final = Path(__file__).parents[1] / "data" / "vbn-0.4.0-urls.txt.xz"


@functools.cache
def real_files() -> tuple[tuple[str, str], ...]:
    """URL and version id of every file of release 0.4.0, in its manifest's order: tables first."""
    lines = lzma.decompress(_URLS.read_bytes()).decode().splitlines()
    pairs = (line.split("?versionId=") for line in lines)
    return tuple((url, version_id) for url, version_id in pairs)


def real_file_name(version: str) -> str:
    """The name of the manifest of `version`."""
    return f"{PROJECT}_project_manifest_v{version}.json"


@functools.cache
def real_manifest_json(version: str) -> bytes:
    """A manifest of `version` (a semantic one): the same names in each, about one file in three changed by each.

    Version ids are the real ones where a file is as it was in 0.4.0. The same bytes in every run.
    """
    entries = [_entry(url, version_id, version) for url, version_id in real_files()]
    tables = {
        url.rpartition("/")[2].removesuffix(".csv"): e for (url, _), e in zip(real_files(), entries[:5], strict=False)
    }
    document = {
        "project_name": PROJECT,
        "manifest_version": version,
        "data_pipeline": [{"name": "AllenSDK", "version": "2.16.2", "comment": ""}],
        "metadata_file_id_column_name": "file_id",
        "metadata_files": tables,
        "data_files": {str(file_id): entry for file_id, entry in enumerate(entries[5:])},
    }
    return json.dumps(document, indent=2).encode()


def _entry(url: str, version_id: str, version: str) -> dict[str, str]:
    revision = _last_change(url, version)
    digest = hashlib.blake2b(f"{url}@{revision}".encode()).hexdigest()
    is_real = revision == _last_change(url, REAL_VERSION)
    return {"url": url, "version_id": version_id if is_real else digest[:32], "file_hash": digest}


def _last_change(url: str, version: str) -> str:
    """The newest release up to `version` that changed a file."""
    return next((release for release in _later_releases(version) if _changes(url, release)), RELEASES[0])


@functools.cache
def _later_releases(version: str) -> list[str]:
    """The releases after the first up to `version`, which is one itself, newest first."""
    order = semver.Version.parse
    known = {*RELEASES, version} - {RELEASES[0]}
    return sorted((release for release in known if order(release) <= order(version)), key=order, reverse=True)


def _changes(url: str, release: str) -> bool:
    return hashlib.blake2b(f"{url} in {release}".encode(), digest_size=1).digest()[0] % 3 == 0

"""`FakeDataset` puts dataset versions into a `MemoryStore`, with manifests as real ones are; `serve` serves one."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Data, MemoryStore

BUCKET = "visual-behavior-neuropixels-data"
PROJECT = "visual-behavior-neuropixels"


class FakeDataset:
    """A dataset in a store of its own bucket."""

    def __init__(self, *, bucket: str = BUCKET, project: str = PROJECT) -> None:
        self.store = MemoryStore(bucket)
        self.project = project
        self._entries: dict[tuple[str, bytes], dict[str, str]] = {}

    def entry(self, path: str, data: Data) -> dict[str, str]:
        """A manifest's entry for a file, which is put once for equal bytes at one path."""
        digest = hashlib.blake2b(data[: len(data)])
        known = self._entries.get((path, digest.digest()))
        if known is None:
            key = f"{self.project}/{path}"
            known = {
                "url": f"https://{self.store.bucket}.s3.us-west-2.amazonaws.com/{key}",
                "version_id": self.store.put(key, data),
                "file_hash": digest.hexdigest(),
            }
            self._entries[path, digest.digest()] = known
        return dict(known)

    def publish(self, version: str, files: Mapping[str, Data]) -> None:
        """Put a dataset version with these files."""
        self.publish_entries(version, {path: self.entry(path, data) for path, data in files.items()})

    def publish_entries(self, version: str, entries: Mapping[str, Any], *, modified: datetime | None = None) -> None:
        """Put a manifest with these entries as they are; those with `.csv` in the name count as metadata."""
        tables = {name: entry for name, entry in entries.items() if name.endswith(".csv")}
        others = [entry for name, entry in entries.items() if name not in tables]
        manifest = {
            "project_name": self.project,
            "manifest_version": version,
            "data_pipeline": [{"name": "AllenSDK", "version": "2.16.2", "comment": ""}],
            "metadata_file_id_column_name": "file_id",
            "metadata_files": tables,
            "data_files": {str(number): entry for number, entry in enumerate(others)},
        }
        self.publish_bytes(version, json.dumps(manifest).encode(), modified=modified)

    def publish_bytes(self, version: str, manifest: Data, *, modified: datetime | None = None) -> None:
        """Put anything under a manifest's name."""
        key = f"{self.project}/manifests/{self.project}_project_manifest_v{version}.json"
        self.store.put(key, manifest, modified=modified)


def serve(versions: Mapping[str, Mapping[str, Data]], *, host: str = "127.0.0.1") -> FakeS3Server:
    """A server of a dataset with these versions, and the files of each; it runs while it is entered."""
    dataset = FakeDataset()
    for version, files in versions.items():
        dataset.publish(version, files)
    return FakeS3Server(dataset.store, host=host)

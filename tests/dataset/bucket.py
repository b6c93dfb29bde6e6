"""A bucket with releases in it, for tests of the catalog and its parts."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from structlog.typing import EventDict

from tests.dataset.build import BUCKET, ORIGIN, PROJECT, Files, file_name, manifest_json, version_id_of
from tests.fakes.client import MemoryClient, Request
from tests.fakes.store import MemoryStore
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.release import Release
from vbnfs.errors import AccessDeniedError, TransportError
from vbnfs.objects import ListedVersion, ObjectVersion

FILES = {"a.csv": "a", "s/1.nwb": "one", "s/2.nwb": "two"}
NO_NETWORK = TransportError("no route to host")
NOT_ALLOWED = AccessDeniedError("listing: HTTP 403")


class Bucket:
    """A bucket with releases in it, and a client that counts requests."""

    def __init__(self, directory: Path) -> None:
        self.store = MemoryStore(BUCKET)
        self.client = MemoryClient(self.store)
        self.directory = directory
        self.origin = ORIGIN

    def publish(self, version: str, files: Files, *, sizes: dict[str, int] | None = None) -> None:
        """A manifest, and those of its objects that are not there yet (of a content's length, or `sizes`)."""
        for path, content in files.items():
            key = f"{PROJECT}/{path}"
            if self.store.get(key, version_id_of(content)) is None:
                length = (sizes or {}).get(path, len(content))
                self.store.put(key, b"x" * length, version_id=version_id_of(content))
        self.publish_bytes(version, manifest_json(files))

    def publish_bytes(self, version: str, data: bytes) -> None:
        self.store.put(manifest_key(version), data)

    def catalog(self) -> Catalog:
        """The catalog of a new process, which knows what is stored."""
        return Catalog(self.client, self.directory, origin=self.origin, project=PROJECT)

    async def load(self) -> Release:
        return await self.catalog().load()

    def asked(self) -> tuple[int, int, int, int]:
        """Requests since it was asked last: listings of objects, manifests, listings of versions, HEADs."""
        client = self.client
        counts = tuple(client.count(kind) for kind in ("list_objects", "get_object", "list_versions", "head"))
        client.requests.clear()
        objects, manifests, versions, heads = counts
        return objects, manifests, versions, heads

    def lie_in_listings(self, version: ObjectVersion, *, size_bytes: int) -> None:
        """Listings of versions give an object this size; the object stays as it is."""
        list_versions = self.client.list_versions

        async def lists_wrongly(prefix: str) -> list[ListedVersion]:
            rows = await list_versions(prefix)
            lie = [replace(row, attributes=replace(row.attributes, size_bytes=size_bytes)) for row in rows]
            return [wrong if row.version == version else row for row, wrong in zip(rows, lie, strict=True)]

        self.client.list_versions = lists_wrongly  # type: ignore[method-assign]

    def go_offline(self) -> None:
        self.client.fail_when(lambda request: NO_NETWORK)

    def refuse_to_list_versions(self) -> None:
        self.client.fail_when(lambda request: NOT_ALLOWED if request.kind == "list_versions" else None)


def manifest_key(version: str) -> str:
    return f"{PROJECT}/manifests/{file_name(version)}"


def object_version(path: str, content: str) -> ObjectVersion:
    return ObjectVersion(f"{PROJECT}/{path}", version_id_of(content))


def names(release: Release) -> list[str]:
    return [str(version) for version in release.versions]


def warnings(logs: Iterable[EventDict]) -> list[str]:
    return [entry["event"] for entry in logs if entry["log_level"] == "warning"]


def is_head(request: Request) -> bool:
    return request.kind == "head"


ONE, TWO = object_version("s/1.nwb", "one"), object_version("s/2.nwb", "two")

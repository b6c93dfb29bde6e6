"""What `vbnfs versions` shows: each dataset version, its size, and how much of it is cached."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from vbnfs.access.versions import Versions
from vbnfs.dataset.manifest import Manifest


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A dataset version. Sizes in bytes; `size_bytes` is None where S3 did not give all of them."""

    version: str
    manifest: str
    published: str
    files: int
    size_bytes: int | None
    cached_bytes: int
    is_newest: bool

    def as_json(self) -> dict[str, Any]:
        """The row with its fields' names."""
        return asdict(self)


async def list_versions(versions: Versions) -> list[VersionRow]:
    """All versions, oldest first. Raises `DatasetError` where there is none."""
    newest = versions.manifest(None)
    return [_row(manifest, versions, is_newest=manifest is newest) for manifest in versions.release.manifests]


def _row(manifest: Manifest, versions: Versions, *, is_newest: bool) -> VersionRow:
    contents = versions.contents(manifest.files).values()
    known = [content for content in contents if content is not None]
    return VersionRow(
        version=str(manifest.dataset_version),
        manifest=manifest.file_name,
        published=datetime.fromtimestamp(manifest.modified_ns / 1e9, UTC).strftime("%Y-%m-%d"),
        files=len(manifest.files),
        size_bytes=sum(content.size_bytes for content in known) if len(known) == len(contents) else None,
        cached_bytes=sum(versions.dataset.cache.cached_bytes_of(known).values()),
        is_newest=is_newest,
    )

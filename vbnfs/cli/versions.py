"""What `vbnfs versions` shows: each dataset version, its size, and how much of it is cached."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from vbnfs.config import Config
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.manifest import DataFile, Manifest
from vbnfs.metrics import Metrics
from vbnfs.mount.background import prepare_cache_directory
from vbnfs.mount.daemon import make_catalog, make_client, scope_of
from vbnfs.objects import Content
from vbnfs.storage.block_cache import BlockCache


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A dataset version. Sizes in bytes; `size_bytes` is None where S3 would not tell all of them."""

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


async def load_versions(config: Config) -> tuple[list[VersionRow], list[str]]:
    """All versions, oldest first, and what there is to warn of."""
    prepare_cache_directory(config.cache_dir)
    metrics = Metrics()
    async with make_client(config, metrics) as s3:
        catalog = make_catalog(config, s3)
        release = await catalog.load()
    release.choose(None)  # raises where there is none
    cache = BlockCache(config.cache_dir, scope=scope_of(config.endpoint_url), metrics=metrics)
    newest = release.manifests[-1]
    rows = [_row(m, catalog, cache, config.bucket, is_newest=m is newest) for m in release.manifests]
    problems = list(release.problems)
    if release.is_offline:
        problems.insert(0, "the bucket cannot be reached; this is what is kept from before")
    return rows, problems


def _row(manifest: Manifest, catalog: Catalog, cache: BlockCache, bucket: str, *, is_newest: bool) -> VersionRow:
    contents = list(_contents(manifest.files, catalog, bucket))
    whole = len(contents) == len({file.content_id(bucket) for file in manifest.files})
    return VersionRow(
        version=str(manifest.dataset_version),
        manifest=manifest.file_name,
        published=datetime.fromtimestamp(manifest.modified_ns / 1e9, UTC).strftime("%Y-%m-%d"),
        files=len(manifest.files),
        size_bytes=sum(content.size_bytes for content in contents) if whole else None,
        cached_bytes=sum(cache.cached_bytes(content) for content in contents),
        is_newest=is_newest,
    )


def _contents(files: Iterable[DataFile], catalog: Catalog, bucket: str) -> Iterable[Content]:
    """The different contents whose size is known."""
    seen: set[str] = set()
    for file in files:
        content_id, attributes = file.content_id(bucket), catalog.attributes(file.version)
        if attributes is not None and content_id not in seen:
            seen.add(content_id)
            yield Content(content_id, attributes.size_bytes, file.version)

"""What `vbnfs urls` shows: where in S3 each file of a dataset version is."""

from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from vbnfs.access.versions import Versions
from vbnfs.dataset.manifest import entries_of
from vbnfs.s3.addresses import object_url


@dataclass(frozen=True, slots=True)
class UrlRow:
    """A file: `url` fetches it as it stands. `file_hash` is None where the manifest has no usable one."""

    url: str
    version_id: str
    file_hash: str | None
    path: str
    size_bytes: int | None

    def as_json(self) -> dict[str, Any]:
        """The row with its fields' names."""
        return asdict(self)


async def list_urls(versions: Versions) -> list[UrlRow]:
    """The files of the configured version, or of the newest, in the manifest's order.

    Where the settings name a server (`endpoint_url`), the URLs are that server's.
    """
    config = versions.dataset.config
    manifest = versions.manifest(config.dataset_version)
    base = f"{config.endpoint_url}/{config.bucket}" if config.endpoint_url else None
    return [
        UrlRow(
            url=fetchable(entry.url, entry.version_id) if base is None else object_url(base, file.version),
            version_id=entry.version_id,
            file_hash=file.file_hash,
            path="/".join(file.path),
            size_bytes=versions.size_bytes(file),
        )
        for file, entry in zip(manifest.files, entries_of(manifest), strict=True)
    ]


def fetchable(url: str, version_id: str) -> str:
    """A manifest's URL with the version id, encoded for HTTP.

    The path of a manifest's URL is the key as it is, not encoded: '%' and blanks in it stand for themselves.
    """
    parts = urlsplit(url)
    query = f"versionId={quote(version_id, safe='')}"
    return parts._replace(path=quote(parts.path, safe="/~"), query=query).geturl()

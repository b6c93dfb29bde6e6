"""One small file from a server that need not be S3's: a GET of a URL."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from vbnfs.s3.http_client import HttpClient
from vbnfs.s3.routes import route_to


async def download(url: str, *, ca_bundle: Path | None, environ: Mapping[str, str], max_bytes: int) -> bytes:
    """The body of a 200. Raises a `StorageError`, also for one that is larger, and for a redirection; `UsageError`.

    By the same proxies and with the same trust as what comes from S3.
    """
    parts = urlsplit(url)
    server = f"{parts.scheme}://{parts.netloc}"
    route = route_to(server, ca_bundle=ca_bundle, environ=environ)
    async with HttpClient(server, trust=route.trust(), proxy=route.proxy, max_connections=1) as http:
        return await http.get(url, about=url, max_bytes=max_bytes)

"""The clients of S3 that a configuration asks for, one around the other, and what is made of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import trio

from vbnfs.config import Config
from vbnfs.dataset.catalog import KEPT_FORMAT, Catalog
from vbnfs.dataset.manifest import Origin
from vbnfs.metrics import Metrics
from vbnfs.mount.mountpoint import is_local
from vbnfs.objects import ObjectClient
from vbnfs.reading.neighbours import Neighbours
from vbnfs.storage.block_cache import BlockCache
from vbnfs.storage.breaker import BreakerClient
from vbnfs.storage.claims import Claims
from vbnfs.storage.hedging import HedgingClient
from vbnfs.storage.pacing import PacedClient
from vbnfs.storage.resolver import ApartResolver
from vbnfs.storage.retry import RetryingClient
from vbnfs.storage.s3 import S3Client

_CATALOG_SECONDS: Final = 15.0  # a mount without network should not keep anybody waiting
_CATALOG_ATTEMPTS: Final = 3
_READ_ATTEMPTS: Final = 10
_CONNECTIONS_A_HEDGE: Final = 16  # one in so many is left to GETs that are made twice, ...
_FOR_A_HEDGE: Final = 8  # ... and one where there are so many


def scope_of(endpoint_url: str | None) -> str:
    """The name under which the cache keeps what comes from AWS, or from an endpoint."""
    return "aws" if endpoint_url is None else urlsplit(endpoint_url).netloc.replace(":", "_").replace("/", "_")


@asynccontextmanager
async def make_client(config: Config, metrics: Metrics) -> AsyncIterator[BreakerClient]:
    """The client for the dataset's bucket, which asks S3 only while it can be reached."""
    trio.socket.set_custom_hostname_resolver(ApartResolver())
    async with S3Client(
        bucket=config.bucket,
        region=config.region,
        endpoint_url=config.endpoint_url,
        ca_bundle=config.ca_bundle,
        max_connections=config.max_connections,
        ranges_by=config.ranges_by,
        metrics=metrics,
    ) as s3:
        yield BreakerClient(s3, is_forbidden=config.offline)


def make_reading_client(config: Config, link: BreakerClient, metrics: Metrics) -> tuple[RetryingClient, PacedClient]:
    """The client that fetches blocks, and the part of it that knows how many GETs there may be at a time."""
    hedging = HedgingClient(link, metrics=metrics, on_stall=link.suspect)
    hedges = max(config.max_connections // _CONNECTIONS_A_HEDGE, int(config.max_connections >= _FOR_A_HEDGE))
    paced = PacedClient(hedging, most=config.max_connections - hedges)
    return RetryingClient(paced, seconds=config.io_timeout_seconds, attempts=_READ_ATTEMPTS), paced


def make_catalog(config: Config, s3: ObjectClient) -> Catalog:
    """The catalog of the dataset, kept in the cache directory."""
    directory = config.cache_dir / KEPT_FORMAT / scope_of(config.endpoint_url) / config.bucket / config.project
    client = RetryingClient(s3, seconds=_CATALOG_SECONDS, attempts=_CATALOG_ATTEMPTS)
    origin = Origin(config.bucket, config.endpoint_url)
    return Catalog(client, directory, origin=origin, project=config.project)


def make_neighbours(config: Config, cache: BlockCache, metrics: Metrics) -> Neighbours:
    """The other processes on the same cache."""
    claims = Claims(cache.directory / scope_of(config.endpoint_url))
    return Neighbours(claims, cache, may_wait=not is_local(config.cache_dir), metrics=metrics)

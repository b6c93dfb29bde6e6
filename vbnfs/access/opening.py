"""The parts of an opened dataset, made from its configuration: clients, one around the other, catalog, cache, source.

`open_dataset` (dataset.py) puts them together.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Set
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote, urlsplit

import trio

from vbnfs.access.other_caches import open_other, trusted_uids
from vbnfs.cache import in_place
from vbnfs.cache.behind import Behind, Blocks
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.claims import Claims
from vbnfs.cache.eviction import Evictor
from vbnfs.cache.read_only_cache import ReadOnlyCache
from vbnfs.cache.verdicts import Verdicts
from vbnfs.config.settings import Config
from vbnfs.dataset.catalog import KEPT_FORMAT, Catalog
from vbnfs.dataset.manifest import Origin
from vbnfs.host.mountinfo import is_local
from vbnfs.host.places import folder_at
from vbnfs.metrics import Metrics
from vbnfs.objects import Content, ObjectClient
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.block_writer import BlockWriter
from vbnfs.reading.memory import Memory
from vbnfs.reading.other_processes import SharedFetches
from vbnfs.reading.sources import Sources
from vbnfs.s3.breaker import BreakerClient
from vbnfs.s3.client import S3Client
from vbnfs.s3.hedging import HedgingClient
from vbnfs.s3.pacing import PacedClient
from vbnfs.s3.proxies import DEFAULT_PORTS
from vbnfs.s3.retry import RetryingClient

_CATALOG_SECONDS: Final = 15.0  # a mount without network is to be there soon, from what is stored
_CATALOG_ATTEMPTS: Final = 3
_READ_ATTEMPTS: Final = 10
_LAST_WRITES_SECONDS: Final = 5.0
_LONGEST_SCOPE: Final = 200  # bytes; a file's name may have 255


def scope_of(endpoint_url: str | None) -> str:
    """The name under which the cache keeps what comes from AWS, or from an endpoint.

    Two servers never have the same name: it is all of the URL, scheme and path too, percent-encoded (RFC 3986,
    section 2.1) behind a prefix that AWS's name does not have. What is normalised (section 6.2: letters of scheme and
    host, the scheme's own port) names the same server in both spellings. It is one file name; a long one ends in a
    hash.
    """
    if endpoint_url is None:
        return "aws"
    parts = urlsplit(endpoint_url)
    port = DEFAULT_PORTS.get(parts.scheme) if parts.port is None else parts.port
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    url = f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"
    scope = f"url-{quote(url, safe='')}"
    if len(scope) <= _LONGEST_SCOPE:
        return scope
    digest = hashlib.blake2b(url.encode(), digest_size=20).hexdigest()
    return f"long-{scope[: _LONGEST_SCOPE - len(digest)]}-{digest}"


@asynccontextmanager
async def make_client(config: Config, metrics: Metrics) -> AsyncIterator[BreakerClient]:
    """The client for the dataset's bucket, which asks S3 only while it can be reached."""
    async with S3Client(
        bucket=config.bucket,
        region=config.region,
        endpoint_url=config.endpoint_url,
        ca_bundle=config.ca_bundle,
        max_connections=config.max_connections,
        metrics=metrics,
    ) as s3:
        yield BreakerClient(s3, is_forbidden=config.offline)


def make_reading_client(config: Config, link: BreakerClient, metrics: Metrics) -> tuple[RetryingClient, PacedClient]:
    """The client that fetches blocks, and the part of it that knows how many GETs there may be at a time."""
    hedging = HedgingClient(link, metrics=metrics, on_stall=link.suspect)
    paced = PacedClient(hedging, most=config.max_connections)
    return RetryingClient(paced, seconds=config.io_timeout_seconds, attempts=_READ_ATTEMPTS), paced


def make_catalog(config: Config, s3: ObjectClient) -> Catalog:
    """The catalog of the dataset, kept in the cache directory."""
    kept = folder_at(config.cache_dir) / KEPT_FORMAT
    directory = kept / scope_of(config.endpoint_url) / config.bucket / config.project
    client = RetryingClient(s3, seconds=_CATALOG_SECONDS, attempts=_CATALOG_ATTEMPTS)
    origin = Origin(config.bucket, config.endpoint_url)
    return Catalog(client, directory, origin=origin, project=config.project)


def make_cache(config: Config, metrics: Metrics) -> BlockCache:
    """The blocks on the disk, and behind them those of files that are read in place, and of other caches.

    Raises `CacheError` for another cache that is not to be used.
    """
    is_always, scope = config.verify == "always", scope_of(config.endpoint_url)
    owners, top = trusted_uids(config), folder_at(config.cache_dir)
    behind: list[Blocks] = []
    if in_place.is_used(top, scope):
        behind.append(in_place.InPlaceFiles(top, scope=scope, metrics=metrics, owners=owners))
    for directory in config.cache_also:
        place, is_here = open_other(directory, owners), is_local(directory)
        behind.append(
            ReadOnlyCache(place, scope=scope, metrics=metrics, check_every_read=is_always, is_local=is_here)
        )
    return BlockCache(
        top,
        scope=scope,
        metrics=metrics,
        check_every_read=is_always,
        is_local=is_local(config.cache_dir),
        behind=Behind(behind),
    )


def make_source(
    config: Config,
    link: BreakerClient,
    cache: BlockCache,
    evictor: Evictor,
    verdicts: Verdicts,
    metrics: Metrics,
    *,
    nursery: trio.Nursery,
    on_stored: Callable[[Set[Content]], None] = lambda contents: None,
) -> BlockSource:
    """The blocks that the disk does not have. `keeping` runs and closes its writer."""
    client, paced = make_reading_client(config, link, metrics)
    claims = Claims(cache.directory / scope_of(config.endpoint_url))
    others = SharedFetches(claims, cache, may_wait=not cache.is_local, metrics=metrics)
    memory = Memory(config.memory_limit_bytes)
    writer = BlockWriter(cache, evictor, others, memory, on_stored=on_stored)
    return BlockSource(Sources(client, verdicts), writer, others, nursery=nursery, connections=paced, memory=memory)


@asynccontextmanager
async def keeping() -> AsyncIterator[Callable[[BlockWriter], None]]:
    """Gives a function that begins to write what a writer gets; that goes on until what is within has ended.

    After an orderly end all that came is written; after a failure or Ctrl-C, what the disk takes in some seconds.
    """
    writers: list[BlockWriter] = []
    scope = trio.CancelScope(shield=True)

    async def keep(writer: BlockWriter) -> None:
        with scope:
            await writer.keep_blocks()

    def begin(writer: BlockWriter) -> None:
        writers.append(writer)
        nursery.start_soon(keep, writer)

    async with trio.open_nursery() as nursery:
        try:
            yield begin
        except BaseException:
            scope.deadline = trio.current_time() + _LAST_WRITES_SECONDS
            raise
        finally:
            for writer in writers:
                writer.close()

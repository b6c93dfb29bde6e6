"""The parts of an opened dataset, made from its configuration: clients, one around the other, catalog, cache.

`open_dataset` (dataset.py) puts them together.
"""

import hashlib
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import trio

from vbnfs.access import receiver_program
from vbnfs.access.other_caches import in_time, open_other, trusted_uids
from vbnfs.cache import in_place
from vbnfs.cache.behind import Behind
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.digests import DigestStore
from vbnfs.cache.shared_rate import SharedBucket, read_rate, take_over_rate
from vbnfs.cache.stock import Stock
from vbnfs.cache.stored_blocks import StoredBlocks
from vbnfs.cache.verdicts import Verdicts
from vbnfs.config.environment import variables
from vbnfs.config.settings import Config
from vbnfs.dataset.catalog import KEPT_FORMAT, Catalog
from vbnfs.dataset.manifest import Origin
from vbnfs.host import die_with_parent
from vbnfs.host.mountinfo import is_local
from vbnfs.host.places import Place, folder_at
from vbnfs.metrics import Metrics
from vbnfs.objects import ObjectClient, ObjectVersion
from vbnfs.partitions import partition_of
from vbnfs.rate import OFF
from vbnfs.reading.block_writer import BlockWriter
from vbnfs.reading.deadlines import Deadlines
from vbnfs.reading.mirror import Mirror
from vbnfs.reading.mirrors import Mirrors
from vbnfs.reading.rate_limit import RateLimit
from vbnfs.s3.addresses import bucket_base, object_url, partition_at
from vbnfs.s3.breaker import BreakerClient
from vbnfs.s3.client import S3Client
from vbnfs.s3.hedging import PROBES_AT_ONCE, HedgingClient
from vbnfs.s3.limits import SILENCE_SECONDS
from vbnfs.s3.pacing import PacedClient
from vbnfs.s3.proxies import DEFAULT_PORTS
from vbnfs.s3.retry import RetryingClient
from vbnfs.s3.routes import Route, route_to

_CATALOG_SECONDS: Final = 15.0  # a mount without network is to be there soon, from what is stored
_CATALOG_ATTEMPTS: Final = 3
_READ_ATTEMPTS: Final = 10
_LAST_WRITES_SECONDS: Final = 5.0
_MIRROR_SECONDS: Final = 5.0  # it is near, or it is of no use
_MIRROR_ATTEMPTS: Final = 2
_LONGEST_SCOPE: Final = 200  # bytes; a file's name may have 255


def scope_of(config: Config) -> str:
    """The name under which the cache keeps what comes from the dataset's own bucket."""
    return scope_at(config.endpoint_url, config.region)


def scope_at(endpoint_url: str | None, region: str) -> str:
    """The name under which the cache keeps what comes from AWS in a region, or from an endpoint.

    Two servers never have the same name: it is all of the URL, scheme and path too, percent-encoded (RFC 3986,
    section 2.1) behind a prefix that AWS's names do not have. What is normalised (section 6.2: letters of scheme and
    host, the scheme's own port) names the same server in both spellings. It is one file name; a long one ends in a
    hash. A host of AWS's own is AWS: a bucket has its name there once, whichever host and region of a partition is
    asked. Another partition is another place.
    """
    if endpoint_url is None:
        return partition_of(region).name
    if (partition := partition_at(endpoint_url)) is not None:
        return partition.name
    parts = urlsplit(endpoint_url)
    port = DEFAULT_PORTS.get(parts.scheme) if parts.port is None else parts.port
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    url = f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"
    return _file_name(f"url-{quote(url, safe='')}", url)


def mirror_scope_of(endpoint_url: str | None, region: str, bucket: str) -> str:
    """The name under which the cache keeps what comes from a mirror, as long as nothing has proven it.

    Also for a bucket at AWS: that is not believed as the dataset's bucket is. No dataset has such a name.
    """
    name = f"mirror-{bucket}-{scope_at(endpoint_url, region)}"
    return _file_name(name, name)


def scopes_of(config: Config) -> set[str]:
    """The names under which the cache has what a configuration reads."""
    return {scope_of(config), *(server.scope for server in _servers(config))}


def _file_name(scope: str, whole: str) -> str:
    """A scope as one file name; a long one ends in a hash of `whole`."""
    if len(scope) <= _LONGEST_SCOPE:
        return scope
    digest = hashlib.blake2b(whole.encode(), digest_size=20).hexdigest()
    return f"long-{scope[: _LONGEST_SCOPE - len(digest)]}-{digest}"


def route_of(config: Config) -> Route:
    """How the dataset's bucket is reached. Raises `UsageError` for a variable that is needed and wrong."""
    base = bucket_base(config.bucket, config.region, config.endpoint_url)
    return route_to(base, ca_bundle=config.ca_bundle, environ=_environ(config))


def url_of(config: Config, version: ObjectVersion) -> str:
    """Where any program can fetch an object of the dataset's bucket: its URL, with the version id."""
    return object_url(bucket_base(config.bucket, config.region, config.endpoint_url), version)


def _environ(config: Config) -> Mapping[str, str]:
    """The variables that say how servers are reached; none where no server is asked."""
    return {} if config.offline else variables()


@asynccontextmanager
async def make_client(config: Config, metrics: Metrics) -> AsyncIterator[BreakerClient]:
    """The client for the dataset's bucket, which asks S3 only while it can be reached."""
    async with S3Client(
        bucket=config.bucket,
        region=config.region,
        endpoint_url=config.endpoint_url,
        ca_bundle=config.ca_bundle,
        environ=_environ(config),
        max_connections=config.max_connections,
        metrics=metrics,
        receiver=_receiver(config),
        probes=PROBES_AT_ONCE,
        silence_seconds=max(SILENCE_SECONDS, config.silence_seconds),
    ) as s3:
        yield BreakerClient(s3, is_forbidden=config.offline)


def _receiver(config: Config) -> Sequence[str] | None:
    """The command of the process that receives ranges, if one is to, and can be: on Linux."""
    is_to = config.receivers and die_with_parent.IS_POSSIBLE
    return (sys.executable, "-P", "-m", receiver_program.__name__) if is_to else None


def make_reading_client(config: Config, link: BreakerClient, metrics: Metrics) -> tuple[RetryingClient, PacedClient]:
    """The client that fetches blocks, and the part of it that knows how many GETs there may be at a time."""

    def note_stalls(stalled: int) -> None:
        if (client := weak()) is not None:
            client.note_stalls(stalled)

    hedging = HedgingClient(
        link,
        metrics=metrics,
        on_stall=link.suspect,
        on_crowd=note_stalls,
        most=config.max_connections,
        silence_seconds=config.silence_seconds,
        crowded_seconds=config.io_timeout_seconds,
        sends_probes=True,
    )
    paced = PacedClient(hedging, most=config.max_connections)
    weak = weakref.ref(paced)  # of two that have each other, descriptors would stay open until a collection
    return RetryingClient(paced, seconds=config.io_timeout_seconds, attempts=_READ_ATTEMPTS), paced


def dataset_folder(config: Config) -> Place:
    """Where in the cache directory stands what is stored of the dataset and never evicted."""
    return folder_at(config.cache_dir) / KEPT_FORMAT / scope_of(config) / config.bucket / config.project


def make_catalog(config: Config, s3: ObjectClient) -> Catalog:
    """The catalog of the dataset, kept in the cache directory."""
    directory = dataset_folder(config)
    client = RetryingClient(s3, seconds=_CATALOG_SECONDS, attempts=_CATALOG_ATTEMPTS)
    origin = Origin(config.bucket, config.endpoint_url)
    return Catalog(client, directory, origin=origin, project=config.project, versions=config.versions)


def make_limit(config: Config, metrics: Metrics, *, is_mount: bool) -> RateLimit:
    """The limit of bytes a second, of all processes on the cache together. Reads and writes the disk.

    On a file system that other hosts may change, which have clocks of their own, each process keeps to it by itself.
    """
    directory, rate = folder_at(config.cache_dir), config.limit_rate_bytes
    is_kept = rate is None or take_over_rate(directory, rate, is_mount=is_mount)
    bucket = SharedBucket(directory) if is_local(config.cache_dir) else None
    deadlines = Deadlines(most_seconds=config.most_answer_seconds)

    def read() -> int | None:
        return read_rate(directory).rate if is_kept else rate

    return RateLimit(rate=read() or OFF, read_rate=read, bucket=bucket, metrics=metrics, deadlines=deadlines)


@asynccontextmanager
async def make_mirrors(config: Config, metrics: Metrics, digests: DigestStore) -> AsyncIterator[Mirrors | None]:
    """What is asked before the dataset's bucket: a mirror, site caches. With --offline none of them is asked."""
    stock, places = Stock(scopes_of(config)), _servers(config)
    async with AsyncExitStack() as stack:
        found = [
            await stack.enter_async_context(_mirror_at(place, config, metrics, digests, stock)) for place in places
        ]
        mirrors = [mirror for mirror, place in zip(found, places, strict=True) if not place.has_versions]
        yield Mirrors(mirrors, [mirror for mirror in found if mirror not in mirrors]) if found else None


@dataclass(frozen=True, slots=True)
class _Server:
    """A mirror, or a site cache, which has versions. `name` is for people."""

    name: str
    bucket: str
    region: str
    endpoint_url: str | None
    ca_bundle: Path | None
    has_versions: bool = False

    @property
    def scope(self) -> str:
        """See `mirror_scope_of`."""
        return mirror_scope_of(self.endpoint_url, self.region, self.bucket)


def _servers(config: Config) -> list[_Server]:
    """Those that are asked before the dataset's bucket."""
    found = []
    if (place := config.mirror) is not None:
        region, bucket = place.region or config.region, place.bucket or config.bucket
        ca_bundle = place.ca_bundle or config.ca_bundle
        found.append(_Server(str(place), bucket, region, place.endpoint_url, ca_bundle))
    for url in config.site_cache:
        found.append(_Server(url, config.bucket, config.region, url, config.ca_bundle, has_versions=True))
    return found


@asynccontextmanager
async def _mirror_at(
    server: _Server, config: Config, metrics: Metrics, digests: DigestStore, stock: Stock
) -> AsyncIterator[Mirror]:
    async with S3Client(
        bucket=server.bucket,
        region=server.region,
        endpoint_url=server.endpoint_url,
        ca_bundle=server.ca_bundle,
        environ=_environ(config),
        max_connections=config.max_connections,
        metrics=metrics,
        receiver=_receiver(config),
    ) as s3:
        link = BreakerClient(s3, is_forbidden=config.offline)
        # What a site cache lacks comes when S3 has sent it, and not sooner because it is asked for twice.
        once = link if server.has_versions else HedgingClient(link, metrics=metrics, most=config.max_connections)
        paced = PacedClient(once, most=config.max_connections)
        patience = min(_MIRROR_SECONDS, config.io_timeout_seconds / 4)
        client = RetryingClient(paced, seconds=patience, attempts=_MIRROR_ATTEMPTS)
        verdicts = Verdicts(config.cache_dir, scope=server.scope)
        await trio.to_thread.run_sync(verdicts.refresh)
        more = _of_a_cache(config, metrics)
        cache = BlockCache(config.cache_dir, scope=server.scope, digests=digests, stock=stock, **more)
        yield Mirror(
            *(client, cache, verdicts),
            name=server.name,
            patience_seconds=patience,
            has_versions=server.has_versions,
        )


def make_cache(config: Config, metrics: Metrics, digests: DigestStore, mirrors: Mirrors | None = None) -> BlockCache:
    """The blocks on the disk, and behind them those of other caches; with mirrors, also those that they sent.

    Blocks that others have brought are held against `digests`. Raises `CacheError` for another cache that is not to
    be used.
    """
    scope, more = scope_of(config), _of_a_cache(config, metrics)
    sent = [] if mirrors is None else mirrors.caches
    behind = Behind([*_places_of_others(config, scope, metrics, digests), *sent])
    stock = sent[0].stock if sent else None
    return BlockCache(config.cache_dir, scope=scope, behind=behind, stock=stock, **more)


def _places_of_others(config: Config, scope: str, metrics: Metrics, digests: DigestStore) -> list[StoredBlocks]:
    """Files that are read in place, if there are any, and other caches.

    Of files read in place our own cache has the checksums, taken when they had their hash: these need no digests.
    """
    owners, top = trusted_uids(config), folder_at(config.cache_dir)
    places: list[StoredBlocks] = []
    if in_place.is_used(top, scope):
        places.append(in_place.InPlaceFiles(top, scope=scope, metrics=metrics, owners=owners))
    for directory in config.cache_also:
        more = _of_a_cache(config, metrics) | {"is_local": in_time(partial(is_local, directory), otherwise=False)}
        place = open_other(directory, owners, given_by="--cache-also: ")
        places.append(StoredBlocks(place, scope=scope, digests=digests, **more))
    return places


def _of_a_cache(config: Config, metrics: Metrics) -> dict[str, Any]:
    is_always = config.verify == "always"
    return {"metrics": metrics, "check_every_read": is_always, "is_local": is_local(config.cache_dir)}


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

"""A dataset, opened: the one entry for the commands, the daemon and other programs.

    async with open_dataset(config) as dataset:             the parts; S3 has not been asked yet
        versions = await load_versions(dataset)             which versions there are           access/versions.py
        async with whole_files(versions) as read: ...       bytes of whole files, verified     access/whole_files.py
        async with dataset.fetching() as (source, _): ...   blocks, for everything else

A program without an event loop of its own opens it by access/door.py. All of them share the cache directory: what one
has learnt or fetched is there for the others.
"""

from collections.abc import AsyncIterator, Callable, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from vbnfs.access.cache_directory import prepare_cache_directory
from vbnfs.access.opening import (
    keeping,
    make_cache,
    make_catalog,
    make_client,
    make_limit,
    make_mirrors,
    make_reading_client,
    scope_of,
)
from vbnfs.cache import host_claims
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.claims import Claims
from vbnfs.cache.digests import DigestStore
from vbnfs.cache.eviction import Evictor
from vbnfs.cache.host_claims import HostClaims
from vbnfs.cache.structure_index import StructureIndex
from vbnfs.cache.verdicts import Verdicts
from vbnfs.config.settings import Config
from vbnfs.dataset.catalog import Catalog
from vbnfs.host.mountinfo import is_shared
from vbnfs.host.places import folder_at
from vbnfs.metrics import Metrics
from vbnfs.objects import Content
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.block_writer import BlockWriter
from vbnfs.reading.memory import Memory
from vbnfs.reading.mirrors import Mirrors
from vbnfs.reading.other_processes import SharedFetches
from vbnfs.reading.proof import Proof
from vbnfs.reading.rate_limit import RateLimit
from vbnfs.reading.sources import Sources
from vbnfs.reading.storing import Sinks
from vbnfs.s3.breaker import BreakerClient

_LAST_NOTES_SECONDS: Final = 1.0
_USUAL_IO_TIMEOUT_SECONDS: Final = 30.0  # a reader who waits longer waits as much longer for another host


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a configuration asks for, each part made once. Valid while `open_dataset` is entered."""

    config: Config
    metrics: Metrics
    link: BreakerClient  # to the bucket; asks S3 only while it can be reached
    catalog: Catalog
    cache: BlockCache
    verdicts: Verdicts  # not read from the disk yet: see `Verdicts.refresh`
    digests: DigestStore
    index: StructureIndex
    mirrors: Mirrors | None
    limit: RateLimit  # learns the rate while `RateLimit.watch` runs

    def make_source(
        self,
        evictor: Evictor,
        *,
        nursery: trio.Nursery,
        on_stored: Callable[[Set[Content]], None] = lambda contents: None,
    ) -> BlockSource:
        """The blocks that the disk does not have. `keeping` runs and closes its writer."""
        config, cache = self.config, self.cache
        client, paced = make_reading_client(config, self.link, self.metrics)
        claims = self._claims()
        patience = config.io_timeout_seconds / _USUAL_IO_TIMEOUT_SECONDS if isinstance(claims, HostClaims) else 1.0
        may_wait = not cache.is_local
        others = SharedFetches(claims, cache, may_wait=may_wait, metrics=self.metrics, patience=patience)
        nursery.start_soon(others.show_pulse)
        memory = Memory(config.memory_limit_bytes)
        writer = BlockWriter(cache, evictor, others, memory, on_stored=on_stored)
        proof, sinks = Proof(self.digests), Sinks(cache, evictor)
        sources = Sources(client, self.verdicts, proof, sinks, metrics=self.metrics, mirrors=self.mirrors)
        return BlockSource(
            sources, writer, others, nursery=nursery, connections=paced, memory=memory, limit=self.limit
        )

    def _claims(self) -> Claims | HostClaims:
        """By locks; where other hosts may use the cache, too, by links."""
        config = self.config
        if is_shared(config.cache_dir):
            return HostClaims(folder_at(config.cache_dir) / host_claims.FORMAT / scope_of(config))
        return Claims(self.cache.directory / scope_of(config))

    def make_evictor(self) -> Evictor:
        """What makes room for what this process writes to the cache."""
        return Evictor(
            self.config.cache_dir,
            limit_bytes=self.config.cache_size_bytes,
            reserve_bytes=self.config.cache_reserve_bytes,
            metrics=self.metrics,
            close_deleted=self.cache.forget_deleted,
        )

    @asynccontextmanager
    async def fetching(
        self, *, on_stored: Callable[[Set[Content]], None] = lambda contents: None
    ) -> AsyncIterator[tuple[BlockSource, trio.Nursery]]:
        """A source of blocks, and the nursery in which its GETs run; at the end all that came is on the disk.

        `on_stored` gets the contents of which blocks have come to the disk.
        """
        async with keeping() as keep, trio.open_nursery() as services:
            source = self.make_source(self.make_evictor(), nursery=services, on_stored=on_stored)
            keep(source.writer)
            services.start_soon(self.limit.watch)
            yield source, services
            with trio.move_on_after(_LAST_NOTES_SECONDS):
                await trio.to_thread.run_sync(self.cache.note_uses, abandon_on_cancel=True)
            services.cancel_scope.cancel()


@asynccontextmanager
async def open_dataset(config: Config, *, is_mount: bool = False) -> AsyncIterator[Dataset]:
    """The dataset of a configuration, with its cache directory made ready. Asks S3 nothing.

    `is_mount`: the rate of its settings holds from now on, for all processes on the cache.
    Raises `CacheError` where the cache directory cannot be used, `UsageError` for a file of certificates or a proxy
    that is wrong.
    """
    await trio.to_thread.run_sync(prepare_cache_directory, config.cache_dir, abandon_on_cancel=True)
    metrics, digests = Metrics(), DigestStore(config.cache_dir)
    async with make_client(config, metrics) as link, make_mirrors(config, metrics, digests) as mirrors:
        catalog = make_catalog(config, link)
        limit = await trio.to_thread.run_sync(
            partial(make_limit, config, metrics, is_mount=is_mount), abandon_on_cancel=True
        )
        cache = await trio.to_thread.run_sync(make_cache, config, metrics, digests, mirrors, abandon_on_cancel=True)
        verdicts = Verdicts(config.cache_dir, scope=scope_of(config))
        index = StructureIndex(config.cache_dir)
        yield Dataset(config, metrics, link, catalog, cache, verdicts, digests, index, mirrors, limit)

"""A dataset, opened: the one entry for the commands, the daemon and other programs.

    async with open_dataset(config) as dataset:             the parts; S3 has not been asked yet
        versions = await load_versions(dataset)             which versions there are           access/versions.py
        async with whole_files(versions) as read: ...       bytes of whole files, verified     access/whole_files.py
        async with dataset.fetching() as (source, _): ...   blocks, for everything else

A program without an event loop of its own opens it by access/door.py. All of them share the cache directory: what one
has learnt or fetched is there for the others.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import trio

from vbnfs.access.cache_directory import prepare_cache_directory
from vbnfs.access.opening import keeping, make_cache, make_catalog, make_client, make_source, scope_of
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.eviction import Evictor
from vbnfs.cache.verdicts import Verdicts
from vbnfs.config.settings import Config
from vbnfs.dataset.catalog import Catalog
from vbnfs.metrics import Metrics
from vbnfs.reading.block_source import BlockSource
from vbnfs.s3.breaker import BreakerClient

_LAST_NOTES_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a configuration asks for, each part made once. Valid while `open_dataset` is entered."""

    config: Config
    metrics: Metrics
    link: BreakerClient  # to the bucket; asks S3 only while it can be reached
    catalog: Catalog
    cache: BlockCache
    verdicts: Verdicts  # not read from the disk yet: see `Verdicts.refresh`

    @asynccontextmanager
    async def fetching(self) -> AsyncIterator[tuple[BlockSource, trio.Nursery]]:
        """A source of blocks, and the nursery in which its GETs run; at the end all that came is on the disk."""
        config, cache = self.config, self.cache
        evictor = Evictor(config.cache_dir, limit_bytes=config.cache_size_bytes, metrics=self.metrics)
        async with keeping() as keep, trio.open_nursery() as services:
            source = make_source(config, self.link, cache, evictor, self.verdicts, self.metrics, nursery=services)
            keep(source.writer)
            yield source, services
            with trio.move_on_after(_LAST_NOTES_SECONDS):
                await trio.to_thread.run_sync(cache.note_uses, abandon_on_cancel=True)
            services.cancel_scope.cancel()


@asynccontextmanager
async def open_dataset(config: Config) -> AsyncIterator[Dataset]:
    """The dataset of a configuration, with its cache directory made ready. Asks S3 nothing.

    Raises `CacheError` where the cache directory cannot be used, `UsageError` for a file of certificates or a proxy
    that is wrong.
    """
    await trio.to_thread.run_sync(prepare_cache_directory, config.cache_dir, abandon_on_cancel=True)
    metrics = Metrics()
    async with make_client(config, metrics) as link:
        catalog = make_catalog(config, link)
        cache = await trio.to_thread.run_sync(make_cache, config, metrics, abandon_on_cancel=True)
        verdicts = Verdicts(config.cache_dir, scope=scope_of(config.endpoint_url))
        yield Dataset(config, metrics, link, catalog, cache, verdicts)

"""The reading floor, complete: real trio, a real cache directory, and a `MemoryClient` in the place of S3."""

from collections.abc import AsyncIterator, Callable, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
import trio.testing

from tests.fakes.client import MemoryClient
from tests.fakes.store import Data, MemoryStore
from vbnfs.cache.behind import Behind
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.claims import Claims
from vbnfs.cache.digests import DigestStore
from vbnfs.cache.eviction import Evictor
from vbnfs.cache.host_claims import HostClaims
from vbnfs.cache.stock import Stock
from vbnfs.cache.structure_index import StructureIndex
from vbnfs.cache.verdicts import Verdicts
from vbnfs.host.places import folder_at
from vbnfs.link import Link
from vbnfs.metrics import Metrics
from vbnfs.objects import Content, ObjectVersion
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.block_writer import BlockWriter
from vbnfs.reading.file_reader import FileReader
from vbnfs.reading.memory import Memory
from vbnfs.reading.mirror import Mirror
from vbnfs.reading.mirrors import Mirrors
from vbnfs.reading.other_processes import SharedFetches
from vbnfs.reading.prefetch import Prefetcher
from vbnfs.reading.proof import Proof
from vbnfs.reading.rate_limit import RateLimit
from vbnfs.reading.sources import Sources
from vbnfs.reading.storing import Sinks
from vbnfs.reading.verification import Verifier
from vbnfs.reading.walks import Walks

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PATIENCE_SECONDS = 0.2  # with a mirror
LIMIT_BYTES = (
    400 * MIB
)  # so small that all comes through memory, and no GET asks for room in a thread before it begins


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that a mount has between FUSE and S3."""

    client: MemoryClient
    metrics: Metrics
    cache: BlockCache
    source: BlockSource
    others: SharedFetches
    prefetcher: Prefetcher
    memory: Memory
    verdicts: Verdicts
    digests: DigestStore
    verifier: Verifier
    index: StructureIndex
    walks: Walks
    services: trio.Nursery
    start_keeping: Callable[[], None]

    def add(self, name: str, data: Data, *, file_hash: str | None = None) -> Content:
        """A content that the store has. The same name is the same content, as in another mount."""
        return add(self.client.store, name, data, file_hash=file_hash)

    def open(self, content: Content, *, advises: bool = True) -> FileReader:
        """A file handle."""
        cache, source, verdicts = self.cache, self.source, self.verdicts
        return FileReader(content, cache, source, self.prefetcher, verdicts, walks=self.walks, advises=advises)

    async def settled(self) -> None:
        """Wait until nothing is on its way any more: neither advice, nor a GET, nor a block to the disk.

        Walks may wait for their programs.
        """
        await trio.testing.wait_all_tasks_blocked(0.02)
        while len(self.services.child_tasks) > self.walks.waiting or self.source.is_busy:
            await trio.testing.wait_all_tasks_blocked(0.01)


@dataclass(frozen=True, slots=True)
class FixedConnections:
    """So many GETs at a time, of these so many prefetches, and so many while readers wait for connections."""

    gets: int
    prefetch_gets: int
    shared_gets: int
    link: Link = field(default_factory=Link)

    @property
    def short_gets(self) -> int:
        return self.gets

    def prefetches(self, *, demand_waits: bool) -> int:
        return self.shared_gets if demand_waits else self.prefetch_gets


def add(store: MemoryStore, name: str, data: Data, *, file_hash: str | None = None) -> Content:
    version_id = store.put(name, data) if store.get(name) is None else store.get(name).version_id  # type: ignore[union-attr]
    return Content(name, len(data), ObjectVersion(name, version_id), file_hash)


@asynccontextmanager
async def bench(
    directory: Path,
    *,
    client: MemoryClient | None = None,
    limit_bytes: int = LIMIT_BYTES,
    prefetch_gets: int = 4,
    shared_gets: int | None = None,
    gets: int | None = None,
    keeps_blocks: bool = True,
    memory_bytes: int = 256 * MIB,
    locks_may_wait: bool = False,
    has_other_hosts: bool = False,
    mirror_client: MemoryClient | None = None,
    limit: RateLimit | None = None,
    on_stored: Callable[[Set[Content]], None] = lambda contents: None,
) -> AsyncIterator[Bench]:
    """A mount without FUSE. It ends as the daemon does: services are cancelled, then all blocks are kept.

    `mirror_client` asks a mirror.

    `keeps_blocks` False: the disk hangs, until `start_keeping`.
    """
    client = client or MemoryClient(MemoryStore())
    metrics = Metrics()
    cache, mirrors, digests = BlockCache(directory, scope="test", metrics=metrics), None, DigestStore(directory)
    if mirror_client is not None:
        stock, of_mirror = Stock({"test", "mirror"}), Verdicts(directory, scope="mirror")
        sent = BlockCache(directory, scope="mirror", metrics=metrics, digests=digests, stock=stock)
        mirrors = Mirrors([Mirror(mirror_client, sent, of_mirror, name="lab", patience_seconds=PATIENCE_SECONDS)])
        cache = BlockCache(directory, scope="test", metrics=metrics, behind=Behind([sent]), stock=stock)
    evictor = Evictor(directory, limit_bytes=limit_bytes, metrics=metrics)
    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as services:
            memory = Memory(memory_bytes)
            links = folder_at(directory) / "claims-v1/test"
            claims = HostClaims(links) if has_other_hosts else Claims(cache.directory / "test")
            may_wait = locks_may_wait or has_other_hosts
            others = SharedFetches(claims, cache, may_wait=may_wait, metrics=metrics)
            verdicts = Verdicts(directory, scope="test")
            writer = BlockWriter(cache, evictor, others, memory, on_stored=on_stored)
            source = BlockSource(
                Sources(client, verdicts, Proof(digests), Sinks(cache, evictor), metrics=metrics, mirrors=mirrors),
                writer,
                others,
                nursery=services,
                connections=FixedConnections(gets or prefetch_gets, prefetch_gets, shared_gets or prefetch_gets),
                memory=memory,
                limit=limit,
            )
            prefetcher = Prefetcher(cache, source, nursery=services)
            verifier = Verifier(cache, source, verdicts, digests, metrics=metrics, mirrors=mirrors)
            index = StructureIndex(directory)
            walks = Walks(cache, source, verdicts, index, metrics=metrics, nursery=services)
            if keeps_blocks:
                outer.start_soon(writer.keep_blocks)
            start_keeping = lambda: outer.start_soon(writer.keep_blocks)  # noqa: E731
            try:
                yield Bench(
                    client,
                    metrics,
                    cache,
                    source,
                    others,
                    prefetcher,
                    memory,
                    verdicts,
                    digests,
                    verifier,
                    index,
                    walks,
                    services,
                    start_keeping,
                )
            finally:
                walks.close()
            services.cancel_scope.cancel()
        writer.close()

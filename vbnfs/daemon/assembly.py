"""What a mount is made of, each part built once and given what it needs.

    file_system     names, sizes and times, from `Attributes` and `Catalog`; a `FileReader` for each open file
    source          bytes: from memory, from the `BlockCache` that `Evictor` keeps small, from a client of S3
    verifier        holds complete files against the manifest; `Verdicts` has what it found, for all readers

What goes on in the background is begun by `start`.
"""

import itertools
import os
from collections.abc import Callable, Mapping, Set
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from vbnfs.access.dataset import Dataset
from vbnfs.access.opening import scope_of
from vbnfs.access.published_index import PublishedIndexes
from vbnfs.access.restarting import restart_on_failure
from vbnfs.blocks import blocks_of
from vbnfs.cache.cache_disk import CacheDisk
from vbnfs.cache.eviction import Evictor, store_size
from vbnfs.cache.holdings import Holdings
from vbnfs.config.settings import Config
from vbnfs.daemon.filling import Filling
from vbnfs.daemon.invalidation import Invalidator
from vbnfs.daemon.pages import Pages
from vbnfs.daemon.readers import ownership_of
from vbnfs.daemon.recording import Recorder
from vbnfs.dataset.allensdk import ALLENSDK
from vbnfs.dataset.catalog import Catalog
from vbnfs.dataset.contents import NamedContent
from vbnfs.dataset.names import encode
from vbnfs.dataset.tree import DataNode, Tree, names_in
from vbnfs.errors import StorageError, VbnfsError
from vbnfs.filesystem.attributes import Attributes
from vbnfs.filesystem.open_files import KernelPages
from vbnfs.filesystem.operations import FileSystem
from vbnfs.filesystem.own_files import FOR_OTHERS, OwnFiles
from vbnfs.filesystem.page_filler import PageFiller
from vbnfs.filesystem.passthrough import Passthrough
from vbnfs.filesystem.with_about import WithAbout
from vbnfs.host.mountinfo import is_stacked
from vbnfs.host.places import folder_at
from vbnfs.objects import ByteRange, Content
from vbnfs.reading.checked_files import CheckedFiles
from vbnfs.reading.file_reader import FileReader
from vbnfs.reading.judged import describe
from vbnfs.reading.prefetch import Prefetcher
from vbnfs.reading.verification import Verifier
from vbnfs.reading.walks import Walks
from vbnfs.s3.addresses import bucket_base, object_url

log = structlog.get_logger()

_HOUSEKEEPING_SECONDS: Final = 5.0
_MOST_READ_BYTES: Final = 1 << 20  # at once, on the event loop's time
_RESERVE_SECONDS: Final = 0.5  # a fast disk takes 1 GB meanwhile, half of the least default reserve
_TICKS_BETWEEN_SCANS: Final = 6  # walking over the 20,000 files of 5 TB takes some tenths of a second


def why_no_passthrough(config: Config, *, is_local: bool) -> str | None:
    """Why the settings, or the cache's place, keep the kernel from reading files by itself; None: they do not."""
    if not config.passthrough:
        return "--passthrough no"
    if config.record is not None:
        return "--record: what the kernel reads by itself would not be in the record"
    if config.verify == "always":
        return "--verify always: blocks are checked at each read"
    return None if is_local else "the cache is on a file system that other hosts may change"


class Parts:
    """The parts of the mount on `mountpoint`, None if that cannot be seen. GETs run in `nursery`.

    `status` is what every reader may know. `browse` is called when a program looks into the folder `by`. `recorder`
    writes down what is read. Nothing else runs before `restore` and `start`.
    """

    def __init__(
        self,
        dataset: Dataset,
        mountpoint: Path | None,
        *,
        tree: Tree,
        nursery: trio.Nursery,
        status: Callable[[FileSystem], Mapping[str, Any]],
        browse: Callable[[], None],
        recorder: Recorder | None = None,
    ) -> None:
        self.recorder: Final = recorder
        self._browse = browse
        self._config, self._metrics, self._link = dataset.config, dataset.metrics, dataset.link
        self._nursery = nursery
        self.invalidator = Invalidator()
        self.page_filler = PageFiller(mountpoint, dataset.metrics)
        self._catalog = catalog = dataset.catalog
        self._pages = Pages(mountpoint)
        self._cache = dataset.cache
        if not self._cache.is_local:
            log.info("cache on a file system that may be another host's: claims are links, nothing is mapped")
        self._evictor = self._make_evictor()
        self._disk = CacheDisk(self._cache, self._evictor)
        self.limit = dataset.limit
        self._index = dataset.index
        self._indexes = PublishedIndexes(self._config, self._link, catalog, self._index)
        self._verdicts = dataset.verdicts
        self._verdicts.refresh()
        self.source = dataset.make_source(self._evictor, nursery=nursery, on_stored=self._when_stored)
        self._prefetcher = Prefetcher(self._cache, self.source, nursery=nursery)
        self.walks = self._make_walks(nursery)
        self.passthrough = self._make_passthrough()
        self._verifier = Verifier(
            self._cache,
            self.source,
            self._verdicts,
            dataset.digests,
            metrics=self._metrics,
            mirrors=dataset.mirrors,
            on_mismatch=self._forget_pages,
            on_hashed=self.passthrough.files.add,
        )
        self._attributes = self._make_attributes(catalog)
        self.file_system = self._make_file_system(catalog, tree, mountpoint, status)
        self.filling = Filling(
            self._cache, self.source, self._verifier, catalog, tree=lambda: self.file_system.nodes.tree
        )

    async def restore(self) -> None:
        """Read the structure indexes that are stored, before the first program may open a file."""
        if self.walks is not None:
            await trio.to_thread.run_sync(self._indexes.restore, abandon_on_cancel=True)

    def start(self, services: trio.Nursery) -> None:
        """Begin what goes on for as long as the mount, but for `source.writer.keep_blocks`, which ends last."""
        services.start_soon(restart_on_failure, "watch on the server", self._link.watch)
        services.start_soon(restart_on_failure, "housekeeping", self._keep_house)
        services.start_soon(restart_on_failure, "rate", self.limit.watch)
        services.start_soon(restart_on_failure, "sizes", self._catalog.sizes.run_prefetches)
        services.start_soon(restart_on_failure, "verifying", self._verifier.run)
        services.start_soon(restart_on_failure, "dropping pages", self._pages.run)
        services.start_soon(restart_on_failure, "checking whole files", self.passthrough.files.run)
        services.start_soon(restart_on_failure, "showing what is held", self.passthrough.publish)
        services.start_soon(restart_on_failure, "recency", self._note_uses)
        services.start_soon(restart_on_failure, "reserve", self._keep_reserve)
        if self.walks is not None:
            services.start_soon(restart_on_failure, "structure indexes", self._indexes.run)
        if self.recorder is not None:
            services.start_soon(restart_on_failure, "record", self.recorder.run)

    def _make_evictor(self) -> Evictor:
        directory, limit_bytes = self._config.cache_dir, self._config.cache_size_bytes
        if limit_bytes is not None:
            store_size(directory, limit_bytes)
        return Evictor(
            directory,
            limit_bytes=limit_bytes,
            reserve_bytes=self._config.cache_reserve_bytes,
            metrics=self._metrics,
            on_scan=self._cache.stock.take,
            close_deleted=self._cache.forget_deleted,
        )

    def _make_walks(self, nursery: trio.Nursery) -> Walks | None:
        if not self._config.hdf5 or self._config.offline:
            return None
        return Walks(self._cache, self.source, self._verdicts, self._index, metrics=self._metrics, nursery=nursery)

    def _make_passthrough(self) -> Passthrough:
        config = self._config
        files = CheckedFiles(self._cache, self._verdicts, self._metrics, trusts_cache=config.trust_cache)
        reason = why_no_passthrough(config, is_local=self._cache.is_local)
        holdings = Holdings(folder_at(config.cache_dir))
        return Passthrough(files, holdings, self._metrics, reason=reason)

    @property
    def stack_depth(self) -> int:
        """How deep the file systems may be whose files the kernel is given: see `fuse.engines.Mount`."""
        if not self.passthrough.is_wanted:
            return 0
        return 2 if is_stacked(self._config.cache_dir) else 1

    def _make_attributes(self, catalog: Catalog) -> Attributes:
        config = self._config
        return Attributes(
            catalog,
            self._cache,
            written=self.source.writer.written,
            url=partial(object_url, bucket_base(config.bucket, config.region, config.endpoint_url)),
            verified=partial(describe, self._cache, self._verdicts),
            on_change=self.invalidator.send,
            ownership=ownership_of(config),
        )

    def _make_file_system(
        self, catalog: Catalog, tree: Tree, mountpoint: Path | None, status: Callable[[FileSystem], Mapping[str, Any]]
    ) -> FileSystem:
        config = self._config
        names = (scope_of(config), config.bucket, config.project, str(mountpoint))
        own_files = OwnFiles(
            config.cache_dir / ALLENSDK,
            names,
            for_others=FOR_OTHERS if os.geteuid() == 0 else None,
            known=lambda: [encode(name) for name in names_in(self.file_system.nodes.tree, ALLENSDK)],
        )
        return FileSystem(
            tree=tree,
            catalog=catalog,
            attributes=self._attributes,
            open_reader=self._open_reader,
            passthrough=self.passthrough,
            own_file=own_files.path_for,
            disk=self._disk,
            metrics=self._metrics,
            io_timeout_seconds=config.io_timeout_seconds,
            deadlines=self.limit.deadlines,
            pages=self._kernel_pages(),
            recording=None if self.recorder is None else self.recorder.recording,
            fetch=self._fetch_later,
            status=status,
            browse=self._browse,
        )

    def _kernel_pages(self) -> KernelPages:
        """For a record the kernel keeps no pages from one open to the next, and asks for no more than programs do."""
        if self.recorder is not None:
            return KernelPages(are_stale=lambda inode: True)
        return KernelPages(self._pages.are_stale, self.page_filler.fill)

    def operations(self, for_owner: Mapping[str, Callable[[], bytes]]) -> FileSystem | WithAbout:
        """What answers the kernel: the file system, with the folder about itself, unless that is turned off.

        In that are texts for the owner, by their names.
        """
        if self._config.status_folder == "off":
            return self.file_system
        is_listed = self._config.status_folder == "listed"
        return WithAbout(self.file_system, ownership_of(self._config), for_owner, is_listed=is_listed)

    async def read_cached(self, named: NamedContent) -> bytes | None:
        """All bytes of a small file of the dataset; None while not all of it is cached. Raises a `StorageError`."""
        if (attributes := self._catalog.sizes.get(named)) is None:
            return None
        content = named.with_attributes(attributes)
        if content.size_bytes > _MOST_READ_BYTES:
            raise StorageError(f"{content.source}: larger than {_MOST_READ_BYTES:,} bytes")
        blocks = blocks_of(ByteRange(0, content.size_bytes))
        if await trio.to_thread.run_sync(self._cache.missing, content, blocks):
            return None
        reader, data = self._open_reader(content, False), bytearray()
        while len(data) < content.size_bytes:
            data += await reader.read(len(data), content.size_bytes - len(data))
        return bytes(data)

    async def refresh_figures(self) -> None:
        """Have figures be those of now, and the kernel know of them."""
        await self._disk.check()
        self._attributes.refresh()

    def _open_reader(self, content: Content, advises: bool) -> FileReader:
        self._verifier.notice_opened(content)
        self._cache.note_opened(content)
        cache, source, verdicts = self._cache, self.source, self._verdicts
        return FileReader(
            *(content, cache, source, self._prefetcher, verdicts),
            walks=self.walks,
            advises=advises,
            metrics=self._metrics,
        )

    def _fetch_later(self, node: DataNode, most_bytes: int) -> None:
        self._nursery.start_soon(self._fetch_whole, node, most_bytes)

    async def _fetch_whole(self, node: DataNode, most_bytes: int) -> None:
        try:
            content = await self._attributes.learn_content(node)
        except VbnfsError as error:
            log.debug("not fetched ahead", object=str(node.source), reason=str(error))
            return
        if content.size_bytes <= most_bytes:
            self._prefetcher.advise_whole(content)

    def _when_stored(self, contents: Set[Content]) -> None:
        self._attributes.refresh()
        for content in contents:
            self._verifier.notice(content)

    def _forget_pages(self, content_id: str) -> None:
        """A file turned out to be wrong: no program is to see what the kernel has of it. Called in a thread."""
        self.passthrough.files.forget(content_id)
        inode = self.file_system.nodes.inode_of(content_id)
        if inode is not None:
            trio.from_thread.run_sync(self._condemn, inode, self.file_system.nodes.tree.path_of(inode))

    def _condemn(self, inode: int, path: str) -> None:
        self.passthrough.condemn(inode)
        if not self.passthrough.is_passed(inode):  # else the kernel has no pages of the mount's file
            self._pages.drop(inode, path)
        self.file_system.files.begin_reads_anew(inode)

    async def _note_uses(self) -> None:
        """Beside housekeeping, and not waited for at the end: a frozen disk holds it up."""
        while True:
            await trio.sleep(_HOUSEKEEPING_SECONDS)
            await trio.to_thread.run_sync(self._cache.note_uses, abandon_on_cancel=True)

    async def _keep_reserve(self) -> None:
        """See twice a second whether others fill the disk. Not waited for at the end, either."""
        while True:
            await trio.sleep(_RESERVE_SECONDS)
            await trio.to_thread.run_sync(self._evictor.keep_reserve, abandon_on_cancel=True)

    async def _keep_house(self) -> None:
        """Check the cache at intervals: for usage that others cause, for files that others evicted or condemned."""
        for tick in itertools.count():
            if tick % _TICKS_BETWEEN_SCANS == 0:
                await trio.to_thread.run_sync(self._disk.check_now)
                self._attributes.refresh()
            else:
                await trio.to_thread.run_sync(self._disk.check_room_now)
            await trio.to_thread.run_sync(self._cache.forget_deleted)
            await trio.to_thread.run_sync(self._index.refresh)
            await self.source.writer.keep_again()
            await self._verifier.refresh()
            await trio.to_thread.run_sync(self._cache.flush)
            await trio.sleep(_HOUSEKEEPING_SECONDS)

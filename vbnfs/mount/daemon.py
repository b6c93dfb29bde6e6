"""A mount from its configuration to its end: builds everything once, owns the nurseries, goes away in order.

    outer nursery       the task that writes blocks to disk; ends last, so that what was fetched is kept
    services            FUSE requests, GETs, readahead, refresh, watch on the server, housekeeping, control socket,
                        signals

A task that raises ends the mount. So whatever meets disk or network in the background catches what can go wrong.
"""

import gc
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Set
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
import trio

from vbnfs import __version__
from vbnfs.config import MIB, Config
from vbnfs.dataset.allensdk import ALLENSDK
from vbnfs.dataset.catalog import KEPT_FORMAT, Catalog
from vbnfs.dataset.manifest import DatasetVersion, Manifest, Origin
from vbnfs.dataset.readme import readme
from vbnfs.dataset.tree import Tree, build_tree
from vbnfs.errors import MountError
from vbnfs.fuse.device import Device, open_mount, option
from vbnfs.fuse.protocol import attributes_changed, data_changed
from vbnfs.fuse.server import Server
from vbnfs.metrics import Metrics
from vbnfs.mount import control
from vbnfs.mount.attributes import Attributes
from vbnfs.mount.mountpoint import MountEntry, detach, find_mount, is_local
from vbnfs.mount.notify import Notifier
from vbnfs.mount.operations import FileSystem
from vbnfs.mount.own_files import FOR_OTHERS, OwnFiles
from vbnfs.objects import Content, ObjectClient
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.file_reader import FileReader
from vbnfs.reading.memory import Memory
from vbnfs.reading.neighbours import Neighbours
from vbnfs.reading.prefetch import Prefetcher
from vbnfs.reading.verification import Verifier, describe
from vbnfs.storage.block_cache import BlockCache
from vbnfs.storage.breaker import BreakerClient
from vbnfs.storage.claims import Claims
from vbnfs.storage.eviction import Evictor
from vbnfs.storage.hedging import HedgingClient
from vbnfs.storage.pacing import PacedClient
from vbnfs.storage.resolver import ApartResolver
from vbnfs.storage.retry import RetryingClient
from vbnfs.storage.s3 import S3Client, aws_base, object_url
from vbnfs.storage.verdicts import Verdicts

log = structlog.get_logger()

_CATALOG_SECONDS: Final = 15.0  # a mount without network should not keep anybody waiting
_CATALOG_ATTEMPTS: Final = 3
_READ_ATTEMPTS: Final = 10
_HOUSEKEEPING_SECONDS: Final = 5.0
_TICKS_BETWEEN_LOOKS: Final = 6  # walking over the 20,000 files of 5 TB takes some tenths of a second
_LAST_ANSWERS_SECONDS: Final = 1.0
_CONNECTIONS_A_HEDGE: Final = 8  # one in so many is left to GETs that are made twice

Announce = Callable[[tuple[str, ...]], None]


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
    paced = PacedClient(hedging, most=max(1, config.max_connections - config.max_connections // _CONNECTIONS_A_HEDGE))
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


@dataclass(slots=True)
class Daemon:
    """One mount, from its configuration to its end."""

    config: Config
    mountpoint: Path
    metrics: Metrics = field(default_factory=Metrics)
    started: float = field(default_factory=time.time)
    notifier: Notifier = field(default_factory=lambda: Notifier(None))
    _manifests: tuple[Manifest, ...] = ()
    _default: DatasetVersion | None = None
    _problems: tuple[str, ...] = ()
    _is_kept_only: bool = False  # the catalog: not asked for, but kept
    _device: Device | None = None
    _server: Server | None = None
    _refreshing: trio.Lock = field(default_factory=trio.Lock)

    async def serve(self, announce: Announce) -> None:
        """Mount, call `announce` with warnings when the tree can be listed, and return when it is unmounted.

        Raises a `VbnfsError` if the mount cannot be made.
        """
        async with make_client(self.config, self.metrics) as s3:
            catalog = make_catalog(self.config, s3)
            tree = await self._load_tree(catalog)
            async with trio.open_nursery() as outer:
                async with trio.open_nursery() as services:
                    source, file_system = self._build(s3, catalog, tree, services)
                    outer.start_soon(source.keep_blocks)
                    await self._run(services, s3, source, catalog, file_system, announce)
                    services.cancel_scope.cancel()
                source.close()

    async def _load_tree(self, catalog: Catalog) -> Tree:
        release = await catalog.load(max_age_seconds=self.config.refresh_seconds)
        self._default = release.choose(self.config.dataset_version)
        self._manifests, self._problems = release.manifests, release.problems
        self._is_kept_only = release.is_offline
        tree = await self._make_tree(release.manifests)
        # Manifests and tree are hundreds of thousands of objects that stay: if the collector looked at them again and
        # again, it would hold the event loop up for tens of milliseconds each time.
        gc.collect()
        gc.freeze()
        return tree

    async def _make_tree(self, manifests: tuple[Manifest, ...]) -> Tree:
        return await trio.to_thread.run_sync(self._build_tree, manifests)

    def _build_tree(self, manifests: tuple[Manifest, ...]) -> Tree:
        assert self._default is not None
        bucket, project = self.config.bucket, self.config.project
        text = readme(manifests, default=self._default, bucket=bucket, project=project)
        return build_tree(manifests, default_version=self._default, readme=text, bucket=bucket)

    def _build(
        self, s3: BreakerClient, catalog: Catalog, tree: Tree, services: trio.Nursery
    ) -> tuple[BlockSource, FileSystem]:
        config, metrics = self.config, self.metrics
        scope, always = scope_of(config.endpoint_url), config.verify == "always"
        near = is_local(config.cache_dir)
        if not near:
            log.info("cache on a file system that may be another host's: locks wait in threads, nothing is mapped")
        cache = BlockCache(config.cache_dir, scope=scope, metrics=metrics, verify_always=always, is_local=near)
        verdicts = Verdicts(config.cache_dir, scope=scope)
        verdicts.refresh()
        evictor = Evictor(
            cache.directory, limit_bytes=config.cache_size_bytes, metrics=metrics, on_look=cache.take_stock
        )
        client, paced = make_reading_client(config, s3, metrics)

        def refresh_attributes() -> None:
            if self._device is not None:
                for inode in attributes.refresh():
                    self._device.notify(attributes_changed(inode))

        def when_kept(contents: Set[Content]) -> None:
            refresh_attributes()
            for content in contents:
                verifier.notice(content)

        def forget_pages(content_id: str) -> None:  # in a thread
            inode = file_system.inode_of(content_id)
            if self._device is not None and inode is not None:
                self._device.notify(data_changed(inode))

        def open_reader(content: Content) -> FileReader:
            verifier.notice_opened(content)
            return FileReader(content, cache, source, prefetcher, verdicts)

        neighbours = make_neighbours(config, cache, metrics)
        source = BlockSource(
            client,
            cache,
            evictor,
            neighbours,
            nursery=services,
            prefetch_gets=lambda: paced.pace.prefetches,
            memory=Memory(config.memory_limit_bytes),
            on_kept=when_kept,
        )
        verifier = Verifier(cache, source, verdicts, metrics=metrics, on_mismatch=forget_pages)
        public_url = partial(object_url, aws_base(config.bucket, config.region))
        verified = partial(describe, cache, verdicts)
        attributes = Attributes(catalog, cache, written=source.written, public_url=public_url, verified=verified)
        prefetcher = Prefetcher(cache, source, nursery=services)
        file_system = FileSystem(
            tree=tree,
            catalog=catalog,
            attributes=attributes,
            open_reader=open_reader,
            own_file=self._own_files().place_for,
            evictor=evictor,
            metrics=metrics,
            io_timeout_seconds=config.io_timeout_seconds,
        )
        services.start_soon(s3.watch)
        services.start_soon(_keep_house, cache, evictor, source, verifier, refresh_attributes)
        services.start_soon(verifier.run)
        return source, file_system

    def _own_files(self) -> OwnFiles:
        config = self.config
        names = (scope_of(config.endpoint_url), config.bucket, config.project, str(self.mountpoint))
        return OwnFiles(config.cache_dir / ALLENSDK, names, for_others=FOR_OTHERS if os.geteuid() == 0 else None)

    async def _run(
        self,
        services: trio.Nursery,
        link: BreakerClient,
        source: BlockSource,
        catalog: Catalog,
        file_system: FileSystem,
        announce: Announce,
    ) -> None:
        serving = trio.CancelScope()
        await services.start(self._unmount_on_signal, serving)
        with self._mounted() as (device, entry):
            services.start_soon(self._refresh_for_ever, link, catalog, file_system)
            services.start_soon(self._control, entry, link, catalog, file_system)
            services.start_soon(self._announce, announce, link)
            self._server = Server(device, file_system, is_busy=lambda: source.is_busy)
            with serving:
                await self._server.serve()

    @contextmanager
    def _mounted(self) -> Iterator[tuple[Device, MountEntry]]:
        options = ["ro", "default_permissions", option("subtype", "vbnfs"), option("fsname", self.config.project)]
        options += [*self.config.fuse_options, *(["allow_other"] if self.config.allow_other else [])]
        device, entry = open_mount(self.mountpoint, options), None
        try:
            self._device = device
            entry = find_mount(self.mountpoint)
            if entry is None:
                raise MountError(f"{self.mountpoint}: mounted, but not to be found in /proc/self/mountinfo")
            yield device, entry
        finally:
            self.notifier.stopping()
            self._device = None
            device.close()  # what is unanswered now is answered by the kernel; unmounting asks nobody any more
            if entry is not None and find_mount(self.mountpoint) == entry:
                detach(self.mountpoint, lazy=True)
            log.info("unmounted", mountpoint=str(self.mountpoint))

    async def _announce(self, announce: Announce, link: BreakerClient) -> None:
        try:
            await trio.to_thread.run_sync(os.listdir, self.mountpoint)
        except OSError as error:  # unmounted before it was ever looked at
            log.warning("not mounted for long", mountpoint=str(self.mountpoint), reason=str(error))
            return
        log.info(
            "mounted",
            mountpoint=str(self.mountpoint),
            versions=len(self._manifests),
            default=str(self._default),
        )
        warnings = [f"not shown: {problem}" for problem in self._problems]
        if self._is_kept_only:
            why = "offline" if self.config.offline else "the bucket cannot be reached"
            warnings.insert(0, f"{why}: mounted from what is kept; only cached data can be read")
        announce(tuple(warnings))
        self._tell_of_newer()
        await self.notifier.ready(lambda: self._status_line(is_offline=link.is_offline))

    @property
    def _newer(self) -> DatasetVersion | None:
        """The newest version, if it is newer than the one at the top."""
        newest = self._manifests[-1].dataset_version
        return newest if newest != self._default else None

    def _tell_of_newer(self) -> None:
        if self._newer is not None:
            log.info("newer dataset version than the one at the top", newer=str(self._newer), top=str(self._default))

    # While mounted

    async def _unmount_on_signal(
        self, serving: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Unmount in order; requests that wait for the network by then have a moment to be answered."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                log.info("unmounting", signal=signal.Signals(number).name)
                serving.deadline = trio.current_time() + _LAST_ANSWERS_SECONDS
                if self._server is not None:
                    self._server.stop()

    async def _refresh_for_ever(self, link: BreakerClient, catalog: Catalog, file_system: FileSystem) -> None:
        while True:
            with trio.move_on_after(self.config.refresh_seconds):
                await link.wait_back()  # what was published meanwhile is of interest at once
            try:
                await self._refresh(catalog, file_system)
            except Exception as error:
                log.warning("cannot look for new dataset versions", reason=str(error) or repr(error))

    async def _refresh(self, catalog: Catalog, file_system: FileSystem) -> list[str]:
        """Show versions that have appeared. Returns their names; being cancelled changes nothing."""
        async with self._refreshing:
            release = await catalog.load()
            shown = {manifest.dataset_version for manifest in self._manifests}
            new = [manifest for manifest in release.manifests if manifest.dataset_version not in shown]
            if new:
                manifests = tuple(sorted((*self._manifests, *new), key=lambda m: m.dataset_version))
                file_system.show(await self._make_tree(manifests))
                self._manifests = manifests  # no await between showing it and knowing it
                log.info("dataset versions have appeared", versions=[str(m.dataset_version) for m in new])
                if new[-1] is manifests[-1]:
                    self._tell_of_newer()
            self._problems, self._is_kept_only = release.problems, release.is_offline
            return [str(manifest.dataset_version) for manifest in new]

    async def _control(
        self, entry: MountEntry, link: BreakerClient, catalog: Catalog, file_system: FileSystem
    ) -> None:
        async def refresh() -> dict[str, Any]:
            return {"new": await self._refresh(catalog, file_system)}

        async def status() -> dict[str, Any]:
            return self._status(file_system, is_offline=not await link.look())

        path = control.socket_path(os.getuid(), entry.device)
        try:
            await control.serve(path, {"status": status, "refresh": refresh})
        except (OSError, MountError) as error:
            log.warning("no control socket: 'vbnfs status' will not reach this mount", reason=str(error))

    def _status(self, file_system: FileSystem, *, is_offline: bool) -> dict[str, Any]:
        config = self.config
        return {
            "mountpoint": str(self.mountpoint),
            "pid": os.getpid(),
            "vbnfs_version": __version__,
            "uptime_seconds": round(time.time() - self.started, 1),
            "bucket": config.bucket,
            "project": config.project,
            "endpoint_url": config.endpoint_url,
            "default_version": str(self._default),
            "newer_version": None if self._newer is None else str(self._newer),
            "versions": [str(manifest.dataset_version) for manifest in self._manifests],
            "refused": list(self._problems),
            "is_offline": is_offline,
            "cache_dir": str(config.cache_dir),
            "cache_size_bytes": config.cache_size_bytes,
            "cache_usage_bytes": file_system.cache_usage_bytes,
            "log_file": None if config.foreground else str(config.log_file),
            "last_error": file_system.last_error,
            "metrics": self.metrics.snapshot(),
        }

    def _status_line(self, *, is_offline: bool) -> str:
        """What `systemctl status` shows."""
        counts = self.metrics.snapshot()
        read, received = (counts[name] / MIB for name in ("read_bytes", "received_bytes"))
        offline = "; the bucket is not reached" if is_offline else ""
        return (
            f"{self.mountpoint}: {len(self._manifests)} versions, {self._default} at the top;"
            f" {read:,.0f} MiB read, {received:,.0f} MiB from S3{offline}"
        )


async def _keep_house(
    cache: BlockCache, evictor: Evictor, source: BlockSource, verifier: Verifier, on_look: Callable[[], None]
) -> None:
    """Look at the cache now and then: for usage that others cause, and for files that others evicted or condemned."""
    for tick in itertools.count():
        if tick % _TICKS_BETWEEN_LOOKS == 0:
            await trio.to_thread.run_sync(evictor.look)
            on_look()
        await trio.to_thread.run_sync(cache.forget_deleted)
        await source.keep_again()
        await trio.to_thread.run_sync(cache.flush)
        await verifier.refresh()
        await trio.sleep(_HOUSEKEEPING_SECONDS)

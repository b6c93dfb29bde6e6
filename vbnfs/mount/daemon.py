"""A mount from its configuration to its end: builds everything once, owns the nurseries, goes away in order.

    outer nursery       the task that writes blocks to disk; ends last, so that what was fetched is kept
    services            FUSE requests, GETs, readahead, refresh, housekeeping, control socket, signals

A task that raises ends the mount. So whatever meets disk or network in the background catches what can go wrong.
"""

import gc
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
import trio

from vbnfs import __version__
from vbnfs.config import MIB, Config
from vbnfs.dataset.catalog import KEPT_FORMAT, Catalog
from vbnfs.dataset.manifest import DatasetVersion, Manifest, Origin
from vbnfs.dataset.readme import readme
from vbnfs.dataset.tree import Tree, build_tree
from vbnfs.errors import MountError
from vbnfs.fuse.device import Device, open_mount, option
from vbnfs.fuse.protocol import attributes_changed
from vbnfs.fuse.server import Server
from vbnfs.metrics import Metrics
from vbnfs.mount import control
from vbnfs.mount.attributes import Attributes
from vbnfs.mount.mountpoint import MountEntry, detach, find_mount, is_local
from vbnfs.mount.notify import Notifier
from vbnfs.mount.operations import FileSystem
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.file_reader import FileReader
from vbnfs.reading.neighbours import Neighbours
from vbnfs.reading.prefetch import Prefetcher
from vbnfs.storage.block_cache import BlockCache
from vbnfs.storage.claims import Claims
from vbnfs.storage.eviction import Evictor
from vbnfs.storage.retry import RetryingClient
from vbnfs.storage.s3 import S3Client, aws_base, object_url

log = structlog.get_logger()

_CATALOG_SECONDS: Final = 15.0  # a mount without network should not keep anybody waiting
_CATALOG_ATTEMPTS: Final = 3
_READ_ATTEMPTS: Final = 10
_HOUSEKEEPING_SECONDS: Final = 5.0
_TICKS_BETWEEN_LOOKS: Final = 6  # walking over the 20,000 files of 5 TB takes some tenths of a second
_LAST_ANSWERS_SECONDS: Final = 1.0
_RESERVED_CONNECTIONS: Final = 4  # for readers, while prefetches run

Announce = Callable[[tuple[str, ...]], None]


def scope_of(endpoint_url: str | None) -> str:
    """The name under which the cache keeps what comes from AWS, or from an endpoint."""
    return "aws" if endpoint_url is None else urlsplit(endpoint_url).netloc.replace(":", "_").replace("/", "_")


def make_client(config: Config, metrics: Metrics) -> S3Client:
    """The S3 client for the dataset's bucket."""
    return S3Client(
        bucket=config.bucket,
        region=config.region,
        endpoint_url=config.endpoint_url,
        ca_bundle=config.ca_bundle,
        max_connections=config.max_connections,
        metrics=metrics,
    )


def make_catalog(config: Config, s3: S3Client) -> Catalog:
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
    _is_offline: bool = False
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
                    await self._run(services, source, catalog, file_system, announce)
                    services.cancel_scope.cancel()
                source.close()

    async def _load_tree(self, catalog: Catalog) -> Tree:
        release = await catalog.load(max_age_seconds=self.config.refresh_seconds)
        self._default = release.choose(self.config.dataset_version)
        self._manifests, self._problems = release.manifests, release.problems
        self._is_offline = release.is_offline
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
        self, s3: S3Client, catalog: Catalog, tree: Tree, services: trio.Nursery
    ) -> tuple[BlockSource, FileSystem]:
        config, metrics = self.config, self.metrics
        cache = BlockCache(config.cache_dir, scope=scope_of(config.endpoint_url), metrics=metrics)
        evictor = Evictor(
            cache.directory, limit_bytes=config.cache_size_bytes, metrics=metrics, on_look=cache.take_stock
        )
        client = RetryingClient(s3, seconds=config.io_timeout_seconds, attempts=_READ_ATTEMPTS)
        prefetch_gets = max(1, config.max_connections - _RESERVED_CONNECTIONS)

        def refresh_attributes() -> None:
            if self._device is not None:
                for inode in attributes.refresh():
                    self._device.notify(attributes_changed(inode))

        neighbours = make_neighbours(config, cache, metrics)
        source = BlockSource(
            client,
            cache,
            evictor,
            neighbours,
            nursery=services,
            prefetch_gets=prefetch_gets,
            on_kept=refresh_attributes,
        )
        public_url = partial(object_url, aws_base(config.bucket, config.region))
        attributes = Attributes(catalog, cache, written=source.written, public_url=public_url)
        prefetcher = Prefetcher(cache, source, nursery=services)
        file_system = FileSystem(
            tree=tree,
            catalog=catalog,
            attributes=attributes,
            open_reader=partial(FileReader, cache=cache, source=source, prefetcher=prefetcher),
            evictor=evictor,
            metrics=metrics,
            io_timeout_seconds=config.io_timeout_seconds,
        )
        services.start_soon(_keep_house, cache, evictor, refresh_attributes)
        return source, file_system

    async def _run(
        self,
        services: trio.Nursery,
        source: BlockSource,
        catalog: Catalog,
        file_system: FileSystem,
        announce: Announce,
    ) -> None:
        serving = trio.CancelScope()
        await services.start(self._unmount_on_signal, serving)
        with self._mounted() as (device, entry):
            services.start_soon(self._refresh_for_ever, catalog, file_system)
            services.start_soon(self._control, entry, catalog, file_system)
            services.start_soon(self._announce, announce)
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

    async def _announce(self, announce: Announce) -> None:
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
        if self._is_offline:
            warnings.insert(
                0, "the bucket cannot be reached: mounted from what is kept; only cached data can be read"
            )
        announce(tuple(warnings))
        self._tell_of_newer()
        await self.notifier.ready(self._status_line)

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

    async def _refresh_for_ever(self, catalog: Catalog, file_system: FileSystem) -> None:
        while True:
            await trio.sleep(self.config.refresh_seconds)
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
            self._problems, self._is_offline = release.problems, release.is_offline
            return [str(manifest.dataset_version) for manifest in new]

    async def _control(self, entry: MountEntry, catalog: Catalog, file_system: FileSystem) -> None:
        async def refresh() -> dict[str, Any]:
            return {"new": await self._refresh(catalog, file_system)}

        async def status() -> dict[str, Any]:
            return self._status(file_system)

        path = control.socket_path(os.getuid(), entry.device)
        try:
            await control.serve(path, {"status": status, "refresh": refresh})
        except (OSError, MountError) as error:
            log.warning("no control socket: 'vbnfs status' will not reach this mount", reason=str(error))

    def _status(self, file_system: FileSystem) -> dict[str, Any]:
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
            "is_offline": self._is_offline,
            "cache_dir": str(config.cache_dir),
            "cache_size_bytes": config.cache_size_bytes,
            "cache_usage_bytes": file_system.cache_usage_bytes,
            "log_file": None if config.foreground else str(config.log_file),
            "last_error": file_system.last_error,
            "metrics": self.metrics.snapshot(),
        }

    def _status_line(self) -> str:
        """What `systemctl status` shows."""
        counts = self.metrics.snapshot()
        read, received = (counts[name] / MIB for name in ("read_bytes", "received_bytes"))
        offline = "; the bucket is not reached" if self._is_offline else ""
        return (
            f"{self.mountpoint}: {len(self._manifests)} versions, {self._default} at the top;"
            f" {read:,.0f} MiB read, {received:,.0f} MiB from S3{offline}"
        )


async def _keep_house(cache: BlockCache, evictor: Evictor, on_look: Callable[[], None]) -> None:
    """Look at the cache now and then: for usage that others cause, and for files that others evicted."""
    for tick in itertools.count():
        if tick % _TICKS_BETWEEN_LOOKS == 0:
            await trio.to_thread.run_sync(evictor.look)
            on_look()
        await trio.to_thread.run_sync(cache.forget_deleted)
        await trio.sleep(_HOUSEKEEPING_SECONDS)

"""The process behind a mount: builds everything once, owns the nurseries, and goes away in order.

    outer nursery       the task that writes blocks to disk; ends last, so that what was fetched is kept
    services            FUSE requests, GETs, readahead, refresh, housekeeping, control socket, signals

`vbnfs mount` forks: the child becomes the daemon, the parent waits at a pipe for the word that the tree can be
listed, or for the reason why not. The child leaves the terminal's session only after the mount is made: an
automounter waits for the session that asked.
"""

import gc
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pyfuse3
import structlog
import trio

from vbnfs import __version__, errors
from vbnfs.config import Config
from vbnfs.dataset.catalog import Catalog, Release
from vbnfs.dataset.manifest import DatasetVersion, Manifest, Origin
from vbnfs.dataset.readme import readme
from vbnfs.dataset.tree import Tree, build_tree
from vbnfs.errors import MountError, UsageError, VbnfsError
from vbnfs.logs import configure_logging
from vbnfs.metrics import Metrics
from vbnfs.mount import control, fuse_loop
from vbnfs.mount.attributes import Attributes
from vbnfs.mount.mountpoint import MountEntry, find_mount, fusermount
from vbnfs.mount.operations import FileSystem
from vbnfs.reading.block_source import BlockSource
from vbnfs.reading.file_reader import FileReader
from vbnfs.reading.prefetch import Prefetcher
from vbnfs.storage.block_cache import BlockCache
from vbnfs.storage.eviction import Evictor
from vbnfs.storage.retry import RetryingClient
from vbnfs.storage.s3 import S3Client, aws_base, object_url

log = structlog.get_logger()

_CATALOG_SECONDS: Final = 15.0  # a mount without network should not keep anybody waiting
_CATALOG_ATTEMPTS: Final = 3
_READ_ATTEMPTS: Final = 10
_HOUSEKEEPING_SECONDS: Final = 5.0
_RESERVED_CONNECTIONS: Final = 4  # for readers, while prefetches run
# Tasks of pyfuse3 are cheap; a limit that reads in flight can exhaust would make stat wait for the network.
_MAX_FUSE_TASKS: Final = 4096
_FUSE_DEVICE: Final = Path("/dev/fuse")

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
    directory = config.cache_dir / "datasets" / scope_of(config.endpoint_url) / config.bucket / config.project
    client = RetryingClient(s3, seconds=_CATALOG_SECONDS, attempts=_CATALOG_ATTEMPTS)
    origin = Origin(config.bucket, config.endpoint_url)
    return Catalog(client, directory, origin=origin, project=config.project)


def prepare_cache_directory(directory: Path) -> None:
    """Make the cache directory, for its owner alone. Raises `UsageError`."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cache directory {directory}: {error.strerror}; choose one with --cache-dir") from error
    if not directory.is_dir():
        raise UsageError(f"cache directory {directory}: not a folder; choose one with --cache-dir")


@dataclass(slots=True)
class Daemon:
    """One mount, from its configuration to its end."""

    config: Config
    mountpoint: Path
    metrics: Metrics = field(default_factory=Metrics)
    started: float = field(default_factory=time.time)
    _manifests: tuple[Manifest, ...] = ()
    _default: DatasetVersion | None = None
    _problems: tuple[str, ...] = ()
    _is_offline: bool = False

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
                    await self._run(services, catalog, file_system, announce)
                    services.cancel_scope.cancel()
                source.close()

    async def _load_tree(self, catalog: Catalog) -> Tree:
        release = await catalog.load(max_age_seconds=self.config.refresh_seconds)
        self._default = release.choose(self.config.dataset_version)
        self._take(release)
        tree = await self._make_tree()
        # Manifests and tree are hundreds of thousands of objects that stay: if the collector looked at them again and
        # again, it would hold the event loop up for tens of milliseconds each time.
        gc.collect()
        gc.freeze()
        return tree

    def _take(self, release: Release) -> None:
        """Add what a release has to what is shown; a version that was shown stays."""
        shown = {manifest.dataset_version for manifest in self._manifests}
        new = [manifest for manifest in release.manifests if manifest.dataset_version not in shown]
        self._manifests = tuple(sorted((*self._manifests, *new), key=lambda m: m.dataset_version))
        self._problems, self._is_offline = release.problems, release.is_offline

    async def _make_tree(self) -> Tree:
        return await trio.to_thread.run_sync(self._build_tree)

    def _build_tree(self) -> Tree:
        assert self._default is not None
        names = {"bucket": self.config.bucket}
        text = readme(self._manifests, default=self._default, project=self.config.project, **names)
        return build_tree(self._manifests, default_version=self._default, readme=text, **names)

    def _build(
        self, s3: S3Client, catalog: Catalog, tree: Tree, services: trio.Nursery
    ) -> tuple[BlockSource, FileSystem]:
        config, metrics = self.config, self.metrics
        cache = BlockCache(config.cache_dir, scope=scope_of(config.endpoint_url), metrics=metrics)
        evictor = Evictor(cache.directory, limit_bytes=config.cache_size_bytes, metrics=metrics)
        client = RetryingClient(s3, seconds=config.io_timeout_seconds, attempts=_READ_ATTEMPTS)
        prefetch_gets = max(1, config.max_connections - _RESERVED_CONNECTIONS)
        source = BlockSource(client, cache, evictor, nursery=services, prefetch_gets=prefetch_gets)
        public_url = partial(object_url, aws_base(config.bucket, config.region))
        prefetcher = Prefetcher(cache, source, nursery=services)
        file_system = FileSystem(
            tree=tree,
            catalog=catalog,
            attributes=Attributes(catalog, cache, written=source.written, public_url=public_url),
            open_reader=partial(FileReader, cache=cache, source=source, prefetcher=prefetcher),
            evictor=evictor,
            metrics=metrics,
            io_timeout_seconds=config.io_timeout_seconds,
        )
        services.start_soon(_keep_house, cache, evictor)
        return source, file_system

    async def _run(
        self, services: trio.Nursery, catalog: Catalog, file_system: FileSystem, announce: Announce
    ) -> None:
        entry = self._mount(file_system)
        try:
            services.start_soon(_unmount_on_signal)
            services.start_soon(self._refresh_for_ever, catalog, file_system)
            services.start_soon(self._control, entry, catalog, file_system)
            services.start_soon(self._announce, announce)
            fuse_loop.install()
            await pyfuse3.main(max_tasks=_MAX_FUSE_TASKS)
        finally:
            pyfuse3.close()
            log.info("unmounted", mountpoint=str(self.mountpoint))

    def _mount(self, file_system: FileSystem) -> MountEntry:
        options = {"ro", "default_permissions", "subtype=vbnfs", f"fsname={self.config.project}"}
        options.update(self.config.fuse_options)
        if self.config.allow_other:
            options.add("allow_other")
        with _stderr_captured() as told:
            try:
                pyfuse3.init(file_system, str(self.mountpoint), options)
            except RuntimeError as error:
                raise MountError(f"{self.mountpoint}: cannot be mounted: {told() or error}") from error
        entry = find_mount(self.mountpoint)
        if entry is None:
            raise MountError(f"{self.mountpoint}: mounted, but not to be found in /proc/self/mountinfo")
        return entry

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

    # While mounted

    async def _refresh_for_ever(self, catalog: Catalog, file_system: FileSystem) -> None:
        while True:
            await trio.sleep(self.config.refresh_seconds)
            try:
                await self._refresh(catalog, file_system)
            except VbnfsError as error:
                log.warning("cannot look for new dataset versions", reason=str(error))

    async def _refresh(self, catalog: Catalog, file_system: FileSystem) -> list[str]:
        """Show versions that have appeared. Returns their names."""
        before = {manifest.dataset_version for manifest in self._manifests}
        self._take(await catalog.load())
        new = [str(m.dataset_version) for m in self._manifests if m.dataset_version not in before]
        if new:
            file_system.show(await self._make_tree())
            log.info("dataset versions have appeared", versions=new)
        return new

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


async def _unmount_on_signal() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            log.info("unmounting", signal=signal.Signals(number).name)
            pyfuse3.terminate()


async def _keep_house(cache: BlockCache, evictor: Evictor) -> None:
    """Look at the cache now and then: for usage that others cause, and for files that others evicted."""
    await trio.to_thread.run_sync(evictor.look)
    while True:
        await trio.sleep(_HOUSEKEEPING_SECONDS)
        await trio.to_thread.run_sync(cache.forget_deleted)


# Processes


def run_in_foreground(config: Config, mountpoint: Path, announce: Announce) -> None:
    """Be the daemon in this process until it is unmounted. Raises a `VbnfsError`."""
    _check_machine()
    prepare_cache_directory(config.cache_dir)
    _raise_file_limit()
    configure_logging(sys.stderr, level=config.log_level, as_json=not config.foreground)
    try:
        trio.run(Daemon(config, mountpoint).serve, announce)
    except BaseExceptionGroup as group:
        told, defects = group.split(VbnfsError)
        if told is None or defects is not None:
            raise
        raise next(_leaves(told)) from None


def run_in_background(config: Config, mountpoint: Path) -> list[str]:
    """Start a daemon and return its warnings once the tree can be listed. Raises a `VbnfsError`."""
    _check_machine()
    prepare_cache_directory(config.cache_dir)
    log_descriptor = _open_log(config.log_file)
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork() == 0:
        os.close(read_end)
        _become_daemon(config, mountpoint, write_end, log_descriptor)
    os.close(write_end)
    os.close(log_descriptor)
    with os.fdopen(read_end, "rb") as pipe:
        word = pipe.read()
    if not word:
        raise MountError(f"{mountpoint}: the daemon ended before the mount was there; see {config.log_file}")
    message = json.loads(word)
    if "error" in message:
        raise getattr(errors, message["kind"])(message["error"])
    return list(message["warnings"])


def _become_daemon(config: Config, mountpoint: Path, pipe: int, log_descriptor: int) -> None:
    """The child's life. Never returns."""
    status = 1
    try:
        os.dup2(log_descriptor, 2)
        os.close(log_descriptor)
        structlog.contextvars.bind_contextvars(mountpoint=str(mountpoint), pid=os.getpid())

        def announce(warnings: tuple[str, ...]) -> None:
            _leave_terminal()
            _tell(pipe, {"warnings": warnings})

        run_in_foreground(config, mountpoint, announce)
        status = 0
    except VbnfsError as error:
        _tell(pipe, {"error": str(error), "kind": type(error).__name__})
    except BaseException:
        log.exception("the daemon ends with a defect")
    finally:
        os._exit(status)


def _leave_terminal() -> None:
    os.setsid()
    os.chdir("/")
    with open(os.devnull, "r+b", buffering=0) as null:
        os.dup2(null.fileno(), 0)
        os.dup2(null.fileno(), 1)


def _tell(pipe: int, message: dict[str, Any]) -> None:
    try:
        os.write(pipe, json.dumps(message).encode())
        os.close(pipe)
    except OSError as error:  # the word was given before, or nobody waits any more
        log.warning("nobody waits for the daemon's word", word=message, reason=str(error))


def _open_log(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"log file {path}: {error.strerror}; choose one with --log-file") from error


def _check_machine() -> None:
    if not _FUSE_DEVICE.exists():
        raise MountError(
            f"no {_FUSE_DEVICE}: load the module with 'modprobe fuse' (in a container: --device /dev/fuse)"
        )
    if os.geteuid() != 0:
        fusermount()


def _raise_file_limit() -> None:
    """As many open files as the system grants: segments, connections and mappings each take one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _leaves(group: BaseExceptionGroup[VbnfsError]) -> Iterator[VbnfsError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


@contextmanager
def _stderr_captured() -> Iterator[Callable[[], str]]:
    """What is written to standard error meanwhile, by libfuse and fusermount3 too, instead of printing it."""
    kept, memory = os.dup(2), os.memfd_create("stderr")
    os.dup2(memory, 2)
    try:
        yield lambda: os.pread(memory, 4096, 0).decode(errors="replace").strip()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(memory)

"""A mount from its configuration to its end: owns the nurseries, goes away in order.

    keeping             the task that writes blocks to disk; ends last, so that what was fetched is kept
    services            FUSE requests, GETs, readahead, refresh, watch on the server, housekeeping, control socket,
                        signals

What goes on in the background catches what can go wrong with disk and network; an unforeseen failure is
logged, and the task begins anew (restarting.py). So only what answers the kernel can end the mount by failing.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from vbnfs.access.dataset import open_dataset
from vbnfs.access.mount_figures import FIGURES
from vbnfs.access.mount_filling import FILL
from vbnfs.access.opening import keeping
from vbnfs.access.other_caches import unusable_caches
from vbnfs.access.published_index import unusable_index
from vbnfs.access.restarting import restart_on_failure
from vbnfs.cache import format_1, pins
from vbnfs.config.settings import Config
from vbnfs.daemon import auto_unmount, control
from vbnfs.daemon.alone import mount_alone, take_away
from vbnfs.daemon.assembly import Parts
from vbnfs.daemon.browsing import Browsing
from vbnfs.daemon.exporting import Exporting, prepared
from vbnfs.daemon.figures import Gatherer
from vbnfs.daemon.fuse_options import fuse_options
from vbnfs.daemon.mounted_versions import MountedVersions
from vbnfs.daemon.mountpoint import raise_readahead
from vbnfs.daemon.readers import problems_of_sharing
from vbnfs.daemon.recording import Recorder, open_record
from vbnfs.daemon.report import Report
from vbnfs.daemon.systemd import SystemdNotifier
from vbnfs.filesystem.operations import FileSystem
from vbnfs.fuse import engines
from vbnfs.fuse.engines import Connection
from vbnfs.host import descriptors, handed_over
from vbnfs.host.mountinfo import MountEntry, descriptor_in
from vbnfs.host.runtime import socket_path
from vbnfs.logs import LogTail, log_tail
from vbnfs.metrics import Metrics
from vbnfs.rate import rate_text
from vbnfs.reading.mirrors import Mirrors
from vbnfs.s3.breaker import BreakerClient

log = structlog.get_logger()

_LAST_ANSWERS_SECONDS: Final = 1.0
END_SECONDS: Final = 20  # for the end of all tasks; after a failure, the last writes among them
_SPARE_DESCRIPTORS: Final = 12  # for unmounting: mountinfo, and a program with its pipes, while threads open files


@dataclass(frozen=True, slots=True)
class Ready:
    """The tree can be listed: the version at its top, and what is not as it should be."""

    top: str
    warnings: tuple[str, ...]


Announce = Callable[[Ready], None]


async def serve(config: Config, mountpoint: Path, notifier: SystemdNotifier, announce: Announce) -> None:
    """Mount, call `announce` when the tree can be listed, and return when it is unmounted.

    Raises a `VbnfsError` if the mount cannot be made.
    """
    try:
        with log_tail() as tail, descriptors.kept_back(_SPARE_DESCRIPTORS) as give_back:
            await _serve(config, mountpoint, notifier, announce, tail, give_back)
    finally:
        signal.alarm(0)  # it has ended in time


async def _serve(
    config: Config,
    mountpoint: Path,
    notifier: SystemdNotifier,
    announce: Announce,
    tail: LogTail,
    give_back: Callable[[], None],
) -> None:
    engine = engines.load(config.fuse_engine)
    record = await open_record(config, mountpoint)
    async with prepared(config) as exporting, open_dataset(config, is_mount=True) as dataset:
        with _failures_end_in_time():
            shown = MountedVersions(dataset.catalog, config)
            tree = await shown.load(max_age_seconds=config.refresh_seconds)
        mount = _Mount(
            *(config, mountpoint, engine, notifier, dataset.metrics),
            link=dataset.link,
            mirrors=dataset.mirrors,
            shown=shown,
            log_tail=tail.text,
            give_back=give_back,
            exporting=exporting,
        )
        async with keeping() as keep:
            async with trio.open_nursery() as services:
                with _failures_end_in_time():
                    browsing = Browsing(shown)
                    parts = Parts(
                        dataset,
                        mount.folder,
                        tree=tree,
                        nursery=services,
                        status=mount.status_for_readers,
                        browse=browsing.look,
                        recorder=None if record is None else Recorder(record, config, shown.top),
                    )
                    keep(parts.source.writer)
                    await parts.restore()
                    parts.start(services)
                    browse = partial(browsing.run, parts.read_cached, parts.file_system.show)
                    services.start_soon(restart_on_failure, "browsing", browse)
                    await mount.run(services, parts, announce)
                services.cancel_scope.cancel()
                signal.alarm(END_SECONDS)  # for threads that wait for a disk
            signal.alarm(0)


@contextmanager
def _failures_end_in_time() -> Iterator[None]:
    """After a failure this process has some seconds to end in order; then the kernel ends it: alarm(2).

    Where there is no memory, what a thread has found out can be lost on its way to the task that waits for it.
    """
    try:
        yield
    except BaseException:
        signal.alarm(END_SECONDS)
        raise


class _Mount:
    """One mount, from being made to being taken away."""

    def __init__(  # noqa: PLR0913 - one for each part
        self,
        config: Config,
        mountpoint: Path,
        mount: engines.Mount,
        notifier: SystemdNotifier,
        metrics: Metrics,
        *,
        link: BreakerClient,
        mirrors: Mirrors | None,
        shown: MountedVersions,
        log_tail: Callable[[], bytes],
        give_back: Callable[[], None],
        exporting: Exporting,
    ) -> None:
        """`give_back` ends what keeps descriptors for unmounting."""
        self._exporting = exporting
        self._give_back = give_back
        self._log_tail = log_tail
        self._config = config
        self._mount = mount
        self._mountpoint = mountpoint
        self._notifier = notifier
        self._link = link
        self._metrics = metrics
        self._shown = shown
        self._report = Report(config, mountpoint, metrics, shown, mirrors)
        self._connection: Connection | None = None
        descriptor = descriptor_in(mountpoint)
        self._is_handed_over = descriptor is not None
        self._callers = None if descriptor is None else handed_over.mount_of(descriptor)

    @property
    def folder(self) -> Path | None:
        """Where the mount's files are; None for a mount that the caller has made and that cannot be seen here."""
        if self._is_handed_over:
            return None if self._callers is None else self._callers.mountpoint
        return self._mountpoint

    def status_for_readers(self, file_system: FileSystem) -> dict[str, Any]:
        """What everybody who can read the mount may know of it."""
        return self._report.for_readers(file_system, is_offline=self._link.is_offline)

    def _gatherer(self, parts: Parts) -> Gatherer:
        return Gatherer(self._report, parts, self._link, self._metrics)

    async def run(self, services: trio.Nursery, parts: Parts, announce: Announce) -> None:
        """Mount, and answer until it is unmounted."""
        serving = trio.CancelScope()
        await services.start(self._unmount_on_signal, serving)
        with self._mounted(parts) as (connection, entry):
            file_system = parts.file_system
            services.start_soon(restart_on_failure, "refresh", partial(self._keep_refreshing, file_system))
            gatherer = self._gatherer(parts)
            if entry is not None:
                answer = partial(self._control, entry, parts, gatherer)
                services.start_soon(restart_on_failure, "control socket", answer)
            self._exporting.start(services, gatherer.figures)
            self._connection = connection
            services.start_soon(restart_on_failure, "passthrough", partial(parts.passthrough.start, connection))
            services.start_soon(self._announce, announce, entry, parts, connection.agreed)
            with serving:
                await connection.serve()
            if parts.recorder is not None:
                await parts.recorder.end()

    @contextmanager
    def _mounted(self, parts: Parts) -> Iterator[tuple[Connection, MountEntry | None]]:
        connection, entry = self._make(parts)
        watcher = self._watcher(entry)
        try:
            parts.invalidator.start(connection)
            yield connection, entry
        finally:
            self._notifier.stopping()
            parts.page_filler.close()
            if parts.walks is not None:
                parts.walks.close()
            parts.invalidator.stop()
            self._give_back()
            if entry is None or self._is_handed_over:
                connection.close()  # who has made the mount takes it away
            else:
                take_away(connection, entry)
            if watcher is not None and watcher.stdin is not None:
                watcher.stdin.close()
            log.info("unmounted", mountpoint=str(self._mountpoint))

    def _watcher(self, entry: MountEntry | None) -> "subprocess.Popen[bytes] | None":
        """The process that takes the mount away if this one is killed, where that is wanted."""
        if not self._config.auto_unmount or entry is None or self._is_handed_over:
            return None
        try:
            return auto_unmount.start(entry.device)
        except OSError as error:
            log.warning("--auto-unmount has no effect", reason=error.strerror)
            return None

    def _make(self, parts: Parts) -> tuple[Connection, MountEntry | None]:
        if not self._is_handed_over:
            return mount_alone(self._mountpoint, partial(self._connect, parts))
        if self._callers is None:
            log.info("the mount cannot be seen from here: no 'vbnfs status'", mountpoint=str(self._mountpoint))
        return self._connect(parts), self._callers

    def _connect(self, parts: Parts) -> Connection:
        config = self._config
        return self._mount(
            self._mountpoint,
            fuse_options(config),
            parts.operations({"figures.json": self._gatherer(parts).text, "log": self._log_tail}),
            is_busy=lambda: parts.source.is_busy,
            stack_depth=parts.stack_depth,
        )

    async def _announce(self, announce: Announce, entry: MountEntry | None, parts: Parts, agreed: trio.Event) -> None:
        disk = parts.file_system.disk
        # Looking at the mount would tell the same; but a thread that waits for this very process is not to be killed.
        await agreed.wait()
        if entry is not None:
            raise_readahead(entry)
        shown = self._shown
        log.info("mounted", mountpoint=str(self._mountpoint), versions=len(shown.names), default=shown.top)
        warnings = [f"not shown: {problem}" for problem in shown.problems]
        if not self._is_handed_over:  # whom that lets in, its maker has decided
            warnings += problems_of_sharing(self._config)
        if shown.doubt is not None:
            warnings.insert(0, shown.doubt)
        if (unused := format_1.unused_text(self._config.cache_dir)) is not None:
            warnings.append(unused)
        warnings += await trio.to_thread.run_sync(unusable_caches, self._config)
        warnings += await trio.to_thread.run_sync(unusable_index, self._config)
        await (
            disk.check()
            if await trio.to_thread.run_sync(pins.are_there, self._config.cache_dir)
            else disk.check_room()
        )
        if disk.problem is not None:
            warnings.append(disk.problem)
        if parts.limit.rate and self._config.limit_rate_bytes is None:
            rate = rate_text(parts.limit.rate)
            warnings.append(f"S3 may send {rate} as the cache has it stored; 'vbnfs limit-rate off' ends that")
        announce(Ready(shown.top, tuple(warnings)))
        shown.log_newer()
        await self._notifier.ready(lambda: self._report.line(is_offline=self._link.is_offline))

    async def _unmount_on_signal(
        self, serving: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Unmount in order; requests that wait for the network by then have a moment to be answered."""
        ends = {signal.SIGINT, signal.SIGTERM}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1)
            ends.add(signal.SIGHUP)
        with trio.open_signal_receiver(*ends) as signals:
            task_status.started()
            async for number in signals:
                log.info("unmounting", signal=signal.Signals(number).name)
                serving.deadline = trio.current_time() + _LAST_ANSWERS_SECONDS
                if self._connection is not None:
                    self._connection.stop()

    async def _keep_refreshing(self, file_system: FileSystem) -> None:
        while True:
            with trio.move_on_after(self._config.refresh_seconds):
                await self._link.wait_online()  # what was published meanwhile is of interest at once
            try:
                await self._shown.refresh(file_system.show)
            except Exception as error:
                log.warning("cannot look for new dataset versions", reason=str(error) or repr(error))

    async def _control(self, entry: MountEntry, parts: Parts, gatherer: Gatherer) -> None:
        file_system = parts.file_system

        async def refresh() -> dict[str, Any]:
            return {"new": await self._shown.refresh(file_system.show)}

        async def status() -> dict[str, Any]:
            is_reached = False

            async def probe_server() -> None:
                nonlocal is_reached
                is_reached = await self._link.probe()

            async with trio.open_nursery() as asking:
                asking.start_soon(probe_server)
                asking.start_soon(parts.refresh_figures)
                asking.start_soon(parts.limit.learn)
            passthrough = await file_system.files.report()
            record = None if parts.recorder is None else parts.recorder.report()
            more = {"passthrough": passthrough, "limit_rate": parts.limit.report(), "record": record}
            problem = None if is_reached else self._link.problem
            return {**self._report.whole(file_system, is_offline=not is_reached, server_problem=problem), **more}

        commands = {"status": status, "refresh": refresh, FIGURES: gatherer.answer}
        path = partial(socket_path, os.getuid(), entry.device)
        await control.keep_serving(path, commands, {FILL: parts.filling.fill})

"""What a mount reports of itself: all of it to its owner and root, a part to every user who can read the mount.

The owner asks over the control socket, a reader by the extended attribute `STATUS` of the mount's top folder: who can
read that, the kernel decides. What concerns the owner alone (paths, what was read by which program) is not in it.
"""

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from vbnfs import __version__
from vbnfs.access.opening import route_of
from vbnfs.config.settings import MIB, Config
from vbnfs.daemon.mounted_versions import MountedVersions
from vbnfs.filesystem.failures import LastError
from vbnfs.filesystem.operations import FileSystem
from vbnfs.metrics import Metrics
from vbnfs.reading.mirrors import Mirrors

_FOR_READERS: Final = (
    *("pid", "vbnfs_version", "uptime_seconds", "dataset", "bucket", "project", "endpoint_url", "region"),
    *("default_version", "newer_version", "versions", "refused", "is_offline", "is_offline_wanted"),
    *("cache_size_bytes", "cache_usage_bytes", "cache_available_bytes", "cache_problem"),
)
# The reason has the owner's paths, and the names of pins.
_NOT_KEPT: Final = "what is fetched is not kept now; 'vbnfs status' says why to who has mounted it"


class Report:
    """Of the mount on `mountpoint`, from now on."""

    def __init__(
        self, config: Config, mountpoint: Path, metrics: Metrics, shown: MountedVersions, mirrors: Mirrors | None
    ) -> None:
        self._mirrors = mirrors
        self._config = config
        self._mountpoint = mountpoint
        self._metrics = metrics
        self._shown = shown
        self._started = time.time()
        self._route = route_of(config).report()

    @property
    def metrics_address(self) -> str | None:
        """Where Prometheus finds its figures, host and port; None where nothing answers."""
        return self._config.metrics_address

    def identity(self) -> dict[str, Any]:
        """Which mount this is, and for how long it has been."""
        return {
            "mountpoint": str(self._mountpoint),
            "dataset": self._config.dataset,
            "default_version": self._shown.top,
            "pid": os.getpid(),
            "uptime_seconds": round(time.time() - self._started, 1),
        }

    def whole(
        self, file_system: FileSystem, *, is_offline: bool, server_problem: str | None = None
    ) -> dict[str, Any]:
        """For the owner: what `vbnfs status` shows, but for the files that the kernel reads itself.

        `server_problem`: why the server is not reached now; else why there is no list of versions.
        """
        config, shown, disk = self._config, self._shown, file_system.disk
        return {
            **self.identity(),
            "vbnfs_version": __version__,
            "bucket": config.bucket,
            "project": config.project,
            "endpoint_url": config.endpoint_url,
            "region": config.region,
            "ca_bundle": None if config.ca_bundle is None else str(config.ca_bundle),
            **self._route,
            "mirror": None if config.mirror is None else str(config.mirror),
            "site_cache": [] if self._mirrors is None else self._mirrors.site_caches_report(),
            "newer_version": shown.newer,
            "versions": shown.names,
            "refused": list(shown.problems),
            "is_offline": is_offline,
            "is_offline_wanted": config.offline,
            "server_problem": server_problem or (None if shown.is_offline else shown.doubt),
            "cache_dir": str(config.cache_dir),
            "cache_also": [str(directory) for directory in config.cache_also],
            "cache_size_bytes": disk.limit_bytes,
            "is_cache_size_given": config.cache_size_bytes is not None,
            "cache_usage_bytes": disk.usage_bytes,
            "cache_reserve_bytes": disk.reserve_bytes,
            "cache_free_bytes": disk.free_bytes,
            "cache_available_bytes": disk.available_bytes,
            "cache_problem": disk.problem,
            "log_file": None if config.foreground else str(config.log_file),
            **self._last_error(file_system.last_error),
            "metrics": self._metrics.snapshot(),
        }

    def _last_error(self, error: LastError | None) -> dict[str, Any]:
        """What failed last, when (ISO 8601), and what was read since: then it is over, or concerns other files."""
        names = ("last_error", "last_error_time", "read_bytes_since_error", "received_bytes_since_error")
        if error is None:
            return dict.fromkeys(names)
        when = datetime.fromtimestamp(error.seconds, UTC).isoformat(timespec="seconds")
        since = (self._metrics.read_bytes - error.read_bytes, self._metrics.received_bytes - error.received_bytes)
        return dict(zip(names, (error.text, when, *since), strict=True))

    def for_readers(self, file_system: FileSystem, *, is_offline: bool) -> dict[str, Any]:
        """For everybody who can read the mount, as things are known: nothing is asked for it."""
        whole: Mapping[str, Any] = self.whole(file_system, is_offline=is_offline)
        known = {name: whole[name] for name in _FOR_READERS}
        return known | {"cache_problem": _NOT_KEPT if known["cache_problem"] else None}

    def line(self, *, is_offline: bool) -> str:
        """What `systemctl status` shows."""
        counts = self._metrics.snapshot()
        read, received = (counts[name] / MIB for name in ("read_bytes", "received_bytes"))
        offline = "; the bucket is not reached" if is_offline else ""
        if self._config.offline:
            offline = "; nobody is asked (--offline)"
        return (
            f"{self._mountpoint}: {len(self._shown.names)} versions, {self._shown.top} at the top;"
            f" {read:,.0f} MiB read, {received:,.0f} MiB from S3{offline}"
        )

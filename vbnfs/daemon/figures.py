"""What a mount does now, gathered from its parts: for `vbnfs top`, and for metrics.

All of it is in memory, but for what programs are called. No disk and no server is asked, so that it can be had each
second, and also while they do not answer.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vbnfs import __version__
from vbnfs.daemon.assembly import Parts
from vbnfs.daemon.report import Report
from vbnfs.figures import Figures, Reader, Waits
from vbnfs.filesystem.with_about import as_text
from vbnfs.metrics import Metrics
from vbnfs.s3.breaker import BreakerClient


class Gatherer:
    """Of one mount."""

    def __init__(self, report: Report, parts: Parts, link: BreakerClient, metrics: Metrics) -> None:
        self._report, self._parts, self._link, self._metrics = report, parts, link, metrics

    async def answer(self) -> dict[str, Any]:
        """All figures, as they are sent."""
        return asdict(self.figures(await self._parts.file_system.files.readers()))

    def text(self) -> bytes:
        """All figures but the readers, for a file."""
        known = asdict(self.figures())
        del known["readers"]
        return as_text(known)

    def figures(self, readers: Sequence[Reader] = ()) -> Figures:
        """All figures; `readers` are those that were found."""
        file_system, source, known = self._parts.file_system, self._parts.source, self._report.identity()
        disk, waits, is_offline = file_system.disk, file_system.files.waits, self._link.is_offline
        return Figures(
            **known,
            vbnfs_version=__version__,
            is_offline=is_offline,
            server_problem=self._link.problem if is_offline else None,
            cache_size_bytes=disk.limit_bytes,
            cache_usage_bytes=disk.usage_bytes,
            cache_available_bytes=disk.available_bytes,
            cache_problem=disk.problem,
            passthrough_problem=self._parts.passthrough.reason,
            metrics_address=self._report.metrics_address,
            first_byte_seconds=source.first_byte_seconds,
            most_gets=source.most_gets,
            prefetches=source.prefetches,
            coming_blocks=source.coming_blocks,
            metrics=self._metrics.snapshot(),
            waits=Waits(list(waits.counts), waits.sum_seconds),
            readers=list(readers),
            failures=file_system.recent_failures.rows(),
            fills=self._parts.filling.rows(),
        )

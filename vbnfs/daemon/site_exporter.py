"""`vbnfs site-cache metrics`: counts what a site cache's nginx logs, and answers Prometheus, at one address."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog
import trio
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from vbnfs.daemon import metrics_port
from vbnfs.daemon.exporter import add_histogram, encoded
from vbnfs.daemon.site_log import SiteCounts, parse
from vbnfs.errors import MountError

log = structlog.get_logger()

_OPTION: Final = "--listen"
_SCAN_SECONDS: Final = 300.0  # between two counts of what is kept
_BUFFER_BYTES: Final = 4 << 20  # for datagrams that come while others are counted
_MOST_BYTES: Final = 2048  # of a datagram


class SiteCollector(Collector):
    """The figures as families of metrics. `kept` are slices and bytes on the disk, None where that is not known."""

    def __init__(self, counts: SiteCounts, kept: tuple[int, int] | None) -> None:
        self._counts, self._kept = counts, kept

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        counts = self._counts
        for name, meaning, value in (
            ("requests", "requests that were answered", counts.requests),
            ("sent_bytes", "bytes to clients, headers included", counts.sent_bytes),
            ("fetched_bytes", "bytes from S3, headers included", counts.fetched_bytes),
        ):
            yield CounterMetricFamily(f"vbnfs_site_cache_{name}", meaning, value)
        failures = CounterMetricFamily(
            "vbnfs_site_cache_failures", "slices and requests that failed or were refused", labels=["status"]
        )
        for status, count in sorted(counts.failures.items()):
            failures.add_metric([str(status)], count)
        yield failures
        yield self._slices()
        if self._kept is not None:
            yield GaugeMetricFamily("vbnfs_site_cache_kept_slices", "slices on the disk", self._kept[0])
            yield GaugeMetricFamily("vbnfs_site_cache_kept_bytes", "bytes of them", self._kept[1])

    def _slices(self) -> Metric:
        meaning = "how long slices took, those that were there (hit) and those that came from S3 (miss)"
        family = HistogramMetricFamily("vbnfs_site_cache_slice_seconds", meaning, labels=["cache"])
        for name, times in self._counts.slices.items():
            add_histogram(family, [name], times.counts, times.sum_seconds)
        return family


async def export(address: str, directory: Path) -> None:
    """Count datagrams that come to `address`, and what `directory` holds; answer `GET /metrics` at that address.

    Raises `MountError` where the address is not to be had; else it goes on until it is cancelled.
    """
    counts, kept = SiteCounts(), list[tuple[int, int]]()

    async def text(accept: str) -> tuple[bytes, str]:
        return encoded(SiteCollector(counts, kept[-1] if kept else None), accept)

    with _datagrams(address) as datagrams:
        listener = metrics_port.listen(address, option=_OPTION)
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(metrics_port.serve, listener, text)
            nursery.start_soon(_keep_scanning, directory, kept)
            while True:
                line = parse(await datagrams.recv(_MOST_BYTES))
                if line is not None:
                    counts.add(line)


def _datagrams(address: str) -> trio.socket.SocketType:
    host, _, port = address.rpartition(":")
    made = socket.socket(socket.AF_INET6 if host.startswith("[") else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        made.bind((host.strip("[]"), int(port)))
    except OSError as error:
        made.close()
        reason = f"{error.strerror}; choose another {_OPTION}"
        raise MountError(f"the metrics cannot be had at {address}: {reason}") from error
    return trio.socket.from_stdlib_socket(made)


async def _keep_scanning(directory: Path, kept: list[tuple[int, int]]) -> None:
    while True:
        try:
            kept[:] = [await trio.to_thread.run_sync(scan, directory, abandon_on_cancel=True)]
        except OSError as error:
            kept.clear()
            log.warning("what is kept cannot be counted", directory=str(directory), reason=str(error.strerror))
        await trio.sleep(_SCAN_SECONDS)


def scan(directory: Path) -> tuple[int, int]:
    """Files below a directory, and their bytes; those that go away meanwhile are left out. Raises `OSError`."""
    count = size_bytes = 0
    folders = [os.fspath(directory)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                try:
                    size_bytes += entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue
                count += 1
    return count, size_bytes

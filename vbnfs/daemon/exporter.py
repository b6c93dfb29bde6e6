"""A mount's figures for Prometheus, by prometheus_client, which is an extra.

Names follow https://prometheus.io/docs/practices/naming/: `vbnfs_`, base units, `_total` for what only grows. Every
figure has the label `mountpoint`, which keeps several mounts of a machine apart.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from vbnfs.figures import Figures
from vbnfs.histogram import BOUNDS_SECONDS
from vbnfs.metrics import Metrics

_LABEL: Final = "mountpoint"

Gauge = Callable[[Figures], float]


def _fill_bytes(now: Figures) -> float:
    return sum(fill.count_bytes for fill in now.fills)


def _fill_done_bytes(now: Figures) -> float:
    return sum(fill.done_bytes for fill in now.fills)


# The name without `vbnfs_`, what it is, and where it comes from.
_GAUGES: Final[tuple[tuple[str, str, Gauge], ...]] = (
    ("server_reachable", "1 while S3 is reached, else 0", lambda one: float(not one.is_offline)),
    ("cache_keeps", "1 while the cache takes what is fetched, else 0", lambda one: float(one.cache_problem is None)),
    ("cache_size_bytes", "what the cache may take", lambda one: one.cache_size_bytes),
    ("cache_usage_bytes", "what it takes", lambda one: one.cache_usage_bytes),
    ("cache_available_bytes", "what can still be kept", lambda one: one.cache_available_bytes),
    ("first_byte_seconds", "the time to the first byte of a request to S3, at best", lambda o: o.first_byte_seconds),
    ("most_gets", "how many requests for data may run at a time", lambda one: one.most_gets),
    ("prefetches", "requests that run and that no program waits for", lambda one: one.prefetches),
    ("coming_blocks", "blocks of 256 KiB on their way from S3 or to the disk", lambda one: one.coming_blocks),
    ("fill_bytes", "what vbnfs prefetch, pin and verify are to bring now", _fill_bytes),
    ("fill_done_bytes", "how much of that has come", _fill_done_bytes),
    ("start_time_seconds", "when it was mounted, since 1970", lambda one: time.time() - one.uptime_seconds),
)


class MountCollector(Collector):
    """Figures as families of metrics; `figures` gives those of now. It is called in any thread."""

    def __init__(self, figures: Callable[[], Figures]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        now = self._figures()
        place = [_printable(now.mountpoint)]
        yield from _counters(now, place)
        for name, meaning, value in _GAUGES:
            gauge = GaugeMetricFamily(f"vbnfs_{name}", meaning, labels=[_LABEL])
            gauge.add_metric(place, value(now))
            yield gauge
        yield _waits(now, place)
        info = InfoMetricFamily("vbnfs_mount", "what is mounted", labels=[_LABEL])
        what = {
            "dataset": now.dataset or "",
            "dataset_version": now.default_version,
            "version": now.vbnfs_version,
        }
        info.add_metric(place, what)
        yield info


def _counters(now: Figures, place: list[str]) -> Iterator[Metric]:
    for one in fields(Metrics):
        counter = CounterMetricFamily(f"vbnfs_{one.name}", str(one.metadata["meaning"]), labels=[_LABEL])
        counter.add_metric(place, now.metrics.get(one.name, 0))
        yield counter


def _waits(now: Figures, place: list[str]) -> Metric:
    meaning = "how long reads waited in the mount; those that were answered at once count as 0"
    histogram = HistogramMetricFamily("vbnfs_read_wait_seconds", meaning, labels=[_LABEL])
    add_histogram(histogram, place, now.waits.counts, now.waits.sum_seconds)
    return histogram


def add_histogram(to: HistogramMetricFamily, labels: list[str], counts: Sequence[int], sum_seconds: float) -> None:
    """Add how long things took, by the buckets of `histogram.Histogram`."""
    bounds = [*map(repr, BOUNDS_SECONDS), "+Inf"]
    to.add_metric(labels, list(zip(bounds, map(float, accumulate(counts)), strict=True)), sum_seconds)


def _printable(mountpoint: str) -> str:
    """A path of any bytes as text, which drives no terminal: all users of the machine may have it shown."""
    text = mountpoint.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def exposition(figures: Callable[[], Figures], accept: str = "") -> tuple[bytes, str]:
    """All metrics of a mount, as `encoded` gives them."""
    return encoded(MountCollector(figures), accept)


def encoded(collector: Collector, accept: str) -> tuple[bytes, str]:
    """All metrics in a format that a request accepts (its field `Accept`), and the type of that format.

    Where the field makes no sense, that is the usual one.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    try:
        encode, content_type = choose_encoder(accept if accept.isprintable() else "")
        return encode(registry), content_type
    except (TypeError, ValueError):  # by prometheus_client, of a version that is no number
        encode, content_type = choose_encoder("")
        return encode(registry), content_type

"""Figures of a mount, for tests of what shows them."""

from dataclasses import asdict
from typing import Any

from vbnfs.figures import Failure, Figures, Fill, Reader, Waits, parse
from vbnfs.histogram import BOUNDS_SECONDS
from vbnfs.metrics import Metrics

BUCKETS = len(BOUNDS_SECONDS) + 1
READER = Reader(
    "python", 4711, "ecephys_sessions/a.nwb", "mount", is_open=True, reads=10, read_bytes=10 << 20, fetched_reads=5
)
KERNEL = Reader("MATLAB", 4712, "b.nwb", "kernel", is_open=True, reads=0, read_bytes=0, fetched_reads=0)
FAILURE = Failure("a.nwb: offline (no answer); connect to the network", 3, 720.0)
FILL = Fill(files=44, done_files=12, count_bytes=100 << 20, done_bytes=20 << 20)


def figures(**changes: Any) -> Figures:
    """A mount's figures, with these ones changed; `metrics` and `counts` (of waits) are added to."""
    metrics = Metrics().snapshot() | changes.pop("metrics", {})
    counts = changes.pop("counts", [0] * BUCKETS)
    values: dict[str, Any] = {
        "mountpoint": "/home/me/vbn",
        "dataset": "vbn",
        "default_version": "0.5.0",
        "pid": 4710,
        "vbnfs_version": "1.0.0",
        "uptime_seconds": 86400.0,
        "is_offline": False,
        "server_problem": None,
        "cache_size_bytes": 100 << 30,
        "cache_usage_bytes": 50 << 30,
        "cache_available_bytes": 50 << 30,
        "cache_problem": None,
        "passthrough_problem": None,
        "metrics_address": None,
        "first_byte_seconds": 0.028,
        "most_gets": 24,
        "prefetches": 0,
        "coming_blocks": 0,
        "metrics": metrics,
        "waits": asdict(Waits(counts, 0.0)),
        "readers": [],
        "failures": [],
        "fills": [],
    }
    return parse(values | {name: _plain(value) for name, value in changes.items()})


def _plain(value: Any) -> Any:
    return [asdict(one) for one in value] if isinstance(value, list) else value

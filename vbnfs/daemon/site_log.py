"""What the nginx of a site cache logs, a datagram of syslog (RFC 3164) for each slice; it is counted here (pure).

nginx logs a slice when it has been sent: those after the first one of a request are its subrequests, and the first
one is logged last, as the request itself. So its bytes and its time are those of the whole request.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from cachetools import LRUCache

from vbnfs.histogram import Histogram

# Of nginx's `log_format`: what `parse` expects. The last one has a figure for each attempt.
FORMAT: Final = (
    "$connection $connection_requests $bytes_sent $request_time $request_length $status"
    " $upstream_cache_status $upstream_bytes_received"
)
TAG: Final = "vbnfs"

_LINE: Final = re.compile(
    rf"{TAG}: (?P<connection>\d+) (?P<request>\d+) (?P<sent>\d+) (?P<seconds>\d+\.\d+) (?P<length>\d+)"
    r" (?P<status>\d+) (?P<cache>[A-Z]+|-) (?P<fetched>[-\d,: ]+)$"
)
_MOST_CONNECTIONS: Final = 65536
_THERE: Final = frozenset({"HIT", "STALE", "UPDATING", "REVALIDATED"})
_FIRST_ERROR: Final = 400


@dataclass(frozen=True, slots=True)
class Line:
    """A slice that was sent, or tried to be.

    `sent_bytes` are those of its request so far, headers included. `is_last`: it is the request's last line.
    """

    connection: int
    request: int
    sent_bytes: int
    seconds: float
    is_last: bool
    status: int
    cache: str
    fetched_bytes: int


def parse(datagram: bytes) -> Line | None:
    """A line of the log; None for what is none."""
    found = _LINE.search(datagram.decode("ascii", "replace"))
    if found is None:
        return None
    return Line(
        connection=int(found["connection"]),
        request=int(found["request"]),
        sent_bytes=int(found["sent"]),
        seconds=float(found["seconds"]),
        is_last=found["length"] != "0",
        status=int(found["status"]),
        cache=found["cache"],
        fetched_bytes=sum(map(int, re.findall(r"\d+", found["fetched"]))),
    )


@dataclass(slots=True)
class SiteCounts:
    """What a site cache has done since the counting began."""

    requests: int = 0
    sent_bytes: int = 0
    fetched_bytes: int = 0
    failures: Counter[int] = field(default_factory=Counter)  # slices and requests by status
    slices: dict[str, Histogram] = field(default_factory=lambda: {"hit": Histogram(), "miss": Histogram()})
    _under_way: LRUCache[int, tuple[int, int, float]] = field(
        default_factory=lambda: LRUCache(_MOST_CONNECTIONS)
    )  # by connection: the request, and its bytes and seconds so far

    def add(self, line: Line) -> None:
        """Count a line."""
        request, sent_bytes, seconds = self._under_way.pop(line.connection, (0, 0, 0.0))
        if request != line.request:
            sent_bytes, seconds = 0, 0.0
        own_seconds = max(0.0, line.seconds - seconds) if line.is_last else line.seconds
        self.requests += line.is_last
        self.sent_bytes += max(0, line.sent_bytes - sent_bytes)
        self.fetched_bytes += line.fetched_bytes
        if line.status >= _FIRST_ERROR:
            self.failures[line.status] += 1
        elif line.cache != "-":
            self.slices["hit" if line.cache in _THERE else "miss"].add(own_seconds)
        if not line.is_last:
            self._under_way[line.connection] = (line.request, line.sent_bytes, seconds + line.seconds)

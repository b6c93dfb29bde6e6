"""What every course is given, and what it yields."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.speed.origin import Origin, Traffic
from benchmarks.speed.results import Work
from benchmarks.speed.systems.base import Site, System

_QUIET_SECONDS: Final = 0.25
_SETTLE_SECONDS: Final = 5.0

Result = tuple[Work, float, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Bench:
    """What every course needs. `much_bytes` is what the sixteen readers of `memory` read of each file."""

    origin: Origin
    site: Site
    much_bytes: int

    def measured(
        self, system: System, work: Callable[[], float], amount_bytes: int = 0
    ) -> tuple[float, dict[str, float]]:
        """The seconds that a work returns; processor time of the system's processes, and what the origin sent."""
        processor = system.processor_seconds()
        before = self.origin.traffic(self.site.listener)
        seconds = work()
        sent = self._settled_traffic() - before
        processor = system.processor_seconds() - processor
        extra = {"MB fetched": sent.body_bytes / 1e6, "requests": float(sent.requests)}
        if amount_bytes and processor:
            extra["CPU s/GB"] = processor / (amount_bytes / 1e9)
        return seconds, extra

    def _settled_traffic(self) -> Traffic:
        """What was sent when nothing more comes: readahead may go on after the work is done."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        before, now = Traffic(), self.origin.traffic(self.site.listener)
        while now != before and time.monotonic() < deadline:
            time.sleep(_QUIET_SECONDS)
            before, now = now, self.origin.traffic(self.site.listener)
        return now


Course = Callable[[Bench, System], Iterator[Result]]

"""What courses larger than any that can be measured here ask of S3: by simulation, as tables."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.scale.logs import percentile
from benchmarks.scale.simulation import MBIT, Outcome, Site, simulate
from benchmarks.scale.traces import Trace

_NINE_O_CLOCK_SECONDS: Final = 10.0  # within which all begin


@dataclass(frozen=True, slots=True)
class Place:
    """How many clients there are, and the rates of the ways to S3 and to each site cache, in Mbit/s."""

    clients: int
    s3_mbit: int
    proxy_mbit: int


PLACES: Final = (Place(200, 100, 1_000), Place(1_000, 1_000, 10_000), Place(10_000, 10_000, 25_000))
PROXIES: Final = (0, 1, 4)
WARM_PARTS: Final = (0.0, 0.9)


@dataclass(frozen=True, slots=True)
class Row:
    """A course, and what became of it."""

    place: Place
    proxies: int
    warm_part: float
    outcome: Outcome

    def cells(self) -> list[str]:
        """For a table."""
        s3, seconds = self.outcome.s3, self.outcome.seconds
        return [
            f"{self.place.clients:,}",
            f"{self.proxies or 'none'}",
            f"{self.warm_part:.0%}",
            f"{s3.requests:,}",
            f"{s3.most_a_second:,}",
            f"{s3.bytes / 1e9:,.2f}",
            f"{median(seconds):,.0f}",
            f"{max(seconds):,.0f}",
            f"{percentile(self.outcome.waits, 0.99):,.1f}",
        ]


HEADER: Final = (
    *("clients", "site caches", "own caches warm", "requests to S3", "the most in a second", "GB from S3"),
    *("median empty client, s", "slowest, s", "waiting for a slice, p99, s"),
)


def rows(traces: Sequence[Trace], places: Sequence[Place] = PLACES) -> Iterator[Row]:
    """All courses, as many at a time as there are processors: the largest take some minutes each."""
    with ProcessPoolExecutor() as pool:
        futures = [
            pool.submit(_row, place, proxies, warm_part, traces)
            for place in places
            for proxies in PROXIES
            for warm_part in WARM_PARTS
        ]
        for future in futures:
            yield future.result()


def _row(place: Place, proxies: int, warm_part: float, traces: Sequence[Trace]) -> Row:
    site = Site(
        place.clients,
        proxies=proxies,
        s3_rate=place.s3_mbit * MBIT,
        proxy_rate=place.proxy_mbit * MBIT,
        warm_part=warm_part,
        spread_seconds=_NINE_O_CLOCK_SECONDS,
    )
    return Row(place, proxies, warm_part, simulate(site, traces))


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown (pure)."""
    rule = "|".join(["", *(["---:"] * len(header)), ""])
    return "\n".join([f"| {' | '.join(header)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)])

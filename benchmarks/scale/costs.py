"""What opening a session asks of S3: with and without the structure index, digests, and a site cache."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.scale.lab import Lab

HEADER: Final = (
    "index",
    "digests",
    "site cache",
    "requests of the client",
    "MB to it",
    "requests to S3",
    "MB from S3",
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one client asked, and what S3 was asked. `proxy`: whether there was a site cache, and what it had."""

    has_index: bool
    has_digests: bool
    proxy: str
    requests: int
    bytes: int
    s3_requests: int
    s3_bytes: int

    def cells(self) -> list[str]:
        """For a table."""
        return [
            *("yes" if known else "no" for known in (self.has_index, self.has_digests)),
            self.proxy,
            f"{self.requests}",
            f"{self.bytes / 1e6:.1f}",
            f"{self.s3_requests}",
            f"{self.s3_bytes / 1e6:.1f}",
        ]


def costs(lab: Lab, names: Iterator[str]) -> Iterator[Cost]:
    """A client of its own for each combination opens the same session.

    Without a site cache, with an empty one, and with one that has the slices.
    """
    session = lab.course.pairs[0][0]
    for has_index, has_digests in itertools.product((False, True), repeat=2):
        lab.empty_proxy()
        for proxy in ("none", "cold", "warm"):
            yield _cost(lab, next(names), session, proxy, has_index=has_index, has_digests=has_digests)


def _cost(lab: Lab, name: str, session: str, proxy: str, *, has_index: bool, has_digests: bool) -> Cost:
    template = lab.prepare(knows_digests=has_digests, knows_index=has_index)
    options: Sequence[str] = lab.direct if proxy == "none" else lab.options
    with lab.clients([name], template, options) as [client]:
        answer = client.read([(session,)])
        if answer.error:
            raise RuntimeError(f"{session} could not be opened: {answer.error}")
        asked = lab.since()
    own = asked.s3 if proxy == "none" else asked.proxy
    return Cost(
        *(has_index, has_digests, proxy, len(own)),
        *(sum(each.request.length for each in own), len(asked.s3), sum(each.sent_bytes for each in asked.s3)),
    )

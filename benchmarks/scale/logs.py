"""What servers were asked, by their logs (pure)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.scale.traces import Request, slices_of
from benchmarks.speed.files import BUCKET, PROJECT

_LINE: Final = re.compile(r'(\S+) ([\d.]+) ([\d.]+) (\S+) "([^"]*)" (\d+) (\d+)')
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)")
_PREFIX: Final = f"/{BUCKET}/{PROJECT}/"


@dataclass(frozen=True, slots=True)
class Answer:
    """A range that a server has answered: whom, what, and how many bytes of it were sent. `at` is of the clock."""

    client: str
    request: Request
    status: int
    sent_bytes: int


def answers(lines: Iterable[str]) -> list[Answer]:
    """The ranges of files in lines of `servers.LOG_FORMAT`, in order of when they began. Other lines are left out."""
    found = []
    for line in lines:
        client, done, took, path, wanted, status, sent = _matched(_LINE, line).groups()
        span = _RANGE.fullmatch(wanted)
        if span is None or not path.startswith(_PREFIX):
            continue
        start, stop = int(span[1]), int(span[2]) + 1
        seconds = float(took)
        request = Request(path.removeprefix(_PREFIX), start, stop - start, float(done) - seconds, seconds)
        found.append(Answer(client, request, int(status), int(sent)))
    return sorted(found, key=lambda answer: answer.request.at)


def _matched(pattern: re.Pattern[str], line: str) -> re.Match[str]:
    match = pattern.fullmatch(line)
    if match is None:
        raise ValueError(f"no line of the log: {line!r}")
    return match


def waits(asked: Iterable[Answer], fetched: Iterable[Answer], slice_bytes: int) -> list[float]:
    """How long requests took that began while a slice of theirs was on its way for another one.

    `fetched` is what the site cache asked S3 for. The request that has a slice fetched began before that.
    """
    on_the_way: dict[tuple[str, int], tuple[float, float]] = {}
    for each in fetched:
        for number in slices_of(each.request, slice_bytes):
            on_the_way[each.request.file, number] = (each.request.at, each.request.at + each.request.seconds)
    found = []
    for answer in asked:
        times = [on_the_way.get((answer.request.file, n)) for n in slices_of(answer.request, slice_bytes)]
        if any(span is not None and span[0] < answer.request.at < span[1] for span in times):
            found.append(answer.request.seconds)
    return found


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which a part of the values lies; 0 where there are none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0.0

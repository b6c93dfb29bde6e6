"""What one client asks for, as it was recorded: each request's file, offset, length, time and wait."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent / "traces"
CLOCK_SECONDS: Final = 0.002  # nginx's clock has milliseconds, and two of them make a time


@dataclass(frozen=True, slots=True)
class Request:
    """A range of a file that was asked for: `at` seconds after the course began, answered after `seconds`."""

    file: str
    start: int
    length: int
    at: float
    seconds: float

    @property
    def stop(self) -> int:
        """Behind its last byte."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class Step:
    """A request as the client's logic has it: what it waits for, and how long it works before it asks.

    `after` are the numbers of the requests whose answers it has used, as far as none of them waits for another.
    """

    request: Request
    after: tuple[int, ...]
    work_seconds: float


@dataclass(frozen=True)
class Trace:
    """A client's requests in order of time, the seconds that it took, and its processor time.

    It was recorded alone, before a site cache that had everything: so what is not waiting is work. `proxy_seconds` is
    the processor time of the site cache meanwhile. `sizes` are those of the files, in bytes. `work_part`: how much of
    what is not waiting is work, in a trace that was recorded among others (see `among_others`).
    """

    requests: tuple[Request, ...]
    seconds: float
    processor_seconds: float
    proxy_seconds: float
    sizes: Mapping[str, int]
    work_part: float = 1.0

    @cached_property
    def steps(self) -> list[Step]:
        """The requests, each with what it waits for: the answers that were there when it was sent.

        A request is sent after the one before it, and so many seconds after the last of what it waits for, or after
        that one.
        """
        ends = [one.at + one.seconds for one in self.requests]
        steps, before = list[Step](), 0.0
        for number, one in enumerate(self.requests):
            had = [earlier for earlier in range(number) if ends[earlier] <= one.at + CLOCK_SECONDS]
            newest = max((self.requests[earlier].at for earlier in had), default=0.0)
            after = tuple(earlier for earlier in had if ends[earlier] > newest)
            last = max([before, *(ends[earlier] for earlier in after)])
            steps.append(Step(one, after, self.work_part * max(0.0, one.at - last)))
            before = one.at
        return steps

    @property
    def last_work_seconds(self) -> float:
        """How long it works after the last answer."""
        last = max((one.at + one.seconds for one in self.requests), default=0.0)
        return self.work_part * max(0.0, self.seconds - last)

    @property
    def work_seconds(self) -> float:
        """How long it works in all while it waits for nothing."""
        return sum(step.work_seconds for step in self.steps) + self.last_work_seconds

    def among_others(self, requests: Iterable[Request], seconds: float) -> "Trace":
        """The same client's trace with what it asked for among others, when it had to share processors.

        How it cuts ranges depends on what has come by when. What it worked is known from this trace.
        """
        among = replace(self, requests=tuple(requests), seconds=seconds)
        return replace(among, work_part=self.work_seconds / max(among.work_seconds, 1e-9))

    def slowed(self, times: float) -> "Trace":
        """The same client where all its work takes so many times as much of the processors."""
        own, proxy = times * self.processor_seconds, times * self.proxy_seconds
        return replace(self, processor_seconds=own, proxy_seconds=proxy, work_part=times * self.work_part)

    @property
    def bytes(self) -> int:
        """What it asks for in all."""
        return sum(one.length for one in self.requests)

    def as_json(self) -> str:
        """A line for each request, of integers: the file's number, offset, length, µs of beginning, µs of waiting."""
        names = sorted(self.sizes)
        rows = [
            [names.index(one.file), one.start, one.length, round(one.at * 1e6), round(one.seconds * 1e6)]
            for one in self.requests
        ]
        head = {
            "seconds": round(self.seconds, 6),
            "processor_seconds": round(self.processor_seconds, 3),
            "proxy_seconds": round(self.proxy_seconds, 3),
            "files": {name: self.sizes[name] for name in names},
        }
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        return f'{json.dumps(head, indent=1)[:-2]},\n "requests": [\n{lines}\n ]\n}}\n'

    @classmethod
    def from_json(cls, text: str) -> "Trace":
        """See `as_json`."""
        found = json.loads(text)
        names = list(found["files"])
        requests = tuple(
            Request(names[number], start, length, at / 1e6, seconds / 1e6)
            for number, start, length, at, seconds in found["requests"]
        )
        own, proxy = found["processor_seconds"], found["proxy_seconds"]
        return cls(requests, found["seconds"], own, proxy, found["files"])


def slices_of(request: Request, slice_bytes: int) -> range:
    """The numbers of the slices that a range touches."""
    return range(request.start // slice_bytes, -(-request.stop // slice_bytes))


def slice_length(number: int, slice_bytes: int, size_bytes: int) -> int:
    """How long a slice of a file is: the last one is short."""
    return min(slice_bytes, size_bytes - number * slice_bytes)


def unique_slices(requests: Iterable[Request], slice_bytes: int) -> set[tuple[str, int]]:
    """All slices that are touched, each once."""
    return {(one.file, number) for one in requests for number in slices_of(one, slice_bytes)}


def unique_bytes(requests: Iterable[Request], slice_bytes: int, sizes: Mapping[str, int]) -> int:
    """How long these are together."""
    return sum(
        slice_length(number, slice_bytes, sizes[file]) for file, number in unique_slices(requests, slice_bytes)
    )


def load(directory: Path = HERE) -> Sequence[Trace]:
    """All recorded traces, in the order of their names."""
    return [Trace.from_json(path.read_text()) for path in sorted(directory.glob("*.json"))]


def store(found: Sequence[Trace], directory: Path = HERE) -> None:
    """Keep traces in the place of those that are there."""
    for path in directory.glob("*.json"):
        path.unlink()
    for number, trace in enumerate(found, start=1):
        (directory / f"client-{number}.json").write_text(trace.as_json())

"""The course with real clients: all together, then alone and together with the site cache warm, then its faults."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.scale import logs
from benchmarks.scale.clients import Answer, Client
from benchmarks.scale.courses import expected_digests, key_of, read_all, turned
from benchmarks.scale.faults import Faults, faults
from benchmarks.scale.files import Course
from benchmarks.scale.gates import Gate
from benchmarks.scale.lab import S3_MBIT, Asked, Lab, running_lab, wait_until_idle, worked_seconds
from benchmarks.scale.servers import SLICE_BYTES
from benchmarks.scale.simulation import MBIT, Site, simulate
from benchmarks.scale.traces import Trace, unique_bytes, unique_slices
from benchmarks.speed.machine import family, processor_seconds

MOST_FETCHED: Final = 1.05
MOST_SECONDS: Final = 1.25
MOST_BEHIND: Final = 2.0
MOST_OFF: Final = 0.2
MOST_COUNTS_OFF: Final = 0.1
_FEWEST_PROCESSORS: Final = 0.1
Digest = Callable[[int], str]  # of what a client has to read, by its number


@dataclass(frozen=True, slots=True)
class Warm:
    """All clients at the same time, with empty caches, when the site cache has everything: their work, each.

    `processor_seconds` are those of its processes, with its part of the site cache's; `kernel_seconds` its part of
    what no process is charged for, which is the network's work.
    """

    seconds: Sequence[float]
    processor_seconds: float
    kernel_seconds: float
    s3_requests: int


@dataclass(frozen=True, slots=True)
class Together:
    """All clients at the same time. `seconds` are those of each client; `s3` and `proxy` as they were asked.

    Processor time is that of a client, with its part of the site cache's: when all are warm at the same time, when it
    is warm and alone, and here.
    """

    clients: int
    seconds: Sequence[float]
    steps: Mapping[str, Sequence[float]]
    proxy_requests: int
    proxy_bytes: int
    s3_requests: int
    s3_bytes: int
    unique_slices: int
    unique_bytes: int
    waits: Sequence[float]
    warm_processor_seconds: float
    alone_processor_seconds: float
    processor_seconds: float = 0.0
    other_processors: float = 0.0  # what else the machine did
    memory_bytes: int = 0

    @property
    def allowed_seconds(self) -> float:
        """What the way to S3 takes for the unique bytes, and behind that the processors for all warm clients."""
        return self._allowed(self.warm_processor_seconds)

    @property
    def allowed_alone_seconds(self) -> float:
        """The same, if a client among others took no more processor time than one alone."""
        return self._allowed(self.alone_processor_seconds)

    def _allowed(self, work_seconds: float) -> float:
        return self.unique_bytes / (S3_MBIT * MBIT) + self.clients * work_seconds / (os.cpu_count() or 1)

    @property
    def gates(self) -> list[Gate]:
        """What the site cache promises."""
        slowest = max(self.seconds)
        return [
            Gate("bytes from S3 / unique bytes in slices", self.s3_bytes / self.unique_bytes, MOST_FETCHED),
            Gate("seconds of all / (way to S3 + processors)", slowest / self.allowed_seconds, MOST_SECONDS),
            Gate("slowest / median", slowest / median(self.seconds), MOST_BEHIND),
        ]


@dataclass(frozen=True, slots=True)
class Found:
    """All that one run found. `alone` are traces of clients that read alone, `own` those of all among the others."""

    together: Together
    warm: Warm
    faults: Faults
    alone: Sequence[Trace]
    own: Sequence[Trace]

    @property
    def slowdown(self) -> float:
        """How many times as much a client's work takes of the processors among others as it takes alone."""
        return (self.warm.processor_seconds + self.warm.kernel_seconds) / self.together.alone_processor_seconds

    def gates(self) -> list[Gate]:
        """All of them."""
        return [*self.together.gates, *self.faults.gates]

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        gates = [asdict(gate) | {"holds": gate.holds} for gate in self.gates()]
        parts = {"together": self.together, "warm": self.warm, "faults": self.faults}
        return {**{name: asdict(part) for name, part in parts.items()}, "gates": gates}


def run(directory: Path, course: Course, count: int) -> Found:
    """All parts, with `count` clients."""
    names = [f"c{number}" for number in range(count)]
    alone = [f"alone{number}" for number in range(len(course.together))]
    with running_lab(directory, course, [*names, *alone]) as lab:
        template = lab.prepare()
        expected = expected_digests(course)

        def digest(number: int) -> str:
            return expected[key_of(turned(course.together, number))]

        with lab.clients(names, template) as clients:
            began = time.time()
            cold = _read(lab, clients, digest)
            memory = sum(client.memory_bytes() for client in clients)
        traces = record(lab, alone, template)
        with lab.clients(names, template) as anew:
            again = _read(lab, anew, digest)
            found_faults = faults(lab, anew, expected)
    own = [
        traces[number % len(traces)].among_others(cold.asked.requests_of(client.host.address, began), answer.seconds)
        for number, (client, answer) in enumerate(zip(clients, cold.answers, strict=True))
    ]
    seconds = [answer.seconds for answer in again.answers]
    warm = Warm(seconds, again.processor_seconds, again.kernel_seconds, len(again.asked.s3))
    together = _evaluated(course, cold, traces, warm, memory)
    return Found(together, warm, found_faults, traces, own)


def _check(part: str, answers: Sequence[Answer], expected: Digest) -> None:
    for number, answer in enumerate(answers):
        if answer.error or answer.digest != expected(number):
            raise RuntimeError(f"{part}: client {number} read something else: {answer.error or answer.digest}")


@dataclass(frozen=True, slots=True)
class _Read:
    """What all clients read, what was asked for that, and what each took of processor time: see `Warm`.

    `other_processors`: how many processors all that is no client's had meanwhile.
    """

    answers: Sequence[Answer]
    asked: Asked
    processor_seconds: float
    kernel_seconds: float
    other_processors: float


def _read(lab: Lab, clients: Sequence[Client], digest: Digest) -> _Read:
    """Have all read at the same time, and check what they read."""
    wait_until_idle(lab.course.size.idle_seconds)
    began, work, (all_work, interrupts) = time.monotonic(), _work(lab, clients), worked_seconds()
    answers = read_all(clients, lambda number: turned(lab.course.together, number), lambda: None)
    asked = lab.since()
    work, worked = _work(lab, clients) - work, worked_seconds()
    others = max(0.0, worked[0] - all_work - work) / (time.monotonic() - began)
    _check("together", answers, digest)
    return _Read(answers, asked, work / len(clients), (worked[1] - interrupts) / len(clients), others)


def _work(lab: Lab, clients: Sequence[Client]) -> float:
    """The processor time of all clients and of the site cache so far."""
    return sum(client.processor_seconds() for client in clients) + processor_seconds(family(lab.proxy.pid))


def record(lab: Lab, names: Sequence[str], template: Path) -> list[Trace]:
    """The traces of clients that read alone, before a site cache that has everything: one for each order."""
    traces = []
    for number, name in enumerate(names):
        with lab.clients([name], template) as [client]:
            wait_until_idle(lab.course.size.idle_seconds)
            proxy = family(lab.proxy.pid)
            before, proxy_before = client.processor_seconds(), processor_seconds(proxy)
            began = time.time()
            answer = client.read(turned(lab.course.together, number))
            asked = lab.since()
            own = client.processor_seconds() - before
            of_proxy = processor_seconds(proxy) - proxy_before
            requests = tuple(asked.requests_of(client.host.address, began))
            traces.append(Trace(requests, answer.seconds, own, of_proxy, sizes(lab.course)))
    return traces


def sizes(course: Course) -> dict[str, int]:
    """The sizes of the files that are read together."""
    return {name: course.files.size_bytes(name) for pair in course.together for name in pair}


def _evaluated(course: Course, cold: _Read, traces: Sequence[Trace], warm: Warm, memory_bytes: int) -> Together:
    answers, asked = cold.answers, cold.asked
    requests = [each.request for each in asked.proxy]
    return Together(
        clients=len(answers),
        seconds=[answer.seconds for answer in answers],
        steps={name: [answer.steps[name] for answer in answers] for name in answers[0].steps},
        proxy_requests=len(requests),
        proxy_bytes=sum(each.length for each in requests),
        s3_requests=len(asked.s3),
        s3_bytes=sum(each.sent_bytes for each in asked.s3),
        unique_slices=len(unique_slices(requests, SLICE_BYTES)),
        unique_bytes=unique_bytes(requests, SLICE_BYTES, sizes(course)),
        waits=logs.waits(asked.proxy, asked.s3, SLICE_BYTES),
        warm_processor_seconds=warm.processor_seconds,
        alone_processor_seconds=median(trace.processor_seconds + trace.proxy_seconds for trace in traces),
        processor_seconds=cold.processor_seconds,
        other_processors=cold.other_processors,
        memory_bytes=memory_bytes,
    )


@dataclass(frozen=True, slots=True)
class Compared:
    """What a simulation says of the same course, beside what was measured."""

    proxy_requests: tuple[int, int]
    proxy_bytes: tuple[int, int]
    s3_requests: tuple[int, int]
    s3_bytes: tuple[int, int]
    median_seconds: tuple[float, float]
    slowest_seconds: tuple[float, float]

    @property
    def gates(self) -> list[Gate]:
        """Where the requests to the site cache are given: those to S3 agree exactly, and times within a fifth."""
        return [
            *(
                Gate(f"simulation: {name} that differ", abs(pair[0] - pair[1]), 0)
                for name, pair in asdict(self).items()
                if name.startswith("s3")
            ),
            *(
                Gate(f"simulation: {name}, off by", abs(pair[0] / pair[1] - 1), MOST_OFF)
                for name, pair in asdict(self).items()
                if name.endswith("seconds")
            ),
        ]

    @property
    def gates_of_prediction(self) -> list[Gate]:
        """Where they are predicted, from clients that read alone: all counts agree within a tenth."""
        return [
            Gate(f"prediction: {name}, off by", abs(pair[0] / pair[1] - 1), MOST_COUNTS_OFF)
            for name, pair in asdict(self).items()
            if not name.endswith("seconds")
        ]


def compare(found: Together, traces: Sequence[Trace], slowdown: float = 1.0) -> Compared:
    """The same course by simulation: (predicted, measured). `slowdown`: see `Found`."""
    processors = max(_FEWEST_PROCESSORS, (os.cpu_count() or 1) - found.other_processors)
    site = Site(found.clients, processors=processors, slice_bytes=SLICE_BYTES)
    outcome = simulate(site, [trace.slowed(slowdown) for trace in traces])
    return Compared(
        (outcome.proxies.requests, found.proxy_requests),
        (outcome.proxies.bytes, found.proxy_bytes),
        (outcome.s3.requests, found.s3_requests),
        (outcome.s3.bytes, found.s3_bytes),
        (median(outcome.seconds), median(found.seconds)),
        (max(outcome.seconds), max(found.seconds)),
    )

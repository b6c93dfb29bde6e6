"""The course with real clients: all read together, alone with the site cache warm, with it damaged, and killed."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.scale import logs
from benchmarks.scale.clients import Answer, Client, Pairs, Reader
from benchmarks.scale.files import Course
from benchmarks.scale.lab import S3_MBIT, Asked, Lab, running_lab, wait_for, wait_until_idle
from benchmarks.scale.servers import SLICE_BYTES
from benchmarks.scale.simulation import MBIT, Site, simulate
from benchmarks.scale.traces import Trace, unique_bytes, unique_slices
from benchmarks.speed.files import PROJECT
from benchmarks.speed.machine import family, processor_seconds
from vbnfs.blocks import BLOCK_BYTES

MOST_FETCHED: Final = 1.05
MOST_SECONDS: Final = 1.25
MOST_BEHIND: Final = 2.0
MOST_OFF: Final = 0.2
Key = tuple[tuple[str, ...], ...]
_SAID: Final = "a block came wrong"
_HEAD: Final = b"\nKEY: "  # in the head of a file of nginx's cache


@dataclass(frozen=True, slots=True)
class Gate:
    """What has to hold, and what was found."""

    name: str
    value: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Together:
    """All clients at the same time. `seconds` are those of each client; `s3` and `proxy` as they were asked."""

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
    processor_seconds: float = 0.0  # of a client among the others, with its part of the site cache's
    memory_bytes: int = 0

    @property
    def allowed_seconds(self) -> float:
        """What the way to S3 takes for the unique bytes, and behind that the processors for all clients' work."""
        processors = os.cpu_count() or 1
        return self.unique_bytes / (S3_MBIT * MBIT) + self.clients * self.warm_processor_seconds / processors

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
class Faults:
    """The site cache damaged and killed: how many clients read wrong or not at all, and what was said of it."""

    damaged_wrong: int
    damaged_said_by: int
    damaged_logged_by: int
    wrong_blocks: int
    killed_wrong: int
    killed_failed_answers: int
    killed_to_s3: int
    came_back: int

    def gates(self, clients: int) -> list[Gate]:
        """No wrong byte, no failed read; and each client says so, and asks the site cache again."""
        return [
            Gate("damaged: clients with a wrong or failed read", self.damaged_wrong, 0),
            Gate("damaged: clients that do not count it", clients - self.damaged_said_by, 0),
            Gate("damaged: clients that do not log it", clients - self.damaged_logged_by, 0),
            Gate("killed: clients with a wrong or failed read", self.killed_wrong, 0),
            Gate("killed: answers with an error", self.killed_failed_answers, 0),
            Gate("killed: clients that do not come back to it", clients - self.came_back, 0),
        ]


@dataclass(frozen=True, slots=True)
class Found:
    """All that one run found. `alone` are traces of clients that read alone, `own` those of all among the others."""

    together: Together
    faults: Faults
    alone: Sequence[Trace]
    own: Sequence[Trace]

    def gates(self) -> list[Gate]:
        """All of them."""
        return [*self.together.gates, *self.faults.gates(self.together.clients)]

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        gates = [asdict(gate) | {"holds": gate.holds} for gate in self.gates()]
        return {"together": asdict(self.together), "faults": asdict(self.faults), "gates": gates}


def turned(pairs: Pairs, number: int) -> Pairs:
    """The same in another order: each client begins with the session after the one before it (pure)."""
    place = number % len(pairs)
    return [*pairs[place:], *pairs[:place]]


def _key(pairs: Pairs) -> Key:
    return tuple(map(tuple, pairs))


def run(directory: Path, course: Course, count: int) -> Found:
    """All parts, with `count` clients."""
    names = [f"c{number}" for number in range(count)]
    alone = [f"alone{number}" for number in range(len(course.together))]
    with running_lab(directory, course, [*names, *alone]) as lab:
        template = lab.prepare()
        expected = _expected(course)
        with lab.clients(names, template) as clients:
            wait_until_idle(course.size.idle_seconds)
            before, began = _work(lab, clients), time.time()
            answers, asked = _together(lab, clients)
            work = (_work(lab, clients) - before) / count
            _check("together", answers, lambda number: expected[_key(turned(course.together, number))])
            memory = sum(client.memory_bytes() for client in clients)
            traces = record(lab, alone, template)
            faults = _faults(lab, clients, expected)
    own = [
        traces[number % len(traces)].among_others(asked.requests_of(client.host.address, began), answer.seconds)
        for number, (client, answer) in enumerate(zip(clients, answers, strict=True))
    ]
    together = _evaluated(course, clients, answers, asked, traces)
    return Found(replace(together, processor_seconds=work, memory_bytes=memory), faults, traces, own)


def _expected(course: Course) -> dict[Key, str]:
    """The digests of what programs read, by what they read: from the files themselves."""
    reader = Reader()
    reader.wait_until_ready()
    wanted = [turned(course.together, number) for number in range(len(course.together))]
    found = {}
    for pairs in [*wanted, course.damaged, course.killed]:
        reader.begin(course.files.directory, pairs)
        found[_key(pairs)] = reader.answer().digest
    reader.end()
    return found


def _check(part: str, answers: Sequence[Answer], expected: Callable[[int], str]) -> None:
    for number, answer in enumerate(answers):
        if answer.error or answer.digest != expected(number):
            raise RuntimeError(f"{part}: client {number} read something else: {answer.error or answer.digest}")


def read_all(clients: Sequence[Client], pairs: Callable[[int], Pairs], meanwhile: Callable[[], None]) -> list[Answer]:
    """Have all read at the same time, each its own, and do something meanwhile."""
    for number, client in enumerate(clients):
        client.reader.begin(client.top, pairs(number))
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(meanwhile)
        answers = [client.reader.answer() for client in clients]
        doing.result()
    return answers


def _together(lab: Lab, clients: Sequence[Client]) -> tuple[list[Answer], Asked]:
    answers = read_all(clients, lambda number: turned(lab.course.together, number), lambda: None)
    return answers, lab.since()


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


def _evaluated(
    course: Course,
    clients: Sequence[Client],
    answers: Sequence[Answer],
    asked: Asked,
    traces: Sequence[Trace],
) -> Together:
    requests = [each.request for each in asked.proxy]
    return Together(
        clients=len(clients),
        seconds=[answer.seconds for answer in answers],
        steps={name: [answer.steps[name] for answer in answers] for name in answers[0].steps},
        proxy_requests=len(requests),
        proxy_bytes=sum(each.length for each in requests),
        s3_requests=len(asked.s3),
        s3_bytes=sum(each.sent_bytes for each in asked.s3),
        unique_slices=len(unique_slices(requests, SLICE_BYTES)),
        unique_bytes=unique_bytes(requests, SLICE_BYTES, sizes(course)),
        waits=logs.waits(asked.proxy, asked.s3, SLICE_BYTES),
        warm_processor_seconds=median(trace.processor_seconds + trace.proxy_seconds for trace in traces),
    )


def _faults(lab: Lab, clients: Sequence[Client], expected: Mapping[Key, str]) -> Faults:
    course = lab.course
    right = expected[_key(course.damaged)]
    warming, *others = clients
    first = warming.read(course.damaged)
    lab.since()
    damage(lab.proxy.directory / "kept", [name for pair in course.damaged for name in pair])
    damaged = [first, *read_all(others, lambda _: course.damaged, lambda: None)]
    counts = [client.status()["metrics"]["wrong_blocks"] for client in others]
    logged = [_SAID in client.log.read_text() for client in others]
    before = [client.status()["metrics"]["failed_answers"] for client in clients]
    lab.since()
    killed = read_all(clients, lambda _: course.killed, lambda: _kill_and_start(lab))
    to_s3 = [each for each in lab.since().s3 if each.client != lab.proxy.host.address]
    for client in clients:
        wait_for(lambda client=client: client.is_served_by_proxy, "clients ask the site cache again")
    after = [client.status()["metrics"]["failed_answers"] for client in clients]
    return Faults(
        damaged_wrong=_wrong(damaged, right),
        damaged_said_by=1 + sum(count > 0 for count in counts),
        damaged_logged_by=1 + sum(logged),
        wrong_blocks=sum(counts),
        killed_wrong=_wrong(killed, expected[_key(course.killed)]),
        killed_failed_answers=sum(after) - sum(before),
        killed_to_s3=len(to_s3),
        came_back=sum(client.is_served_by_proxy for client in clients),
    )


def _wrong(answers: Iterable[Answer], right: str) -> int:
    return sum(answer.error is not None or answer.digest != right for answer in answers)


def _kill_and_start(lab: Lab) -> None:
    """Kill the site cache while it is asked; start it again, as its unit does, once S3 was asked in its place."""
    known, address, before = len(lab.proxy.lines()), lab.proxy.host.address, len(lab.origin.lines())
    wait_for(lambda: len(lab.proxy.lines()) > known, "clients ask the site cache")
    lab.proxy.kill()
    wait_for(lambda: any(each.client != address for each in logs.answers(lab.origin.lines()[before:])), "S3 is asked")
    lab.proxy.start()


def damage(kept: Path, names: Sequence[str]) -> int:
    """Change a byte of each block of one slice of each of these files; how many slices were changed."""
    left = {f"/{PROJECT}/{name}?" for name in names}
    for path in sorted(kept.glob("slices/*/*/*")):
        data = bytearray(path.read_bytes())
        place = data.find(_HEAD)
        key = bytes(data[place : data.find(b"\n", place + 1)]).decode()
        mine = next((name for name in left if name in key), None)
        if mine is not None and len(data) > SLICE_BYTES:  # a whole slice, with its head before it
            for block_end in range(len(data), len(data) - SLICE_BYTES, -BLOCK_BYTES):
                data[block_end - 1000] ^= 1
            path.write_bytes(data)
            left.discard(mine)
    return len(names) - len(left)


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
        """Counts agree exactly, and times within a fifth."""
        return [
            *(
                Gate(f"simulation: {name} that differ", abs(pair[0] - pair[1]), 0)
                for name, pair in asdict(self).items()
                if not name.endswith("seconds")
            ),
            *(
                Gate(f"simulation: {name}, off by", abs(pair[0] / pair[1] - 1), MOST_OFF)
                for name, pair in asdict(self).items()
                if name.endswith("seconds")
            ),
        ]


def compare(found: Together, traces: Sequence[Trace]) -> Compared:
    """The same course by simulation: (predicted, measured)."""
    outcome = simulate(Site(found.clients, processors=os.cpu_count(), slice_bytes=SLICE_BYTES), traces)
    return Compared(
        (outcome.proxies.requests, found.proxy_requests),
        (outcome.proxies.bytes, found.proxy_bytes),
        (outcome.s3.requests, found.s3_requests),
        (outcome.s3.bytes, found.s3_bytes),
        (median(outcome.seconds), median(found.seconds)),
        (max(outcome.seconds), max(found.seconds)),
    )

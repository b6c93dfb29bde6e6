"""A course simulated: clients with the logic of recorded traces; site caches with slices and locks; links, CPUs.

What is real is taken from recordings: which ranges a client asks for, what each waits for, how long it works. What
many clients do to each other is simulated: who fetches a slice, who waits for it, and how links and processors are
shared. Times are in seconds, amounts in bytes.
"""

import math
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import simpy

from benchmarks.scale.sharing import Shared
from benchmarks.scale.traces import Request, Trace, slice_length, slices_of

MBIT: Final = 125_000  # bytes
POLL_SECONDS: Final = 0.5  # after which nginx looks again whether a slice is there (ngx_http_file_cache_lock)
Process = Generator[simpy.Event, Any, None]
Work = Callable[[float], simpy.Event]  # an event that comes when so many seconds of work are done


@dataclass(frozen=True, slots=True)
class Site:
    """How clients are placed. Rates in bytes a second.

    `proxies`: how many site caches there are; 0: all ask S3. `processors` are shared by all clients and site caches,
    as on one machine that runs them all; None: each has its own. `warm_part`: the part of clients whose own caches
    have everything. `spread_seconds`: within which time they begin, drawn evenly.
    """

    clients: int
    proxies: int = 1
    s3_rate: float = 100 * MBIT
    proxy_rate: float = 1000 * MBIT
    first_byte_seconds: float = 0.02
    slice_bytes: int = 1 << 20
    processors: float | None = None
    warm_part: float = 0.0
    spread_seconds: float = 0.0
    poll_seconds: float = POLL_SECONDS
    seed: int = 1


@dataclass(slots=True)
class Asked:
    """What a server was asked and sent; `seconds` has the requests of each second."""

    requests: int = 0
    bytes: int = 0
    seconds: dict[int, int] = field(default_factory=dict)

    def note(self, amount: int, now: float) -> None:
        """Count a request."""
        self.requests += 1
        self.bytes += amount
        self.seconds[int(now)] = self.seconds.get(int(now), 0) + 1

    @property
    def most_a_second(self) -> int:
        """The most requests of any second."""
        return max(self.seconds.values(), default=0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was asked of S3 and of all site caches, what each client took, and how long each wait for a slice was."""

    s3: Asked
    proxies: Asked
    seconds: Sequence[float]
    waits: Sequence[float]


class Origin:
    """S3: a time to the first byte, and a link that all who fetch share."""

    def __init__(self, env: simpy.Environment, site: Site) -> None:
        self.asked = Asked()
        self.link: Final = Shared(env, site.s3_rate)
        self._env, self._first_byte_seconds = env, site.first_byte_seconds

    def fetch(self, amount: int) -> Process:
        """Fetch so many bytes."""
        self.asked.note(amount, self._env.now)
        yield self._env.timeout(self._first_byte_seconds)
        yield self.link.serve(amount)


class Proxy:
    """A site cache: a range is served slice by slice, as nginx's slice module does; each slice is fetched once.

    A slice that is being fetched goes on to the request that has it fetched as it comes. Other requests look for it
    every `poll_seconds`.
    """

    def __init__(self, env: simpy.Environment, site: Site, origin: Origin, sizes: Mapping[str, int]) -> None:
        self.asked = Asked()
        self.waits: Final[list[float]] = []
        self.link: Final = Shared(env, site.proxy_rate)
        self._env, self._site, self._origin, self._sizes = env, site, origin, sizes
        self._slices: dict[tuple[str, int], simpy.Process] = {}

    def get(self, request: Request) -> Process:
        """Answer a range."""
        self.asked.note(request.length, self._env.now)
        for number in slices_of(request, self._site.slice_bytes):
            start = number * self._site.slice_bytes
            part = min(request.stop, start + self._site.slice_bytes) - max(request.start, start)
            yield from self._slice((request.file, number), part)

    def _slice(self, key: tuple[str, int], part: int) -> Process:
        fetching = self._slices.get(key)
        if fetching is None:
            length = slice_length(key[1], self._site.slice_bytes, self._sizes[key[0]])
            fetching = self._slices[key] = self._env.process(self._origin.fetch(length))
            sending = self.link.serve(part)
            yield fetching
            yield sending
            return
        if fetching.is_alive:
            began = self._env.now
            yield fetching
            polled = math.ceil((self._env.now - began) / self._site.poll_seconds) * self._site.poll_seconds
            yield self._env.timeout(began + polled - self._env.now)
            self.waits.append(polled)
        yield self.link.serve(part)


class Client:
    """One client of a trace: it asks in the trace's order, each request after the answers that it waited for."""

    def __init__(self, env: simpy.Environment, trace: Trace, servers: "Servers", work: "Work") -> None:
        self.seconds = 0.0
        self._env, self._trace, self._servers, self._work = env, trace, servers, work
        beside = max(0.0, trace.processor_seconds + trace.proxy_seconds - trace.work_seconds)
        self._work_a_byte = beside / max(1, trace.bytes)

    def run(self) -> Process:
        """The course. Work that keeps it from asking is done before it asks; the rest comes with the bytes."""
        began = self._env.now
        running: list[simpy.Process] = []
        work: list[simpy.Event] = []
        for step in self._trace.steps:
            for number in step.after:
                yield running[number]
            yield self._work(step.work_seconds)
            running.append(self._env.process(self._request(step.request, work)))
        yield from running
        yield self._work(self._trace.last_work_seconds)
        yield from work
        self.seconds = self._env.now - began

    def _request(self, request: Request, work: list[simpy.Event]) -> Process:
        yield from self._servers.get(request)
        work.append(self._work(request.length * self._work_a_byte))


class Servers:
    """Which server a request goes to: the site cache that has its file, or S3 where there is none."""

    def __init__(self, origin: Origin, proxies: Sequence[Proxy]) -> None:
        self._origin, self._proxies = origin, proxies

    def get(self, request: Request) -> Process:
        """Answer a range."""
        if not self._proxies:
            return self._origin.fetch(request.length)
        return self._proxies[chosen(request.file, len(self._proxies))].get(request)


def chosen(file: str, count: int) -> int:
    """Which of `count` servers has a file: the one of the greatest weight (rendezvous hashing)."""
    return max(range(count), key=lambda number: blake2b(f"{number} {file}".encode(), digest_size=8).digest())


def simulate(site: Site, traces: Sequence[Trace]) -> Outcome:
    """A course of `site.clients`, of which each has one of the traces in turn."""
    env = simpy.Environment()
    draw = random.Random(site.seed)
    origin = Origin(env, site)
    sizes = {name: size for trace in traces for name, size in trace.sizes.items()}
    proxies = [Proxy(env, site, origin, sizes) for _ in range(site.proxies)]
    work = env.timeout if site.processors is None else Shared(env, site.processors, most=1.0).serve
    servers, clients = Servers(origin, proxies), []
    for number in range(round(site.clients * (1 - site.warm_part))):
        client = Client(env, traces[number % len(traces)], servers, work)
        env.process(_begin(env, client, draw.uniform(0, site.spread_seconds)))
        clients.append(client)
    env.run()
    asked = Asked()
    for proxy in proxies:
        asked.requests += proxy.asked.requests
        asked.bytes += proxy.asked.bytes
        for second, count in proxy.asked.seconds.items():
            asked.seconds[second] = asked.seconds.get(second, 0) + count
    waits = [wait for proxy in proxies for wait in proxy.waits]
    return Outcome(origin.asked, asked, [client.seconds for client in clients], waits)


def _begin(env: simpy.Environment, client: Client, delay: float) -> Process:
    yield env.timeout(delay)
    yield env.process(client.run())

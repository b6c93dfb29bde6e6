"""Having jobs done by workers: each worker has as many at once as it may; what is lost or fails is given to others.

The client decides which worker does what, and when; Dask brings the job there. So a job stays with the cache that has
its files, and one whose worker is lost is seen within a second. Workers that join are asked for their caches
meanwhile: a disk that hangs keeps nobody else from work.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future as Promise
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from vbnfs.dask import worker
from vbnfs.dask.cluster import Cluster, Nodes, WorkerLostError, in_background, no_worker
from vbnfs.dask.plan import Job, NodeCache, Stock
from vbnfs.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Future

_LOOK_SECONDS: Final = 0.05
_ALIVE_SECONDS: Final = 0.5
_STOP_SECONDS: Final = 5.0
_LOST: Final = "its worker was lost"

Answer = Mapping[str, Any]  # `result`, or `error` and perhaps `traceback`
OnDone = Callable[[Job, Answer, str], None]  # the last is the host
Submit = Callable[[Job, str], tuple[Callable[..., Any], tuple[Any, ...]]]  # a job and the run's token: what to call


@dataclass(frozen=True, slots=True)
class Joining:
    """What is to be done when caches join: `adapt` makes of what waits, and of their stocks, what waits then.

    `is_more`: each cache has work of its own, so the end waits for those that are just joining.
    """

    adapt: Callable[[list[Job], Mapping[str, Stock]], list[Job]]
    is_more: bool = False


@dataclass(slots=True)
class _Run:
    """What is to be done and what is being done."""

    waiting: list[Job]
    running: dict["Future[Any]", tuple[Job, str]] = field(default_factory=dict)  # with the worker's address
    caches: dict[str, str] = field(default_factory=dict)  # into which a job brings something, by the job's key
    failures: Counter[str] = field(default_factory=Counter)  # by the job's key
    tried: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # by the job's key: where it failed
    rooms: dict[str, int | None] = field(default_factory=dict)  # by the name of a cache

    def count_on(self, stocks: Mapping[str, Stock]) -> None:
        """Caches have joined."""
        self.rooms.update({name: stock.room_bytes for name, stock in stocks.items()})

    def take_room(self, cache: str, count_bytes: int) -> None:
        """A job is to bring so many bytes into a cache; fewer than none: they did not come."""
        if (room := self.rooms.get(cache)) is not None:
            self.rooms[cache] = room - count_bytes


class _Here:
    """The workers that are there and known, with their `caches`; and the `workers` of each member of a cache."""

    def __init__(self, caches: Iterable[NodeCache], alive: Mapping[str, int]) -> None:
        self.caches, self.workers = dict[str, NodeCache](), dict[str | None, frozenset[str]]()
        for cache in caches:
            if here := cache.workers & alive.keys():
                self.caches.update(dict.fromkeys(here, cache))
                self.workers.update(dict.fromkeys(cache.members, here))

    def next_of(self, run: _Run, address: str) -> Job | None:
        """The next job that is best done with a worker's cache; else one that can be."""
        members, other = self.caches[address].members, None
        for job in run.waiting:
            if self._is_for(address, job, run):
                if job.member in members:
                    return job
                other = other or job
        return other

    def _is_for(self, address: str, job: Job, run: _Run) -> bool:
        """Whether a worker is to have a job: where it has failed, only if no other worker can do it.

        One that has failed at all workers of its cache is as one whose cache is lost.
        """
        tried = run.tried.get(job.key, set())
        is_lost = self.workers.get(job.member, frozenset()) <= tried

        def fits(one: str) -> bool:
            cache = self.caches[one]
            return job.fits(cache, run.rooms.get(cache.name), is_lost=is_lost)

        return fits(address) and not (address in tried and any(map(fits, self.caches.keys() - tried)))


class Driver:
    """Has jobs done. `threads`: a worker has as many at once as it has threads, else one.

    `joining` says what is to be done when caches join. `show` is called some times a second. `on_event` gets what
    workers report meanwhile.
    """

    def __init__(
        self,
        cluster: Cluster,
        nodes: Nodes,
        submit: Submit,
        *,
        threads: bool = False,
        on_done: OnDone,
        joining: Joining,
        show: Callable[[], object] = lambda: None,
        on_event: Callable[[Mapping[str, Any]], None] = lambda message: None,
    ) -> None:
        self._cluster, self._nodes, self._submit = cluster, nodes, submit
        self._threads, self._on_done, self._show, self._on_event = threads, on_done, show, on_event
        self._joining = joining
        self._token = f"vbnfs-{uuid4().hex}"
        self._events = SimpleQueue[Mapping[str, Any]]()  # from Dask's thread
        self._caches: Sequence[NodeCache] = nodes.caches
        self._looking: Promise[Mapping[str, Stock]] | None = None  # workers have come or gone

    def run(self, jobs: Sequence[Job], stocks: Mapping[str, Stock]) -> None:
        """Return when each job was done, or has failed too often. `stocks` have caches by their names.

        Raises `ClusterError` where no worker is left. However it ends, no job goes on.
        """
        run = _Run(list(jobs))
        run.count_on(stocks)
        with self._listening():
            try:
                self._drive(run)
            except BaseException:
                self._stop(run)
                raise
            finally:
                wait([self._looking] if self._looking is not None else [], timeout=_STOP_SECONDS)  # it leaves no file

    def _drive(self, run: _Run) -> None:
        alive: Mapping[str, int] = {}
        looked, idle_since = -math.inf, time.monotonic()
        while run.waiting or run.running or (self._joining.is_more and self._looking is not None):
            now = time.monotonic()
            if now - looked > _ALIVE_SECONDS:
                alive, looked = self._cluster.workers(), now
                self._look(alive.keys())
            self._welcome(run)
            self._collect(run, alive)
            self._hand_out(run, alive)
            idle_since = now if run.running else idle_since
            self._give_up(run, alive, is_late=now - idle_since > self._cluster.wait_seconds)
            while not self._events.empty():
                self._on_event(self._events.get())
            self._show()
            time.sleep(_LOOK_SECONDS)
        self._show()

    def _look(self, alive: Set[str]) -> None:
        """Begin to find out which caches there are, where workers have come or gone."""
        if self._looking is None and not self._nodes.knows(alive):
            self._looking = in_background(partial(self._seen, frozenset(alive)))

    def _seen(self, alive: Set[str]) -> Mapping[str, Stock]:
        """What caches that have joined have."""
        self._nodes.look(alive)
        return self._nodes.new_stocks()

    def _welcome(self, run: _Run) -> None:
        """Count on the caches that there are, as soon as that is known."""
        if self._looking is None or not self._looking.done():
            return
        stocks, self._looking = self._looking.result(), None
        self._caches = self._nodes.caches
        if stocks:
            run.count_on(stocks)
            run.waiting = self._joining.adapt(run.waiting, stocks)

    def _collect(self, run: _Run, alive: Mapping[str, int]) -> None:
        """Take what is done, and what was lost."""
        for future, (job, address) in list(run.running.items()):
            if future.done():
                answer = self._answer_of(future, address)
            elif address not in alive:
                future.cancel()
                answer = {"error": _LOST}
            else:
                continue
            del run.running[future]
            self._take(run, job, answer, address)

    def _take(self, run: _Run, job: Job, answer: Answer, address: str) -> None:
        run.failures[job.key] += "error" in answer
        if "error" in answer and run.failures[job.key] <= self._cluster.retries:
            run.tried[job.key].add(address)
            run.waiting.insert(0, job)
            run.take_room(run.caches[job.key], -job.missing_bytes)
            return
        self._on_done(job, answer, self._nodes.host_of(address))

    def _hand_out(self, run: _Run, alive: Mapping[str, int]) -> None:
        """Give each worker what it may do now, the emptiest first."""
        load, without = Counter(address for _, address in run.running.values()), set[str]()
        failing, here = set[str]().union(*run.tried.values()), _Here(self._caches, alive)
        for address in sorted(here.caches, key=lambda one: (load[one], one)):
            cache = here.caches[address]
            alike = address if address in failing else cache.name  # workers to which the same may be given
            for _ in range(load[address], alive[address] if self._threads else 1):
                if alike in without or (job := here.next_of(run, address)) is None:
                    without.add(alike)
                    break
                self._begin(run, job, address, cache)

    def _begin(self, run: _Run, job: Job, address: str, cache: NodeCache) -> None:
        function, arguments = self._submit(job, self._token)
        future = self._cluster.client.submit(
            function, *arguments, workers=[address], pure=False, key=f"vbnfs-{function.__name__}-{uuid4().hex}"
        )
        run.waiting.remove(job)
        run.running[future] = job, address
        run.caches[job.key] = cache.name
        run.take_room(cache.name, job.missing_bytes)

    def _give_up(self, run: _Run, alive: Mapping[str, int], *, is_late: bool) -> None:
        """Where no job goes on, no worker takes what is left. `is_late`: workers that are to come would be here."""
        if run.running or self._looking is not None:
            return
        here = _Here(self._caches, alive).workers
        if not here and is_late:
            raise no_worker(self._cluster.address, self._cluster.wait_seconds)
        for job in [job for job in run.waiting if here]:
            is_away = job.must and job.member not in here
            if not is_away or is_late:
                run.waiting.remove(job)
                why = "no worker of its node is left" if is_away else "no cache has room for it"
                self._on_done(job, {"error": why}, (job.member or "").partition(":")[0])

    def _stop(self, run: _Run) -> None:
        with suppress(ClusterError, OSError, TimeoutError, RuntimeError):
            self._cluster.workers(within_seconds=_STOP_SECONDS)  # else nobody hears of it
            self._cluster.while_it_answers(lambda: self._cluster.client.cancel(list(run.running)))
            busy = {address for _, address in run.running.values()}
            self._cluster.ask(worker.stop, self._token, of=busy, seconds=_STOP_SECONDS)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        client = self._cluster.client
        client.subscribe_topic(self._token, lambda event: self._events.put(event[1]))
        try:
            yield
        finally:
            with suppress(ValueError):
                client.unsubscribe_topic(self._token)

    def _answer_of(self, future: "Future[Any]", address: str) -> Answer:
        """What a job answered; of one that Dask has ended, or whose answer cannot be had, why.

        Raises `ClusterError` where the scheduler has gone.
        """
        try:
            if future.status in {"finished", "error"}:
                answer: Answer = self._cluster.while_it_answers(future.result, of=address)
                return answer
        except ClusterError:
            raise
        except WorkerLostError:  # behind its last word
            return {"error": _LOST}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}
        finally:
            future.release()
        return {"error": f"{_LOST} ({future.status})"}

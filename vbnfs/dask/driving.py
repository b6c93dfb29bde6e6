"""Having jobs done by workers: each worker has as many at once as it may, lost ones are given to others.

The client decides which worker does what, and when; Dask brings the job there. So a job stays with the cache that has
its files, and one whose worker is lost is seen within a second.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from vbnfs.dask import worker
from vbnfs.dask.cluster import Cluster, Nodes, no_worker
from vbnfs.dask.plan import Job, NodeCache, Stock
from vbnfs.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Future

_LOOK_SECONDS: Final = 0.05
_ALIVE_SECONDS: Final = 0.5
_STOP_SECONDS: Final = 5.0

Answer = Mapping[str, Any]  # `result`, or `error` and perhaps `traceback`
OnDone = Callable[[Job, Answer, str], None]  # the last is the host
Adapt = Callable[
    [list[Job], Mapping[str, Stock]], list[Job]
]  # what waits, and caches that have joined: what waits now
Submit = Callable[[Job, str], tuple[Callable[..., Any], tuple[Any, ...]]]  # a job and the run's token: what to call


@dataclass(slots=True)
class _Run:
    """What is to be done and what is being done."""

    waiting: list[Job]
    running: dict["Future[Any]", tuple[Job, str]] = field(default_factory=dict)  # with the worker's address
    caches: dict[str, str] = field(default_factory=dict)  # into which a job brings something, by the job's key
    failures: Counter[str] = field(default_factory=Counter)  # by the job's key
    rooms: dict[str, int | None] = field(default_factory=dict)  # by the name of a cache

    def take_room(self, cache: str, count_bytes: int) -> None:
        """A job is to bring so many bytes into a cache; fewer than none: they did not come."""
        if (room := self.rooms.get(cache)) is not None:
            self.rooms[cache] = room - count_bytes


class Driver:
    """Has jobs done. `threads`: a worker has as many at once as it has threads, else one.

    `adapt` says what is to be done when caches join. `show` is called some times a second. `on_event` gets what
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
        adapt: Adapt,
        show: Callable[[], object] = lambda: None,
        on_event: Callable[[Mapping[str, Any]], None] = lambda message: None,
    ) -> None:
        self._cluster, self._nodes, self._submit = cluster, nodes, submit
        self._threads, self._on_done, self._show, self._on_event = threads, on_done, show, on_event
        self._adapt = adapt
        self._token = f"vbnfs-{uuid4().hex}"
        self._events = SimpleQueue[Mapping[str, Any]]()  # from Dask's thread

    def run(self, jobs: Sequence[Job], rooms: Mapping[str, int | None] | None = None) -> None:
        """Return when each job was done, or has failed too often. `rooms`: of caches, by their names.

        Raises `ClusterError` where no worker is left. However it ends, no job goes on.
        """
        run = _Run(list(jobs), rooms=dict(rooms or {}))
        with self._listening():
            try:
                self._drive(run)
            except BaseException:
                self._stop(run)
                raise

    def _drive(self, run: _Run) -> None:
        alive: Mapping[str, int] = {}
        looked, idle_since = -math.inf, time.monotonic()
        while run.waiting or run.running:
            now = time.monotonic()
            if now - looked > _ALIVE_SECONDS:
                alive, looked = self._cluster.workers(), now
                if self._nodes.look(alive.keys()):
                    self._welcome(run)
            self._collect(run, alive)
            self._hand_out(run, alive)
            idle_since = now if run.running else idle_since
            self._give_up(run, is_late=now - idle_since > self._cluster.wait_seconds)
            while not self._events.empty():
                self._on_event(self._events.get())
            self._show()
            time.sleep(_LOOK_SECONDS)
        self._show()

    def _welcome(self, run: _Run) -> None:
        """Count on the caches that have joined."""
        if stocks := self._nodes.new_stocks():
            run.rooms.update({name: stock.room_bytes for name, stock in stocks.items()})
            run.waiting = self._adapt(run.waiting, stocks)

    def _collect(self, run: _Run, alive: Mapping[str, int]) -> None:
        """Take what is done, and what was lost."""
        for future, (job, address) in list(run.running.items()):
            if future.done():
                answer = self._answer_of(future)
            elif address not in alive:
                future.cancel()
                answer = {"error": "its worker was lost"}
            else:
                continue
            del run.running[future]
            self._take(run, job, answer, address)

    def _take(self, run: _Run, job: Job, answer: Answer, address: str) -> None:
        run.failures[job.key] += "error" in answer
        if "error" in answer and run.failures[job.key] <= self._cluster.retries:
            run.waiting.insert(0, job)
            run.take_room(run.caches[job.key], -job.missing_bytes)
            return
        self._on_done(job, answer, self._nodes.host_of(address))

    def _hand_out(self, run: _Run, alive: Mapping[str, int]) -> None:
        """Give each worker what it may do now, the emptiest first."""
        load, without = Counter(address for _, address in run.running.values()), set[str]()
        for address in sorted(alive, key=lambda one: (load[one], one)):
            cache = self._nodes.cache_of(address)
            if cache is None or cache.name in without:
                continue
            for _ in range(load[address], alive[address] if self._threads else 1):
                if (job := self._next(run, cache)) is None:
                    without.add(cache.name)
                    break
                self._begin(run, job, address, cache)

    def _next(self, run: _Run, cache: NodeCache) -> Job | None:
        """The next job that is best done with a cache; else one that can be."""
        room, here = run.rooms.get(cache.name), {one for each in self._nodes.caches for one in each.members}
        fitting = (job for job in run.waiting if job.fits(cache, room, is_lost=job.member not in here))
        return min(fitting, key=lambda job: job.member not in cache.members, default=None)

    def _begin(self, run: _Run, job: Job, address: str, cache: NodeCache) -> None:
        function, arguments = self._submit(job, self._token)
        future = self._cluster.client.submit(
            function, *arguments, workers=[address], pure=False, key=f"vbnfs-{function.__name__}-{uuid4().hex}"
        )
        run.waiting.remove(job)
        run.running[future] = job, address
        run.caches[job.key] = cache.name
        run.take_room(cache.name, job.missing_bytes)

    def _give_up(self, run: _Run, *, is_late: bool) -> None:
        """Where no job goes on, no worker takes what is left. `is_late`: workers that are to come would be here."""
        if run.running:
            return
        here = {one for each in self._nodes.caches for one in each.members}
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
            self._cluster.ask(worker.stop, self._token, of=busy, on_fault=lambda address, error: None)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        client = self._cluster.client
        client.subscribe_topic(self._token, lambda event: self._events.put(event[1]))
        try:
            yield
        finally:
            with suppress(ValueError):
                client.unsubscribe_topic(self._token)

    def _answer_of(self, future: "Future[Any]") -> Answer:
        """What a job answered; of one that Dask has ended, or whose answer cannot be had, why.

        Raises `ClusterError` where the scheduler has gone.
        """
        try:
            if future.status in {"finished", "error"}:
                answer: Answer = self._cluster.while_it_answers(future.result)
                return answer
        except ClusterError:
            raise
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}
        finally:
            future.release()
        return {"error": f"its worker was lost ({future.status})"}

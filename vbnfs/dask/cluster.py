"""A Dask cluster as its client sees it: workers that come and go, what they answer, and the caches that they use."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, TypeVar, get_args

from vbnfs import __version__
from vbnfs.api.connection import Connection
from vbnfs.api.extras import required
from vbnfs.config.settings import SEPARATOR
from vbnfs.dask import worker
from vbnfs.dask.plan import NodeCache, Stock, caches_of, differences
from vbnfs.errors import ClusterError, UsageError

if TYPE_CHECKING:
    from distributed import Client

Caches = Literal["auto", "node", "shared"]
Note = Callable[[str], None]
_Answer = TypeVar("_Answer")

EXTRA: Final = "'vbnfs[dask]'"
_CONNECT_SECONDS: Final = 10.0
_MORE_SECONDS: Final = 2.0  # for a server that takes a connection, and answers nothing
_LOOK_SECONDS: Final = 0.1
_SCHEDULER_SECONDS: Final = 60.0  # that it may take to say which workers there are, busy as it may be
_ASK_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 120.0  # that a worker may take to look into its cache
_MOST_ASKED: Final = 32  # at a time: each takes a connection of the scheduler's
_ERROR: Final = "error"


class OnCluster(TypedDict, total=False):
    """How the functions of `vbnfs.dask` use a cluster.

    `client`        a `distributed.Client`; without it the one that Dask uses by default
    `caches`        `auto`: it is found out which workers have one cache directory; `node`: those of each host
                    have one of their own; `shared`: all have one
    `every_node`    whether each cache is to have all files; without it each file goes into one cache
    `retries`       how often a job is given to another worker, where there is one, after its worker was lost or it
                    failed; 2
    `wait_seconds`  how long to wait for a worker where there is none, and at the start for `n_workers`; 60
    `n_workers`     for how many workers to wait at the start, in whose caches room is counted; 1
    """

    client: "Client | None"
    caches: Caches
    every_node: bool
    retries: int
    wait_seconds: float
    n_workers: int


class Cluster:
    """A cluster and how it is used. Raises `ImportError` without Dask, `UsageError` for options that are wrong."""

    def __init__(self, options: OnCluster, *, note: Note) -> None:
        distributed = dask_itself("vbnfs.dask")
        if unknown := sorted(options.keys() - OnCluster.__annotations__.keys()):
            raise UsageError(
                f"vbnfs.dask takes no {', '.join(unknown)}; it takes {', '.join(OnCluster.__annotations__)}"
            )
        self.caches: Final[Caches] = options.get("caches", "auto")
        if self.caches not in get_args(Caches):
            raise UsageError(f"caches={self.caches!r}: one of {', '.join(get_args(Caches))} is wanted")
        self.every_node: Final = options.get("every_node", False)
        self.retries: Final = options.get("retries", 2)
        self.wait_seconds: Final = _wait_seconds(options)
        self.n_workers: Final = options.get("n_workers", 1)
        if self.n_workers < 1:
            raise UsageError(f"n_workers={self.n_workers}: at least one is wanted")
        self.note: Final = note
        self.client: Final[Client] = _checked(options.get("client") or _default_client(distributed))

    @property
    def address(self) -> str:
        """The scheduler's address, for messages."""
        return str(self.client.scheduler.address) if self.client.scheduler is not None else "the scheduler"

    def workers(self, *, within_seconds: float | None = None) -> Mapping[str, int]:
        """The workers that there are now, by address, with their threads.

        Raises `ClusterError` where the scheduler has gone, or does not say it in time.
        """
        most = _SCHEDULER_SECONDS if within_seconds is None else within_seconds
        try:
            found: Mapping[str, int] = self.client.nthreads(callback_timeout=most)
        except (OSError, TimeoutError, RuntimeError) as error:
            raise ClusterError(f"{self.address}: the scheduler has gone: {error or type(error).__name__}") from error
        return found

    def while_it_answers(self, call: Callable[[], _Answer], *, of: str | None = None) -> _Answer:
        """What a call of Dask's client returns or raises. Raises `ClusterError` where the scheduler answers no more.

        Such a call itself waits for that without end; and for what a worker had that is lost: where the call is `of`
        one, by its address, that raises `WorkerLostError`.
        """
        answer = in_background(call)
        while not wait([answer], timeout=_ASK_SECONDS).done:
            if of not in {None, *self.workers()}:
                raise WorkerLostError
        return answer.result()

    def wait_for_workers(self) -> Mapping[str, int]:
        """The workers, as soon as there are `n_workers`. Raises `ClusterError` where fewer come."""
        end, is_noted = time.monotonic() + self.wait_seconds, False
        while len(found := self.workers()) < self.n_workers:
            if time.monotonic() > end:
                raise _too_few(self.address, len(found), self.n_workers, self.wait_seconds)
            if not is_noted:
                has = f"{len(found)} of {self.n_workers} workers" if self.n_workers > 1 else "no worker"
                self.note(f"{self.address} has {has} yet: waiting, {self.wait_seconds:g} s at most")
                is_noted = True
            time.sleep(_LOOK_SECONDS)
        return found

    def ask(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        of: Iterable[str],
        on_fault: Callable[[str, ClusterError], object] = lambda address, error: None,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        """What workers answer within some seconds, by address; without those that are lost meanwhile.

        `on_fault` gets the address of each that cannot answer, and why. Raises `ClusterError` where the scheduler
        answers no more.
        """
        if not (of := list(of)):
            return {}
        most = _ANSWER_SECONDS if seconds is None else seconds
        run = partial(self.client.run, function, *arguments, on_error="return")
        answers = self.while_it_answers(lambda: self.client.sync(_answers, run, of, most))
        found = dict[str, Any]()
        for address, answer in answers.items():
            if isinstance(answer, OSError):  # the worker has gone
                continue
            if (fault := _fault_of(answer)) is not None:
                on_fault(address, ClusterError(f"worker {address}{fault}"))
            else:
                found[address] = answer and answer["result"]
        return found


class WorkerLostError(Exception):
    """The worker that had an answer is gone."""


def in_background(call: Callable[[], _Answer]) -> Future[_Answer]:
    """What a call returns or raises, in a thread that does not keep the process from ending."""
    answer = Future[_Answer]()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # raised where it is waited for
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return answer


async def _answers(run: Callable[..., Any], of: Sequence[str], seconds: float) -> dict[str, Any]:
    """What each worker answers, or an error; in the loop of Dask's client. One that stands still keeps no other."""
    turn = asyncio.Semaphore(_MOST_ASKED)

    async def answer(address: str) -> Any:
        async with turn:
            try:
                return (await asyncio.wait_for(run(workers=[address]), seconds))[address]
            except TimeoutError:
                return ClusterError(f"it has not answered for {seconds:g} s: its disk may hang")

    return dict(zip(of, await asyncio.gather(*map(answer, of)), strict=True))


def dask_itself(method: str) -> Any:
    """Dask's package `distributed`, which `method` needs. Raises `ImportError`, which says how to get it."""
    return required("distributed", method, EXTRA)


def _fault_of(answer: Any) -> str | None:
    """What keeps a worker from what it was asked for, as its message goes on; None where nothing does."""
    if isinstance(answer, ImportError | AttributeError):
        return (
            f" has no vbnfs with vbnfs.dask ({answer}): install vbnfs {__version__} in the environment of the workers"
        )
    if isinstance(answer, ClusterError):
        return f": {answer}"
    if isinstance(answer, Exception):
        return f": {type(answer).__name__}: {answer}"
    return f": {answer[_ERROR]}" if answer and _ERROR in answer else None


def no_worker(address: str, seconds: float) -> ClusterError:
    """The error where no worker comes."""
    return ClusterError(f"{address} has had no worker for {seconds:g} s: start some, or allow more time")


def _too_few(address: str, found: int, wanted: int, seconds: float) -> ClusterError:
    if not found:
        return no_worker(address, seconds)
    return ClusterError(
        f"{address} has {found} of {wanted} workers after {seconds:g} s: start more, allow more time, or wait for"
        " fewer"
    )


def _default_client(distributed: Any) -> "Client":
    try:
        client: Client = distributed.default_client()
    except ValueError as error:
        raise UsageError("there is no Dask client: make one, distributed.Client(...), or give client=") from error
    return client


def _checked(client: "Client") -> "Client":
    if client.asynchronous:
        raise UsageError("the Dask client is asynchronous: make one without asynchronous=True")
    return client


@contextmanager
def connected(scheduler: str, options: OnCluster, *, note: Note) -> "Iterator[Client]":
    """A client of the scheduler at an address, or of the one that a scheduler file names; while entered.

    A file that is not there yet is waited for. Raises `ClusterError` where no scheduler answers.
    """
    distributed = dask_itself("--dask")
    is_file = "://" not in scheduler and (scheduler.endswith(".json") or os.sep in scheduler)
    address = _address_in(Path(scheduler), _wait_seconds(options), note) if is_file else scheduler
    try:
        _check_scheduler(distributed, address)
        client: Client = distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except Exception as error:  # Dask makes any error at all of an answer that is no scheduler's
        why = str(error) if isinstance(error, OSError | ValueError | TypeError) else ""
        where = scheduler if address == scheduler else f"{scheduler} ({address})"
        raise ClusterError(
            f"{where}: no Dask scheduler answers there: {why or 'what is there speaks another language'}"
        ) from error
    try:
        yield client
    finally:
        with suppress(OSError, TimeoutError):
            client.close(timeout=_CONNECT_SECONDS)


def _check_scheduler(distributed: Any, address: str) -> None:
    """Raise an error of any kind unless a scheduler answers: a client would wait for another server without end."""

    async def identity() -> Mapping[str, Any]:
        connection = distributed.Security().get_connection_args("client")
        async with distributed.core.rpc(address, timeout=_CONNECT_SECONDS, connection_args=connection) as server:
            found: Mapping[str, Any] = await server.identity()
            return found

    distributed.comm.resolve_address(address)
    kind = asyncio.run(asyncio.wait_for(identity(), _CONNECT_SECONDS + _MORE_SECONDS)).get("type")
    if kind != "Scheduler":
        raise ValueError(f"it is a {str(kind).lower()}")


def _address_in(path: Path, seconds: float, note: Note) -> str:
    """The address in a scheduler's file, as soon as it is there: a job's script may start both at once."""
    end = time.monotonic() + seconds
    if seconds and not path.is_file():
        note(f"{path}: no such file yet: waiting for a scheduler to write it, {seconds:g} s at most")
    while (address := _address_of(path)) is None:
        if time.monotonic() > end:
            what = "it has no scheduler's address" if path.is_file() else "no such scheduler file"
            raise ClusterError(f"{path}: {what}: start a scheduler with --scheduler-file {path}, or name its address")
        time.sleep(_LOOK_SECONDS)
    return address


def _address_of(path: Path) -> str | None:
    """The address in a scheduler's file; None where there is none, or not yet."""
    with suppress(OSError, ValueError):
        match json.loads(path.read_text()):
            case {"address": str(address)}:
                return address
    return None


def _wait_seconds(options: OnCluster) -> float:
    return options.get("wait_seconds", 60.0)


def settings_for_workers(connection: Connection, dataset_version: str) -> dict[str, str]:
    """What all workers have to go by: which dataset is meant, and what was given for this run.

    All other settings are each worker's own.
    """
    config = connection.config
    texts = {
        "bucket": config.bucket,
        "project": config.project,
        "region": config.region,
        "endpoint_url": config.endpoint_url or "",
        "versions": SEPARATOR.join(config.versions),
    }
    given = {name: text for name, text in connection.given.items() if name != "dataset"}
    return given | {name: text for name, text in texts.items() if text} | {"dataset_version": dataset_version}


class Nodes:
    """The caches of a cluster's workers, found out anew when workers come and go; and what each has.

    A worker that cannot do what is wanted is an error at the start. One that joins later is left out, and noted.
    """

    def __init__(self, cluster: Cluster, given: Mapping[str, str]) -> None:
        self._cluster, self._given = cluster, dict(given)
        self._hosts, self._members = dict[str, str](), dict[str, str]()  # by address
        self._together = set[frozenset[str]]()  # members that are one folder
        self._first = list[str]()  # members, those that were known first
        self._settings, self._noted = dict[str, Mapping[str, str]](), set[tuple[str, ...]]()
        self._known = frozenset[str]()  # the workers of which all is known
        self._left_out, self._is_begun = set[str](), False
        self._content_ids, self._asked = list[str](), set[str]()  # what for, and of which caches, by name
        self.caches: Sequence[NodeCache] = ()

    def host_of(self, address: str) -> str:
        """The name of the host of a worker that is or was there."""
        return self._hosts.get(address, address)

    def knows(self, alive: Set[str]) -> bool:
        """Whether `caches` is of just these workers."""
        return alive - self._left_out == self._known

    def look(self, alive: Set[str]) -> None:
        """Know the caches of these workers.

        Raises `ClusterError` where a worker cannot do what is wanted, before `stocks` was asked for.
        """
        if new := sorted(alive - self._members.keys() - self._left_out):
            self._learn(self._ask(worker.facts, of=new))
        members = self._of(alive)
        if self._cluster.caches == "auto" and set(members.values()) - set().union(*self._together):
            self._together |= self._compared(members)
            members = self._of(alive)
        self._first += sorted(set(members.values()) - set(self._first))
        seen = [frozenset(self._first)] if self._cluster.caches == "shared" else self._together
        self.caches = caches_of(members, seen, self._first)
        is_compared = self._cluster.caches != "auto" or {*members.values()} <= set().union(*self._together)
        self._known = frozenset(
            members if is_compared else ()
        )  # else one that was lost, or is left out, spoke for it

    def stocks(self, content_ids: Sequence[str]) -> dict[str, Stock]:
        """What each cache has of contents, by the cache's name. One of its workers is asked."""
        self._content_ids = list(content_ids)
        found = self.new_stocks()
        self._is_begun = True
        return found

    def new_stocks(self) -> dict[str, Stock]:
        """What caches have of these contents that were not asked yet."""
        one_each = {min(cache.workers): cache.name for cache in self.caches if cache.name not in self._asked}
        found = {
            one_each[address]: Stock(answer["bytes_here"], frozenset(answer["whole"]), answer["room_bytes"])
            for address, answer in self._ask(worker.stock, self._content_ids, of=one_each).items()
        }
        self._asked |= found.keys()
        return found

    def _ask(self, function: Callable[..., Any], *arguments: Any, of: Iterable[str]) -> dict[str, Any]:
        those = [address for address in of if address not in self._left_out]
        return self._cluster.ask(function, self._given, *arguments, of=those, on_fault=self._leave_out)

    def _leave_out(self, address: str, error: ClusterError) -> None:
        if not self._is_begun:
            raise error
        self._left_out.add(address)
        self._cluster.note(f"{error}: this worker is left out")

    def _of(self, alive: Set[str]) -> dict[str, str]:
        """The members of those of these workers that are known, by address."""
        those = alive - self._left_out
        return {address: member for address, member in self._members.items() if address in those}

    def _learn(self, facts: Mapping[str, Mapping[str, Any]]) -> None:
        others = {address: one["version"] for address, one in facts.items() if one["version"] != __version__}
        for address, version in sorted(others.items()):
            text = f"{len(others)} of {len(facts)} workers have another vbnfs, {address} has {version}: install"
            self._leave_out(
                address, ClusterError(f"{text} {__version__}, as here, in the environment of the workers")
            )
        facts = {address: one for address, one in facts.items() if address not in others}
        for address, one in facts.items():
            self._hosts[address] = one["host"]
            self._members[address] = f"{one['host']}:{one['cache_dir']}"
            self._settings[address] = one["settings"]
        settings = ((self._hosts[address], one) for address, one in self._settings.items())
        for values, text in differences(settings).items():
            if values not in self._noted:
                self._noted.add(values)
                self._cluster.note(text)

    def _compared(self, members: Mapping[str, str]) -> set[frozenset[str]]:
        """Which members are one folder: each has a file made in it, and looks for those of all.

        The names are new, so no host has kept that they are not there.
        """
        one_each = {member: address for address, member in sorted(members.items(), reverse=True)}
        marks = {address: f"dask-{os.urandom(8).hex()}" for address in one_each.values()}
        of_mark = {mark: members[address] for address, mark in marks.items()}
        try:
            self._ask(worker.mark, marks, of=marks)
            answers = self._ask(worker.seen, list(of_mark), of=marks)
        finally:
            with suppress(ClusterError):
                self._ask(worker.unmark, marks, of=marks)
        return {frozenset({members[address], *map(of_mark.__getitem__, seen)}) for address, seen in answers.items()}

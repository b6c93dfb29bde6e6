"""Workers that fail, hang, or are lost at the wrong moment: the others do the work, and nothing waits without end."""

import threading
from typing import Any

import pytest
from distributed import get_worker

import vbnfs
import vbnfs.dask
from tests.api.release import LFP, SESSION_ID, UNITS
from tests.dask.clusters import in_this_process
from tests.fakes.s3_server import FakeS3Server, for_kind, held
from vbnfs.access.verifying import FAILED, NOT_KEPT, Finding, Outcome
from vbnfs.dask import cluster, driving, worker
from vbnfs.errors import CacheError, ClusterError

pytestmark = pytest.mark.filterwarnings("ignore")  # what Dask and its libraries warn of


@pytest.mark.parametrize("outcome", [None, FAILED, NOT_KEPT])
def test_a_worker_at_fault(dataset: vbnfs.Dataset, monkeypatch: pytest.MonkeyPatch, outcome: str | None) -> None:
    """What failed at a worker, by an error or of each file, is given to another one, though the first is free."""
    real, asked = worker.brought, list[str]()

    def brought(connection: Any, wanted: Any, *arguments: Any, **more: Any) -> Outcome:
        asked.append(get_worker().address)
        if asked[-1] != min(client.nthreads()):
            return real(connection, wanted, *arguments, **more)
        if outcome is None:
            raise CacheError("the disk has 0 B free; nothing was fetched")
        return Outcome(tuple(Finding(path, outcome, None, "no space left") for path in wanted.paths))

    monkeypatch.setattr(worker, "brought", brought)
    with in_this_process() as client:
        found = vbnfs.dask.prefetch([LFP], dataset=dataset, client=client, retries=1)
    assert (found["outcome"].tolist(), len(set(asked))) == (["good"], 2)


def test_a_session_at_a_worker_at_fault(dataset: vbnfs.Dataset) -> None:
    """So is a session of which a function failed there, as where a library is missing."""

    def fails_there(session: vbnfs.Session, bad: str) -> int:
        if get_worker().address == bad:
            raise ImportError("no module named spikes")
        return session.session_id

    with in_this_process() as client:
        more: Any = {"dataset": dataset, "client": client, "retries": 1}
        found = vbnfs.dask.map_sessions(fails_there, arguments={"bad": min(client.nthreads())}, **more)
    assert dict(found) == {SESSION_ID: SESSION_ID}


def test_a_worker_that_joins_and_hangs(
    dataset: vbnfs.Dataset, server: FakeS3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are given one file after the other meanwhile, and when all is there the run ends without it."""
    gate, released, waited, before = threading.Event(), threading.Event(), list[bool](), server.count("get_range")
    real = worker._facts

    def facts(given: worker.Given) -> dict[str, Any]:
        if len(client.nthreads()) > 1:
            gate.set()
            waited.append(released.wait(120))
        return real(given)

    def joins(_progress: object) -> None:
        if server.count("get_range") > before and len(client.nthreads()) == 1:
            client.cluster.scale(2)

    monkeypatch.setattr(driving, "_STOP_SECONDS", 0.1)
    monkeypatch.setattr(worker, "_facts", facts)
    server.behaviours.append(for_kind("get_range", held(gate)))
    try:
        with in_this_process(workers=1) as client:
            try:
                found = vbnfs.dask.prefetch([LFP, UNITS], dataset=dataset, client=client, progress=joins)
            finally:
                released.set()
    finally:
        gate.set()
        server.behaviours.clear()
    assert (found["outcome"].tolist(), waited) == (["good"] * 2, [True])


def test_a_worker_whose_disk_hangs(dataset: vbnfs.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start it is an error, which names it, as is one that stands still."""
    released = threading.Event()
    monkeypatch.setattr(cluster, "_ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(worker, "_seen", lambda given, names: released.wait(120) and [])
    why = r"worker tcp://.*: it has not answered for 0\.3 s: its disk may hang"
    with in_this_process() as client:
        try:
            with pytest.raises(ClusterError, match=why):
                vbnfs.dask.verify(dataset=dataset, client=client)
        finally:
            released.set()


def test_a_result_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker had, and took with it, is not waited for: Dask's client would wait until it is back."""
    monkeypatch.setattr(cluster, "_ASK_SECONDS", 0.1)
    with in_this_process(workers=1) as client:
        one = cluster.Cluster({"client": client}, note=lambda text: None)
        [here] = client.nthreads()
        never = threading.Event()
        with pytest.raises(cluster.WorkerLostError):
            one.while_it_answers(never.wait, of="tcp://127.0.0.1:1")
        assert one.while_it_answers(lambda: never.wait(0.5), of=here) is False

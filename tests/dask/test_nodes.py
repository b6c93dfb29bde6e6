"""A cluster of processes with caches of their own: which node does what, and workers that are killed."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

import vbnfs
import vbnfs.dask
from tests.dask.clusters import Killer, cache_of, join, nodes, scheduler_process, settings
from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server, for_kind, held
from tests.fakes.store import Pattern
from tests.waiting import until
from vbnfs.cache.inventory import scan
from vbnfs.dask import cluster, driving
from vbnfs.errors import ClusterError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # what Dask and its libraries warn of

SESSIONS = range(11, 15)
SIZE = 1_500_000
LISTS = 200_000  # bytes: more than the lists and the manifest that each worker asks for
TABLE = "ecephys_session_id,mouse_id,experience_level,file_id\n"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeS3Server]:
    """A server of four sessions, one LFP each, and the table of them."""
    files: dict[str, Any] = {}
    for number in SESSIONS:
        folder = f"behavior_ecephys_sessions/{number}"
        files[f"{folder}/ecephys_session_{number}.nwb"] = Pattern(SIZE + number, seed=number)
        files[f"{folder}/probe_probeA_lfp.nwb"] = Pattern(SIZE // 3 + number, seed=100 + number)
    rows = "".join(f"{number},1,Novel,{2 * place}\n" for place, number in enumerate(SESSIONS))
    files["project_metadata/ecephys_sessions.csv"] = (TABLE + rows).encode()
    dataset = FakeDataset()
    dataset.publish("0.5.0", files)
    with FakeS3Server(dataset.store) as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the nodes have their caches."""
    return tmp_path_factory.mktemp("nodes")


@pytest.fixture(scope="module")
def client(server: FakeS3Server, folder: Path) -> Iterator[Client]:
    """A cluster of three workers: two caches, and the second of them by two names, as on a shared disk."""
    (folder / "b").mkdir(mode=0o700)
    (folder / "link").symlink_to(folder / "b")
    with nodes(*(settings(server, folder / name) for name in ("a", "b", "link"))) as client:
        yield client


@pytest.fixture
def dataset(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[vbnfs.Dataset]:
    """The dataset as the client sees it."""
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
    with vbnfs.Dataset() as dataset:
        yield dataset


def whole_in(folder: Path) -> int:
    return sum(one.is_whole for one in scan(folder))


def where_it_runs(session: vbnfs.Session) -> str:
    with session.file.open() as file:
        file.read_at(0, 1)
    return session.file.connection.config.cache_dir.name.replace("link", "b")


def test_files_are_spread(dataset: vbnfs.Dataset, client: Client, server: FakeS3Server, folder: Path) -> None:
    """Each file is fetched once, into one of the two caches, and a session's files together.

    Then every session runs on a node that has its files: nothing is fetched.
    """
    server.forget_requests()
    found = vbnfs.dask.prefetch(sessions="all", lfp="yes", dataset=dataset, client=client)
    assert set(found["outcome"]) == {"good"}
    assert len(found) == 2 * len(SESSIONS) + 1
    counts = [whole_in(folder / name) for name in ("a", "b")]
    assert (sum(counts), min(counts) > 1) == (len(found), True)
    server.wait_until(lambda server: server.body_bytes >= sum(found["size_bytes"]))
    assert server.body_bytes < sum(found["size_bytes"]) + LISTS
    assert len(dataset.latest.sessions) == len(SESSIONS)  # the client has the table in its own cache
    server.forget_requests()
    ran = vbnfs.dask.map_sessions(where_it_runs, dataset=dataset, client=client)
    assert (list(ran), set(ran.values()), len(ran.failed)) == (list(SESSIONS), {"a", "b"}, 0)
    assert server.count("get_range") == 0


def test_a_worker_that_is_killed(dataset: vbnfs.Dataset, client: Client, server: FakeS3Server, folder: Path) -> None:
    """A worker is killed while it fetches into each cache what it lacks: all of it is there, and good, in the end.

    What is fetched twice is less than what that worker had under way. Each file is then hashed in both caches.
    """
    have = sum(one.allocated_bytes for name in ("a", "b") for one in scan(folder / name) if one.is_whole)
    server.forget_requests()
    killer = Killer(client, server)
    found = vbnfs.dask.prefetch(
        sessions="all", lfp="yes", dataset=dataset, client=client, every_node=True, progress=killer
    )
    assert len(killer.killed) == 1
    assert set(found["outcome"]) == {"good"}
    assert [whole_in(folder / name) for name in ("a", "b")] == [len(found)] * 2
    assert server.body_bytes < 2 * sum(found["size_bytes"]) - have + SIZE + LISTS
    checked = vbnfs.dask.verify(dataset=dataset, client=client)
    assert (set(checked["outcome"]), len(checked)) == ({"good"}, len(found))


def test_a_host_of_a_shared_cache_is_lost(dataset: vbnfs.Dataset, server: FakeS3Server, tmp_path: Path) -> None:
    """The others of its folder do what was to be done in it: that it has another name there is nothing to them."""
    (tmp_path / "b").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    gate, before, killed = threading.Event(), server.count("get_range"), list[str]()
    server.behaviours.append(for_kind("get_range", held(gate)))
    with nodes(*(settings(server, tmp_path / name) for name in ("b", "link"))) as client:

        def kill(_progress: object) -> None:
            if not killed and server.count("get_range") > before:
                killed.extend(one for one, place in cache_of(client).items() if place == str(tmp_path / "b"))
                for pid in client.run(os.getpid, workers=killed).values():
                    os.kill(pid, signal.SIGKILL)
                server.behaviours.clear()
                gate.set()

        more: Any = {"dataset": dataset, "client": client, "wait_seconds": 0, "progress": kill}
        found = vbnfs.dask.prefetch(sessions="all", lfp="yes", every_node=True, **more)
    assert (len(killed), set(found["outcome"])) == (1, {"good"})


def test_a_node_that_joins(dataset: vbnfs.Dataset, server: FakeS3Server, tmp_path: Path) -> None:
    """Each node is to have all files: one that joins meanwhile gets them, too."""
    gate, before = threading.Event(), server.count("get_range")
    server.behaviours.append(for_kind("get_range", held(gate)))
    with nodes(settings(server, tmp_path / "a")) as client:

        def joins(_progress: object) -> None:
            if server.count("get_range") > before and len(client.nthreads()) == 1:
                join(client, settings(server, tmp_path / "late"))
            if (tmp_path / "late").is_dir():  # it was asked for its cache
                server.behaviours.clear()
                gate.set()

        heard = list[vbnfs.Progress]()

        def progress(one: vbnfs.Progress) -> None:
            heard.append(one)
            joins(one)

        more: Any = {"dataset": dataset, "client": client}
        found = vbnfs.dask.prefetch(sessions="all", lfp="yes", every_node=True, progress=progress, **more)
    assert set(found["outcome"]) == {"good"}
    assert [whole_in(tmp_path / name) for name in ("a", "late")] == [len(found)] * 2
    assert (heard[-1].done_files, heard[-1].files) == (2 * len(found), 2 * len(found))


def test_caches_that_join(
    dataset: vbnfs.Dataset, server: FakeS3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What such a cache has is hashed there, too; and a function runs there of the sessions that it has."""
    monkeypatch.setattr(driving, "_ALIVE_SECONDS", 0.0)  # else all may be hashed before it is seen
    have, marks = {"a": 11, "late": 12, "later": 13}, tmp_path / "marks"
    marks.mkdir()
    for name, number in have.items():
        with vbnfs.Dataset(cache_dir=tmp_path / name) as one:
            one.latest.prefetch([f"behavior_ecephys_sessions/{number}/ecephys_session_{number}.nwb"])

    def waits(session: vbnfs.Session) -> str:
        name = session.file.connection.config.cache_dir.name
        (marks / name).touch()
        until((marks / "later").exists, seconds=60)
        return name

    def joining(name: str) -> Callable[[object], None]:
        names = [name]

        def joins(_progress: object) -> None:
            if names:
                join(client, settings(server, tmp_path / names.pop()))
                client.wait_for_workers(list(have).index(name) + 1, timeout=60)

        return joins

    with nodes(settings(server, tmp_path / "a")) as client:
        more: Any = {"dataset": dataset, "client": client}
        checked = vbnfs.dask.verify(progress=joining("late"), **more)
        ran = vbnfs.dask.map_sessions(waits, progress=joining("later"), **more)
    assert (checked["outcome"].tolist(), [path.split("/")[2] for path in checked.index]) == (
        ["good"] * 2,
        ["11", "12"],
    )
    assert {name: number for number, name in ran.items() if have[name] == number} == have


def test_a_worker_that_stands_still(
    dataset: vbnfs.Dataset, server: FakeS3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start an error names it after its time; Dask's client would wait for it."""
    with nodes(*(settings(server, tmp_path / name) for name in ("a", "b"))) as client:
        vbnfs.dask.verify(dataset=dataset, client=client)  # by which both have imported what they need
        monkeypatch.setattr(cluster, "_ANSWER_SECONDS", 5.0)
        address, pid = next(iter(client.run(os.getpid).items()))
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(
                ClusterError, match=f"worker {address}: it has not answered for 5 s: its disk may hang"
            ):
                vbnfs.dask.verify(dataset=dataset, client=client)
        finally:
            os.kill(pid, signal.SIGCONT)


def test_workers_are_killed_while_a_function_runs(dataset: vbnfs.Dataset, client: Client, tmp_path: Path) -> None:
    """Sessions whose worker was killed run on another one, and each result is there, once."""
    marks = tmp_path / "marks"
    marks.mkdir()

    def dies_once(session: vbnfs.Session) -> int:
        mark = marks / str(session.session_id)
        if session.session_id == min(SESSIONS) and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return session.session_id

    found = vbnfs.dask.map_sessions(dies_once, results=tmp_path / "results", dataset=dataset, client=client)
    assert found.table["result"].to_dict() == {one: one for one in SESSIONS}
    assert len(found.failed) == 0
    assert (marks / str(min(SESSIONS))).exists()


def test_a_scheduler_that_stands_still(
    dataset: vbnfs.Dataset, server: FakeS3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is stopped, or behind a line that is cut, ends the run after its time; Dask's client would wait on."""
    monkeypatch.setattr(cluster, "_SCHEDULER_SECONDS", 2.0)
    gate, before = threading.Event(), server.count("get_range")
    server.behaviours.append(for_kind("get_range", held(gate)))
    with scheduler_process(tmp_path, settings(server, tmp_path / "cache")) as (client, scheduler):

        def stop(_progress: object) -> None:
            if server.count("get_range") > before:
                scheduler.send_signal(signal.SIGSTOP)

        try:
            with pytest.raises(ClusterError, match=r"tcp://.*: the scheduler has gone: timed out after 2"):
                vbnfs.dask.prefetch(sessions="all", dataset=dataset, client=client, progress=stop)
        finally:
            server.behaviours.clear()
            gate.set()

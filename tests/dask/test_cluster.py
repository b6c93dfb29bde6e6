"""Prefetching, verifying and mapping on a cluster whose workers are threads of this process."""

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

import vbnfs
import vbnfs.dask
from tests.api.release import LFP, SESSION, SESSION_ID, UNITS
from tests.dask.clusters import in_this_process
from tests.fakes.s3_server import FakeS3Server, error, for_kind, held
from vbnfs.dask import files, worker
from vbnfs.errors import CacheError, ClusterError, NotVerifiedError, ResultsError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore")  # what Dask and its libraries warn of


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A cluster of two workers."""
    with in_this_process() as client:
        yield client


def test_prefetch_and_verify(dataset: vbnfs.Dataset, client: Client, server: FakeS3Server) -> None:
    """Each file is fetched once and checked; not twice; one that is damaged is found, and mended."""
    heard = list[tuple[int, int]]()
    server.forget_requests()
    found = vbnfs.dask.prefetch(
        sessions="experience_level == 'Novel'",
        lfp="A",
        n_workers=2,
        dataset=dataset.latest,
        client=client,
        progress=lambda one: heard.append((one.done_bytes, one.count_bytes)),
    )
    assert set(found["outcome"]) == {"good"}
    assert {path.rpartition("/")[2] for path in found.index} >= {"units.csv", Path(SESSION).name, Path(LFP).name}
    assert found["nodes"].str.len().gt(0).all()
    assert heard[-1][0] == heard[-1][1] > 0
    server.forget_requests()
    assert set(vbnfs.dask.prefetch([UNITS, LFP], dataset=dataset, client=client)["outcome"]) == {"good"}
    assert server.count("get_range") == 0
    dataset.latest.prefetch([LFP])  # by which this process knows it, too
    path = dataset.latest.file(LFP).local_path
    assert path is not None
    with path.open("r+b") as opened:
        opened.seek(1000)
        opened.write(b"\xff\xfe")
    assert vbnfs.dask.verify([LFP], dataset=dataset, client=client)["outcome"].tolist() == ["not complete"]
    mended = vbnfs.dask.verify([LFP], dataset=dataset, client=client, fetch=True)
    assert mended["outcome"].tolist() == ["good"]
    whole = vbnfs.dask.verify(client=client)
    assert set(whole["outcome"]) == {"good"}
    assert len(whole) == len(found)


def test_verify_of_what_is_not_here(dataset: vbnfs.Dataset, client: Client) -> None:
    """A version's files that no cache has are `not complete`; without a version they are left out."""
    version = dataset.version("0.4.0")
    assert set(vbnfs.dask.verify(dataset=version, client=client)["outcome"]) == {"not complete"}
    assert len(vbnfs.dask.verify(dataset=dataset, client=client)) == 0


def test_a_file_that_cannot_be_had(dataset: vbnfs.Dataset, client: Client, server: FakeS3Server) -> None:
    """The error names the file and the reason, as without a cluster."""
    server.behaviours.append(
        for_kind("get_range", lambda request, honest: error(403, "AccessDenied") if LFP in request.key else honest())
    )
    try:
        with pytest.raises(NotVerifiedError, match=r"1 of 1 files not verified and kept; .*lfp\.nwb: "):
            vbnfs.dask.prefetch([LFP], dataset=dataset, client=client)
    finally:
        server.behaviours.clear()


def test_a_job_that_fails_is_given_out_again(
    dataset: vbnfs.Dataset, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker could not do is tried again, in the room that it did not take; then its reason is said."""
    real, size, calls = worker.brought, dataset.latest.file(LFP).size, list[int]()

    def fails_at_first(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) < 3:
            raise CacheError("the disk has 0 B free; nothing was fetched")
        return real(*arguments, **more)

    monkeypatch.setattr(worker, "brought", fails_at_first)
    monkeypatch.setattr("vbnfs.access.room.Room.more_bytes", lambda room, there_bytes: size)
    more: Any = {"dataset": dataset, "client": client}
    with pytest.raises(NotVerifiedError, match=r"1 of 1 files .*lfp\.nwb: .*: the disk has 0 B free"):
        vbnfs.dask.prefetch([LFP], **more, retries=0)
    assert vbnfs.dask.prefetch([LFP], **more, retries=1)["outcome"].tolist() == ["good"]
    assert len(calls) == 3


def test_no_room(
    dataset: vbnfs.Dataset, client: Client, server: FakeS3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has no room in the workers' caches is refused before anything is fetched."""
    monkeypatch.setattr("vbnfs.access.room.limit_of", lambda config: 1000)
    server.forget_requests()
    with pytest.raises(CacheError, match=r"workers' caches have room for 1000 B: .*; nothing was fetched"):
        vbnfs.dask.prefetch([LFP], dataset=dataset, client=client)
    assert server.count("get_range") == 0


def count_units(session: vbnfs.Session, fails: bool = False, least: int = 0) -> dict[str, Any]:
    if fails:
        raise ValueError("no units")
    with session.h5() as file:
        return {"units": len(file["units/id"]) + least}


def test_map_sessions(dataset: vbnfs.Dataset, client: Client, tmp_path: Path) -> None:
    """A function runs once a session with a file, and its results are a table; the same call runs it no more."""
    calls = tmp_path / "calls"
    calls.write_text("")

    def count(session: vbnfs.Session, least: int) -> dict[str, Any]:
        with calls.open("a") as out:
            out.write(f"{session.session_id}\n")
        return count_units(session, least=least)

    results, heard = tmp_path / "results", list[str]()
    for _ in range(2):
        found = vbnfs.dask.map_sessions(
            count,
            results=results,
            arguments={"least": 3},
            dataset=dataset,
            client=client,
            progress=lambda one: heard.append(str(one)),
        )
        assert found.table["units"].to_dict() == {SESSION_ID: 4}
    assert calls.read_text() == f"{SESSION_ID}\n"
    assert heard[-1] == "1 of 1 sessions"
    with pytest.raises(ResultsError, match="of another arguments"):
        vbnfs.dask.map_sessions(count, results=results, arguments={"least": 4}, dataset=dataset, client=client)
    assert vbnfs.dask.read_results(results)[SESSION_ID] == {"units": 4}
    more: Any = {"results": results, "arguments": {"least": 3}, "dataset": dataset, "client": client}
    assert len(vbnfs.dask.map_sessions(count, "mouse_id == 0", **more)) == 0  # though the folder has one


def test_a_function_that_fails(dataset: vbnfs.Dataset, client: Client, tmp_path: Path) -> None:
    """A call that fails is repeated, then listed with its error; the next run tries it again, and no other."""
    tries = tmp_path / "tries"

    def often(session: vbnfs.Session) -> Any:
        count = len(tries.read_text()) if tries.exists() else 0
        tries.write_text("x" * (count + 1))
        return count_units(session, fails=count < 5)

    more: Any = {"results": tmp_path / "results", "dataset": dataset, "client": client, "retries": 2}
    found = vbnfs.dask.map_sessions(often, **more)
    assert (len(found), found.failed.loc[SESSION_ID, "error"]) == (0, "ValueError: no units")
    assert "count_units" in found.failed.loc[SESSION_ID, "traceback"]
    assert len(tries.read_text()) == 3
    found = vbnfs.dask.map_sessions(often, "experience_level == 'Novel'", **more)
    assert (found[SESSION_ID], len(found.failed), len(tries.read_text())) == ({"units": 1}, 0, 6)
    assert len(vbnfs.dask.map_sessions(count_units, "mouse_id == 0", dataset=dataset, client=client)) == 0


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_function_that_would_end_its_worker(dataset: vbnfs.Dataset, client: Client, error: BaseException) -> None:
    """sys.exit() in it, as of a program's parser of options, is its error, and no worker is lost."""

    def ends(session: vbnfs.Session) -> None:
        raise error

    found = vbnfs.dask.map_sessions(ends, dataset=dataset, client=client, retries=0)
    assert found.failed.loc[SESSION_ID, "error"].startswith(f"{type(error).__name__}: ")
    assert len(client.nthreads()) == 2


def test_a_result_that_cannot_be_stored(dataset: vbnfs.Dataset, client: Client, tmp_path: Path) -> None:
    """It is listed as failed, with what helps; without a folder any value is a result."""
    more: Any = {"dataset": dataset, "client": client}
    found = vbnfs.dask.map_sessions(lambda session: {"x": object}, results=tmp_path / "results", **more)
    assert "give stored_as=" in found.failed.loc[SESSION_ID, "error"]
    assert vbnfs.dask.map_sessions(lambda session: {"x": object}, **more)[SESSION_ID] == {"x": object}


def test_what_the_program_gives_holds_on_workers(dataset: vbnfs.Dataset, client: Client, tmp_path: Path) -> None:
    """Settings of `Dataset(...)` hold for the workers; all others are theirs."""
    with vbnfs.Dataset(cache_dir=tmp_path / "other") as other:
        vbnfs.dask.prefetch([UNITS], dataset=other, client=client)
        assert other.latest.file(UNITS).cached_bytes > 0
    assert dataset.latest.file(UNITS).cached_bytes == 0


def test_workers_that_cannot(dataset: vbnfs.Dataset, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another vbnfs on the workers is said, with the remedy; so is a worker that cannot use its settings."""
    monkeypatch.setattr(worker, "__version__", "0.0.1")
    with pytest.raises(ClusterError, match=r"2 of 2 workers have another vbnfs, .* has 0\.0\.1: install"):
        vbnfs.dask.verify(dataset=dataset, client=client)
    monkeypatch.undo()
    monkeypatch.setattr(worker, "load_config", lambda command_line: (_ for _ in ()).throw(UsageError("no such file")))
    with pytest.raises(ClusterError, match=r"worker tcp.*: no such file"):
        vbnfs.dask.verify(dataset=dataset, client=client)


@pytest.mark.parametrize(
    ("name", "broken", "why"),
    [
        ("_facts", lambda given: (_ for _ in ()).throw(UsageError("no such file")), r"worker tcp.*: no such file"),
        ("__version__", "0.0.1", r"1 of 1 workers have another vbnfs, .* has 0\.0\.1: install"),
    ],
)
def test_a_worker_that_joins_and_cannot(
    dataset: vbnfs.Dataset, server: FakeS3Server, monkeypatch: pytest.MonkeyPatch, name: str, broken: object, why: str
) -> None:
    """It is left out, with a warning that says why, and the run goes on with the others."""
    gate, heard, before = threading.Event(), list[str](), server.count("get_range")

    def hear(text: str) -> None:
        heard.append(text)
        gate.set()

    def joins(_progress: object) -> None:
        if server.count("get_range") > before and len(client.nthreads()) == 1:
            monkeypatch.setattr(worker, name, broken)
            client.cluster.scale(2)

    monkeypatch.setattr(files, "warn", hear)
    server.behaviours.append(for_kind("get_range", held(gate)))
    try:
        with in_this_process(workers=1) as client:
            found = vbnfs.dask.prefetch([LFP], dataset=dataset, client=client, progress=joins)
    finally:
        gate.set()
        server.behaviours.clear()
    assert set(found["outcome"]) == {"good"}
    [said] = heard
    assert re.fullmatch(rf"{why}.*: this worker is left out", said)


def test_settings_of_a_worker_that_joins(
    dataset: vbnfs.Dataset, server: FakeS3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are compared with those of all before, once for each value: two workers of one host are two."""
    gate, heard, before = threading.Event(), list[str](), server.count("get_range")
    real, asked = worker._facts, list[int]()

    def facts(given: worker.Given) -> dict[str, Any]:
        asked.append(1)
        found = real(given)
        return found | {"settings": found["settings"] | {"limit_rate": "1M" if len(asked) > 1 else "2M"}}

    def joins(_progress: object) -> None:
        if server.count("get_range") > before and len(client.nthreads()) < 3:
            client.cluster.scale(3)
        if len(asked) == 3:
            gate.set()

    monkeypatch.setattr(worker, "_facts", facts)
    monkeypatch.setattr(files, "warn", heard.append)
    server.behaviours.append(for_kind("get_range", held(gate)))
    try:
        with in_this_process(workers=1) as client:
            vbnfs.dask.prefetch([LFP], dataset=dataset, client=client, progress=joins)
    finally:
        gate.set()
        server.behaviours.clear()
    host = socket.gethostname()
    assert heard == [f"workers have different settings of limit_rate: 1M ({host}), 2M ({host})"]


def test_wrong_use(dataset: vbnfs.Dataset, client: Client) -> None:
    """Options that are wrong are said by name; so is that there is no client, or no worker."""
    anything: Any = {"dataset": dataset}
    with pytest.raises(UsageError, match="there is no Dask client: make one"):
        vbnfs.dask.verify(**anything)
    with pytest.raises(UsageError, match="caches='both': one of auto, node, shared is wanted"):
        vbnfs.dask.verify(**anything, client=client, caches="both")
    with pytest.raises(UsageError, match=r"vbnfs\.dask takes no worker; it takes client, "):
        vbnfs.dask.verify(**anything, client=client, worker=3)
    with pytest.raises(ClusterError, match=r"has 2 of 3 workers after 0 s: start more, allow more time, or wait"):
        vbnfs.dask.verify(**anything, client=client, n_workers=3, wait_seconds=0)
    with pytest.raises(UsageError, match="n_workers=0: at least one is wanted"):
        vbnfs.dask.verify(**anything, client=client, n_workers=0)
    with (
        in_this_process(workers=0) as empty,
        pytest.raises(ClusterError, match="has had no worker for 0 s: start some"),
    ):
        vbnfs.dask.verify(**anything, client=empty, wait_seconds=0)

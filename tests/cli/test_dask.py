"""`vbnfs prefetch --dask` and `verify --dask`: options, output and exit status, on a cluster of this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from distributed import Client, Worker

from tests.api.release import LFP, UNITS, serving
from tests.dask.clusters import in_this_process
from tests.fakes.s3_server import FakeS3Server, for_kind, held
from tests.fixtures_mount import run_vbnfs, until
from vbnfs.cli.main import cli
from vbnfs.dask import cluster, worker
from vbnfs.errors import CacheError, ClusterError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore")  # what Dask and its libraries warn of
PLACE = f"manifests/v0.5.0/{LFP}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeS3Server]:
    """A small release of two versions."""
    with serving(tmp_path_factory.mktemp("release")) as server:
        yield server


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A cluster of two workers, in this process."""
    with in_this_process() as client:
        yield client


@pytest.fixture
def address(client: Client, server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The scheduler's address; workers and commands have the same settings."""
    monkeypatch.setenv("VBNFS_ENDPOINT_URL", server.endpoint_url)
    yield client.scheduler.address
    worker._opened.cache_clear()


def invoke(*command: str | Path) -> Result:
    """What a command says that runs in this process."""
    return CliRunner().invoke(cli, [str(word) for word in command])


def said(*command: str) -> Any:
    """What a command says as JSON."""
    done = invoke(*command, "--json")
    assert done.exception is None, done.stderr
    return json.loads(done.stdout)


def test_prefetch_and_verify(address: str, server: FakeS3Server, tmp_path: Path) -> None:
    """Files are planned, fetched, counted and verified as without a cluster."""
    plan = said("prefetch", "--sessions", "all", "--dask", address, "--dry-run")
    assert (plan["files"], plan["workers"], plan["left_out_files"], plan["problem"]) == (6, 2, 1, None)
    assert [(row["workers"], row["whole_files"]) for row in plan["caches"]] == [(2, 0)]
    assert plan["caches"][0].keys() == {"cache", "workers", "whole_files", "room_bytes"}
    done = invoke("prefetch", "--sessions", "all", "--dask", address)
    assert done.stdout.startswith("6 of 6 files good"), done.stderr
    assert done.stderr.splitlines()[0] == "vbnfs: LFP is left out: 1 file; '--lfp yes' takes it too"
    first, second = invoke("prefetch", "--sessions", "all", "--dry-run", "--dask", address).stdout.splitlines()
    assert first.startswith("0.5.0: 6 files, ")
    assert first.endswith("; 0 B to fetch, by 2 workers")
    assert second.startswith(f"{tmp_path / 'cache'} on ")
    assert ": 2 workers, 6 files here, room for " in second
    rows = said("verify", "--dask", address)
    assert ({row["outcome"] for row in rows}, len(rows)) == ({"good"}, 6)
    assert all(len(row["nodes"]) == 1 for row in rows)
    done = invoke("verify", PLACE, UNITS, "--dask", address)
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"not", "good"}
    assert str(done.exception) == "1 of 2 files not verified and kept"
    done = invoke("verify", "--dask", address, "--dask-workers", "3", "--dask-wait", "0")
    assert "has 2 of 3 workers after 0 s: start more" in str(done.exception)
    done = invoke("verify", "README.txt", "--dask", address)
    assert str(done.exception) == "nothing in README.txt can be verified"
    assert said("verify", PLACE, "--fetch", "--dask", address)[0]["outcome"] == "good"


def test_no_room(address: str) -> None:
    """What the workers' caches have no room for: the plan says it, and nothing is fetched."""
    for trial in ([], ["--dry-run"]):
        done = invoke("prefetch", "0.5.0", "--dask", address, "--cache-reserve", "8000T", *trial)
        assert "have room for 0 B" in str(done.exception)
        assert isinstance(done.exception, CacheError)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["--every-node"], UsageError, "add --dask SCHEDULER"),
        (["--dask-wait", "3"], UsageError, "add --dask SCHEDULER"),
        (["--dask-workers", "3"], UsageError, "add --dask SCHEDULER"),
        (["--dask", "x", "--pin"], UsageError, "leave --pin and --record out"),
        (
            ["--dask", "no/scheduler.json", "--dask-wait", "0"],
            ClusterError,
            "no such scheduler file: start a scheduler with --scheduler",
        ),
        (["--dask", "other://x"], ClusterError, "other://x: no Dask scheduler answers there: unknown address scheme"),
    ],
)
def test_what_is_refused(server: FakeS3Server, arguments: list[str], kind: type[Exception], message: str) -> None:
    """Options without a cluster, and clusters that are not there: the message says what to do."""
    done = invoke("prefetch", UNITS, *arguments, "--endpoint-url", server.endpoint_url)
    assert isinstance(done.exception, kind)
    assert message in str(done.exception)


@pytest.mark.parametrize("text", ["", "HTTP/1.0 400 Bad Request\r\n\r\n" * 40])
def test_what_is_no_scheduler(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A server that takes a connection and says nothing, or another thing, is no scheduler: in seconds."""
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(cluster, "_MORE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as threads:
        threads.submit(_answer_all, listening, text.encode())
        address = f"tcp://127.0.0.1:{listening.getsockname()[1]}"
        done = invoke("prefetch", UNITS, "--dask", address, "--endpoint-url", server.endpoint_url)
        listening.shutdown(socket.SHUT_RDWR)
    assert isinstance(done.exception, ClusterError)
    assert f"{address}: no Dask scheduler answers there: " in str(done.exception)


def _answer_all(listening: socket.socket, text: bytes) -> None:
    with ExitStack() as stack, suppress(OSError):
        while True:
            link = stack.enter_context(listening.accept()[0])
            link.sendall(text)


def test_an_address_without_certificates_or_of_a_worker(address: str, client: Client) -> None:
    """The message says what the address is, or lacks."""
    done = invoke("verify", "--dask", "tls://127.0.0.1:1")
    assert isinstance(done.exception, ClusterError)
    assert "check your TLS configuration" in str(done.exception)
    a_worker = next(iter(client.nthreads()))
    done = invoke("verify", "--dask", a_worker)
    assert str(done.exception) == f"{a_worker}: no Dask scheduler answers there: it is a worker"


def test_scheduler_files(address: str, tmp_path: Path) -> None:
    """One without an address is waited for, like one that is not there; an address in it that is wrong is named."""
    file = tmp_path / "scheduler.json"
    for text in ("{", "[]", '{"address": 3}'):
        file.write_text(text)
        done = invoke("verify", "--dask", file, "--dask-wait", "0")
        assert isinstance(done.exception, ClusterError)
        assert f"{file}: it has no scheduler's address: start a scheduler" in str(done.exception)
    file.write_text('{"address": "other://x"}')
    done = invoke("verify", "--dask", file)
    assert f"{file} (other://x): no Dask scheduler answers there: " in str(done.exception)
    file.write_text(json.dumps({"address": address}))
    assert invoke("verify", "--dask", file).exception is None


def test_without_dask(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Dask is not installed, the message says how to install it."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = invoke("verify", "--dask", address)
    assert isinstance(done.exception, ClusterError)
    assert str(done.exception) == "--dask needs Dask, here and on the workers: pip install 'vbnfs[dask]'"


def threads_at_work(dask_worker: Worker) -> int:
    return len(dask_worker.active_threads)


@pytest.mark.slow
def test_ctrl_c(address: str, client: Client, server: FakeS3Server) -> None:
    """Ctrl-C ends the tasks on the workers, and says how to go on; what was fetched is kept."""
    gate = threading.Event()
    server.behaviours.append(for_kind("get_range", held(gate)))
    before = server.count("get_range")
    words = [sys.executable, "-m", "vbnfs", "prefetch", "--sessions", "all", "--dask", address]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        server.wait_until(lambda server: server.count("get_range") > before, seconds=60)
        tokens = len(worker._stopped)
        command.send_signal(signal.SIGINT)
        _, errors = command.communicate(timeout=60)
    assert (command.returncode, "run the same command again" in errors) == (130, True), errors
    assert len(worker._stopped) == tokens + 1
    until(lambda: set(client.run(threads_at_work).values()) == {0}, seconds=60)  # though S3 is still silent
    server.behaviours.clear()
    gate.set()
    done = run_vbnfs("prefetch", "--sessions", "all", "--dask", address)
    assert (done.returncode, "files good" in done.stdout) == (0, True), done.stderr


@pytest.mark.slow
def test_commands_import_no_dask(server: FakeS3Server) -> None:
    """Without `--dask` a command imports neither Dask nor what works with it."""
    script = "import sys, vbnfs.cli.main as m\ntry:\n    m.main()\nfinally:\n    print(*sys.modules)"
    words = [sys.executable, "-c", script, "prefetch", UNITS, "--endpoint-url", server.endpoint_url]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert {"dask", "distributed", "vbnfs.dask", "vbnfs.api"} & set(done.stdout.split()) == set()

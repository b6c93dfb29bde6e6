"""Dask clusters of this machine alone, for tests: in this process, or as processes that can be killed."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster, Nanny, Scheduler, SpecCluster

from tests.fakes.s3_server import FakeS3Server, for_kind, held
from tests.waiting import until


@contextmanager
def in_this_process(workers: int = 2) -> Iterator[Client]:
    """A client of a cluster whose workers are threads of this process, and have its settings."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=2,
            processes=False,
            dashboard_address=None,
            host="127.0.0.1",
            protocol="tcp",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextmanager
def nodes(*environments: Mapping[str, str]) -> Iterator[Client]:
    """A client of a cluster of processes, each with variables of its own. One that is killed is started again."""
    workers = {
        number: {"cls": Nanny, "options": {"nthreads": 1, "dashboard": False, "env": dict(environment)}}
        for number, environment in enumerate(environments)
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard": False, "host": "127.0.0.1", "port": 0}}
    with (
        SpecCluster(workers=workers, scheduler=scheduler) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(len(workers), timeout=120)
        yield client


def join(client: Client, environment: Mapping[str, str]) -> None:
    """Start another process in a cluster of `nodes`."""
    cluster = client.cluster
    assert isinstance(cluster, SpecCluster)
    options = {"nthreads": 1, "dashboard": False, "env": dict(environment)}
    cluster.worker_spec[len(cluster.worker_spec)] = {"cls": Nanny, "options": options}
    cluster.sync(cluster._correct_state)


@contextmanager
def scheduler_process(
    folder: Path, environment: Mapping[str, str]
) -> Iterator[tuple[Client, subprocess.Popen[bytes]]]:
    """A client of a scheduler with one worker, and the scheduler's process, which may be stopped meanwhile."""
    file = folder / "scheduler.json"
    more = ["--no-dashboard", "--scheduler-file", str(file), "--host", "127.0.0.1"]
    python = [sys.executable, "-m"]
    scheduler = subprocess.Popen([*python, "distributed.cli.dask_scheduler", "--port", "0", *more], cwd=folder)
    words = ["distributed.cli.dask_worker", "--no-nanny", "--nthreads", "1", *more]
    worker = subprocess.Popen([*python, *words], cwd=folder, env={**os.environ, **environment})
    try:
        until(file.is_file, seconds=60)
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(1, timeout=120)
            yield client, scheduler
            scheduler.send_signal(signal.SIGCONT)
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()


class Killer:
    """Kills, once, a worker that has a job while the server lets a request wait; then that goes on."""

    def __init__(self, client: Client, server: FakeS3Server) -> None:
        self._client, self._server = client, server
        self._go_on = threading.Event()
        self.killed: list[str] = []
        self._before = server.count("get_range")
        server.behaviours.append(for_kind("get_range", held(self._go_on)))

    def __call__(self, progress: object) -> None:
        """To be called some times a second, as `progress` of a run."""
        if self.killed or self._server.count("get_range") == self._before:
            return
        busy = [address for address, keys in self._client.processing().items() if keys]
        if not busy:
            return
        for address, pid in self._client.run(os.getpid, workers=busy[:1]).items():
            os.kill(pid, signal.SIGKILL)
            self.killed.append(address)
        self._server.behaviours.clear()
        self._go_on.set()


def settings(server: FakeS3Server, cache: Path) -> dict[str, str]:
    """The variables of a node with a cache of its own."""
    return {
        "VBNFS_ENDPOINT_URL": server.endpoint_url,
        "VBNFS_CACHE_DIR": str(cache),
        "VBNFS_CACHE_RESERVE": "0",
        "VBNFS_LOG_FILE": str(cache.with_suffix(".log")),
    }


def cache_of(client: Client) -> dict[str, Any]:
    """The cache directory of each worker, by its address."""
    return dict(client.run(lambda: os.environ.get("VBNFS_CACHE_DIR")))

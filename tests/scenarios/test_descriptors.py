"""A daemon that can open no more files: it goes on with the connections that it has, and waits where it has none."""

import json
import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mounts, until

FILES = {f"sessions/{number}.nwb": Pattern(1_500_000 + number, seed=number) for number in range(12)}


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of some sessions."""
    with serve({"0.1.0": FILES}) as server:
        yield server


@contextmanager
def no_more_files(pid: int, *, but: int = 0) -> Iterator[None]:
    """A process can open only `but` more files."""
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    free = [number for number in range(len(used) + but + 1) if number not in used]
    with limit_of_files(pid, free[but]):
        yield


@contextmanager
def limit_of_files(pid: int, limit: int) -> Iterator[None]:
    """A process can open no file whose number is not below `limit`; it keeps those that it has."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it has ended
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def warnings(tmp_path: Path) -> list[str]:
    """What the log warns of."""
    whole, _, _ = (tmp_path / "vbnfs.log").read_text().rpartition("\n")
    lines = [json.loads(line) for line in whole.splitlines()]
    return [line["event"] for line in lines if line["level"] == "warning"]


def test_a_read_waits_for_a_connection(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """With no file to open and no connection, a read waits; it is no outage, one warning tells, and it ends well."""
    mount = mounts(server.endpoint_url)
    server.drop_connections()
    pid = mount.status()["pid"]
    names = list(FILES)
    with ThreadPoolExecutor(len(names)) as pool:
        with no_more_files(pid):
            reads = {name: pool.submit((mount.path / name).read_bytes) for name in names}
            until(lambda: any("connections" in event for event in warnings(tmp_path)))
            with pytest.raises(TimeoutError):
                reads[names[0]].result(timeout=3)  # longer than it takes to find out that a network is gone
            assert not any(read.done() for read in reads.values())
        for name, read in reads.items():
            assert read.result(timeout=60) == FILES[name][:]
    events = warnings(tmp_path)
    assert len(events) == len(set(events))
    assert not any("offline" in event for event in events)
    assert mount.status()["metrics"]["failed_answers"] == 0


def test_one_connection_serves_all(mounts: Mounts, server: FakeS3Server) -> None:
    """With room for one connection, a dozen readers share it, uncached: all is right, and every reader ends."""
    mount = mounts(server.endpoint_url)
    pid = mount.status()["pid"]
    with no_more_files(pid, but=1), ThreadPoolExecutor(len(FILES)) as pool:
        reads = {name: pool.submit((mount.path / name).read_bytes) for name in FILES}
        for name, read in reads.items():
            assert read.result(timeout=100) == FILES[name][:]
    assert mount.status()["metrics"]["failed_answers"] == 0

"""Eight daemons on one cache directory: one fetches for all; one is killed, one evicts; no byte is wrong."""

import hashlib
import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mount, Mounts, until
from vbnfs.storage.segment import BLOCK_BYTES

DAEMONS = 8
SESSION = "ecephys_sessions/ecephys_session_1044.nwb"
DATA = random.Random(1044).randbytes(24 << 20)
SUM = hashlib.blake2b(DATA).hexdigest()


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with one session."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", {SESSION: DATA})
    with FakeS3Server(dataset.store) as server:
        yield server


def begin_reading(mount: Mount) -> subprocess.Popen[str]:
    """A process that reads the session to its end."""
    return subprocess.Popen(
        ["b2sum", mount.path / SESSION], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def fetches(server: FakeS3Server) -> Counter[int]:
    """How often each block was asked for."""
    counts: Counter[int] = Counter()
    for request in server.requests:
        if request.kind == "get_range":
            start, stop = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
            counts.update(range(start // BLOCK_BYTES, stop // BLOCK_BYTES + 1))
    return counts


def test_a_block_is_fetched_for_all(mounts: Mounts, server: FakeS3Server) -> None:
    """Eight daemons read the same cold file at once: no block is fetched by more than two of them, few by two."""
    daemons = [mounts(server.endpoint_url, name=f"mnt{number}") for number in range(DAEMONS)]
    readers = [begin_reading(daemon) for daemon in daemons]
    assert {reader.communicate()[0].split()[0] for reader in readers} == {SUM}
    counts = fetches(server)
    assert len(counts) == len(DATA) // BLOCK_BYTES
    assert max(counts.values()) <= 2
    assert sum(counts.values()) <= 1.25 * len(counts)
    assert sum(daemon.status()["metrics"]["shared_blocks"] for daemon in daemons) > 0


def test_one_is_killed_and_one_evicts(mounts: Mounts, server: FakeS3Server) -> None:
    """While all read, one of eight is killed, and one comes whose cache is tiny and evicts: no byte is wrong."""
    daemons = [mounts(server.endpoint_url, name=f"mnt{number}") for number in range(DAEMONS - 1)]
    victim = daemons[0]
    pid = victim.status()["pid"]
    server.forget_requests()
    readers = [begin_reading(daemon) for daemon in daemons]
    server.wait_until(lambda server: server.body_bytes > len(DATA) // 4, seconds=60)
    os.kill(pid, signal.SIGKILL)
    tiny = mounts(server.endpoint_url, "--cache-size", "4M", name="tiny")
    readers.append(begin_reading(tiny))
    sums = [reader.communicate(timeout=100)[0].split()[:1] for reader in readers]
    assert sums[1:] == [[SUM]] * (DAEMONS - 1)
    assert sums[0] in ([], [SUM])
    until(lambda: tiny.status()["metrics"]["evicted_segments"] > 0)
    assert begin_reading(victim.mount()).communicate()[0].split()[0] == SUM

"""`--limit-rate` with real mounts: together within the rate, readers first, changed while mounted."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mount, Mounts, run_vbnfs, until
from vbnfs.blocks import BLOCK_BYTES

MIB = 1 << 20
PART = 0.8  # of the time that the rate asks for: the first bytes may come at once
NAMES = [f"ecephys_sessions/ecephys_session_{number}.nwb" for number in range(1, 6)]
LONG = "ecephys_sessions/ecephys_session_9.nwb"
FILES = {name: random.Random(name).randbytes(MIB) for name in NAMES} | {LONG: random.Random(9).randbytes(16 * MIB)}


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of some sessions, one of them long."""
    with serve({"0.1.0": FILES}) as server:
        yield server


def limit_of(mount: Mount) -> dict[str, Any]:
    """What a mount reports of the limit."""
    found: dict[str, Any] = mount.status()["limit_rate"]
    return found


def held_reads(mount: Mount) -> int:
    return int(limit_of(mount)["waiting_reads"])


def begin_reading(path: Path) -> subprocess.Popen[str]:
    """A process that reads a file from its beginning to its end."""
    code = "import hashlib, sys; print(hashlib.file_digest(open(sys.argv[1], 'rb'), 'blake2b').hexdigest())"
    return subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)


def test_all_processes_of_a_cache_together(mounts: Mounts, server: FakeS3Server) -> None:
    """Two mounts, one with a receiving process, and `verify --fetch` keep to one rate together; the rest use it, too.

    The limit stands in `status`, of a mount that has it stored by another one as well.
    """
    rate = 2 * MIB
    one = mounts(server.endpoint_url, "--limit-rate", "2M", "--receivers", "1", name="one")
    other = mounts(server.endpoint_url, name="other")
    assert one.warnings == ""
    assert "S3 may send 2.0 MiB/s as the cache has it stored" in other.warnings
    before, began = server.body_bytes, time.monotonic()
    verify = ("verify", "--fetch", "--endpoint-url", server.endpoint_url, NAMES[2])
    with ThreadPoolExecutor(3) as pool:
        reads = [pool.submit((mount.path / NAMES[number]).read_bytes) for number, mount in enumerate((one, other))]
        verifying = pool.submit(run_vbnfs, *verify)
        for number, read in enumerate(reads):
            assert read.result() == FILES[NAMES[number]]
        assert verifying.result().returncode == 0
    received = server.body_bytes - before
    assert received >= 3 * MIB
    assert time.monotonic() - began >= received / rate * PART
    for mount in (one, other):
        found = limit_of(mount)
        assert (found["rate_bytes"], found["is_shared"]) == (rate, True)
    assert sum(mount.status()["metrics"]["limited_fetches"] for mount in (one, other)) > 0
    assert "limit rate  2.0 MiB/s for all processes on this cache together" in run_vbnfs("status", one.path).stdout


def test_a_small_read_beside_a_long_one(mounts: Mounts, server: FakeS3Server) -> None:
    """While a file is read in a row, a block of another one comes before what is fetched ahead. Off, all is fast."""
    mount = mounts(server.endpoint_url, "-o", "limit-rate=1M")
    with begin_reading(mount.path / LONG) as reading:
        server.wait_until(lambda server: server.body_bytes > MIB)
        until(lambda: int(limit_of(mount)["waiting_others"]) > 0)
        for name in NAMES:
            before = server.body_bytes
            with open(mount.path / name, "rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                assert os.pread(file.fileno(), 4096, MIB // 2) == FILES[name][MIB // 2 :][:4096]
            assert server.body_bytes - before <= 6 * BLOCK_BYTES
        assert reading.poll() is None
        done = run_vbnfs("limit-rate", "off", mount.path)
        assert (done.returncode, done.stdout.split()[-1]) == (0, "off")
        began = time.monotonic()
        assert reading.communicate(timeout=60)[0] != ""
        assert time.monotonic() - began < 8  # 10 MiB are left
    assert limit_of(mount)["rate_bytes"] is None


@pytest.mark.slow
def test_a_read_that_is_held_back_does_not_fail(mounts: Mounts, server: FakeS3Server) -> None:
    """A block takes twice as long as `--io-timeout`, and no read fails of that; then the rate is raised meanwhile."""
    mount = mounts(server.endpoint_url, "--limit-rate", "43K", "--io-timeout", "3", "--silence-timeout", "3")
    with open(mount.path / NAMES[0], "rb", buffering=0) as file, open(mount.path / NAMES[1], "rb") as other:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        began = time.monotonic()
        for start in (0, MIB // 2):
            assert os.pread(file.fileno(), 4096, start) == FILES[NAMES[0]][start : start + 4096]
        assert time.monotonic() - began > 4.5
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(other.read)
            until(lambda: held_reads(mount) > 0)
            assert "held back now: " in run_vbnfs("status", mount.path).stdout
            assert run_vbnfs("limit-rate", mount.path, "64M").returncode == 0
            assert reading.result(timeout=10) == FILES[NAMES[1]]  # 24 s at the rate before
    status = mount.status()
    assert (status["last_error"], status["metrics"]["failed_answers"]) == (None, 0)
    assert status["metrics"]["hedged_requests"] == status["metrics"]["failed_requests"] == 0

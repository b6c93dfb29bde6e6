"""Eight daemons on one cache directory: one fetches for all; one is killed, one evicts; no byte is wrong."""

import errno
import hashlib
import json
import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.cache_files import content_folders
from tests.fakes.dataset import FakeDataset, serve
from tests.fakes.faults import Damaged
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mount, Mounts, run_vbnfs, until
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.inventory import scan

DAEMONS = 8
SESSION = "ecephys_sessions/ecephys_session_1044.nwb"
DATA = random.Random(1044).randbytes(24 << 20)
SUM = hashlib.blake2b(DATA).hexdigest()


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with one session."""
    with serve({"0.1.0": {SESSION: DATA}}) as server:
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
    until(lambda: tiny.status()["metrics"]["evicted_contents"] > 0)
    assert begin_reading(victim.mount()).communicate()[0].split()[0] == SUM


def verified(mount: Mount) -> str:
    return os.getxattr(mount.path / SESSION, "user.vbnfs.verified").decode()


def test_what_one_has_verified_the_others_know(mounts: Mounts, server: FakeS3Server) -> None:
    """One reads and hashes a file; the other says the same of it, with the same time, and does not hash it again."""
    one, other = (mounts(server.endpoint_url, name=name) for name in ("one", "other"))
    assert verified(other) == "no: not complete"
    assert begin_reading(one).communicate()[0].split()[0] == SUM
    until(lambda: verified(one).startswith(f"blake2b:{SUM[:16]} "))
    assert verified(other) == verified(one)
    assert begin_reading(other).communicate()[0].split()[0] == SUM
    metrics = other.status()["metrics"]
    assert (metrics["verified_files"], metrics["range_requests"]) == (0, 0)


def test_what_one_finds_wrong_no_other_serves(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """A mismatch that one finds: the blocks are gone, and the other, which had read it, refuses it without a request.

    Also what its kernel had in memory. When the one finds the file good again, the other serves it.
    """
    damage = Damaged(SESSION, at=1_000_000, times=1_000)
    server.behaviours.append(damage)
    one, other = (mounts(server.endpoint_url, name=name) for name in ("one", "other"))
    with open(other.path / SESSION, "rb") as file:
        assert file.read(4096) == DATA[:4096]  # nobody can know yet
        begin_reading(one).communicate()
        until(lambda: one.status()["metrics"]["mismatched_files"] == 2)  # also when fetched anew
        until(lambda: "mismatch" in verified(other) and verified(other) == verified(one))
        asked = other.range_requests()
        until(lambda: is_refused(file.fileno()))
    assert other.range_requests() == asked
    assert content_folders(tmp_path / "cache") == []
    assert "S3 has other bytes" in str(other.status()["last_error"])
    assert b"S3 has other bytes" in os.getxattr(other.path / SESSION, "user.vbnfs.last_error")
    damage.times = 0
    assert run_vbnfs("verify", "--fetch", one.path / SESSION).returncode == 0
    until(lambda: verified(other).startswith("blake2b:"))
    assert begin_reading(other).communicate()[0].split()[0] == SUM


def is_refused(descriptor: int) -> bool:
    try:
        os.pread(descriptor, 4096, 0)
    except OSError as error:
        return error.errno == errno.EIO
    return False


# Their sizes


def test_a_mount_without_a_size(mounts: Mounts, server: FakeS3Server) -> None:
    """It uses the size that another one on the same cache was given, as `vbnfs clean` does afterwards."""
    given = mounts(server.endpoint_url, "--cache-size", "2T", name="given")
    other = mounts(server.endpoint_url, name="other")
    assert given.status()["cache_size_bytes"] == other.status()["cache_size_bytes"] == 2 << 40
    assert os.statvfs(other.path).f_blocks * os.statvfs(other.path).f_frsize == 2 << 40
    given.umount()
    other.umount()
    assert "of 2.0 TiB" in run_vbnfs("clean").stdout


def test_commands_that_fetch_leave_a_cache_its_size(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """`verify --fetch` of a mount's file goes by the mount's size, and not by one that is set elsewhere."""
    mount = mounts(server.endpoint_url, "--cache-size", "64M")
    small = {"VBNFS_CACHE_SIZE": "4M"}
    done = run_vbnfs("verify", "--fetch", mount.path / SESSION, env=small)
    assert done.returncode == 0, done.stderr
    assert usage(tmp_path) >= len(DATA)
    mount.umount()
    assert run_vbnfs("verify", "--fetch", SESSION, "--endpoint-url", server.endpoint_url).returncode == 0
    assert usage(tmp_path) >= len(DATA)


def test_commands_without_a_size_use_the_stored_one(tmp_path: Path) -> None:
    """`verify --fetch` and `diff` keep within the size that a cache was given, and say at their end what it has."""
    dataset = FakeDataset()
    tables = {f"project_metadata/{name}.csv": name.encode() * (3 << 20) for name in "abc"}
    dataset.publish("0.1.0", tables)
    dataset.publish("0.2.0", {name: data + b"\n" for name, data in tables.items()})
    (tmp_path / "cache").mkdir(mode=0o700)
    assert run_vbnfs("clean", "--cache-size", "4M").returncode == 0
    with FakeS3Server(dataset.store) as server:
        for name in tables:
            assert run_vbnfs("verify", "--fetch", name, "--endpoint-url", server.endpoint_url).returncode == 0
            assert 0 < usage(tmp_path) <= 4.2 * (1 << 20)
        done = run_vbnfs("diff", "0.1.0", "--json", "--endpoint-url", server.endpoint_url)
        assert done.returncode == 0
        assert 0 < usage(tmp_path) <= 4.2 * (1 << 20)
        versions = run_vbnfs("versions", "--json", "--endpoint-url", server.endpoint_url)
        newest = json.loads(versions.stdout)[-1]
        assert json.loads(done.stdout)["fetch_bytes"] == newest["size_bytes"] - newest["cached_bytes"]


def usage(tmp_path: Path) -> int:
    """What the contents take on the disk."""
    return sum(one.allocated_bytes for one in scan(tmp_path / "cache"))

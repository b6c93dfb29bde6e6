"""A cache on a file system that is not known to be this machine's: a real one in user space stands for NFS.

bindfs passes everything on to a folder. It has what is relied upon (renaming folders, unlink, writing in place), and
vbnfs cannot know whose disk is behind it.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.cache_files import content_folders
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mounts, drop_pages, until

NAME = "ecephys_sessions/one.nwb"
PATTERN = Pattern(5_000_001)
PLAIN = PATTERN[: len(PATTERN)]
IO_TIMEOUT_SECONDS = 2.0
AT_ONCE_SECONDS = 10.0  # to start a program and have it answered, on a machine that is busy


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of two sessions."""
    with serve({"0.1.0": {NAME: PATTERN, "ecephys_sessions/two.nwb": Pattern(4_000_001, seed=2)}}) as server:
        yield server


@pytest.fixture
def far_server(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process that answers for the cache directory of the test; the folder behind it is `far`."""
    behind, cache = tmp_path / "behind", tmp_path / "cache"
    for folder in (behind, cache):
        folder.mkdir(mode=0o700)
    with subprocess.Popen(["bindfs", "-f", "--no-allow-other", behind, cache]) as process:
        until(cache.is_mount)
        yield process
        subprocess.run(["fusermount3", "-u", "-z", cache], check=True)
        process.kill()  # SIGTERM would be lost if it came just before its next read of the device


@pytest.fixture
def far(tmp_path: Path, far_server: subprocess.Popen[bytes]) -> Path:
    """The folder behind the cache directory of the test."""
    return tmp_path / "behind"


def test_a_cache_that_may_be_another_hosts(mounts: Mounts, server: FakeS3Server, far: Path, tmp_path: Path) -> None:
    """Blocks are kept, shared, used again after SIGKILL, and evicted, by the other host, too; the log tells of it."""
    one, other = (mounts(server.endpoint_url, name=name) for name in ("one", "other"))
    assert one.status()["passthrough"]["reason"] == "the cache is on a file system that other hosts may change"
    assert (one.path / NAME).read_bytes() == PLAIN
    until(lambda: os.getxattr(one.path / NAME, "user.vbnfs.verified").startswith(b"blake2b:"))
    assert (other.path / NAME).read_bytes() == PLAIN
    assert other.range_requests() == 0
    os.kill(one.status()["pid"], signal.SIGKILL)
    one.mount()
    assert (one.path / NAME).read_bytes() == PLAIN
    assert one.range_requests() == 0
    for folder in content_folders(far):
        shutil.rmtree(folder)  # as another host evicts
    drop_pages(other.path / NAME)
    assert (other.path / NAME).read_bytes() == PLAIN
    small = mounts(server.endpoint_url, "--cache-size", "2M", name="small")
    (small.path / "ecephys_sessions/two.nwb").read_bytes()
    until(lambda: small.status()["metrics"]["evicted_contents"] > 0)
    whole, _, _ = (tmp_path / "vbnfs.log").read_text().rpartition("\n")
    events = [json.loads(line)["event"] for line in whole.splitlines()]
    assert sum("another host" in event for event in events) == 4  # one for each time that it was mounted


@contextmanager
def hanging(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """While entered, every request to the process waits."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def timed_read(path: Path, offset: int) -> tuple[bytes | int, float]:
    """What a read of 100,000 bytes brings, or its errno, and how many seconds it took.

    It is one request: by way of its pages the kernel would ask a second time, after reading ahead has failed.
    """
    began = time.monotonic()
    outcome: bytes | int
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            outcome = os.pread(descriptor, 100_000, offset)
        finally:
            os.close(descriptor)
    except OSError as error:
        outcome = error.errno or 0
    return outcome, time.monotonic() - began


def answer_of(*command: str | Path) -> tuple[int, str]:
    """The exit status and the output of a program that has to end at once; one that hangs is not waited for."""
    process = subprocess.Popen([*command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    output, _ = process.communicate(timeout=AT_ONCE_SECONDS)
    return process.returncode, output


def test_a_cache_that_hangs(mounts: Mounts, server: FakeS3Server, far_server: subprocess.Popen[bytes]) -> None:
    """While the cache's server hangs, df, ls and stat answer, and reads end within --io-timeout; then all is well."""
    mount = mounts(server.endpoint_url, "--io-timeout", str(IO_TIMEOUT_SECONDS))
    assert (mount.path / NAME).read_bytes() == PLAIN
    until(lambda: os.getxattr(mount.path / NAME, "user.vbnfs.verified").startswith(b"blake2b:"))
    mount.umount()
    mount.mount()  # so that nothing is in memory
    assert timed_read(mount.path / NAME, 0)[0] == PLAIN[:100_000]  # from a file that is open from now on
    with ThreadPoolExecutor() as threads, hanging(far_server):
        offsets = [1_000_000, 2_500_000, 4_000_000]
        reads = [threads.submit(timed_read, mount.path / NAME, offset) for offset in offsets]
        verified = threads.submit(answer_of, "getfattr", "-n", "user.vbnfs.verified", mount.path / NAME)
        assert answer_of("stat", "--file-system", mount.path)[0] == 0
        assert answer_of("ls", "-l", mount.path / "ecephys_sessions")[1].count(".nwb") == 2
        assert answer_of("stat", "--format", "%s", mount.path / NAME) == (0, f"{len(PLAIN)}\n")
        assert verified.result() == (1, "")
        outcomes = [read.result(2 * AT_ONCE_SECONDS) for read in reads]
        status = mount.status()
        assert status["last_error"]
        assert "does not answer" in status["cache_problem"]
    for offset, (outcome, seconds) in zip(offsets, outcomes, strict=True):
        assert outcome in {errno.ETIMEDOUT, PLAIN[offset : offset + 100_000]}
        assert seconds < IO_TIMEOUT_SECONDS + AT_ONCE_SECONDS
    until(lambda: timed_read(mount.path / NAME, 4_000_000)[0] == PLAIN[4_000_000:4_100_000])
    until(lambda: mount.status()["cache_problem"] is None)

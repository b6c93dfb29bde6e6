"""The rate of a cache directory and its bucket, on real files, between processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from vbnfs.cache.content_folder import FORMAT
from vbnfs.cache.shared_rate import SharedBucket, StoredRate, read_rate, set_rate, take_over_rate
from vbnfs.host import locks
from vbnfs.rate import OFF, Bucket

MIB = 1 << 20
TAKES = 200
HOLDER = """
import os, sys
from vbnfs.host import locks
descriptor = os.open(sys.argv[1], os.O_RDWR)
locks.set_lock(descriptor, locks.EXCLUSIVE, 0, 1)
print(flush=True)
sys.stdin.read()
"""


def level_of(directory: Path) -> float:
    """What the bucket has."""
    return SharedBucket(directory).change(lambda bucket: (bucket, bucket.level_bytes))


def take_one(bucket: Bucket) -> tuple[Bucket, None]:
    return bucket.without(1), None


def take_some(directory: Path) -> None:
    """In a process of its own, or a thread."""
    shared = SharedBucket(directory)
    for _ in range(TAKES):
        shared.change(take_one)


def test_the_rate_that_was_set_last(tmp_path: Path) -> None:
    """A cache has no rate at first; then the one that was set last, none at all (off) being one, too."""
    assert read_rate(tmp_path) == StoredRate()
    for rate in (5 * MIB, OFF, 16 << 10):
        set_rate(tmp_path, rate)
        assert read_rate(tmp_path).rate == rate


def test_settings_and_what_was_set_since(tmp_path: Path) -> None:
    """A mount sets the rate of its settings. Another command does, too, unless settings gave the same before."""
    assert take_over_rate(tmp_path, 5 * MIB, is_mount=False)
    assert read_rate(tmp_path).rate == 5 * MIB
    set_rate(tmp_path, OFF)
    assert take_over_rate(tmp_path, 5 * MIB, is_mount=False)
    assert read_rate(tmp_path).rate == OFF
    assert take_over_rate(tmp_path, 8 * MIB, is_mount=False)
    assert read_rate(tmp_path).rate == 8 * MIB
    set_rate(tmp_path, OFF)
    assert take_over_rate(tmp_path, 8 * MIB, is_mount=True)
    assert read_rate(tmp_path).rate == 8 * MIB


@pytest.mark.parametrize("damage", ["", "x", "5", "5 6", "-1 -", "1048576", "\xff 1", "1048576 1048576 1"])
def test_a_damaged_rate_is_none(tmp_path: Path, damage: str) -> None:
    """What is no rate counts as none that was ever set."""
    set_rate(tmp_path, MIB)
    (tmp_path / FORMAT / ".limit-rate").write_text(damage, encoding="latin-1")
    assert read_rate(tmp_path) == StoredRate()


def test_a_folder_that_takes_nothing(tmp_path: Path) -> None:
    """Where nothing can be written, settings are not taken over, which is logged; a bucket cannot be shared."""
    (tmp_path / FORMAT).write_text("not a folder")
    with capture_logs() as logs:
        assert not take_over_rate(tmp_path, MIB, is_mount=True)
    assert [entry["event"] for entry in logs] == ["the rate cannot be kept for other processes; this one keeps to it"]
    with pytest.raises(OSError, match="Not a directory"):
        level_of(tmp_path)


def test_what_processes_and_threads_take_together(tmp_path: Path) -> None:
    """Of what several processes and threads take out of a bucket at once, nothing is lost."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=take_some, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(take_some, tmp_path) for _ in range(2)]:
            done.result()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert level_of(tmp_path) == -4 * TAKES


def test_a_process_that_has_the_lock(tmp_path: Path) -> None:
    """One that is stopped with the lock is not waited for; when it is killed, the bucket is there as it was."""
    shared = SharedBucket(tmp_path)
    shared.change(lambda bucket: (bucket.without(7), None))
    command = [sys.executable, "-c", HOLDER, tmp_path / FORMAT / ".rate-bucket"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(OSError):  # noqa: PT011 - EAGAIN or a timeout, as the system has it
            shared.change(take_one)
        process.kill()
    assert level_of(tmp_path) == -7


@pytest.mark.parametrize("damage", [b"", b"x", b"nan 5", b"1 inf", b"\xff" * 64, b"-1e300 7", b"5 6 7"])
def test_a_damaged_bucket_is_empty(tmp_path: Path, damage: bytes) -> None:
    """What is no bucket is a new one: no process waits for figures that are wrong."""
    SharedBucket(tmp_path).change(lambda bucket: (Bucket(-5.0, 7.0), None))
    (tmp_path / FORMAT / ".rate-bucket").write_bytes(damage)
    assert SharedBucket(tmp_path).change(lambda bucket: (bucket, bucket)) == Bucket()


def test_a_bucket_that_is_deleted(tmp_path: Path) -> None:
    """A cache that is emptied under a live process: the bucket is made anew, for all."""
    shared = SharedBucket(tmp_path)
    shared.change(take_one)
    (tmp_path / FORMAT / ".rate-bucket").unlink()
    shared.change(take_one)
    assert level_of(tmp_path) == -1


def test_the_lock_is_of_the_file(tmp_path: Path) -> None:
    """The lock is one that the kernel takes back with the last descriptor of the process that has it."""
    shared = SharedBucket(tmp_path)
    shared.change(take_one)
    descriptor = os.open(tmp_path / FORMAT / ".rate-bucket", os.O_RDWR)
    try:
        assert locks.could_lock(descriptor, 0, 1)
        seen = shared.change(lambda bucket: (bucket, locks.could_lock(descriptor, 0, 1)))
        assert not seen
    finally:
        os.close(descriptor)

"""One cache folder for several hosts: two file systems in user space, which hand the same folder on, stand for two.

Each has pages, attributes and locks of its own, so neither sees the other's locks, nor at once what the other has
written.
"""

import errno
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.cache_files import content_folders
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, run_vbnfs, until
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.block_cache import BlockCache
from vbnfs.cache.holdings import all_held
from vbnfs.host import locks
from vbnfs.host.places import folder_at
from vbnfs.metrics import Metrics
from vbnfs.objects import Content, ObjectVersion

NAMES = tuple(f"ecephys_sessions/ecephys_session_{number}.nwb" for number in range(1, 4))
FILES = {name: Pattern(20_000_001, seed=number) for number, name in enumerate(NAMES)}
UNIQUE_BYTES = sum(map(len, FILES.values()))
READ_BYTES = 300_000  # touches one or two blocks

pytestmark = pytest.mark.scenario


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of three sessions."""
    with serve({"0.1.0": FILES}) as server:
        yield server


@pytest.fixture
def caches(tmp_path: Path) -> Iterator[Sequence[Path]]:
    """The cache folder, as one host sees it and as the other does."""
    behind = tmp_path / "behind"
    behind.mkdir(mode=0o700)
    views = [tmp_path / name for name in ("one-sees", "other-sees")]
    processes = []
    for view in views:
        view.mkdir(mode=0o700)
        processes.append(subprocess.Popen(["bindfs", "-f", "--no-allow-other", behind, view]))
        until(view.is_mount)
    yield views
    for view, process in zip(views, processes, strict=True):
        subprocess.run(["fusermount3", "-u", "-z", view], check=True)
        process.kill()
        process.wait()


# On a machine that is busy, a host may seem to hang for two seconds, and be slow for ten.
PATIENT = ("--io-timeout", "600")


@pytest.fixture
def hosts(mounts: Mounts, server: FakeS3Server, caches: Sequence[Path]) -> Sequence[Mount]:
    """A mount on each host."""
    return [mounts(server.endpoint_url, "--cache-dir", cache, name=cache.name[:-5]) for cache in caches]


def read_all(mount: Mount, names: Sequence[str], *, step: int = 1) -> None:
    """Read files in pieces, forwards or backwards, and compare each with what was released."""
    for name in names:
        pattern = FILES[name]
        with open(mount.path / name, "rb", buffering=0) as file:
            for start in range(0, len(pattern), READ_BYTES)[::step]:
                data = os.pread(file.fileno(), READ_BYTES, start)
                assert data == pattern[start : start + len(data)]
                assert len(data) == min(READ_BYTES, len(pattern) - start)


def metrics(mount: Mount) -> dict[str, int]:
    found: dict[str, int] = mount.status()["metrics"]
    return found


def test_neither_sees_the_locks_of_the_other(caches: Sequence[Path]) -> None:
    """What this test stands on: both can lock a file of the folder at the same time."""
    (caches[0] / "file").touch()
    one, other = (os.open(cache / "file", os.O_RDWR) for cache in caches)
    assert locks.lock_file(one)
    assert locks.lock_file(other)
    os.close(one)
    os.close(other)


def test_each_byte_is_fetched_once(
    mounts: Mounts, caches: Sequence[Path], server: FakeS3Server, tmp_path: Path
) -> None:
    """Two hosts read the same files at the same time, also from the other end: 1.01 times their bytes at the most.

    Then both have them whole, and verified; what one deletes the other does without. No claim is left.
    """
    hosts = [mounts(server.endpoint_url, "--cache-dir", cache, *PATIENT, name=cache.name[:-5]) for cache in caches]
    before = server.body_bytes
    orders = [NAMES, NAMES, NAMES[::-1], NAMES[::-1]]
    with ThreadPoolExecutor() as threads:
        reads = [
            threads.submit(read_all, hosts[number % 2], names, step=-1 if number == 3 else 1)
            for number, names in enumerate(orders)
        ]
        for read in reads:
            read.result()
    assert server.body_bytes - before <= 1.01 * UNIQUE_BYTES
    found = [metrics(host) for host in hosts]
    assert sum(one["shared_blocks"] for one in found) > 0
    assert [(one["corrupt_blocks"], one["cache_write_errors"]) for one in found] == [(0, 0), (0, 0)]
    for host in hosts:
        for name in NAMES:
            until(lambda path=host.path / name: os.getxattr(path, "user.vbnfs.verified").startswith(b"blake2b:"))
    until(lambda: not any((tmp_path / "behind" / "claims-v1").glob("*/[!.]*")))
    done = run_vbnfs("clean", hosts[0].path / NAMES[0])
    assert done.returncode == 0, done.stderr
    read_all(hosts[1], NAMES[:1])
    assert [metrics(host)["corrupt_blocks"] for host in hosts] == [0, 0]


def test_a_host_that_dies(hosts: Sequence[Mount], server: FakeS3Server, tmp_path: Path) -> None:
    """One is killed in the middle: the other reads on. What it left goes when a process begins to fetch."""
    with ThreadPoolExecutor() as threads:
        dying = threads.submit(read_all, hosts[0], NAMES)
        reading = threads.submit(read_all, hosts[1], NAMES)
        server.wait_until(lambda server: server.body_bytes > UNIQUE_BYTES // 4, seconds=60)
        os.kill(hosts[0].status()["pid"], signal.SIGKILL)
        reading.result(timeout=100)
        with pytest.raises(OSError, match=f"{os.strerror(errno.ENOTCONN)}|{os.strerror(errno.ECONNABORTED)}"):
            dying.result(timeout=100)
    server.forget_requests()
    read_all(hosts[0].mount(), NAMES)
    assert not any(request.kind == "get_range" for request in server.requests)
    assert run_vbnfs("clean", hosts[0].path / NAMES[0]).returncode == 0
    read_all(hosts[0], NAMES[:1])
    until(lambda: not any((tmp_path / "behind" / "claims-v1").glob("*/[!.]*")))


def test_what_a_host_deletes_it_lets_go_of(caches: Sequence[Path], tmp_path: Path) -> None:
    """Where a file that is open and deleted has another name then, as on NFS, it is closed, and its room is free."""
    data, content = bytes(BLOCK_BYTES), Content("0" * 64, BLOCK_BYTES, ObjectVersion("a", None))
    cache = BlockCache(caches[0], scope="test", metrics=Metrics())
    assert cache.put(content, 0, data) == BLOCK_BYTES
    cache.drop(content)
    # The kernel says that a file is closed without waiting for an answer (FUSE_RELEASE).
    until(lambda: not any((tmp_path / "behind").rglob(".fuse_hidden*")))
    assert [path for path in (tmp_path / "behind").rglob("*") if path.is_file() and path.stat().st_size] == []
    assert cache.put(content, 0, data) == BLOCK_BYTES
    other = BlockCache(caches[1], scope="test", metrics=Metrics())
    assert other.missing(content, [0]) == []


def test_what_one_host_makes_and_holds_the_other_leaves(hosts: Sequence[Mount], caches: Sequence[Path]) -> None:
    """What a host has open is shown to the other, whose locks it cannot see, and is not taken for a dead one's."""
    read_all(hosts[0], NAMES[:1])
    [folder] = content_folders(caches[0])
    until(lambda: folder.name in {one.content_id for one in all_held(folder_at(caches[0]))})
    assert folder.name in {one.content_id for one in all_held(folder_at(caches[1]))}
    assert folder.name in {one.content_id for one in all_held(folder_at(caches[0]))}

"""The real release's list of files, five versions of it: what looking at everything costs."""

import subprocess
import time
from collections.abc import Iterator

import pytest

from benchmarks.listing import make_store
from tests.dataset.real_list import PROJECT, RELEASES
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import MemoryStore
from tests.fixtures_mount import Mount, Mounts


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    """Five versions with 4,298 files each, about a third of them changed from one to the next."""
    return make_store()


@pytest.fixture
def server(store: MemoryStore) -> Iterator[FakeS3Server]:
    """A server of them."""
    with FakeS3Server(store) as server:
        yield server


def list_everything(mount: Mount) -> tuple[int, float]:
    """How many lines `ls -lR` prints, and the seconds it takes."""
    begun = time.monotonic()
    done = subprocess.run(["ls", "-lR", mount.path], capture_output=True, check=True)
    return done.stdout.count(b"\n"), time.monotonic() - begun


def test_requests_of_ls(mounts: Mounts, server: FakeS3Server, store: MemoryStore) -> None:
    """`ls -lR` of 5 x 4,298 files asks for the manifests and pages of 1,000 versions once, and never again.

    Neither does it after a remount.
    """
    pages = -(-sum(1 for _ in store.versions(f"{PROJECT}/")) // 1000)
    mount = mounts(server.endpoint_url)
    lines, seconds = list_everything(mount)
    assert lines > 6 * 4298
    assert server.count() <= 3 + len(RELEASES) + pages
    server.forget_requests()
    again = list_everything(mount)
    assert again[0] == lines
    mount.umount()
    mount.mount()
    remounted = list_everything(mount)
    assert remounted[0] == lines
    assert server.count() == 0
    print(f"ls -lR, {lines} lines: first {seconds:.2f} s, again {again[1]:.2f} s, remounted {remounted[1]:.2f} s")


def test_looking_in_other_ways(mounts: Mounts, server: FakeS3Server) -> None:
    """find, du and globs over a whole version ask for nothing, either."""
    mount = mounts(server.endpoint_url)
    server.forget_requests()
    version = mount.path / "manifests" / "v0.4.0"
    for command in (["find", ".", "-size", "+1G", "-newer", "."], ["du", "-s", "."], ["du", "-sb", "."]):
        subprocess.run(command, cwd=version, capture_output=True, check=True)
    assert sum(1 for _ in version.glob("behavior_ecephys_sessions/*/*.nwb")) > 800
    assert server.count() == 0

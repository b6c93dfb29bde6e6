"""Programs that read files larger than the cache: what is fetched ahead evicts nothing unread."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mounts, until

MIB = 1 << 20
SIZE = 60 * MIB
NAMES = ["ecephys_sessions/ecephys_session_1.nwb", "ecephys_sessions/ecephys_session_2.nwb"]


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of two sessions of 60 MiB."""
    with serve({"0.1.0": {name: Pattern(SIZE, seed=seed) for seed, name in enumerate(NAMES)}}) as server:
        yield server


@pytest.mark.parametrize("readers", [1, 2])
@pytest.mark.parametrize("cache_size", ["4M", "16M", "48M"])
def test_a_file_larger_than_the_cache_comes_once(
    mounts: Mounts, server: FakeS3Server, cache_size: str, readers: int
) -> None:
    """60 MiB, read by `cat`: each byte once. Two of them share what memory remembers, and little comes twice."""
    mount = mounts(server.endpoint_url, "--cache-size", cache_size)
    server.forget_requests()
    programs = [
        subprocess.Popen(["cat", mount.path / name], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for name in NAMES[:readers]
    ]
    assert [program.communicate(timeout=60)[1] for program in programs] == [b""] * readers
    print(f"{server.body_bytes / MIB:.1f} MiB fetched in {server.count('get_range')} requests")
    assert server.body_bytes - readers * SIZE <= (readers - 1) * SIZE // 10


def test_a_program_that_rests(mounts: Mounts, server: FakeS3Server) -> None:
    """What came ahead of it is there when it goes on, although another program has read 60 MiB meanwhile."""
    mount = mounts(server.endpoint_url, "--cache-size", "4M")
    server.forget_requests()
    with (mount.path / NAMES[0]).open("rb") as file:
        assert len(file.read(8 * MIB)) == 8 * MIB
        until(lambda: server.body_bytes >= 20 * MIB)
        assert len((mount.path / NAMES[1]).read_bytes()) == SIZE
        assert len(file.read()) == SIZE - 8 * MIB
    print(f"{server.body_bytes / MIB:.1f} MiB fetched in {server.count('get_range')} requests")
    assert server.body_bytes - 2 * SIZE <= SIZE // 10

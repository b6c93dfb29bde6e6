"""What a real daemon takes of memory, and how it asks for long files."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.certificates import Certificate, make_certificate
from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mounts

MIB = 1 << 20
LIMIT_BYTES = 64 * MIB
READERS = 64
STEPS = 4
NOISE = random.Random(1).randbytes(8 * MIB + 1)


class Repeated(Pattern):
    """Noise again and again, with a period that no block has: quick to serve."""

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self.size_bytes)
        first = start % len(NOISE)
        copies = -(-(first + stop - start) // len(NOISE))
        return (NOISE * copies)[first : first + stop - start]


FILES = {f"ecephys_sessions/ecephys_session_{n}.nwb": Repeated(50 * MIB, seed=n) for n in range(8)}


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """What the server shows over TLS."""
    return make_certificate(tmp_path, "IP:127.0.0.1", "DNS:localhost")


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest, certificate: Certificate) -> Iterator[FakeS3Server]:
    """A server of eight sessions, each named as another object; without and with TLS."""
    dataset = FakeDataset()
    entries = {}
    for number, (name, data) in enumerate(FILES.items()):
        version_id = dataset.store.put(f"{dataset.project}/{name}", data)
        url = f"https://{dataset.store.bucket}.s3.us-west-2.amazonaws.com/{dataset.project}/{name}"
        entries[name] = {"url": url, "version_id": version_id, "file_hash": f"{number:0128x}"}
    dataset.publish_entries("0.1.0", entries)
    with FakeS3Server(
        dataset.store, tls=certificate.server_context() if request.param == "https" else None
    ) as server:
        yield server


def anonymous_bytes(pid: int) -> int:
    """What a process has taken for itself: the pages of files that it has mapped are the kernel's to drop."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) << 10


def test_64_readers_keep_within_the_limit(mounts: Mounts, server: FakeS3Server, certificate: Certificate) -> None:
    """64 readers of cold bytes, half in a row and half at random: at most a quarter above `--memory-limit`.

    Their connections' own buffers included, with TLS as without.
    """
    mount = mounts(server.endpoint_url, "--memory-limit", "64M", "--ca-bundle", str(certificate.path))
    pid = mount.status()["pid"]
    before, most = anonymous_bytes(pid), [0]
    names = sorted(FILES)

    def work(number: int) -> None:
        order, name = random.Random(number), names[number % len(names)]
        region = number // len(names) * 6 * MIB
        with open(mount.path / name, "rb", buffering=0) as file:
            for step in range(STEPS):
                at = region + (step * MIB if number % 2 else order.randrange(5 * MIB))
                assert_bytes(name, at, file.seek(at) == at and file.read(MIB))
                most[0] = max(most[0], anonymous_bytes(pid))

    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(work, range(READERS)))
    assert most[0] - before <= LIMIT_BYTES * 1.25


def test_16_readers_in_a_row_keep_within_the_limit(
    mounts: Mounts, server: FakeS3Server, certificate: Certificate
) -> None:
    """Each reads half a file, with all that is fetched ahead for it by 24 connections: the limit holds."""
    mount = mounts(server.endpoint_url, "--memory-limit", "64M", "--ca-bundle", str(certificate.path))
    pid = mount.status()["pid"]
    before, most = anonymous_bytes(pid), [0]
    names = sorted(FILES)

    def work(number: int) -> None:
        name, start = names[number // 2], number % 2 * 25 * MIB
        with open(mount.path / name, "rb", buffering=0) as file:
            file.seek(start)
            for at in range(start, start + 25 * MIB, MIB):
                assert_bytes(name, at, file.read(MIB))
                most[0] = max(most[0], anonymous_bytes(pid))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert most[0] - before <= LIMIT_BYTES * 1.25


def assert_bytes(name: str, at: int, data: bytes | bool) -> None:
    assert isinstance(data, bytes)
    assert data
    assert data == FILES[name][at : at + len(data)]


@pytest.fixture
def long_server() -> Iterator[FakeS3Server]:
    """A server of one session of 200 MB."""
    dataset = FakeDataset()
    data = Repeated(200_000_000)
    dataset.publish("0.1.0", {"ecephys_sessions/long.nwb": data})
    with FakeS3Server(dataset.store) as server:
        yield server


def test_one_reader_of_a_long_file(mounts: Mounts, long_server: FakeS3Server) -> None:
    """200 MB in a row: every byte right, fetched once, by GETs that are several blocks long."""
    mount = mounts(long_server.endpoint_url)
    data, at = Repeated(200_000_000), 0
    with open(mount.path / "ecephys_sessions/long.nwb", "rb", buffering=0) as file:
        while piece := file.read(4 * MIB):
            assert piece == data[at : at + len(piece)]
            at += len(piece)
    assert at == len(data)
    ranges = [r for r in long_server.requests if r.kind == "get_range" and "long" in r.key]
    fetched = sum(length(r.headers["range"]) for r in ranges)
    assert fetched <= len(data) * 1.05
    assert len(ranges) < len(data) / (1 * MIB)


def length(header: str) -> int:
    first, last = map(int, header.removeprefix("bytes=").split("-"))
    return last - first + 1

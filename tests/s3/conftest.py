"""A server with a small object and a large one, and a client of it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.fakes.certificates import Certificate, make_certificate
from tests.fakes.s3_server import (
    FakeS3Server,
)
from tests.fakes.store import MemoryStore
from tests.s3.asking import BIG, BIG_SIZE, DATA, KEY, VERSION, open_client
from vbnfs.metrics import Metrics
from vbnfs.s3.client import S3Client


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    made.put(KEY, DATA, version_id=VERSION.version_id)
    made.put(BIG.key, bytes(BIG_SIZE), version_id=BIG.version_id)
    return made


@pytest.fixture
def server(store: MemoryStore) -> Iterator[FakeS3Server]:
    with FakeS3Server(store) as running:
        yield running


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def client(server: FakeS3Server, metrics: Metrics) -> AsyncIterator[S3Client]:
    async with open_client(server.endpoint_url, metrics=metrics) as opened:
        yield opened


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    directory = tmp_path_factory.mktemp("certificate")
    return make_certificate(
        directory,
        *("IP:127.0.0.1", "IP:::1", "DNS:localhost", "DNS:s3.example"),
        *("DNS:*.s3.us-west-2.amazonaws.com", "DNS:s3.us-west-2.amazonaws.com"),
    )

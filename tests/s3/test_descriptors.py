"""No file can be opened any more: how it is found out, what it is called, and that it is no word about the server."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog
import trio
from trio.testing import MockClock

from tests.fakes.client import MemoryClient
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import MemoryStore
from tests.open_files import open_files
from vbnfs.errors import NoDescriptorError, OfflineError, TransportError
from vbnfs.host import descriptors
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ObjectVersion, Piece, RangeRequest
from vbnfs.s3.breaker import BreakerClient
from vbnfs.s3.client import S3Client

VERSION = ObjectVersion("data/file.nwb", "first")
DATA = bytes(range(256)) * 40


@contextmanager
def no_more_files() -> Iterator[None]:
    """Nothing can be opened in here."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)  # takes the lowest one
    os.close(free)
    # Not 0: poll(2) takes no more descriptors than may be open, and other threads poll for a few.
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(free, 8), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_it_is_tried() -> None:
    """That there are none is found out by opening some, which leaves none open."""
    before = open_files()
    assert descriptors.are_left()
    with no_more_files():
        assert not descriptors.are_left()
    assert open_files() == before


def test_another_error_is_not_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the question itself fails in another way, nothing is blamed on descriptors."""

    def refused(*_: int) -> int:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(os, "eventfd", refused)
    assert descriptors.are_left()


async def test_a_connection_that_cannot_be_opened() -> None:
    """It is called by its name, with one warning however often; with descriptors again the question is answered."""
    store = MemoryStore()
    store.put(VERSION.key, DATA, version_id=VERSION.version_id)
    received = bytearray()

    async def receive(piece: Piece) -> None:
        received.extend(piece.data)

    with FakeS3Server(store) as server:
        async with S3Client(
            bucket=store.bucket,
            region="us-west-2",
            endpoint_url=server.endpoint_url,
            ca_bundle=None,
            max_connections=4,
            metrics=Metrics(),
        ) as client:

            async def fetch() -> None:
                await client.get_range(RangeRequest(VERSION, ByteRange(0, len(DATA)), len(DATA)), receive)

            with structlog.testing.capture_logs() as logs, no_more_files():
                for question in (fetch, fetch, client.reach):
                    with pytest.raises(NoDescriptorError, match="too many open files"):
                        await question()
            assert [(line["log_level"], line["reason"]) for line in logs] == [("warning", "too many open files")]
            await fetch()
            assert received == DATA


async def test_it_is_no_word_about_the_server(autojump_clock: MockClock) -> None:
    """It does not make a client offline; and a client that is offline does not take it for an answer."""
    inner = MemoryClient(MemoryStore())
    client = BreakerClient(inner)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.watch)
        crowded = NoDescriptorError("too many open files")
        inner.fail_when(lambda request: crowded)
        with pytest.raises(NoDescriptorError):
            await client.head(VERSION)
        assert await client.probe()
        client.suspect()
        await trio.sleep(30)
        assert not client.is_offline

        inner.heal()
        inner.fail_when(lambda request: TransportError("connection refused"))
        client.suspect()
        await trio.sleep(30)
        assert client.is_offline
        inner.heal()
        inner.fail_when(lambda request: crowded)
        await trio.sleep(30)
        with pytest.raises(OfflineError):
            await client.head(VERSION)

        inner.heal()
        await trio.sleep(5)
        assert not client.is_offline
        nursery.cancel_scope.cancel()

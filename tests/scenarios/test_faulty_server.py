"""Sixteen readers of a server of which every tenth answer is a fault of some kind: no wrong byte, no error."""

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Final, cast

import pytest
import trio

from tests.fakes.client import MemoryClient
from tests.fakes.s3_server import RANGE_IGNORED, Behaviour, FakeS3Server, Reply, Request, always, error, header
from tests.fakes.store import MemoryStore, Pattern
from tests.reading.bench import KIB, MIB, Bench, add, bench
from vbnfs.access.opening import make_client, make_reading_client
from vbnfs.config.sources import load_config
from vbnfs.metrics import Metrics
from vbnfs.objects import Content

SEED: Final = 20_240_613
READERS: Final = 16
FILE_BYTES: Final = 13 * MIB
FAULTY: Final = 0.1
READ_BYTES: Final = 128 * KIB


def _shifted(request: Request, honest: Reply) -> Reply:
    """The bytes beside those asked for, announced as such."""
    return honest.with_headers(Content_Range=honest.headers["Content-Range"].replace("bytes ", "bytes 1"))


FAULTS: Final[dict[str, Behaviour]] = {
    "503": always(error(503, "SlowDown")),
    "500": always(error(500, "InternalError")),
    "429": always(error(429, "TooManyRequests", Retry_After="1")),
    "no head": always(Reply(raw=b"")),
    "torn": lambda request, honest: replace(honest, cut=len(honest.body) // 3),
    "truncated": lambda request, honest: Reply(206, honest.headers, honest.body[:-9], cut=len(honest.body)),
    "stall": lambda request, honest: replace(honest, gate=threading.Event(), gate_after=len(honest.body) // 2),
    "no answer": lambda request, honest: replace(honest, gate=threading.Event()),
    "whole object": RANGE_IGNORED,
    "shifted": _shifted,
    "another version": header(x_amz_version_id="another"),
    "garbage": always(Reply(raw=b"\0\1\2 no HTTP \r\n\r\n" * 10)),
}


class Faults:
    """Every tenth answer is a fault. Which, depends on the seed, the range, and how often it was asked for."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, request: Request, honest: Reply) -> Reply | None:
        if request.kind != "get_range":
            return None
        asked = f"{request.key} {request.headers['range']}"
        with self._lock:
            self._asked[asked] += 1
            chance = Random(f"{SEED} {asked} {self._asked[asked]}")
            if chance.random() >= FAULTY:
                return None
            fault = chance.choice(sorted(FAULTS))
            self.seen[fault] += 1
        return FAULTS[fault](request, honest)


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    with FakeS3Server(MemoryStore("data-bucket")) as running:
        yield running


async def _read_all(floor: Bench, content: Content, expected: bytes, order: Random | None) -> None:
    """Read a file once, from its start to its end or in a random order."""
    reader = floor.open(content)
    offsets = list(range(0, content.size_bytes, READ_BYTES))
    if order is not None:
        order.shuffle(offsets)
    for offset in offsets:
        with trio.fail_after(30):
            assert await reader.read(offset, READ_BYTES) == expected[offset : offset + READ_BYTES]


async def test_faults_of_all_kinds_go_unnoticed(server: FakeS3Server, tmp_path: Path) -> None:
    """200 MB by 16 readers, half of them in random order, while 10 % of the requests fail in a mix of all faults."""
    files = {f"file-{number}": Pattern(FILE_BYTES + number) for number in range(READERS)}
    contents = {name: add(server.store, name, data) for name, data in files.items()}
    faults, metrics = Faults(), Metrics()
    server.behaviours.append(faults)
    texts = {"endpoint_url": server.endpoint_url, "bucket": "data-bucket"}
    config = load_config(command_line=texts, environ={})
    async with make_client(config, metrics) as link, trio.open_nursery() as background:
        background.start_soon(link.watch)
        client, _ = make_reading_client(config, link, metrics)
        async with bench(tmp_path, client=cast(MemoryClient, client)) as floor, trio.open_nursery() as readers:
            for number, (name, data) in enumerate(files.items()):
                order = Random(f"{SEED} {number}") if number % 2 else None
                readers.start_soon(_read_all, floor, contents[name], data[: len(data)], order)
        background.cancel_scope.cancel()
    assert len(faults.seen) >= len(FAULTS) - 2, faults.seen
    assert faults.seen.total() >= 30
    assert metrics.hedged_requests > 0
    assert link.is_offline is False

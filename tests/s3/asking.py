"""What the tests of the client ask for, of which server, and what that answers wrongly."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio
import trio.testing

from tests.fakes.s3_server import (
    FakeS3Server,
    Reply,
)
from tests.fakes.store import Pattern
from tests.fixtures_receiving import ReadyClient
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ObjectVersion, Piece, RangeRequest
from vbnfs.s3.client import S3Client

KEY: Final = "data/file.nwb"
SIZE: Final = 100_000
DATA: Final = Pattern(SIZE)[:]
VERSION: Final = ObjectVersion(KEY, "first-version-id")
CURRENT: Final = ObjectVersion(KEY, None)
BIG: Final = ObjectVersion("data/big.nwb", "big-version-id")
BIG_SIZE: Final = 32 << 20  # more than the buffers of a connection take
RANGE: Final = ByteRange(10, 60_010)


def open_client(
    endpoint_url: str | None,
    *,
    bucket: str = "data-bucket",
    ca_bundle: Path | None = None,
    max_connections: int = 4,
    metrics: Metrics | None = None,
) -> S3Client:
    return ReadyClient(
        bucket=bucket,
        region="us-west-2",
        endpoint_url=endpoint_url,
        ca_bundle=ca_bundle,
        max_connections=max_connections,
        metrics=metrics or Metrics(),
    )


class Received:
    """A `receive` that keeps what it is given."""

    def __init__(self) -> None:
        self.data = b""

    async def __call__(self, piece: Piece) -> None:
        self.data += piece.data


async def fetch(
    client: S3Client,
    received: Received,
    version: ObjectVersion = VERSION,
    byte_range: ByteRange = RANGE,
    size_bytes: int = SIZE,
) -> None:
    await client.get_range(RangeRequest(version, byte_range, size_bytes), received)


async def ask(client: S3Client, kind: str) -> object:
    """A request of the kind, answered honestly or not."""
    if kind == "get_range":
        await fetch(client, received := Received())
        return received.data
    if kind == "head":
        return await client.head(VERSION)
    if kind == "get_object":
        return await client.get_object(KEY, max_bytes=SIZE)
    return await client.list_objects("") if kind == "list_objects" else await client.list_versions("")


KINDS: Final = ("get_range", "head", "get_object", "list_objects", "list_versions")


async def wait_until(server: FakeS3Server, condition: Callable[[FakeS3Server], bool]) -> None:
    await trio.to_thread.run_sync(server.wait_until, condition)


def raw_range(body: bytes, *headers: str) -> Reply:
    head = "\r\n".join(["HTTP/1.1 206 Partial Content", f"Content-Range: bytes 10-60009/{SIZE}", *headers])
    return Reply(raw=head.encode() + b"\r\n\r\n" + body)


WANTED: Final = DATA[RANGE.start : RANGE.stop]
ROW: Final = "<Key>a</Key><LastModified>2023-01-01T00:00:00.000Z</LastModified><Size>1</Size>"


def listing(*rows: str, root: str = "ListBucketResult", head: str = "", attributes: str = "") -> Reply:
    return Reply(200, {}, f"<{root}{attributes}>{head}{''.join(rows)}</{root}>".encode())

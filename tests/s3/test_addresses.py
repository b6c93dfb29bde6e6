"""Which address an object has, whatever its key."""

import pytest

from tests.fakes.s3_server import (
    FakeS3Server,
    header,
)
from tests.fakes.store import MemoryStore
from tests.s3.asking import KEY, RANGE, SIZE, Received, ask, fetch, open_client
from vbnfs.errors import (
    ObjectGoneError,
    StorageError,
    TransportError,
)
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ObjectVersion, RangeRequest
from vbnfs.partitions import partition_of
from vbnfs.s3.addresses import aws_base, object_url, partition_at
from vbnfs.s3.client import S3Client


async def test_a_key_that_makes_no_url_is_a_failure_like_others(client: S3Client, metrics: Metrics) -> None:
    """A hostile manifest can name one that httpx refuses: the error is ours, and counted."""
    key = "x" * 70_000
    with pytest.raises(TransportError, match="URL too long"):
        await client.get_range(RangeRequest(ObjectVersion(key, None), RANGE, SIZE), Received())
    assert metrics.failed_requests == 1


async def test_an_endpoint_may_have_a_path(server: FakeS3Server) -> None:
    """A gateway below a path is asked below it, for objects and listings."""
    async with open_client(f"{server.endpoint_url}/gateway/s3") as client:
        for kind in ("head", "list_objects"):
            with pytest.raises(ObjectGoneError):
                await ask(client, kind)
    assert [request.path for request in server.requests] == [
        f"/gateway/s3/data-bucket/{KEY}",
        "/gateway/s3/data-bucket",
    ]


@pytest.mark.parametrize(
    "key",
    ["../../other-bucket/secret", "a/./b/../c", "..", ".", "a//b/", "a\r\nX-Evil: 1\r\n\r\n", "a?versionId=1#x"],
)
async def test_a_key_stays_a_key(server: FakeS3Server, client: S3Client, store: MemoryStore, key: str) -> None:
    """No character of a key leaves the bucket, adds a header or becomes part of the query."""
    version_id = store.put(key, key.encode(), version_id="an&id=1?/\r\nX-Evil: 2")
    received = Received()
    version = ObjectVersion(key, version_id)
    server.behaviours.append(header(x_amz_version_id=""))  # this one cannot stand in a header
    await fetch(client, received, version, ByteRange(0, len(key)), len(key))
    assert received.data == key.encode()
    [request] = server.requests
    assert request.query == {"versionId": version_id}
    assert "x-evil" not in request.headers


async def test_a_key_that_is_no_text_is_an_error_of_ours(client: S3Client) -> None:
    """A manifest can hold half of a surrogate pair: no object has such a name, and nothing breaks."""
    with pytest.raises(StorageError):
        await client.head(ObjectVersion("data/\ud800", "\udfff"))


async def test_an_address_that_is_too_long_is_an_error_of_ours(client: S3Client) -> None:
    """What httpx refuses to ask for is a storage error, too."""
    with pytest.raises(StorageError):
        await client.head(ObjectVersion("x" * 100_000, None))


def test_the_address_at_aws_is_virtual_hosted() -> None:
    """The address of an object version, as it is shown to people."""
    url = object_url(aws_base("data-bucket", "us-west-2"), ObjectVersion("a b/c+d.nwb", "id/1"))
    assert url == "https://data-bucket.s3.us-west-2.amazonaws.com/a%20b/c%2Bd.nwb?versionId=id%2F1"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        *[(f"https://s3{host}.amazonaws.com", "aws") for host in ("", ".us-west-2", ".dualstack.us-west-2")],
        ("https://s3-fips.dualstack.us-east-1.amazonaws.com", "aws"),
        *[(f"https://s3{host}.us-gov-west-1.amazonaws.com", "aws-us-gov") for host in ("", ".dualstack", "-fips")],
        ("https://s3.cn-north-1.amazonaws.com.cn", "aws-cn"),
        ("https://s3.dualstack.cn-northwest-1.amazonaws.com.cn/", "aws-cn"),
        ("https://s3.eusc-de-east-1.amazonaws.eu", "aws-eusc"),
        ("https://s3-fips.us-iso-east-1.c2s.ic.gov", "aws-iso"),
        ("https://s3.us-isob-east-1.sc2s.sgov.gov", "aws-iso-b"),
        ("https://s3.dualstack.eu-central-1.amazonaws.com:443", "aws"),
        ("HTTPS://S3.DUALSTACK.US-WEST-2.AMAZONAWS.COM/", "aws"),
        ("https://s3.us-west-2.amazonaws.com.cn", None),
        ("https://s3.cn-north-1.amazonaws.com", None),
        ("https://s3.amazonaws.com.cn", None),
        ("http://s3.dualstack.us-west-2.amazonaws.com", None),
        ("https://s3.dualstack.us-west-2.amazonaws.com:8443", None),
        ("https://s3.dualstack.us-west-2.amazonaws.com/path", None),
        ("https://s3.dualstack.us-west-2.amazonaws.com.evil.example", None),
        ("https://evil-s3.dualstack.us-west-2.amazonaws.com", None),
        ("https://bucket.s3.dualstack.us-west-2.amazonaws.com", None),
        ("https://s3.us-west-2.amazonaws.example", None),
    ],
)
def test_amazon_s3_by_its_hosts(url: str, expected: str | None) -> None:
    """Hosts that AWS documents for Amazon S3, by https: a partition's have the same buckets, another one's others."""
    found = partition_at(url)
    assert (found and found.name) == expected


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-west-2", "s3.us-west-2.amazonaws.com"),
        ("us-gov-east-1", "s3.us-gov-east-1.amazonaws.com"),
        ("cn-north-1", "s3.cn-north-1.amazonaws.com.cn"),
        ("eusc-de-east-1", "s3.eusc-de-east-1.amazonaws.eu"),
        ("us-iso-west-1", "s3.us-iso-west-1.c2s.ic.gov"),
        ("us-isob-east-1", "s3.us-isob-east-1.sc2s.sgov.gov"),
        ("eu-isoe-west-1", "s3.eu-isoe-west-1.cloud.adc-e.uk"),
        ("us-isof-south-1", "s3.us-isof-south-1.csp.hci.ic.gov"),
    ],
)
def test_a_region_has_its_partitions_host(region: str, host: str) -> None:
    """Without an endpoint, each region is asked in its own partition's domain; a host of it is in the partition."""
    assert aws_base("data-bucket", region) == f"https://data-bucket.{host}"
    assert aws_base("data.bucket", region) == f"https://{host}/data.bucket"
    assert partition_at(f"https://{host}") == partition_of(region)

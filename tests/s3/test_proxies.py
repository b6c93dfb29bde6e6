"""Which proxy is used, for ranges and for all else."""

import pytest

from tests.fakes.certificates import Certificate
from tests.fakes.s3_server import (
    FakeS3Server,
)
from tests.fakes.store import MemoryStore
from tests.s3.asking import DATA, KEY, SIZE, VERSION, WANTED, Received, fetch, open_client
from vbnfs.errors import (
    TransportError,
    UsageError,
)


@pytest.mark.parametrize(
    ("bucket", "host", "path"),
    [
        ("data-bucket", "data-bucket.s3.us-west-2.amazonaws.com", "/data/file.nwb"),
        ("data.bucket", "s3.us-west-2.amazonaws.com", "/data.bucket/data/file.nwb"),
    ],
)
async def test_aws_is_asked_by_the_buckets_own_name(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch, bucket: str, host: str, path: str
) -> None:
    """At AWS the bucket is part of the host's name, but for dots in it, which AWS's certificate does not cover.

    HTTPS goes through the proxy of HTTPS_PROXY, which here ends the tunnel itself.
    """
    store = MemoryStore(bucket)
    store.put(KEY, DATA, version_id=VERSION.version_id)
    received = Received()
    with FakeS3Server(store, tunnel_tls=certificate.server_context()) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.endpoint_url)
        async with open_client(None, bucket=bucket, ca_bundle=certificate.path) as client:
            await fetch(client, received)
            assert [row.version for row in await client.list_versions("")] == [VERSION]
    assert received.data == WANTED
    assert (server.requests[0].headers["host"], server.requests[0].path) == (host, path)


@pytest.mark.parametrize("endpoint_url", ["http://s3.example:8333", "http://[2001:db8::1]:8333"])
async def test_http_proxy_is_honoured(
    server: FakeS3Server, monkeypatch: pytest.MonkeyPatch, endpoint_url: str
) -> None:
    """Plain HTTP goes through the proxy of HTTP_PROXY, which is told the server's name or IPv6 address."""
    monkeypatch.setenv("HTTP_PROXY", server.endpoint_url)
    received = Received()
    async with open_client(endpoint_url) as client:
        await fetch(client, received)
    assert received.data == WANTED
    assert server.requests[0].headers["host"] == endpoint_url.removeprefix("http://")


async def test_reaching_a_server_means_reaching_its_proxy(
    server: FakeS3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a proxy it is the proxy that is connected to, unless NO_PROXY names the server."""
    monkeypatch.setenv("HTTP_PROXY", server.endpoint_url)
    async with open_client("http://server.invalid") as client:
        await client.reach()
    monkeypatch.setenv("NO_PROXY", "server.invalid")
    async with open_client("http://server.invalid") as client:
        with pytest.raises(TransportError, match=r"server\.invalid:80"):
            await client.reach()


async def test_no_proxy_is_honoured(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts named in NO_PROXY are asked without the proxy, which here would answer nothing."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with open_client(server.endpoint_url) as client:
        assert (await client.head(VERSION)).size_bytes == SIZE


@pytest.mark.parametrize("proxy", ["ftp://proxy.example", "http://[::1"])
def test_an_unusable_proxy_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """A proxy variable that cannot be used is told at once, by name."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(UsageError, match="HTTPS_PROXY"):
        open_client(None)

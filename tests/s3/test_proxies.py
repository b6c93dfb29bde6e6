"""Which proxy is used, for ranges and for all else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.certificates import Certificate
from tests.fakes.s3_server import (
    FakeS3Server,
)
from tests.fakes.socks_proxy import SocksProxy
from tests.fakes.store import MemoryStore
from tests.s3.asking import DATA, KEY, SIZE, VERSION, WANTED, Received, ask, fetch, open_client
from vbnfs.errors import (
    TransportError,
    UsageError,
)
from vbnfs.s3.proxies import is_excepted, proxy_for


@pytest.mark.usefixtures("receiving")
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


@pytest.mark.usefixtures("receiving")
@pytest.mark.parametrize("endpoint_url", ["http://s3.example:8333", "http://[2001:db8::1]:8333"])
async def test_http_proxy_is_honoured(
    server: FakeS3Server, monkeypatch: pytest.MonkeyPatch, endpoint_url: str
) -> None:
    """Plain HTTP goes through the proxy of HTTP_PROXY, which gets the server's name or IPv6 address."""
    monkeypatch.setenv("HTTP_PROXY", server.endpoint_url)
    received = Received()
    async with open_client(endpoint_url) as client:
        await fetch(client, received)
    assert received.data == WANTED
    assert server.requests[0].headers["host"] == endpoint_url.removeprefix("http://")


@pytest.mark.usefixtures("receiving")
async def test_a_socks_proxy_is_honoured(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """ALL_PROXY may name a SOCKS proxy: ranges, all else and reaching the server go through it."""
    received = Received()
    with SocksProxy() as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        async with open_client(server.endpoint_url) as client:
            await fetch(client, received)
            assert len(proxy.asked) == 1
            assert (await client.head(VERSION)).size_bytes == SIZE
            assert len(proxy.asked) == 2
            await client.reach()
    assert received.data == WANTED
    assert {host for host, _ in proxy.asked} == {"127.0.0.1"}


async def test_a_proxy_that_refuses_is_a_failure_of_the_network(
    monkeypatch: pytest.MonkeyPatch, server: FakeS3Server
) -> None:
    """A proxy that makes no tunnel, and one that is not there, are worth another try, for ranges and for all else."""
    for proxy in (server.endpoint_url, "http://127.0.0.1:1", "http://no-such-proxy.invalid"):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        async with open_client(None) as client:
            for kind in ("get_range", "head"):
                with pytest.raises(TransportError):
                    await ask(client, kind)
    assert server.count("get_range") == server.count("head") == 0


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
        assert await ask(client, "get_range") == WANTED
        assert (await client.head(VERSION)).size_bytes == SIZE
        await client.reach()


@pytest.mark.parametrize("proxy", ["ftp://proxy.example", "http://[::1"])
def test_an_unusable_proxy_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """A proxy variable that cannot be used is an error at once, which names it."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(UsageError, match="HTTPS_PROXY"):
        open_client(None)


@pytest.mark.parametrize(
    ("exceptions", "is_there"),
    [
        *[(text, True) for text in ("*", "b.example", ".b.example", "*.b.example", "a.b.example", "A.B.EXAMPLE")],
        *[(text, True) for text in ("x, b.example", "x b.example", "a.b.example:8333", "b.example:8333", "example.")],
        *[
            (text, False)
            for text in ("", ",", "c.b.example", "xb.example", "a.b.example:80", "a.b", "10.0.0.0/8", "/")
        ],
    ],
)
def test_names_without_a_proxy(exceptions: str, is_there: bool) -> None:
    """NO_PROXY names a host, or a domain above it, with a port or without."""
    assert is_excepted("a.b.example", 8333, exceptions) == is_there


@pytest.mark.parametrize(
    ("host", "exceptions", "is_there"),
    [
        *[
            ("10.1.2.3", text, True)
            for text in ("10.1.2.3", "10.1.2.3:80", "10.0.0.0/8", "10.1.2.3/32", "x,10.1/16,*")
        ],
        *[("10.1.2.3", text, False) for text in ("10.1.2.4", "1.2.3", "2.3", "11.0.0.0/8", "10.1.2.3/33", "::/0")],
        *[("2001:db8::1", text, True) for text in ("2001:db8::1", "[2001:db8::1]", "2001:DB8:0::1", "2001:db8::/32")],
        *[("2001:db8::1", text, False) for text in ("2001:db8::2", "::1", "10.0.0.0/8", "[2001:db8::1]:81")],
    ],
)
def test_addresses_without_a_proxy(host: str, exceptions: str, is_there: bool) -> None:
    """NO_PROXY names an address, in any way to write it, or a network (CIDR, RFC 4632)."""
    assert is_excepted(host, 80, exceptions) == is_there


@given(st.text(), st.text(), st.integers(1, 65535))
def test_any_exceptions_are_read(host: str, exceptions: str, port: int) -> None:
    """Whatever stands in NO_PROXY, it is read; what does not name the host changes nothing."""
    answer = is_excepted(host, port, exceptions)
    assert is_excepted(host, port, f"{exceptions},elsewhere.example") in {answer, host.endswith("elsewhere.example")}


def test_a_proxy_without_a_scheme_is_an_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY may be a host and a port alone; the variable of the scheme comes before ALL_PROXY."""
    monkeypatch.setenv("ALL_PROXY", "socks5://all:1080")
    monkeypatch.setenv("HTTP_PROXY", "proxy:3128")
    assert proxy_for("http://s3.example/b") == "http://proxy:3128"
    assert proxy_for("https://s3.example/b") == "socks5://all:1080"
    monkeypatch.setenv("NO_PROXY", "s3.example:443")
    assert proxy_for("https://s3.example/b") is None
    assert proxy_for("http://s3.example/b") == "http://proxy:3128"

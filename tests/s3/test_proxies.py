"""Which proxy is used, for ranges and for all else."""

import math
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.certificates import Certificate
from tests.fakes.http_proxy import HttpProxy
from tests.fakes.s3_server import FakeS3Server, always, error
from tests.fakes.socks_proxy import SocksProxy
from tests.fakes.store import MemoryStore
from tests.s3.asking import DATA, KEY, SIZE, VERSION, WANTED, Received, ask, fetch, open_client
from vbnfs.errors import (
    AccessDeniedError,
    BusyError,
    ProxyDeniedError,
    ProxyError,
    ProxyLoginError,
    StorageError,
    TransportError,
    UsageError,
    with_remedy,
)
from vbnfs.s3 import curl_options
from vbnfs.s3.client import S3Client
from vbnfs.s3.proxies import is_excepted, proxy_for

HTTP: Final = "http://s3.example/b"
HTTPS: Final = "https://s3.example/b"
BOTH_CLIENTS: Final = ("get_range", "head")


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


async def test_a_proxy_that_refuses_is_a_failure_of_the_network(
    monkeypatch: pytest.MonkeyPatch, server: FakeS3Server
) -> None:
    """A proxy that makes no tunnel, and one that is not there, are worth another try, for ranges and for all else.

    The message names the proxy and its variable, and the server is not blamed.
    """
    for proxy in (server.endpoint_url, "http://127.0.0.1:1", "http://no-such-proxy.invalid:80"):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        async with open_client(None) as client:
            for kind in BOTH_CLIENTS:
                with pytest.raises(ProxyError) as caught:
                    await ask(client, kind)
                assert str(caught.value).startswith(f"the proxy {proxy} (HTTPS_PROXY) ")
                assert issubclass(ProxyError, TransportError)
    assert server.count("get_range") == server.count("head") == 0


async def test_reaching_a_server_means_reaching_its_proxy(
    server: FakeS3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a proxy it is the proxy that is connected to, unless NO_PROXY names the server."""
    for proxy in (server.endpoint_url, server.endpoint_url.removeprefix("http://")):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        async with open_client("http://server.invalid") as client:
            await client.reach()
    monkeypatch.setenv("HTTP_PROXY", "127.0.0.1:1")
    async with open_client("http://server.invalid") as client:
        with pytest.raises(ProxyError, match=r"proxy http://127\.0\.0\.1:1 \(HTTP_PROXY\) cannot be reached: Conn"):
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


@pytest.mark.parametrize(
    ("exceptions", "is_there"),
    [
        *[(text, True) for text in ("*", "b.example", ".b.example", "*.b.example", "a.b.example", "A.B.EXAMPLE")],
        *[(text, True) for text in ("x, b.example", "x b.example", "a.b.example:8333", "b.example:8333", "example.")],
        *[(text, True) for text in (",,b.example", "x\tb.example", "b.example.", ".b.example.:8333", "10.0.0.0/8,*")],
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
        *[("2001:db8::1", text, True) for text in ("[2001:db8::]/32", "[2001:DB8:0::1]:80", "x,[2001:db8::1],y")],
        *[("::1", text, True) for text in ("[::1]", "::1", "::1/128", "fe80::/10,::1", "0:0:0:0:0:0:0:1")],
        *[("fe80::1%eth0", text, True) for text in ("fe80::/10", "[fe80::]/10")],
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


# Which variable counts, and what it says


@pytest.mark.parametrize(
    ("environ", "http", "https"),
    [
        ({}, None, None),
        ({"HTTP_PROXY": "h:1", "HTTPS_PROXY": "s:2"}, "http://h:1 (HTTP_PROXY)", "http://s:2 (HTTPS_PROXY)"),
        ({"http_proxy": "h:1", "https_proxy": "s:2"}, "http://h:1 (http_proxy)", "http://s:2 (https_proxy)"),
        ({"HTTP_PROXY": "h:1", "http_proxy": "s:2"}, "http://s:2 (http_proxy)", None),
        ({"http_proxy": "", "HTTP_PROXY": "h:1"}, "http://h:1 (HTTP_PROXY)", None),
        ({"HTTP_PROXY": " ", "HTTPS_PROXY": ""}, None, None),
        ({"HTTP_PROXY": "h:1", "REQUEST_METHOD": "GET"}, None, None),
        ({"http_proxy": "h:1", "REQUEST_METHOD": "GET"}, "http://h:1 (http_proxy)", None),
        ({"ALL_PROXY": "a:1"}, "http://a:1 (ALL_PROXY)", "http://a:1 (ALL_PROXY)"),
        ({"ALL_PROXY": "a:1", "all_proxy": "b:2"}, "http://b:2 (all_proxy)", "http://b:2 (all_proxy)"),
        ({"ALL_PROXY": "a:1", "HTTPS_PROXY": "s:2"}, "http://a:1 (ALL_PROXY)", "http://s:2 (HTTPS_PROXY)"),
        ({"ALL_PROXY": "socks://127.0.0.1:7890/", "HTTPS_PROXY": "s:2", "HTTP_PROXY": "s:2"},
         "http://s:2 (HTTP_PROXY)", "http://s:2 (HTTPS_PROXY)"),
        ({"ALL_PROXY": "a:1", "NO_PROXY": "*"}, None, None),
        ({"ALL_PROXY": "a:1", "NO_PROXY": "S3.EXAMPLE."}, None, None),
        ({"ALL_PROXY": "a:1", "no_proxy": "x", "NO_PROXY": "*"}, "http://a:1 (ALL_PROXY)", "http://a:1 (ALL_PROXY)"),
        ({"ALL_PROXY": "a:1", "no_proxy": "", "NO_PROXY": ".example"}, None, None),
        ({"ALL_PROXY": "a:1", "NO_PROXY": "s3.example:443"}, "http://a:1 (ALL_PROXY)", None),
        ({"FTP_PROXY": "f:1", "SOCKS_PROXY": "f:1", "PROXY": "f:1"}, None, None),
    ],
)  # fmt: skip
def test_which_variable_counts(environ: Mapping[str, str], http: str | None, https: str | None) -> None:
    """The variables that curl reads, in its order, and none that is empty; HTTP_PROXY too, but in no CGI program."""
    found = [proxy_for(url, environ) for url in (HTTP, HTTPS)]
    assert [None if one is None else str(one) for one in found] == [http, https]


@pytest.mark.parametrize(
    ("text", "url", "name", "password"),
    [
        ("proxy.corp:3128", "http://proxy.corp:3128", b"", b""),
        ("proxy.corp", "http://proxy.corp:1080", b"", b""),
        ("http://proxy.corp:3128/", "http://proxy.corp:3128", b"", b""),
        ("http://proxy.corp:3128/path?query#part", "http://proxy.corp:3128", b"", b""),
        ("HTTP://proxy.corp:", "http://proxy.corp:1080", b"", b""),
        ("https://proxy.corp", "https://proxy.corp:443", b"", b""),
        (" http://proxy.corp:3128\r\n", "http://proxy.corp:3128", b"", b""),
        ("[2001:db8::1]:3128", "http://[2001:db8::1]:3128", b"", b""),
        ("http://[fe80::1%25eth0]:3128", "http://[fe80::1%25eth0]:3128", b"", b""),
        ("socks://127.0.0.1:7890/", "socks5h://127.0.0.1:7890", b"", b""),
        ("socks4://h", "socks4://h:1080", b"", b""),
        ("socks4a://me@h:1", "socks4a://h:1", b"me", b""),
        ("SOCKS5://h:1", "socks5://h:1", b"", b""),
        ("socks5h://me:pass@[::1]:1", "socks5h://[::1]:1", b"me", b"pass"),
        ("http://me%40corp:p%3a%2F%25@h:1", "http://h:1", b"me@corp", b"p:/%"),
        ("http://CORP%5cme:m%C3%BC%FC@h:1", "http://h:1", b"CORP\\me", b"m\xc3\xbc\xfc"),
        ("me:p@ss:word@h:1", "http://h:1", b"me", b"p@ss:word"),
        ("http://:only@h:1", "http://h:1", b"", b"only"),
        ("http://b\u00fccher.example:1", "http://xn--bcher-kva.example:1", b"", b""),
        ("http://under_score:1", "http://under_score:1", b"", b""),
    ],
)
def test_each_form_of_a_proxy(text: str, url: str, name: bytes, password: bytes) -> None:
    """What curl takes: no scheme, no port (1080, with https 443), a path; name and password with % escapes."""
    proxy = proxy_for(HTTPS, {"HTTPS_PROXY": text})
    assert proxy is not None
    assert (proxy.url, proxy.name, proxy.password) == (url, name, password)
    assert "pass" not in f"{proxy} {proxy!r}"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "ftp://proxy.example",
            "direct://",
            "socks6://h:1",
            "http://",
            "http://[::1",
            "http://[nonsense]:1",
            "::1:3128",
        ),
        *("http://h:0", "http://h:65536", "http://h:port", "http://a b:1", "http:h:1", "http://-h:1", "h:1:2"),
        *("http://me:se/cret@h:1", "http://me:12#secret@h:1", "http://me:secret@h:x", "http://me:secret%00@h:1"),
        *("socks5://localhost/run/secret.sock", f"socks5://me:secret{'x' * 255}@h:1"),
    ],
)
def test_an_unusable_proxy_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A proxy that cannot be used is an error at once, which names its variable alone, and shows no password."""
    monkeypatch.setenv("ALL_PROXY", text)
    with pytest.raises(UsageError) as caught:
        open_client(None)
    message = str(caught.value)
    assert message.startswith("ALL_PROXY: ")
    assert "HTTP_PROXY" not in message
    assert "http://HOST:PORT" in message
    assert "@" not in text or "cret" not in message


@pytest.mark.parametrize(
    ("url", "environ"),
    [
        (HTTP, {"ALL_PROXY": "nonsense://", "HTTP_PROXY": ""} | {"NO_PROXY": "s3.example"}),
        (HTTP, {"HTTPS_PROXY": "nonsense://"}),
        ("http://127.0.0.1:8333/b", {"ALL_PROXY": "nonsense://"}),
        ("http://localhost:8333/b", {"ALL_PROXY": "socks5://proxy.corp:1080"}),
        ("http://s3.localhost./b", {"HTTP_PROXY": "proxy.corp:1080"}),
        ("https://[::1]:8333/b", {"HTTPS_PROXY": "proxy.corp:1080"}),
        ("https://127.9.9.9/b", {"HTTPS_PROXY": "proxy.corp:1080"}),
    ],
)
def test_what_is_not_needed_does_not_matter(url: str, environ: Mapping[str, str]) -> None:
    """A variable that does not count is not read. A proxy elsewhere does not lead to a server on this machine."""
    assert proxy_for(url, environ) is None


# Real proxies


async def all_by(client: S3Client) -> None:
    """Have both clients ask, and reach the server."""
    await client.reach()
    assert await ask(client, "get_range") == WANTED
    assert (await client.head(VERSION)).size_bytes == SIZE
    assert [row.version for row in await client.list_versions("data/file")] == [VERSION]


@pytest.mark.usefixtures("receiving")
async def test_a_socks_proxy_is_honoured(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """ALL_PROXY may name a SOCKS proxy: ranges, all else and reaching the server go through it, if it lets us in."""
    with SocksProxy(login=(b"me", b"secret")) as proxy:
        for text in ("me:secret@", ""):
            monkeypatch.setenv("ALL_PROXY", proxy.url.replace("//", f"//{text}"))
            async with open_client(server.endpoint_url) as client:
                if text:
                    await all_by(client)
                    assert len(proxy.asked) == 3  # by each client, and to find out whether it can be reached
                else:
                    await _assert_no_login(client, f"{proxy.url} (ALL_PROXY)")
    assert {host for host, _ in proxy.asked} == {"127.0.0.1"}


LEADS_HOME: Final = [(name, 8333) for name in ("s3.example", "s3.example.", "127.0.0.1", "::1")]


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["http", "https"])
async def test_each_kind_of_proxy(
    store: MemoryStore, certificate: Certificate, monkeypatch: pytest.MonkeyPatch, is_encrypted: bool
) -> None:
    """HTTP and SOCKS proxies of all kinds, by TLS and by IPv6: for ranges and for all else, and in the same way.

    The proxy looks names up, except with socks4 and socks5.
    """
    tls = certificate.server_context()
    with FakeS3Server(store, tls=tls if is_encrypted else None) as server:
        scheme, home = "https" if is_encrypted else "http", ("127.0.0.1", server.port)
        leads: Any = {"leads_to": dict.fromkeys(LEADS_HOME, home)}
        with (
            SocksProxy(**leads) as socks,
            HttpProxy(**leads) as plain,
            HttpProxy(host="::1", **leads) as by_ipv6,
            HttpProxy(tls=tls, **leads) as by_tls,
        ):
            for proxy, text, host in (
                (plain, plain.address, "s3.example"),
                (by_ipv6, f"{by_ipv6.url}/", "s3.example"),
                (by_tls, by_tls.url, "s3.example"),
                (plain, plain.url, "[::1]"),
                (plain, plain.url, "s3.example."),
                *(
                    (socks, f"{kind}://127.0.0.1:{socks.port}", "s3.example")
                    for kind in ("socks", "socks4a", "socks5h")
                ),
                *((socks, f"{kind}://127.0.0.1:{socks.port}", "127.0.0.1") for kind in ("socks4", "socks5")),
                (socks, f"socks5://127.0.0.1:{socks.port}", "[::1]"),
            ):
                proxy.asked.clear()
                monkeypatch.setenv("ALL_PROXY", text)
                async with open_client(f"{scheme}://{host}:8333", ca_bundle=certificate.path) as client:
                    await all_by(client)
                assert len(proxy.asked) >= 2, text
                assert all(host.strip("[]") in str(asked) for asked in proxy.asked), text


@pytest.mark.parametrize("kind", ["socks4", "socks5"])
async def test_a_name_is_looked_up_here(server: FakeS3Server, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """With socks4 and socks5 the proxy gets an address, by both clients."""
    addresses = [(name, server.port) for name in ("127.0.0.1", "::1")]
    with SocksProxy(leads_to=dict.fromkeys(addresses, addresses[0])) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"{kind}://127.0.0.1:{proxy.port}")
        async with open_client(f"http://localhost:{server.port}") as client:
            await all_by(client)
    assert len(proxy.asked) == 3  # by each client, and to find out whether it can be reached
    assert set(proxy.asked) <= set(addresses)


LOGIN: Final = (b"CORP\\me@home", b"p:\xfc%/")
ESCAPED: Final = "CORP%5Cme%40home:p%3A%FC%25%2F"


async def test_proxies_that_want_a_login(
    store: MemoryStore, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name and password of the variable log in. Without them, or with others, the message names variable and remedy.

    It is no failure of the network: nothing is asked again.
    """
    tls = certificate.server_context()
    with (
        FakeS3Server(store) as plain,
        FakeS3Server(store, tls=tls) as encrypted,
        HttpProxy(login=LOGIN) as http,
        SocksProxy(login=LOGIN) as socks,
    ):
        for kind, proxy, server in (
            ("http", http, plain),
            ("http", http, encrypted),
            ("socks5", socks, plain),
            ("socks5h", socks, encrypted),
            ("socks4", socks, plain),
        ):
            for text, works in ((f"{ESCAPED}@", True), ("", False), ("me:secret@", False)):
                monkeypatch.setenv("ALL_PROXY", f"{kind}://{text}127.0.0.1:{proxy.port}")
                async with open_client(server.endpoint_url, ca_bundle=certificate.path) as client:
                    if works:
                        await all_by(client)
                    else:
                        await _assert_no_login(client, f"{kind}://127.0.0.1:{proxy.port} (ALL_PROXY)")


async def _assert_no_login(client: S3Client, proxy: str) -> None:
    for kind in BOTH_CLIENTS:
        with pytest.raises(ProxyLoginError) as caught:
            await ask(client, kind)
        message = with_remedy(caught.value)
        assert proxy in message
        assert "http://NAME:PASSWORD@HOST:PORT" in message
        assert "secret" not in message


@pytest.mark.parametrize(
    ("status", "expected"),
    [(403, ProxyDeniedError), (407, ProxyLoginError), (502, ProxyError), (503, ProxyError), (504, ProxyError)],
)
async def test_answers_of_the_proxy_are_not_the_servers(
    server: FakeS3Server, monkeypatch: pytest.MonkeyPatch, status: int, expected: type[StorageError]
) -> None:
    """What a proxy answers by itself is said of the proxy: to CONNECT, and in the place of an http server's reply."""
    with HttpProxy(status=status) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        for url in ("https://s3.example:8333", "http://s3.example:8333"):
            async with open_client(url) as client:
                for kind in BOTH_CLIENTS:
                    with pytest.raises(expected, match=rf"the proxy {proxy.url} \(ALL_PROXY\).*{status}") as caught:
                        await ask(client, kind)
                    assert type(caught.value) is expected


async def test_answers_of_the_server_are_not_the_proxys(
    server: FakeS3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3's own 403 and 503 stay S3's, by way of a proxy as without: its replies name the request, or the server.

    Where the reply to HEAD, which has no body, names neither, a GET for the first byte shows whose it is.
    """
    with HttpProxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with open_client(server.endpoint_url) as client:
            for fields, asked in (
                ({"x_amz_request_id": "1"}, ["head"]),
                ({"Server": "MinIO"}, ["head"]),
                ({}, ["head", "get_range"]),
            ):
                for status, expected in ((403, AccessDeniedError), (503, BusyError)):
                    server.behaviours[:] = [always(error(status, "Refused", **fields))]
                    for kind in BOTH_CLIENTS:
                        server.forget_requests()
                        with pytest.raises(expected, match=f"HTTP {status}"):
                            await ask(client, kind)
                        kinds = [request.kind for request in server.requests]
                        assert kinds == (asked if kind == "head" else ["get_range"])


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        *(("socks5h", code, ProxyError) for code in (1, 5, 99)),
        ("socks5h", 2, ProxyDeniedError),
        ("socks4a", 91, ProxyError),
    ],
)
async def test_socks_proxies_that_refuse(
    monkeypatch: pytest.MonkeyPatch, kind: str, code: int, expected: type[StorageError]
) -> None:
    """What a SOCKS proxy says of the server is said of it, by both clients."""
    with SocksProxy(code=code) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"{kind}://127.0.0.1:{proxy.port}")
        async with open_client("http://s3.example:8333") as client:
            for asked in BOTH_CLIENTS:
                with pytest.raises(expected, match=r"\(ALL_PROXY\).*s3\.example"):
                    await ask(client, asked)


@pytest.mark.parametrize("kind", ["http", "https", "socks4", "socks5"])
async def test_a_proxy_that_says_nothing(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock, kind: str
) -> None:
    """A proxy that takes connections and leaves it at that is given up in time, by both clients."""
    monkeypatch.setattr(curl_options, "CONNECT_SECONDS", 0.2)  # of another clock
    mock_clock.autojump_threshold = 0.02
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("ALL_PROXY", f"{kind}://{address}")
        async with open_client("https://127.9.9.9:1", ca_bundle=certificate.path) as client:
            began = trio.current_time()
            with pytest.raises(ProxyError, match=rf"{address} \(ALL_PROXY\) makes no conn.* within 10 s"):
                await ask(client, "head")
            assert trio.current_time() - began == pytest.approx(10.0)
            mock_clock.autojump_threshold, mock_clock.rate = math.inf, 1.0
            with pytest.raises(ProxyError, match=rf"{address} \(ALL_PROXY\) makes no connection"):
                await ask(client, "get_range")


@contextmanager
def saying(words: bytes) -> Iterator[str]:
    """A server that says the same to all, whatever they want. Gives its host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client, suppress(OSError):
                        client.sendall(words)
                        client.recv(1 << 16)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 ftp.example ready\r\n", b"\5", b""])
async def test_what_is_no_proxy(certificate: Certificate, monkeypatch: pytest.MonkeyPatch, words: bytes) -> None:
    """A server that is not of the kind that the variable says is a failure which names the variable, no defect."""
    with saying(words) as address:
        for kind in ("http", "https", "socks4", "socks4a", "socks5", "socks5h"):
            monkeypatch.setenv("ALL_PROXY", f"{kind}://{address}")
            async with open_client("https://127.9.9.9:1", ca_bundle=certificate.path) as client:
                for asked in BOTH_CLIENTS:
                    with pytest.raises(ProxyError, match="ALL_PROXY"):
                        await ask(client, asked)


async def test_files_of_curl_are_not_read(
    server: FakeS3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither ~/.curlrc nor ~/.netrc say how servers are reached."""
    (tmp_path / ".curlrc").write_text("proxy = http://127.0.0.1:1\n")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    async with open_client(server.endpoint_url) as client:
        await all_by(client)
    assert all("authorization" not in request.headers for request in server.requests)

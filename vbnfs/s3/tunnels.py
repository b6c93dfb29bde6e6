"""Connections through a proxy, for httpx, and trying one. libcurl makes its own, and this module does as that does.

    http, https         requests for http servers are passed on; to https servers there is a tunnel: CONNECT
                        (RFC 9110, 9.3.6), with Basic credentials (RFC 7617)
    socks4, socks4a     SOCKS 4 ("SOCKS: A protocol for TCP proxy across firewalls"), and its extension 4A
    socks5, socks5h     SOCKS 5 (RFC 1928), with name and password (RFC 1929)

With `socks4` and `socks5` this machine looks up the server's name, with `socks4a` and `socks5h` the proxy does.
"""

import ipaddress
import math
import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

import httpcore
import trio

from vbnfs.errors import StorageError
from vbnfs.s3 import proxy_failures
from vbnfs.s3.certificates import refused
from vbnfs.s3.failures import is_no_tls, reason_of, system_reason, unreachable, verification_of
from vbnfs.s3.limits import KEEPALIVE
from vbnfs.s3.proxies import DEFAULT_PORTS, Proxy
from vbnfs.s3.ranges import ANONYMOUS_FIELDS

_MAX_HEAD_BYTES: Final = 64 << 10
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?![0-9])")
# SOCKS 5 (RFC 1928): methods of logging in, kinds of addresses, what the proxy replies.
_NO_LOGIN: Final = 0
_PASSWORD: Final = 2
_IPV4, _NAME, _IPV6 = 1, 3, 4
_REPLIES: Final = {
    1: "general failure", 2: "not allowed", 3: "network unreachable", 4: "host unreachable", 5: "connection refused",
    6: "TTL expired", 7: "command not supported", 8: "kind of address not supported",
}  # fmt: skip
_NOT_ALLOWED: Final = 2
# SOCKS 4
_GRANTED: Final = 90
_UNKNOWN_USER: Final = frozenset({92, 93})
_BY_NAME: Final = bytes((0, 0, 0, 1))  # 4A: the name follows

Options = Iterable[tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]]


def authorization(proxy: Proxy) -> dict[str, str]:
    """The field that logs in at an HTTP proxy (RFC 9110, 11.7.2), if there are a name and a password."""
    if not proxy.name and not proxy.password:
        return {}
    return {"Proxy-Authorization": f"Basic {b64encode(proxy.name + b':' + proxy.password).decode()}"}


class ProxyBackend(httpcore.AsyncNetworkBackend):
    """Opens httpx's connections to `server_url` through `proxy`. Every failure is a `StorageError`."""

    def __init__(self, proxy: Proxy, server_url: str, tls: ssl.SSLContext) -> None:
        self._proxy = proxy
        self._server = server_url
        self._tls = tls
        self._direct = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's own signature
        local_address: str | None = None,
        socket_options: Options | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection that leads to a server, or to the proxy where that passes requests on."""
        proxy, seconds = self._proxy, math.inf if timeout is None else timeout
        with trio.move_on_after(seconds):
            with _failures_of(proxy):
                stream = await self._direct.connect_tcp(proxy.host, proxy.port, None, local_address, socket_options)
            try:
                if proxy.scheme == "https":
                    with _failures_of(proxy):
                        stream = await stream.start_tls(self._tls, proxy.host)
                if not proxy.passes_on(self._server):
                    await self._make_tunnel(stream, host, port)
            except BaseException:
                await _close(stream)
                raise
            return stream
        raise proxy_failures.failed(proxy, self._server, f"no connection within {seconds:.0f} s")

    async def _make_tunnel(self, stream: httpcore.AsyncNetworkStream, host: str, port: int) -> None:
        """Have the proxy connect to a server."""
        wire, proxy, server = _Wire(stream), self._proxy, self._server
        try:
            if proxy.is_http:
                await _connect(wire, proxy, server, host, port)
            elif proxy.scheme in {"socks4", "socks4a"}:
                await _socks4(wire, proxy, server, host, port)
            else:
                await _socks5(wire, proxy, server, host, port)
        except (httpcore.NetworkError, EOFError) as error:
            raise proxy_failures.failed(proxy, server, reason_of(error)) from error


async def connect(
    server_url: str, backend: httpcore.AsyncNetworkBackend, tls: ssl.SSLContext, *, server_name: str
) -> None:
    """Open a connection to a server, with TLS where it speaks that, and close it. Raises a `StorageError`."""
    parts = urlsplit(server_url)
    host, port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
    try:
        stream = await backend.connect_tcp(host, port, None, None, KEEPALIVE)
        try:
            if parts.scheme == "https":
                await stream.start_tls(tls, server_name)
        finally:
            await _close(stream)
    except (httpcore.NetworkError, UnicodeError) as error:  # a name that is none
        if (verification := verification_of(error)) is not None:
            raise refused(server_url, verification.verify_code, verification.verify_message) from error
        reason = system_reason(error) or reason_of(error)
        raise unreachable(server_url if is_no_tls(reason) else f"{host}:{port}", reason) from error


async def _close(stream: httpcore.AsyncNetworkStream) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()  # at once: nothing is waited for
        await stream.aclose()


@contextmanager
def _failures_of(proxy: Proxy) -> Iterator[None]:
    """What fails while connecting to the proxy."""
    try:
        yield
    except (httpcore.NetworkError, httpcore.TimeoutException) as error:
        if (verification := verification_of(error)) is not None:
            what = f"the proxy {proxy}"
            raise refused(what, verification.verify_code, verification.verify_message) from error
        raise proxy_failures.absent(proxy, system_reason(error) or reason_of(error)) from error


class _Wire:
    """A connection, read to the byte. Raises `EOFError` where it ends before."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._data = b""

    async def ask(self, data: bytes, count_bytes: int) -> bytes:
        """Send something, and read so many bytes of the answer."""
        await self._stream.write(data)
        return await self.exactly(count_bytes)

    async def exactly(self, count_bytes: int) -> bytes:
        """The next bytes."""
        while len(self._data) < count_bytes:
            await self._read()
        taken, self._data = self._data[:count_bytes], self._data[count_bytes:]
        return taken

    async def until(self, end: bytes) -> bytes:
        """All until `end`, that included."""
        while end not in self._data:
            if len(self._data) > _MAX_HEAD_BYTES:
                raise EOFError("a reply without an end")
            await self._read()
        return await self.exactly(self._data.index(end) + len(end))

    async def _read(self) -> None:
        more = await self._stream.read(4096)
        if not more:
            raise EOFError("it closed the connection")
        self._data += more


# By CONNECT


async def _connect(wire: _Wire, proxy: Proxy, server: str, host: str, port: int) -> None:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    fields = {"Host": target, "User-Agent": ANONYMOUS_FIELDS["User-Agent"], **authorization(proxy)}
    lines = [f"CONNECT {target} HTTP/1.1", *(f"{name}: {text}" for name, text in fields.items())]
    asked = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
    match = _STATUS_LINE.match(await wire.ask(asked, 13))
    if match is None:
        raise proxy_failures.failed(proxy, server, "its answer is not HTTP")
    await wire.until(b"\r\n\r\n")
    if not 200 <= (status := int(match[1])) < 300:
        raise proxy_failures.of_status(proxy, server, status)


# By SOCKS


async def _socks4(wire: _Wire, proxy: Proxy, server: str, host: str, port: int) -> None:
    name = b""
    if proxy.scheme == "socks4a" and not _is_address(host):
        address, name = _BY_NAME, host.encode("ascii") + b"\0"
    else:
        address = await _look_up(host, port, socket.AF_INET)
    asked = bytes((4, 1)) + port.to_bytes(2) + address + proxy.name + b"\0" + name
    version, code, *_ = await wire.ask(asked, 8)
    if version != 0:
        raise proxy_failures.failed(proxy, server, "its answer is not SOCKS 4")
    if code in _UNKNOWN_USER:
        raise proxy_failures.no_login(proxy, f"SOCKS 4, {code}")
    if code != _GRANTED:
        raise proxy_failures.failed(proxy, server, f"SOCKS 4, {code}")


async def _socks5(wire: _Wire, proxy: Proxy, server: str, host: str, port: int) -> None:
    await _log_in(wire, proxy, server)
    if _is_address(host) or proxy.scheme == "socks5":
        address = await _look_up(host, port, socket.AF_UNSPEC)
        asked = bytes((_IPV4 if len(address) == 4 else _IPV6,)) + address
    else:
        name = host.encode("ascii")
        asked = bytes((_NAME, len(name))) + name
    version, code, _, kind = await wire.ask(bytes((5, 1, 0)) + asked + port.to_bytes(2), 4)
    if version != 5:
        raise proxy_failures.failed(proxy, server, "its answer is not SOCKS 5")
    if code:
        make: Callable[[Proxy, str, str], StorageError]
        make = proxy_failures.denied if code == _NOT_ALLOWED else proxy_failures.failed
        raise make(proxy, server, f"SOCKS 5, {_REPLIES.get(code, code)}")
    length = {_IPV4: 4, _IPV6: 16}.get(kind) or (await wire.exactly(1))[0]
    await wire.exactly(length + 2)  # the address that the proxy has for it; of no interest


async def _log_in(wire: _Wire, proxy: Proxy, server: str) -> None:
    methods = bytes((_NO_LOGIN, _PASSWORD)) if proxy.name else bytes((_NO_LOGIN,))
    version, method = await wire.ask(bytes((5, len(methods))) + methods, 2)
    if version != 5:
        raise proxy_failures.failed(proxy, server, "its answer is not SOCKS 5")
    if method not in methods:
        raise proxy_failures.no_login(proxy, "SOCKS 5")
    if method == _PASSWORD:
        name, password = proxy.name, proxy.password
        asked = bytes((1, len(name))) + name + bytes((len(password),)) + password
        _, status = await wire.ask(asked, 2)
        if status:
            raise proxy_failures.no_login(proxy, "SOCKS 5")


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        return bool(ipaddress.ip_address(host))
    return False


async def _look_up(host: str, port: int, family: int) -> bytes:
    """The first address of a host, packed."""
    try:
        found = await trio.socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    except OSError as error:
        raise unreachable(host, reason_of(error)) from error
    return ipaddress.ip_address(found[0][4][0]).packed

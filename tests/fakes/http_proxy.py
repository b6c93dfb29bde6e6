"""`HttpProxy`: a forward proxy. CONNECT makes a tunnel, a request with a whole URL is passed on (RFC 9110, 9112)."""

import select
import socket
import ssl
from base64 import b64encode
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from tests.fakes.loopback import LoopbackServer

_SECONDS: Final = 10.0

Address = tuple[str, int]


class HttpProxy(LoopbackServer):
    """Listens on loopback while entered. `asked` has the methods and targets of all requests.

    `leads_to` says where an address leads instead. With `login` others than this name and password get a 407.
    `status`: it answers each request by itself, with this status. `tls`: its clients speak TLS to it.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        leads_to: Mapping[Address, Address] | None = None,
        login: tuple[bytes, bytes] | None = None,
        status: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(host)
        self._scheme = "http" if tls is None else "https"
        self._leads_to = leads_to or {}
        self._login = login
        self._tls = tls
        self.status = status
        self.host = host
        self.asked: list[tuple[str, str]] = []

    @property
    def address(self) -> str:
        """As it stands in URLs."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.address}"

    def serve(self, client: socket.socket) -> None:
        try:
            with client if self._tls is None else self._tls.wrap_socket(client, server_side=True) as wrapped:
                self._answer(wrapped)
        except (OSError, ValueError):  # the client or the server has gone
            client.close()

    def _answer(self, client: socket.socket) -> None:
        head = _read_head(client)
        if not head:  # it only connected
            return
        request, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, target, _ = request.split(" ")
        fields = dict(line.lower().split(": ", 1) for line in lines)
        given = next((line.split(": ", 1)[1] for line in lines if line.lower().startswith("proxy-auth")), "")
        self.asked.append((method, target))
        if self._login is not None and given != f"Basic {b64encode(b':'.join(self._login)).decode()}":
            client.sendall(_reply(407, 'Proxy-Authenticate: Basic realm="test"\r\n'))
        elif self.status is not None:
            client.sendall(_reply(self.status, "Via: 1.1 test\r\n"))
        elif method == "CONNECT":
            host, _, port = target.rpartition(":")
            with self._connected(host.strip("[]"), int(port)) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                pump(client, server)
        else:
            self._pass_on(client, method, target, lines, fields.get("host", ""))

    def _pass_on(self, client: socket.socket, method: str, target: str, lines: list[str], host: str) -> None:
        url = urlsplit(target)
        assert url.netloc.lower() == host, (target, host)
        path = target.partition("://")[2].partition("/")
        kept = [line for line in lines if not line.lower().startswith(("proxy-", "connection:"))]
        with self._connected(url.hostname or "", url.port or 80) as server:
            request = "\r\n".join([f"{method} /{path[2]} HTTP/1.1", *kept, "Connection: close", "Via: 1.1 test"])
            server.sendall(request.encode("latin-1") + b"\r\n\r\n")
            head = _read_head(server)
            status, _, rest = head.partition(b"\r\n")
            client.sendall(status + b"\r\nConnection: close\r\nVia: 1.1 test\r\n" + rest)
            while data := server.recv(1 << 16):
                client.sendall(data)

    def _connected(self, host: str, port: int) -> socket.socket:
        return socket.create_connection(self._leads_to.get((host, port), (host, port)), _SECONDS)


def _reply(status: int, fields: str) -> bytes:
    return f"HTTP/1.1 {status} of the proxy\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()


def _read_head(connection: socket.socket) -> bytes:
    """To the byte: what follows is not read."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            return b""
        head += byte
    return head


def pump(one: socket.socket, other: socket.socket) -> None:
    """Bytes from each to the other one, until one of them ends."""
    ways = {one: other, other: one}
    while True:
        for source in _readable(one, other):
            data = source.recv(1 << 16)
            if not data:
                return
            ways[source].sendall(data)


def _readable(*sockets: socket.socket) -> list[socket.socket]:
    decrypted = [each for each in sockets if isinstance(each, ssl.SSLSocket) and each.pending()]
    return decrypted or select.select(sockets, [], [], _SECONDS)[0]

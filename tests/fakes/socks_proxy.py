"""`SocksProxy`: SOCKS 4, 4A and 5 (RFC 1928), with name and password (RFC 1929) or without."""

import socket
from collections.abc import Mapping

from tests.fakes.http_proxy import Address, pump
from tests.fakes.loopback import LoopbackServer

_IPV4, _NAME, _IPV6 = 1, 3, 4
_FAMILIES = {_IPV4: (socket.AF_INET, 4), _IPV6: (socket.AF_INET6, 16)}


class SocksProxy(LoopbackServer):
    """Connects to whatever it is asked for. A context manager; `asked` has the addresses, as they were named.

    `leads_to` says where an address leads instead. With `login` others than this name and password are refused; with
    SOCKS 4 the name alone counts. `code` is its answer to each request; 0: it connects.
    """

    def __init__(
        self,
        *,
        leads_to: Mapping[Address, Address] | None = None,
        login: tuple[bytes, bytes] | None = None,
        code: int = 0,
    ) -> None:
        super().__init__()
        self._leads_to = leads_to or {}
        self._login = login
        self.code = code
        self.url = f"socks5://127.0.0.1:{self.port}"
        self.asked: list[Address] = []

    def serve(self, client: socket.socket) -> None:
        with client:
            try:
                version = _read(client, 1)[0]
                answer = self._version_4(client) if version == 4 else self._version_5(client)
                if answer is not None:
                    address, granted = answer
                    with socket.create_connection(self._leads_to.get(address, address), 10) as server:
                        client.sendall(granted)
                        pump(client, server)
            except (OSError, EOFError):
                return

    def _version_4(self, client: socket.socket) -> tuple[Address, bytes] | None:
        _, *port = _read(client, 3)
        packed = _read(client, 4)
        name, host = _until_zero(client), socket.inet_ntoa(packed)
        if packed[:3] == bytes(3) and packed[3]:
            host = _until_zero(client).decode()
        self.asked.append((host, int.from_bytes(port)))
        if self._login is not None and name != self._login[0]:
            client.sendall(bytes((0, 93)) + bytes(6))
        elif self.code:
            client.sendall(bytes((0, self.code)) + bytes(6))
        else:
            return self.asked[-1], bytes((0, 90)) + bytes(6)
        return None

    def _version_5(self, client: socket.socket) -> tuple[Address, bytes] | None:
        methods = _read(client, _read(client, 1)[0])
        wanted = 0 if self._login is None else 2
        client.sendall(bytes((5, wanted if wanted in methods else 255)))
        if wanted not in methods or not self._is_logged_in(client):
            return None
        kind = _read(client, 4)[3]
        if kind == _NAME:
            host = _read(client, _read(client, 1)[0]).decode()
        else:
            family, length = _FAMILIES[kind]
            host = socket.inet_ntop(family, _read(client, length))
        self.asked.append((host, int.from_bytes(_read(client, 2))))
        if self.code:
            client.sendall(bytes((5, self.code, 0, 1)) + bytes(6))
            return None
        return self.asked[-1], b"\5\0\0\3\4test\0\0"

    def _is_logged_in(self, client: socket.socket) -> bool:
        if self._login is None:
            return True
        _read(client, 1)
        given = tuple(_read(client, _read(client, 1)[0]) for _ in range(2))
        client.sendall(bytes((1, given != self._login)))
        return given == self._login


def _read(client: socket.socket, count_bytes: int) -> bytes:
    data = b""
    while len(data) < count_bytes:
        more = client.recv(count_bytes - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _until_zero(client: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\0"):
        data += _read(client, 1)
    return data[:-1]

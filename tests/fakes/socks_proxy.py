"""`SocksProxy`: a SOCKS5 proxy (RFC 1928) without authentication."""

import socket
import threading
from types import TracebackType
from typing import Self

_IPV4, _NAME = 1, 3


class SocksProxy:
    """Connects to whatever it is asked for. A context manager; `asked` has the addresses, as they were named."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"socks5://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[tuple[str, int]] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as stream:
            greeting = stream.read(2)
            if not greeting:  # it only connected
                return
            stream.read(greeting[1])  # the methods that the client knows
            client.sendall(b"\5\0")
            kind = stream.read(4)[3]
            assert kind in {_IPV4, _NAME}
            host = socket.inet_ntoa(stream.read(4)) if kind == _IPV4 else stream.read(stream.read(1)[0]).decode()
            address = (host, int.from_bytes(stream.read(2)))
            self.asked.append(address)
            with socket.create_connection(address) as server:
                client.sendall(b"\5\0\0\1" + bytes(6))
                threading.Thread(target=_forward, args=(server, client), daemon=True).start()
                _forward(client, server)


def _forward(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return

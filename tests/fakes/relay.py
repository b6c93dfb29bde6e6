"""`Relay`: a TCP relay in front of a server, which a test can cut, darken, or silence in part."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Relay:
    """Forwards connections to the server at `target_url`. A context manager; `endpoint_url` is its own address.

    `port` is where it listens, if that matters: where another one was that has been cut.
    """

    def __init__(self, target_url: str, *, port: int = 0) -> None:
        parts = urlsplit(target_url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", port))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._silent: set[socket.socket] = set()
        self._lock = threading.Lock()  # protects all three
        self._ended = threading.Event()
        self._light = threading.Event()
        self._light.set()
        self.port = self._listener.getsockname()[1]
        self.endpoint_url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()

    def darken(self) -> None:
        """Take connections and bytes, and pass none of them on, as a network does that loses everything."""
        self._light.clear()

    def lighten(self) -> None:
        """Pass on again, also what was held back."""
        self._light.set()

    def silence(self) -> int:
        """Pass nothing on any more by the connections that are open now, and serve new ones. Returns how many.

        So it is after a change of network: neither side learns of it.
        """
        with self._lock:
            new = {one for one in self._sockets if one.fileno() >= 0} - self._silent
            self._silent |= new
        return len(new) // 2

    def cut(self) -> None:
        """Refuse new connections and break those that there are."""
        self.lighten()
        self._ended.set()
        _break(self._listener)
        self._threads[0].join()  # which accepts: no connection comes after it
        with self._lock:
            sockets, threads = tuple(self._sockets), tuple(self._threads)
        for one in sockets:
            _break(one)
        for thread in threads:
            thread.join()
        for one in (self._listener, *sockets):
            one.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            with self._lock:
                self._sockets += [client, server]
            for source, sink in ((client, server), (server, client)):
                self._start(self._forward, source, sink)

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while True:
                data = source.recv(1 << 16)
                self._light.wait()
                if source in self._silent:
                    self._ended.wait()
                    return
                if not data:
                    break
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


def _break(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)

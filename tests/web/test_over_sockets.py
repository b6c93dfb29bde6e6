"""What comes over a socket: clients that are slow, many or of another user, and requests that are none."""

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from anyio.to_thread import run_sync

from tests.fakes.s3_server import FakeS3Server
from vbnfs.config.sources import load_config
from vbnfs.host import tcp_peers
from vbnfs.host.tcp_peers import user_of_connection
from vbnfs.web import neighbours, serving, views
from vbnfs.web.app import make_app
from vbnfs.web.guard import PROOF, Guard, Keys
from vbnfs.web.house import House
from vbnfs.web.neighbours import is_stranger
from vbnfs.web.rendering import Pages

NOBODY: Final = 65534
_PATIENCE_SECONDS: Final = 0.3


@dataclass(frozen=True)
class Serving:
    """A page that is served at a port."""

    port: int
    keys: Keys

    @property
    def cookie(self) -> str:
        """The field of a request that is let in."""
        return f"Cookie: {self.keys.cookie_name}={self.keys.cookie}\r\n"

    def request(self, fields: str = "", *, line: str = "GET / HTTP/1.1", is_let_in: bool = True) -> bytes:
        """The head of a request."""
        return f"{line}\r\nHost: localhost\r\n{self.cookie if is_let_in else ''}{fields}\r\n".encode()

    def answers(self, data: bytes) -> list[int]:
        """The statuses of all answers to some bytes, until the server ends the connection."""
        with self.connected() as connection:
            connection.sendall(data)
            return statuses(connection)

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """A connection to it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            yield connection


def statuses(connection: socket.socket) -> list[int]:
    """The statuses of what comes until the other end closes, or is gone."""
    found = bytearray()
    try:
        while piece := connection.recv(1 << 16):
            found += piece
    except ConnectionResetError:
        pass
    return [int(line.split()[1]) for line in bytes(found).split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


@pytest.fixture(scope="module")
def served(server: FakeS3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The page with its guard, as hypercorn serves it, with little patience."""
    keys, listening, ending = Keys(), serving.listen(0), threading.Event()
    given = {"endpoint_url": server.endpoint_url, "cache_dir": str(tmp_path_factory.mktemp("work") / "cache")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "_IDLE_SECONDS", _PATIENCE_SECONDS)
        patch.setattr(views, "_FORM_SECONDS", _PATIENCE_SECONDS)
        house = House(load_config(command_line=given), examine=list)
        page = Guard(make_app(house, Pages(proof=keys.proof, dataset="x")), keys)

        async def until() -> None:
            await run_sync(ending.wait)

        thread = threading.Thread(
            target=serving.serve, args=(page, listening, until), kwargs={"is_stranger": is_stranger}
        )
        thread.start()
        yield Serving(listening.port, keys)
        ending.set()
        thread.join()
        house.close()


def test_who_is_let_in(served: Serving) -> None:
    """The cookie lets in, over a connection of the same user; nothing else is heard of the page."""
    close = "Connection: close\r\n"
    assert served.answers(served.request(close)) == [200]
    assert served.answers(served.request(close, is_let_in=False)) == [401]


@pytest.mark.root
def test_a_program_of_another_user(served: Serving) -> None:
    """The cookie is worth nothing to it: the kernel says of which user the socket at the other end is."""
    before = os.geteuid()
    os.seteuid(NOBODY)
    try:
        connection = socket.create_connection(("127.0.0.1", served.port), timeout=60)
    finally:
        os.seteuid(before)
    with connection:
        connection.sendall(served.request("Connection: close\r\n"))
        assert statuses(connection) == [403]


def test_whose_connection_it_is() -> None:
    """Of sockets of both families; of one that is closed, or that there is not, no user is known."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::ffff:127.0.0.1")):
            with socket.socket(family) as client:
                client.connect((host, listener.getsockname()[1]))
                accepted, address = listener.accept()
                with accepted:
                    assert user_of_connection(address, listener.getsockname()) == os.geteuid()
                    client.close()
                    assert user_of_connection(address, listener.getsockname()) is None
        assert user_of_connection(("127.0.0.1", 1), listener.getsockname()) is None


def test_root_may_ask_everybodys_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it may read all that the page shows; others may not, and neither may one that is not known."""
    monkeypatch.setattr(neighbours, "our_uid", lambda: 1000)
    for user, is_refused in ((0, False), (1000, False), (1001, True), (None, True)):
        monkeypatch.setattr(neighbours, "user_of_connection", lambda client, server, user=user: user)
        assert is_stranger(("127.0.0.1", 1), ("127.0.0.1", 2)) is is_refused


def test_a_system_that_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux says whose a connection is; where it does not, nobody is let in. Other systems have no such table."""
    monkeypatch.setattr(tcp_peers, "_TABLES", (Path("/nonexistent/tcp"), Path("/nonexistent/tcp6")))
    for platform, is_refused in (("linux", True), ("darwin", False)):
        monkeypatch.setattr(neighbours.sys, "platform", platform)
        assert is_stranger(("127.0.0.1", 1), ("127.0.0.1", 2)) is is_refused


@pytest.mark.parametrize(
    "head",
    [
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nA : b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nA: b\x00c\r\n\r\n",
        "GET /\x07 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nA: " + "b" * (200 << 10) + "\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_is_no_request_ends_its_connection(served: Serving, head: str) -> None:
    """Whatever a proxy could take otherwise than this server is an error, after which nothing more is read."""
    again = served.request("Connection: close\r\n").decode("latin-1")
    [status] = served.answers((head + again).encode("latin-1"))
    assert status in {400, 431, 501}


def test_a_body_is_no_request(served: Serving) -> None:
    """What follows a request that is refused before its body was read is no request, whatever stands in it."""
    inner = served.request("Connection: close\r\n")
    for fields in (f"Content-Length: {len(inner)}\r\n", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"):
        head = served.request(fields, line="POST /jobs HTTP/1.1", is_let_in=False)
        assert served.answers(head + inner) in ([401], [400])


def test_other_protocols_are_refused(served: Serving) -> None:
    """WebSockets and HTTP/2 are not spoken, so that nothing goes past what is checked of a request."""
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    assert served.answers(served.request(f"Connection: Upgrade\r\nUpgrade: websocket\r\n{key}")) == [403]
    upgrade = served.request("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n")
    assert 200 not in served.answers(upgrade)
    assert served.answers(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)) == []


@pytest.mark.parametrize(
    "said", ["Upgrade: websocket\r\nConnection: Upgrade\r\n", "Upgrade: h2c\r\nConnection: Upgrade\r\n"]
)
def test_what_goes_wrong_in_a_connection_is_its_own(served: Serving, said: str) -> None:
    """Bytes behind a head that asks for another protocol are an error in it; the next connection is answered."""
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nHTTP2-Settings: AAMAAABk\r\n"
    for _ in range(3):
        served.answers(served.request(said + key) + bytes(100))
    assert served.answers(served.request("Connection: close\r\n")) == [200]


def test_a_form_that_is_too_long(served: Serving) -> None:
    """It is given up as soon as it is too long, and its connection ends."""
    fields = f"{PROOF}: {served.keys.proof}\r\nContent-Length: {1 << 40}\r\n"
    with served.connected() as connection:
        connection.sendall(served.request(fields, line="POST /plan HTTP/1.1"))
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(bytes(1 << 28))  # far more than is on its way at a time


def test_slow_and_many_clients(served: Serving) -> None:
    """Connections that say nothing, half of a head or half of a form end by themselves; others are answered.

    200 of each are more than a browser opens.
    """
    form = served.request(f"{PROOF}: {served.keys.proof}\r\nContent-Length: 9\r\n", line="POST /plan HTTP/1.1")
    with ExitStack() as stack:
        slow = {
            said: [stack.enter_context(served.connected()) for _ in range(count)]
            for said, count in ((b"", 200), (b"GET / HT", 200), (form, 20))
        }
        for said, connections in slow.items():
            for connection in connections:
                connection.sendall(said)
        assert served.answers(served.request("Connection: close\r\n")) == [200]
        ends = {said: {tuple(statuses(one)) for one in connections} for said, connections in slow.items()}
    assert ends == {b"": {()}, b"GET / HT": {()}, form: {(408,)}}


def test_a_client_that_goes_away(served: Serving) -> None:
    """A request whose client is gone before the answer leaves the others their answers, and no thread behind."""
    for _ in range(20):
        with served.connected() as connection:
            connection.sendall(served.request())
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.request("GET", "/", headers={"Cookie": f"{served.keys.cookie_name}={served.keys.cookie}"})
    assert connection.getresponse().status == 200
    connection.close()

"""What comes over a socket: clients that are slow, many or of another user, and requests that are none."""

import http.client
import os
import re
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import h11
import pytest
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from structlog.testing import capture_logs

from tests.fakes.s3_server import FakeS3Server
from vbnfs.config.sources import load_config
from vbnfs.host import tcp_peers
from vbnfs.host.tcp_peers import user_of_connection
from vbnfs.web import guard, http_connection, neighbours, serving, views
from vbnfs.web.app import make_app
from vbnfs.web.guard import PROOF, Guard, Keys
from vbnfs.web.house import House
from vbnfs.web.neighbours import is_stranger
from vbnfs.web.rendering import Pages
from vbnfs.web.views import in_a_thread

NOBODY: Final = 65534
MOST: Final = 32  # connections at a time; fewer than a real page has
_PATIENCE_SECONDS: Final = 0.1


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
    return [int(one) for one in re.findall(rb"HTTP/1\.1 (\d+)", found)]


@pytest.fixture(scope="module")
def served(server: FakeS3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The page with its guard, at a port."""
    keys, listening, ending = Keys(), serving.listen(0), threading.Event()
    given = {"endpoint_url": server.endpoint_url, "cache_dir": str(tmp_path_factory.mktemp("work") / "cache")}
    house = House(load_config(command_line=given), examine=list)
    page = Guard(make_app(house, Pages(proof=keys.proof, dataset="x")), keys)

    async def until() -> None:
        await run_sync(ending.wait)

    thread = threading.Thread(
        target=serving.serve, args=(page, listening, until), kwargs={"is_stranger": is_stranger}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "_MOST_CONNECTIONS", MOST)
        thread.start()
        yield Serving(listening.port, keys)
        ending.set()
        thread.join()
    house.close()


def test_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serving ends though a connection is idle, and a view waits for what does not come."""
    monkeypatch.setattr(serving, "_LAST_SECONDS", _PATIENCE_SECONDS)
    waits, ending, release = (threading.Event() for _ in range(3))

    def view(request: Request) -> Response:
        waits.set()
        release.wait(60)
        return Response("late")

    async def until() -> None:
        await run_sync(ending.wait)

    listening = serving.listen(0)
    page = Starlette(routes=[Route("/", in_a_thread(view))])
    thread = threading.Thread(target=serving.serve, args=(page, listening, until))
    thread.start()
    address = ("127.0.0.1", listening.port)
    with socket.create_connection(address), socket.create_connection(address, timeout=60) as asking:
        asking.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert waits.wait(60)
        ending.set()
        thread.join(30)
        assert not thread.is_alive()
        assert statuses(asking) == []
    release.set()


def test_what_a_request_is() -> None:
    """Its path is decoded once, and its query by who reads it."""
    request = h11.Request(method="GET", target="/a%252e%C3%A9%ff?b=%41", headers=[("Host", "localhost")])
    scope = http_connection.scope_of(request, ("127.0.0.1", 1), ("127.0.0.1", 2))
    assert (scope["path"], scope["query_string"]) == ("/a%2eé\ufffd", b"b=%41")


def test_it_listens_at_the_loopback_alone(served: Serving) -> None:
    """At no other address of this machine is anything."""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", served.port), timeout=60)


def test_who_is_let_in(served: Serving) -> None:
    """The cookie lets in, over a connection of the same user; nothing else is heard of the page."""
    close = "Connection: close\r\n"
    assert served.answers(served.request(close)) == [200]
    assert served.answers(served.request(close, is_let_in=False)) == [401]


@pytest.mark.root
def test_a_program_of_another_user(served: Serving) -> None:
    """The cookie is worth nothing to it: the kernel says of which user the socket at the other end is."""
    before = os.geteuid()
    os.seteuid(NOBODY)  # of all threads, also of the server's: a socket keeps the user who has made it
    try:
        connection = socket.socket()
    finally:
        os.seteuid(before)
    with connection:
        connection.settimeout(60)
        connection.connect(("127.0.0.1", served.port))
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
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.7\r\nHost: localhost\r\n\r\n",
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
    assert status in {400, 431, 501, 505}


def test_a_body_is_no_request(served: Serving) -> None:
    """What follows a request that is refused before its body was read is no request, whatever stands in it."""
    inner = served.request("Connection: close\r\n")
    for fields in (f"Content-Length: {len(inner)}\r\n", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"):
        head = served.request(fields, line="POST /jobs HTTP/1.1", is_let_in=False)
        assert served.answers(head + inner) in ([401], [400])


@pytest.mark.parametrize(
    "said",
    ["Upgrade: websocket\r\nConnection: Upgrade\r\n", "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"],
)
def test_other_protocols_are_not_spoken(served: Serving, said: str) -> None:
    """What asks for WebSockets or HTTP/2 gets an answer of HTTP/1.1, its last; bytes behind it are not read."""
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nHTTP2-Settings: AAMAAABk\r\n"
    for behind in (b"", bytes(100), served.request()):
        assert served.answers(served.request(said + key) + behind) == [200]
    assert served.answers(b"PRI * HTTP/2.0\r\nHost: localhost\r\n\r\nSM\r\n\r\n" + bytes(9)) == [505]


def test_what_goes_wrong_in_a_connection_is_its_own(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect ends the connection that has met it, and is logged; the next one is answered."""
    with monkeypatch.context() as patch, capture_logs() as logged:
        patch.setattr(serving.HttpConnection, "_next_request", None)
        assert served.answers(served.request()) == []
    assert [one["event"] for one in logged] == ["a connection has ended with a defect"]
    with monkeypatch.context() as patch, capture_logs() as logged:
        patch.setattr(guard, "_host_of", None)
        assert served.answers(served.request(line="GET /?token=1 HTTP/1.1")) == [500]
    assert [(one["event"], one["path"]) for one in logged] == [("the page has a defect", "/")]
    assert served.answers(served.request("Connection: close\r\n")) == [200]


def test_requests_follow_each_other(served: Serving) -> None:
    """On a connection, also those that were sent without waiting for an answer; the head of a page is its own."""
    form = served.request(f"{PROOF}: {served.keys.proof}\r\nContent-Length: 9\r\n", line="POST /plan HTTP/1.1")
    last = served.request("Connection: close\r\n")
    head = served.request(line="HEAD / HTTP/1.1")
    assert served.answers(served.request() + head + form + b"session=1" + last) == [200, 200, 503, 200]


def test_a_form_is_asked_for(served: Serving) -> None:
    """A client that waits before it sends a form, as curl does with long ones, is asked for it (RFC 9110, 10.1.1)."""
    fields = f"{PROOF}: {served.keys.proof}\r\nContent-Length: 9\r\nExpect: 100-continue\r\nConnection: close\r\n"
    with served.connected() as connection:
        connection.sendall(served.request(fields, line="POST /plan HTTP/1.1"))
        assert connection.recv(1 << 16) == b"HTTP/1.1 100 \r\n\r\n"
        connection.sendall(b"session=1")
        assert statuses(connection) == [503]


def test_a_form_that_is_too_long(served: Serving) -> None:
    """It is given up as soon as it is too long, and its connection ends."""
    fields = f"{PROOF}: {served.keys.proof}\r\nContent-Length: {1 << 40}\r\n"
    with served.connected() as connection:
        connection.sendall(served.request(fields, line="POST /plan HTTP/1.1"))
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(bytes(1 << 28))  # far more than is on its way at a time


def test_slow_clients(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that say nothing, half of a head or half of a form, or that take no answer, end by themselves."""
    monkeypatch.setattr(serving, "_IDLE_SECONDS", _PATIENCE_SECONDS)
    monkeypatch.setattr(views, "_FORM_SECONDS", _PATIENCE_SECONDS)
    monkeypatch.setattr(http_connection, "_PIECE_SECONDS", _PATIENCE_SECONDS)
    form = served.request(f"{PROOF}: {served.keys.proof}\r\nContent-Length: 9\r\n", line="POST /plan HTTP/1.1")
    assert [served.answers(said) for said in (b"", b"GET / HT")] == [[], []]
    monkeypatch.setattr(serving, "_IDLE_SECONDS", 600.0)  # the form has come too late, whenever its head was read
    assert served.answers(form) == [408]
    with served.connected() as connection:
        connection.settimeout(None)
        asked = served.request(line="GET /static/vendored/htmx.min.js HTTP/1.1")
        with suppress(ConnectionError):
            while True:  # until the server has ended: it hears no more than it has answered
                connection.sendall(asked)


def test_many_clients(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that wait for nothing give way to new ones, as many as have to; each that asks is answered."""
    monkeypatch.setattr(serving, "_IDLE_SECONDS", 600.0)
    asked, half = served.request("Connection: close\r\n"), b"GET / HT"
    with ExitStack() as stack:
        idle = [stack.enter_context(served.connected()) for _ in range(MOST + 20)]
        for connection in idle[::2]:
            connection.sendall(half)
        for _ in range(3):
            assert served.answers(asked) == [200]
        ended = select.select(idle, [], [], 0)[0]
        assert 20 <= len(ended) < MOST
        assert [statuses(connection) for connection in ended] == [[]] * len(ended)
        left = next(number for number, connection in enumerate(idle) if connection not in ended)
        idle[left].sendall(asked.removeprefix(b"" if left % 2 else half))
        assert statuses(idle[left]) == [200]


def test_a_client_that_goes_away(served: Serving) -> None:
    """A request whose client is gone before the answer leaves the others their answers, and no thread behind."""
    for _ in range(20):
        with served.connected() as connection:
            connection.sendall(served.request())
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.request("GET", "/", headers={"Cookie": f"{served.keys.cookie_name}={served.keys.cookie}"})
    assert connection.getresponse().status == 200
    connection.close()

"""libcurl as a transport of httpx: what only it can do wrong. What S3 may answer is in test_s3.py, for both."""

import itertools
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import httpx
import pycurl
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.fakes.certificates import make_certificate
from vbnfs.s3 import curl
from vbnfs.s3.curl import PIECE_BYTES, CurlTransport, _Transfer, trusted_certificates

MIB = 1 << 20
BLOCK_BYTES = 256 << 10  # what is asked for at the least
BODY = bytes(range(256)) * 256  # 64 KiB

Talk = Callable[[socket.socket], None]


@contextmanager
def server(*talks: Talk) -> Iterator[str]:
    """Serves one connection for each talk, one after the other; yields the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for talk in talks:
                connection, _ = listener.accept()
                with connection:
                    talk(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/key"
        thread.join(10)
        assert not thread.is_alive()


@asynccontextmanager
async def client(*, max_connections: int = 4, certificates: bytes = b"") -> AsyncIterator[httpx.AsyncClient]:
    transport = CurlTransport(certificates=certificates, max_connections=max_connections)
    async with httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(10, pool=None)) as made:
        yield made


def asked(connection: socket.socket) -> bytes:
    """Read a request's head."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("closed before it asked")
        head += piece
    return head


def head(length: int, *more: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 206 Partial Content", f"Content-Length: {length}", *more, "", ""]).encode()


@pytest.mark.parametrize("more", [b"X-More: and more\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"."])
async def test_a_head_that_is_too_long_is_refused(more: bytes) -> None:
    """A head that does not end, however fast it comes, is given up at once: it takes neither memory nor time."""

    def talk(connection: socket.socket) -> None:
        asked(connection)
        with suppress(OSError):
            connection.sendall(b"HTTP/1.1 206 OK\r\n" if more != b"HTTP/1.1 100 Continue\r\n\r\n" else b"")
            while True:
                connection.sendall(more * 1000)

    with server(talk) as url:
        async with client() as curl_client:
            with trio.fail_after(5), pytest.raises(httpx.TransportError):
                await curl_client.get(url)


async def test_heads_before_and_trailers_after_the_head() -> None:
    """Interim replies and trailers are no part of the reply; its headers come as they were sent."""

    def talk(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n")
        connection.sendall(b"HTTP/1.1 206 OK\r\nX-Two:  a b \r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n")
        connection.sendall(b"5\r\nhello\r\n0\r\nT: late\r\n\r\n")

    with server(talk) as url:
        async with client() as made:
            reply = await made.get(url)
    assert (reply.status_code, reply.content, reply.headers["x-two"]) == (206, b"hello", "a b")
    assert "link" not in reply.headers
    assert "t" not in reply.headers


async def test_the_request_is_httpxs() -> None:
    """Method, path and headers go out as httpx made them: dots in the path stay, nothing is asked besides."""
    heads: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        heads.append(asked(connection))
        connection.sendall(head(0))
        heads.append(asked(connection))
        connection.sendall(head(9))

    with server(talk) as url:
        async with client() as made:
            await made.get(f"{url}/a/%2E%2E/b?versionId=1", headers={"Range": "bytes=0-1", "User-Agent": "me"})
            await made.head(url)
    assert heads[0].startswith(b"GET /key/a/%2E%2E/b?versionId=1 HTTP/1.1\r\n")
    assert b"range: bytes=0-1\r\n" in heads[0].lower()
    assert heads[0].lower().count(b"\r\nhost:") == heads[0].lower().count(b"\r\nuser-agent:") == 1
    assert heads[1].startswith(b"HEAD /key HTTP/1.1\r\n")


async def test_a_body_that_is_not_taken_waits_at_the_server() -> None:
    """However large a body, only a little of it is in memory before somebody takes it; then all of it comes."""
    size = 64 * MIB
    sent = 0

    def talk(connection: socket.socket) -> None:
        nonlocal sent
        asked(connection)
        connection.sendall(head(size))
        while sent < size:
            sent += connection.send(BODY)

    with server(talk) as url:
        async with client() as made, made.stream("GET", url) as reply:
            pieces = reply.aiter_raw()
            taken = len(await anext(pieces))
            before = -1
            while before != sent:  # until the server cannot send any more
                before = sent
                await trio.to_thread.run_sync(threading.Event().wait, 0.1)
            assert sent < size // 2
            async for piece in pieces:
                taken += len(piece)
    assert taken == size


async def test_pieces_are_whole_blocks() -> None:
    """Whatever the sizes in which a body is sent, its first piece is a block, and the others end at whole pieces."""
    size = 17 * BLOCK_BYTES + 1000

    def talk(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(head(size))
        data = memoryview((BODY * (size // len(BODY) + 1))[:size])
        while data:
            connection.sendall(data[:7001])
            data = data[7001:]

    with server(talk) as url:
        async with client() as made, made.stream("GET", url) as reply:
            pieces = [piece async for piece in reply.aiter_raw()]
    assert [len(piece) for piece in pieces] == [BLOCK_BYTES, 7 * BLOCK_BYTES, PIECE_BYTES, BLOCK_BYTES + 1000]
    assert b"".join(pieces) == (BODY * (size // len(BODY) + 1))[:size]


async def test_a_block_does_not_wait_for_other_connections_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of five long replies wait, and then those of a block: at most one of the five has its turn before."""
    turns: list[_Transfer] = []
    take_part = _Transfer._take_part

    def noted(transfer: _Transfer, part: bytes) -> int | None:
        turns.append(transfer)
        return take_part(transfer, part)

    monkeypatch.setattr(_Transfer, "_take_part", noted)
    transport = CurlTransport(certificates=b"", max_connections=6)
    is_held, may_go_on = threading.Event(), threading.Event()

    def hold() -> None:
        is_held.set()
        may_go_on.wait(10)

    def serve(listener: socket.socket) -> None:
        connections = []
        for _ in range(6):
            connection, _ = listener.accept()
            is_short = b"bytes=0-262143\r" in asked(connection)
            connection.sendall(head(BLOCK_BYTES if is_short else 100 * BLOCK_BYTES))
            connections.insert(len(connections) if is_short else 0, connection)
        is_held.wait(10)
        for connection in connections:
            connection.sendall(BODY)
        may_go_on.set()
        for connection in connections:
            connection.close()

    async def ask(last: int, *, task_status: trio.TaskStatus[None]) -> None:
        async with made.stream("GET", url, headers={"Range": f"bytes=0-{last}"}) as reply:
            task_status.started()
            with suppress(httpx.TransportError):
                await reply.aread()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/key"
        async with (
            httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(10, pool=None)) as made,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(trio.to_thread.run_sync, serve, listener)
            async with trio.open_nursery() as asking:
                for last in (*[100 * BLOCK_BYTES - 1] * 5, BLOCK_BYTES - 1):
                    asking.start_soon(nursery.start, ask, last)
            transport._multi.call(hold)
    before = list(itertools.takewhile(lambda transfer: not transfer.is_short, turns))
    assert len(turns) > len(before)
    assert len(set(map(id, before))) <= 1


async def test_a_defect_in_the_thread_ends_what_is_under_way_and_nothing_else() -> None:
    """Whatever libcurl or the thread fails with: those who wait are told, the next request begins anew."""

    def stall(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(head(1000) + bytes(10))
        assert connection.recv(1) == b""  # the connection has been ended

    def answer(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(head(3) + b"abc")

    def fail() -> None:
        raise pycurl.error("a defect")

    transport = CurlTransport(certificates=b"", max_connections=4)
    with server(stall, answer) as url, capture_logs() as told:
        async with httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(10, pool=None)) as made:
            async with made.stream("GET", url) as reply:
                transport._multi.call(fail)
                with pytest.raises(httpx.ReadError, match="libcurl failed"):
                    await reply.aread()
            assert (await made.get(url)).content == b"abc"
    assert [line["event"] for line in told] == ["libcurl failed; its connections begin anew"]


async def test_a_body_that_stops_is_handed_on() -> None:
    """What has come is handed on although the piece is not full, and the pieces after it end where blocks do."""
    gate = threading.Event()
    size = 2 * 256 * 1024

    def talk(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(head(size) + b"a")
        gate.wait(10)
        connection.sendall(b"b" * (size - 1))

    with server(talk) as url:
        async with client() as made, made.stream("GET", url) as reply:
            pieces = reply.aiter_raw()
            assert await anext(pieces) == b"a"
            gate.set()
            assert [len(piece) async for piece in pieces] == [size // 2 - 1, size // 2]


async def test_a_slow_body_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends little but often is not taken for one that is silent."""
    monkeypatch.setattr(curl, "_HOLD_SECONDS", 0.0)
    monkeypatch.setattr(curl, "_TICK_SECONDS", 0.0)
    gate = threading.Event()

    def talk(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(head(20_000))
        while not gate.is_set():
            connection.sendall(b"a")
        connection.sendall(b"b" * 20_000)

    with server(talk) as url:
        async with client() as made, made.stream("GET", url) as reply:
            pieces = reply.aiter_raw()
            assert set(await anext(pieces)) == {ord("a")}
            gate.set()
            assert sum([len(piece) async for piece in pieces]) < 20_000


async def test_closing_ends_what_is_on_its_way() -> None:
    """When the client is closed, requests that wait for a reply fail at once, and no thread stays."""

    def talk(connection: socket.socket) -> None:
        asked(connection)
        assert connection.recv(1) == b""

    with server(talk) as url:
        async with trio.open_nursery() as nursery:
            transport = CurlTransport(certificates=b"", max_connections=1)
            async with httpx.AsyncClient(transport=transport, timeout=None) as made:
                failures: list[Exception] = []

                async def ask() -> None:
                    try:
                        await made.get(url)
                    except httpx.TransportError as error:
                        failures.append(error)

                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked(0.05)
        assert [type(failure) for failure in failures] == [httpx.ReadError]
    assert not [thread for thread in threading.enumerate() if thread.name == "curl"]


async def test_a_reply_that_is_no_http() -> None:
    """Garbage is a protocol error, as is a status that is none, and a connection that ends too early."""
    talks: list[Talk] = []
    for words in (
        b"\0\1garbage\r\n\r\n",
        b"HTTP/2 0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"",
        head(100) + b"too little",
    ):

        def talk(connection: socket.socket, words: bytes = words) -> None:
            asked(connection)
            connection.sendall(words)

        talks.append(talk)
    with server(*talks) as url:
        async with client() as made:
            for _ in talks:
                with pytest.raises(httpx.RemoteProtocolError):
                    await made.get(url)


NAMES = b"Content-Length Content-Range Content-Encoding Transfer-Encoding Connection Location Set-Cookie".split()
TEXTS = b"gzip chunked identity close -1 5 99999999999999999999 http://[ http:///x /x a=b;Max-Age=x \xff".split()
junk = st.binary(max_size=20)
status_lines = st.tuples(
    st.sampled_from(b"HTTP/1.1 HTTP/1.0 HTTP/2 HTTP/0.9".split()), st.integers(-1, 1100).map(b"%d".__mod__), junk
).map(b" ".join)
fields = st.tuples(st.sampled_from(NAMES) | junk, st.sampled_from(TEXTS) | junk).map(b":".join)
heads = st.tuples(
    st.sampled_from([b"\r\n", b"\n"]),
    status_lines | junk,
    st.lists(fields | junk, max_size=5),
    st.binary(max_size=30),
).map(lambda parts: parts[0].join([parts[1], *parts[2], b"", parts[3]]))


@given(st.lists(heads | junk, min_size=1, max_size=3).map(b"".join))
def test_any_head_is_a_reply_or_a_failure(words: bytes) -> None:
    """Whatever is sent as status line, headers and body, it is a reply or a failure of the network, and soon."""

    def talk(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(words)

    async def ask(url: str) -> None:
        async with client(max_connections=1) as made:
            with trio.fail_after(10), suppress(httpx.TransportError):
                reply = await made.get(url)
                assert 200 <= reply.status_code < 1000

    with server(talk) as url:
        trio.run(ask, url)


async def test_a_server_that_is_not_trusted(tmp_path: Path) -> None:
    """A certificate of an authority that is not among the trusted ones is a failure to connect, and says why."""
    certificate = make_certificate(tmp_path, "IP:127.0.0.1")
    context = certificate.server_context()
    trusting = ssl.create_default_context(cafile=certificate.path)

    def talk(connection: socket.socket) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as stream:
                asked(stream)
                stream.sendall(head(2) + b"ok")
        except (ssl.SSLError, ConnectionError):
            return

    with server(talk, talk) as plain_url:
        url = plain_url.replace("http:", "https:")
        async with client(certificates=trusted_certificates(ssl.create_default_context())) as made:
            with pytest.raises(httpx.ConnectError) as caught:
                await made.get(url)
            assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        async with client(certificates=trusted_certificates(trusting)) as made:
            assert (await made.get(url)).content == b"ok"


def test_certificates_in_a_folder_are_not_listed(tmp_path: Path) -> None:
    """A context that looks certificates up in a folder as it meets them has none to list."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(capath=tmp_path)
    assert trusted_certificates(context) == b""

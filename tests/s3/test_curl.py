"""libcurl as a `RangeTransport`: what only it can do wrong. What S3 may answer is in the tests of the client."""

import itertools
import os
import random
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pycurl
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.fakes.certificates import make_certificate
from tests.fixtures_receiving import chosen, until_ready
from vbnfs.blocks import BLOCK_BYTES, MOST_WAITING_BYTES, PIECE_BYTES
from vbnfs.errors import (
    AccessDeniedError,
    BadReplyError,
    MismatchError,
    StorageError,
    TransportError,
    UntrustedServerError,
)
from vbnfs.host.memory_file import MemoryFile
from vbnfs.objects import ByteRange, ObjectVersion, Piece, RangeRequest, Sink
from vbnfs.s3 import curl_options, curl_thread, curl_transfer, storing
from vbnfs.s3.arrivals import Arrivals
from vbnfs.s3.curl import CurlTransport
from vbnfs.s3.curl_transfer import Transfer
from vbnfs.s3.generations import Generations
from vbnfs.s3.ranges import Done, Event, Failed, RangeGet, get_of
from vbnfs.s3.receivers import ReceiverTransport
from vbnfs.s3.replies import Head
from vbnfs.s3.trust import Trust, load, places_of

MIB = 1 << 20
BODY = bytes(range(256)) * 256  # 64 KiB
NOISE = random.Random(1).randbytes(3 * MOST_WAITING_BYTES)
NO_TRUST: Final = Trust()

BOTH: Final = pytest.mark.usefixtures("receiving")

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
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(60)
        assert not thread.is_alive()


@asynccontextmanager
async def transport(*, max_connections: int = 4, trust: Trust = NO_TRUST) -> AsyncIterator[CurlTransport]:
    more: Any = {"trust": trust, "proxy": None, "max_connections": max_connections, "generations": Generations()}
    own, program = CurlTransport(**more), chosen()
    async with own if program is None else ReceiverTransport(program, own, **more) as made:
        await until_ready(made)
        yield made


def get(url: str, length: int = 3, start: int = 0) -> RangeGet:
    """The GET of a range of an object that ends with it."""
    return get_of(url, RangeRequest(ObjectVersion("key", None), ByteRange(start, start + length), start + length))


async def events(arrivals: Arrivals) -> list[Event]:
    """All events that are still to come."""
    got = [await arrivals.next()]
    while not isinstance(got[-1], Done | Failed):
        got.append(await arrivals.next())
    return got


async def fetched(made: CurlTransport, wanted: RangeGet) -> list[Event]:
    """All events of a GET."""
    with trio.fail_after(60):
        async with made.begin(wanted) as arrivals:
            return await events(arrivals)


def data_of(got: list[Event]) -> bytes:
    return b"".join(event.data for event in got if isinstance(event, Piece))


def failure_of(got: list[Event]) -> StorageError:
    [failed] = [event for event in got if isinstance(event, Failed)]
    assert got[-1] is failed
    return failed.error


def asked(connection: socket.socket) -> bytes:
    """Read a request's head."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("closed before it asked")
        head += piece
    return head


def head(length: int, *more: str, start: int = 0) -> bytes:
    """The head of the reply to `get`."""
    whole = f"Content-Range: bytes {start}-{start + length - 1}/{start + length}"
    return "\r\n".join(["HTTP/1.1 206 Partial Content", f"Content-Length: {length}", whole, *more, "", ""]).encode()


@BOTH
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
        async with transport() as made:
            with trio.fail_after(12):
                assert isinstance(failure_of(await fetched(made, get(url))), TransportError)


@BOTH
async def test_heads_before_and_trailers_after_the_head() -> None:
    """Interim replies and trailers are no part of the reply; its fields come as they were sent."""

    def talk(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n")
        connection.sendall(b"HTTP/1.1 206 OK\r\nX-Two:  a b \r\nx-two: c\r\nContent-Range: bytes 0-4/5\r\n")
        connection.sendall(b"Transfer-Encoding: chunked\r\nTrailer: T\r\n\r\n")
        connection.sendall(b"5\r\nhello\r\n0\r\nT: late\r\n\r\n")

    with server(talk) as url:
        async with transport() as made:
            first, *rest = await fetched(made, get(url, 5))
    assert isinstance(first, Head)
    assert (first.status, first.fields["x-two"]) == (206, "a b, c")
    assert not {"link", "t"} & first.fields.keys()
    assert rest == [Piece(0, b"hello"), Done()]


async def test_the_request_is_as_the_value_says() -> None:
    """Path and header fields go out as they stand in the value: dots in the path stay, nothing is asked besides."""
    requests: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        requests.append(asked(connection))
        connection.sendall(head(3) + b"abc")

    with server(talk) as url:
        version = ObjectVersion("a/../b", "1", "etag")
        wanted = get_of(url, RangeRequest(version, ByteRange(0, 3), 3))
        async with transport() as made:
            await fetched(made, wanted)
    [request] = requests
    assert request.startswith(b"GET /a/%2E%2E/b?versionId=1 HTTP/1.1\r\n")
    fields = dict(line.split(b": ", 1) for line in request.lower().split(b"\r\n")[1:-2])
    assert fields == {
        **{b"host": url.removeprefix("http://").encode(), b"accept": b"*/*", b"accept-encoding": b"identity"},
        **{b"user-agent": b"vbnfs", b"range": b"bytes=0-2", b"if-match": b'"etag"'},
        b"cache-control": b"no-transform",
    }


@BOTH
async def test_no_byte_comes_before_the_head_is_checked() -> None:
    """A head of another range is a failure, and no piece of its body comes, nor does the connection stay."""

    def talk(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(head(1000, start=1) + bytes(1000))
        assert connection.recv(1) == b""

    with server(talk) as url:
        async with transport() as made:
            [only] = await fetched(made, get(url, 2 * BLOCK_BYTES))
    assert isinstance(failure_of([only]), BadReplyError)


async def test_an_error_whose_body_stops_is_that_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status came, and counts: the body that explains it is not waited for without end."""
    monkeypatch.setattr(curl_transfer, "_ERROR_BODY_SECONDS", 0.1)

    def talk(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\n<Code>AccessDenied</Code>")
        assert connection.recv(1) == b""

    with server(talk) as url:
        async with transport() as made:
            failure = failure_of(await fetched(made, get(url)))
    assert isinstance(failure, AccessDeniedError)
    assert "AccessDenied" in str(failure)


@BOTH
async def test_a_body_that_is_not_taken_waits_at_the_server() -> None:
    """However large a body, only a little of it is in memory before it is taken; then all of it comes."""
    size = 64 * MIB
    sent = 0

    def talk(connection: socket.socket) -> None:
        nonlocal sent
        asked(connection)
        connection.sendall(head(size))
        while sent < size:
            sent += connection.send(BODY)

    with server(talk) as url:
        async with transport() as made, made.begin(get(url, size)) as arrivals:
            assert isinstance(await arrivals.next(), Head)
            taken = len(data_of([await arrivals.next()]))
            before = -1
            while before != sent:  # until the server cannot send any more
                before = sent
                await trio.to_thread.run_sync(threading.Event().wait, 0.1)
            assert sent < size // 2
            while isinstance(event := await arrivals.next(), Piece):
                assert event.start == taken
                taken += len(event.data)
    assert taken == size


async def test_a_body_too_long_that_was_held_back_fails_alone() -> None:
    """Bytes too many that come while a transfer is paused end that transfer, and no other one."""
    size, may_go_on = MOST_WAITING_BYTES, threading.Event()

    def talk_on(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(head(3) + b"a")
        may_go_on.wait(60)
        connection.sendall(b"bc")

    def talk_too_much(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(head(size, "Transfer-Encoding: chunked").replace(b"Content-Length", b"X"))
        for part in (bytes(size), b"1"):
            connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        connection.recv(1)  # until the connection has been ended

    with server(talk_on) as url, server(talk_too_much) as other_url, capture_logs() as logs:
        async with transport() as made, made.begin(get(url)) as other, made.begin(get(other_url, size)) as arrivals:
            assert isinstance(await other.next(), Head)
            with trio.fail_after(60):
                while not arrivals._is_paused:
                    await trio.lowlevel.checkpoint()
                assert isinstance(failure_of(await events(arrivals)), MismatchError)
            may_go_on.set()
            assert data_of(await events(other)) == b"abc"
    assert logs == []


class HangingSink(Sink):
    """A disk that takes nothing, and does not say so, until it `goes_on`."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()

    def store(self, start: int, parts: Sequence[bytes]) -> bool:
        return self.goes_on.wait(60)


@asynccontextmanager
async def stored(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[CurlTransport, Arrivals, Callable[[], None]]]:
    """A GET of so many bytes for a disk that hangs until all is over, and what has it not be waited for any more."""
    monkeypatch.setattr(storing, "PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr(storing, "TURN_SECONDS", 60.0)
    sink = HangingSink()

    def talk(connection: socket.socket) -> None:
        asked(connection)
        with suppress(OSError):
            connection.sendall(head(size) + NOISE[:size])

    with server(talk) as url:
        wanted = get(url, size)
        wanted = replace(wanted, request=replace(wanted.request, sink=sink))
        async with transport() as made:
            try:
                async with made.begin(wanted) as arrivals:
                    yield made, arrivals, lambda: monkeypatch.setattr(storing, "PATIENCE_SECONDS", 0.0)
            finally:
                sink.goes_on.set()


async def test_what_waits_for_a_disk_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GET whose bytes wait for a disk is paused at `MOST_WAITING_BYTES`; so it is when they were given up.

    All of them come, in their order, as soon as they are taken.
    """
    size = 3 * MOST_WAITING_BYTES
    async with stored(size, monkeypatch) as (_, arrivals, give_up):
        with trio.fail_after(60):
            while not arrivals._is_paused:
                await trio.lowlevel.checkpoint()
            assert isinstance(await arrivals.next(), Head)
            give_up()
            got = [await arrivals.next()]
            assert isinstance(got[0], Piece)
            most = MOST_WAITING_BYTES + curl_options._BUFFER_BYTES
            assert arrivals.received_bytes <= most + len(got[0])
            while not isinstance(got[-1], Done | Failed):
                got.append(await arrivals.next())
                assert arrivals.waiting_bytes <= most
        assert data_of(got) == NOISE[:size]


async def test_the_end_of_a_body_does_not_wait_for_a_disk_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when libcurl is done with it: what waits is given up, and the GET is over."""
    size = 2 * BLOCK_BYTES
    async with stored(size, monkeypatch) as (made, arrivals, give_up):
        with trio.fail_after(60):
            while not made._thread._storing:
                await trio.lowlevel.checkpoint()
            assert isinstance(await arrivals.next(), Head)
            give_up()
            got = await events(arrivals)
        assert (data_of(got), got[-1]) == (NOISE[:size], Done())
        while made._thread._storing:
            await trio.lowlevel.checkpoint()


async def test_a_get_that_nothing_wants_any_more_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What of it waits for a disk that hangs is given up as well: it takes no memory as long as that lasts."""
    async with stored(3 * MOST_WAITING_BYTES, monkeypatch) as (made, arrivals, give_up):
        with trio.fail_after(60):
            while not arrivals._is_paused:
                await trio.lowlevel.checkpoint()
            [transfer] = (one for each in made._thread._open for one in each.transfers.values())
            made._thread.call(partial(made._thread.remove, transfer))
            while not made._thread._storing:
                await trio.lowlevel.checkpoint()
            give_up()
            while made._thread._storing:
                await trio.lowlevel.checkpoint()
            assert not transfer.is_storing


@BOTH
async def test_pieces_are_whole_blocks() -> None:
    """Whatever the sizes in which a body is sent, its first piece is a block, and the others end at whole pieces."""
    size = 17 * BLOCK_BYTES + 1000

    def talk(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(head(size, start=5))
        data = memoryview((BODY * (size // len(BODY) + 1))[:size])
        while data:
            connection.sendall(data[:7001])
            data = data[7001:]

    with server(talk) as url:
        async with transport() as made:
            got = await fetched(made, get(url, size, start=5))
    pieces = [event for event in got if isinstance(event, Piece)]
    lengths = [BLOCK_BYTES, 3 * BLOCK_BYTES, *[PIECE_BYTES] * 3, BLOCK_BYTES + 1000]
    assert [len(piece.data) for piece in pieces] == lengths
    assert [piece.start for piece in pieces] == [5, *(5 + end for end in itertools.accumulate(lengths[:-1]))]
    assert data_of(got) == (BODY * (size // len(BODY) + 1))[:size]


async def test_a_block_does_not_wait_for_other_connections_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of five long replies wait, and then those of a block: at most one of the five has its turn before."""
    turns: list[Transfer] = []
    take_part = Transfer._take_part

    def noted(transfer: Transfer, part: bytes) -> int | None:
        turns.append(transfer)
        return take_part(transfer, part)

    monkeypatch.setattr(Transfer, "_take_part", noted)
    is_held, may_go_on = threading.Event(), threading.Event()

    def hold() -> None:
        is_held.set()
        may_go_on.wait(60)

    def serve(listener: socket.socket) -> None:
        connections = []
        for _ in range(6):
            connection, _ = listener.accept()
            is_short = b"bytes=0-262143\r" in asked(connection)
            connection.sendall(head(BLOCK_BYTES if is_short else 100 * BLOCK_BYTES))
            connections.insert(len(connections) if is_short else 0, connection)
        is_held.wait(60)
        for connection in connections:
            connection.sendall(BODY)
        may_go_on.set()
        for connection in connections:
            connection.close()

    async def ask(length: int, *, task_status: trio.TaskStatus[None]) -> None:
        async with made.begin(get(url, length)) as arrivals:
            assert isinstance(await arrivals.next(), Head)
            task_status.started()
            await events(arrivals)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with transport(max_connections=6) as made, trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, serve, listener)
            async with trio.open_nursery() as asking:
                for length in (*[100 * BLOCK_BYTES] * 5, BLOCK_BYTES):
                    asking.start_soon(nursery.start, ask, length)
            made._thread.call(hold)
    before = list(itertools.takewhile(lambda transfer: not transfer.is_short, turns))
    assert len(turns) > len(before)
    assert len(set(map(id, before))) <= 1


async def test_a_defect_in_the_thread_ends_what_is_under_way_and_nothing_else() -> None:
    """Whatever libcurl or the thread fails with: what is under way fails, the next request begins anew."""

    def stall(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(head(1000) + bytes(10))
        assert connection.recv(1) == b""  # the connection has been ended

    def answer(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(head(3) + b"abc")

    def fail() -> None:
        raise pycurl.error("a defect")

    with server(stall, answer) as url, capture_logs() as logs:
        async with transport() as made:
            async with made.begin(get(url, 1000)) as arrivals:
                assert isinstance(await arrivals.next(), Head)
                made._thread.call(fail)
                failure = failure_of(await events(arrivals))
                assert isinstance(failure, TransportError)
                assert "libcurl failed" in str(failure)
            assert data_of(await fetched(made, get(url))) == b"abc"
    assert [line["event"] for line in logs] == ["libcurl failed; its connections begin anew"]


@BOTH
async def test_a_body_that_stops_is_handed_on() -> None:
    """What has come is handed on although the piece is not full, and the pieces after it end where blocks do."""
    gate = threading.Event()
    size = 2 * 256 * 1024

    def talk(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(head(size) + b"a")
        gate.wait(60)
        connection.sendall(b"b" * (size - 1))

    with server(talk) as url:
        async with transport() as made, made.begin(get(url, size)) as arrivals:
            assert isinstance(await arrivals.next(), Head)
            assert await arrivals.next() == Piece(0, b"a")
            gate.set()
            got = await events(arrivals)
    assert [len(event.data) for event in got if isinstance(event, Piece)] == [size // 2 - 1, size // 2]


async def test_a_slow_body_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends little but often is not taken for one that is silent."""
    monkeypatch.setattr(curl_transfer, "_HOLD_SECONDS", 0.0)
    monkeypatch.setattr(curl_thread, "TICK_SECONDS", 0.0)
    gate = threading.Event()
    size = 20 * MIB

    def talk(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(head(size))
        sent = 0
        while not gate.is_set() and sent < size // 2:
            sent += connection.send(b"a")
        connection.sendall(b"b" * (size - sent))

    with server(talk) as url:
        async with transport() as made, made.begin(get(url, size)) as arrivals:
            assert isinstance(await arrivals.next(), Head)
            first = await arrivals.next()
            assert isinstance(first, Piece)
            assert set(first.data) == {ord("a")}
            gate.set()
            assert len(data_of(await events(arrivals))) == size - len(first.data)


@BOTH
async def test_closing_ends_what_is_on_its_way() -> None:
    """When the transport is closed, GETs that wait for a reply fail at once, and no thread stays."""

    def talk(connection: socket.socket) -> None:
        asked(connection)
        assert connection.recv(1) == b""

    with server(talk) as url:
        async with trio.open_nursery() as nursery, transport(max_connections=1) as made:
            failures: list[StorageError] = []

            async def ask() -> None:
                failures.append(failure_of(await fetched(made, get(url))))

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked(0.05)
        assert [type(failure) for failure in failures] == [TransportError]
    assert not [thread for thread in threading.enumerate() if thread.name == "curl"]


@BOTH
async def test_a_reply_that_is_no_http() -> None:
    """Garbage is a failure of the network, as is a status that is none, and a connection that ends too early."""
    talks: list[Talk] = []
    for words in (
        b"\0\1garbage\r\n\r\n",
        b"HTTP/2 0\r\n\r\n",
        b"HTTP/1.1 2060 OK\r\n\r\nbytes without a head",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"",
        head(100) + b"too little",
    ):

        def talk(connection: socket.socket, words: bytes = words) -> None:
            asked(connection)
            connection.sendall(words)

        talks.append(talk)
    with server(*talks) as url:
        async with transport() as made:
            for _ in talks:
                failure = failure_of(await fetched(made, get(url, 100)))
                assert type(failure) is TransportError
                assert "cannot be reached" not in str(failure)


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
    """Whatever is sent as status line, header fields and body, it is a reply or a failure, and soon."""

    def talk(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(words)

    async def ask(url: str) -> None:
        async with transport(max_connections=1) as made:
            got = await fetched(made, get(url))
            assert [type(event) for event in got[:-1]] in ([], [Head], [Head, Piece])
            assert (got[-1] == Done()) == (data_of(got) != b"" and len(data_of(got)) == 3)

    with server(talk) as url:
        trio.run(ask, url)


@BOTH
async def test_a_server_that_is_not_trusted(tmp_path: Path) -> None:
    """A certificate of an authority that is not among the trusted ones is refused, and says why."""
    certificate = make_certificate(tmp_path, "IP:127.0.0.1")
    context = certificate.server_context()
    trusting = load(places_of(certificate.path, {}))

    def talk(connection: socket.socket) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as stream:
                asked(stream)
                stream.sendall(head(2) + b"ok")
        except (ssl.SSLError, ConnectionError):
            return

    with server(talk, talk, talk) as plain_url:
        url = plain_url.replace("http:", "https:")
        for suspicious in (load(places_of(None, {})), NO_TRUST):
            async with transport(trust=suspicious) as made:
                failure = failure_of(await fetched(made, get(url, 2)))
                assert isinstance(failure, UntrustedServerError)
                assert "certificate" in str(failure)
        async with transport(trust=trusting) as made:
            assert data_of(await fetched(made, get(url, 2))) == b"ok"


async def test_certificates_are_read_once_for_all_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that libcurl has of them is no more asked for by a second connection: nothing is left of it then."""
    made_files: list[MemoryFile] = []

    def made_file(data: bytes, *, name: str) -> MemoryFile:
        made_files.append(MemoryFile(data, name=name))
        return made_files[-1]

    monkeypatch.setattr(curl_options, "MemoryFile", made_file)
    certificate = make_certificate(tmp_path, "IP:127.0.0.1")
    context = certificate.server_context()

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as stream:
            asked(stream)
            stream.sendall(head(2).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b"ok")

    with server(talk, talk) as plain_url:
        wanted = get(plain_url.replace("http:", "https:"), 2)
        trust = load(places_of(certificate.path, {}))
        async with CurlTransport(trust=trust, proxy=None, max_connections=1) as made:
            assert data_of(await fetched(made, wanted)) == b"ok"
            [file] = made_files
            assert Path(file.path).read_bytes() == trust.pem
            os.truncate(file.path, 0)
            assert data_of(await fetched(made, wanted)) == b"ok"


@BOTH
async def test_certificates_where_no_file_can_be_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on systems other than Linux, or with no descriptor left: then libcurl gets the bytes."""
    monkeypatch.delattr(os, "memfd_create")
    await test_a_server_that_is_not_trusted(tmp_path)

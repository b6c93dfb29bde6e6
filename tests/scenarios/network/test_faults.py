"""Every way in which a server or a network fails, through the real client, as a mount has it, and a real server."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing

from tests.fakes.certificates import make_certificate
from tests.fakes.name_server import NAME_SERVER, NameServer
from tests.fakes.s3_server import (
    RANGE_IGNORED,
    Behaviour,
    FakeS3Server,
    Reply,
    Request,
    always,
    at_most,
    cut_after,
    error,
    for_kind,
    header,
    held,
    times,
)
from tests.fakes.store import MemoryStore, Pattern
from tests.mount_namespaces import NO_MOUNTS
from vbnfs.access.opening import make_client, make_reading_client
from vbnfs.config.sources import load_config
from vbnfs.errors import (
    AccessDeniedError,
    BadReplyError,
    BusyError,
    ChangedError,
    MismatchError,
    ObjectGoneError,
    OfflineError,
    StorageError,
    TransportError,
    UntrustedServerError,
)
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ObjectVersion, Piece, RangeRequest
from vbnfs.s3.curl import CurlTransport
from vbnfs.s3.ranges import get_of, receive_all
from vbnfs.s3.retry import RetryingClient
from vbnfs.s3.trust import Trust

SIZE: Final = 300_000
VERSION: Final = ObjectVersion("data/file.nwb", "the-version")
RANGE: Final = ByteRange(1_000, 290_000)


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    store = MemoryStore("data-bucket")
    store.put(VERSION.key, Pattern(SIZE), version_id=VERSION.version_id)
    with FakeS3Server(store) as running:
        yield running


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@asynccontextmanager
async def reading(
    endpoint_url: str, metrics: Metrics | None = None, **settings: str
) -> AsyncIterator[RetryingClient]:
    """The client that a mount reads blocks with."""
    metrics = metrics or Metrics()
    texts = {"endpoint_url": endpoint_url, "bucket": "data-bucket", **settings}
    config = load_config(command_line=texts, environ={})
    async with make_client(config, metrics) as link, trio.open_nursery() as nursery:
        nursery.start_soon(link.watch)
        client, _ = make_reading_client(config, link, metrics)
        yield client
        nursery.cancel_scope.cancel()


async def fetch(client: RetryingClient) -> bytes:
    received = bytearray()

    async def receive(piece: Piece) -> None:
        received.extend(piece.data)

    await client.get_range(RangeRequest(VERSION, RANGE, SIZE), receive)
    return bytes(received)


WANTED: Final = Pattern(SIZE)[RANGE.start : RANGE.stop]


def _shifted(request: Request, honest: Reply) -> Reply:
    """Other bytes, honestly announced as such."""
    content_range = honest.headers["Content-Range"].replace("1000-", "0-").replace("-289999/", "-288999/")
    return replace(honest, body=b"\0" * len(honest.body)).with_headers(Content_Range=content_range)


PASSING: Final[dict[str, Behaviour]] = {
    "503 SlowDown": always(error(503, "SlowDown")),
    "500": always(error(500, "InternalError")),
    "429 with Retry-After": always(error(429, "TooManyRequests", Retry_After="1")),
    "reset before the head": always(Reply(raw=b"")),
    "reset midway": cut_after(100_001),
    "truncated": lambda request, honest: Reply(206, honest.headers, honest.body[:-7], cut=len(honest.body)),
    "200 instead of 206": RANGE_IGNORED,
    "shifted range": _shifted,
    "wrong version id": header(x_amz_version_id="another"),
    "another size": header(Content_Range=f"bytes 1000-289999/{SIZE + 1}"),
    "beyond the end": always(error(416, "InvalidRange")),
    "redirect": always(error(307, "TemporaryRedirect", Location="http://127.0.0.1:1/")),
    "garbage": always(Reply(raw=b"\x16\x03\x01 this is not HTTP\r\n\r\n")),
}


@pytest.mark.parametrize("fault", PASSING)
async def test_a_fault_that_passes_is_not_noticed(server: FakeS3Server, metrics: Metrics, fault: str) -> None:
    """A fault that may be another's at the next try is tried again, and the bytes are right, each handed on once."""
    server.behaviours.append(times(2, for_kind("get_range", PASSING[fault])))
    async with reading(server.endpoint_url, metrics) as client:
        assert await fetch(client) == WANTED
    assert metrics.range_requests == server.count("get_range") == 3
    assert metrics.failed_requests == 2 + metrics.head_requests  # which looked whether the server is there


async def test_a_server_that_restarts_is_not_noticed(server: FakeS3Server, metrics: Metrics) -> None:
    """Connections that break and are refused for less than it takes to be offline only delay a reader."""

    async def read_on() -> None:
        assert await fetch(client) == WANTED

    async with reading(server.endpoint_url, metrics) as client, trio.open_nursery() as nursery:
        await read_on()
        with server.refusing():
            nursery.start_soon(read_on)
            while not metrics.failed_requests:
                await trio.testing.wait_all_tasks_blocked(0.005)


LASTING: Final[dict[str, tuple[Behaviour, type[StorageError], int]]] = {
    "200 instead of 206": (RANGE_IGNORED, MismatchError, 5),
    "shifted range": (_shifted, MismatchError, 5),
    "a byte at a time": (at_most(1), MismatchError, 25),
    "wrong version id": (header(x_amz_version_id="another"), ChangedError, 5),
    "another size": (header(Content_Range=f"bytes 1000-289999/{SIZE + 1}"), ChangedError, 5),
    "beyond the end": (always(error(416, "InvalidRange")), ChangedError, 5),
    "redirect": (always(error(307, "TemporaryRedirect", Location="http://127.0.0.1:1/")), MismatchError, 5),
    "forbidden": (always(error(403, "AccessDenied")), AccessDeniedError, 1),
    "gone": (always(error(404, "NoSuchVersion")), ObjectGoneError, 1),
    "Retry-After beyond the time allowed": (
        always(error(503, "SlowDown", Retry_After="3600")),
        BusyError,
        1,
    ),
}


async def test_a_part_of_a_range_is_no_fault(server: FakeS3Server, metrics: Metrics) -> None:
    """A server that sends less than it is asked for is asked for the rest, by the connection that is open."""
    server.behaviours.append(for_kind("get_range", at_most(100_000)))
    async with reading(server.endpoint_url, metrics) as client:
        assert await fetch(client) == WANTED
    assert (server.count("get_range"), metrics.failed_requests, server.connections) == (3, 0, 1)


@pytest.mark.parametrize("fault", LASTING)
async def test_a_fault_that_lasts_is_reported_soon(server: FakeS3Server, fault: str) -> None:
    """What another try cannot help is not tried; what a proxy garbles is tried five times, and never believed."""
    behaviour, expected, tries = LASTING[fault]
    server.behaviours.append(for_kind("get_range", behaviour))
    async with reading(server.endpoint_url) as client:
        with pytest.raises(expected):
            await fetch(client)
    assert server.count("get_range") == tries


async def test_a_missing_version_id_is_tolerated(server: FakeS3Server) -> None:
    """A server that sends no version id is believed where range and size are right: what S3 itself does at times."""
    server.behaviours.append(header(x_amz_version_id=""))
    async with reading(server.endpoint_url) as client:
        assert await fetch(client) == WANTED


async def test_retry_after_is_honoured(
    server: FakeS3Server, metrics: Metrics, mock_clock: trio.testing.MockClock
) -> None:
    """The server is left alone for as long as it says, and not asked a moment before."""
    server.behaviours.append(times(1, for_kind("get_range", always(error(503, "SlowDown", Retry_After="7")))))
    async with reading(server.endpoint_url, metrics) as client, trio.open_nursery() as nursery:
        nursery.start_soon(fetch, client)
        while not metrics.failed_requests:
            await trio.testing.wait_all_tasks_blocked(0.005)
        mock_clock.jump(6.9)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert server.count("get_range") == 1
        mock_clock.jump(0.2)
    assert server.count("get_range") == 2


@pytest.mark.parametrize("after_bytes", [None, 100_000], ids=["no answer", "bytes stop"])
async def test_a_stall_is_asked_for_elsewhere(
    server: FakeS3Server, metrics: Metrics, mock_clock: trio.testing.MockClock, after_bytes: int | None
) -> None:
    """A GET that stalls is asked for once more, on another connection, from where its bytes stopped."""
    stalled = times(1, lambda _request, honest: replace(honest, gate=threading.Event(), gate_after=after_bytes))
    server.behaviours.append(for_kind("get_range", stalled))

    async def jump() -> None:
        await trio.to_thread.run_sync(
            server.wait_until, lambda s: s.count("get_range") == 1 and s.body_bytes == (after_bytes or 0)
        )
        while metrics.received_bytes < (after_bytes or 0):
            await trio.testing.wait_all_tasks_blocked(0.005)
        await trio.testing.wait_all_tasks_blocked(0.005)
        mock_clock.jump(5.1)

    async with reading(server.endpoint_url, metrics) as client, trio.open_nursery() as nursery:
        nursery.start_soon(jump)
        assert await fetch(client) == WANTED
    first, second = [request for request in server.requests if request.kind == "get_range"]
    assert first.connection != second.connection
    assert second.headers["range"] == f"bytes={RANGE.start + (after_bytes or 0)}-{RANGE.stop - 1}"
    assert (metrics.hedged_requests, metrics.received_bytes) == (1, len(RANGE))


async def test_a_trickle_is_asked_for_elsewhere(server: FakeS3Server, metrics: Metrics) -> None:
    """A GET whose bytes come slowly is not waited for: its rest comes on another connection, each byte once."""
    slow_seconds = 29
    slow = times(1, lambda _, honest: replace(honest, bytes_per_second=len(RANGE) / slow_seconds))
    server.behaviours.append(for_kind("get_range", slow))
    async with reading(server.endpoint_url, metrics) as client:
        with trio.fail_after(slow_seconds / 2):
            assert await fetch(client) == WANTED
    first, second = [request for request in server.requests if request.kind == "get_range"]
    assert first.connection != second.connection
    assert int(second.headers["range"].removeprefix("bytes=").partition("-")[0]) > RANGE.start
    assert metrics.hedged_requests == 1
    assert metrics.received_bytes < 1.1 * len(RANGE)  # both brought some


async def test_slow_down_halves_the_gets(server: FakeS3Server, metrics: Metrics) -> None:
    """After 503 SlowDown half as many GETs are under way as before, at a real server; the others wait, and come."""
    gate = threading.Event()

    def asked() -> int:
        return server.count("get_range") - metrics.hedged_requests  # of a machine that is busy

    def are_asked_for(count: int, seconds: float) -> bool:
        try:
            server.wait_until(lambda _: asked() >= count, seconds=seconds)
        except TimeoutError:
            return False
        return True

    async with reading(server.endpoint_url, metrics, max_connections="16") as client:
        for gets, fault in ((16, None), (8, error(503, "SlowDown"))):
            gate.clear()
            server.behaviours[:] = [] if fault is None else [times(1, for_kind("get_range", always(fault)))]
            await fetch(client)
            server.forget_requests()
            server.behaviours[:] = [for_kind("get_range", held(gate))]
            async with trio.open_nursery() as nursery:
                for _ in range(40):
                    nursery.start_soon(fetch, client)
                assert await trio.to_thread.run_sync(are_asked_for, gets, 4.0)
                assert not await trio.to_thread.run_sync(are_asked_for, gets + 1, 0.5)
                gate.set()
            assert asked() == 40


async def test_a_redirect_leads_nowhere(server: FakeS3Server) -> None:
    """A redirect to another host is not followed: that host hears nothing."""
    with FakeS3Server(server.store) as other:
        there = always(error(302, "Found", Location=f"{other.endpoint_url}/data-bucket/{VERSION.key}"))
        server.behaviours.append(for_kind("get_range", there))
        async with reading(server.endpoint_url) as client:
            with pytest.raises(BadReplyError):
                await fetch(client)
        assert (other.count(), other.connections) == (0, 0)


async def test_a_refused_connection_is_offline(autojump_clock: trio.testing.MockClock) -> None:
    """Where nothing listens, it is tried again for two seconds; then the network is reported as unreachable."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with reading(f"http://127.0.0.1:{bound.getsockname()[1]}") as client:
            autojump_clock.autojump_threshold = 0.02  # of another clock: libcurl has time to be refused
            began = trio.current_time()
            with pytest.raises(OfflineError, match="refused"):
                await fetch(client)
            assert 2.0 <= trio.current_time() - began < 8.0
            began = trio.current_time()
            with pytest.raises(OfflineError, match="refused"):
                await fetch(client)
            assert trio.current_time() == began


async def test_a_certificate_that_nobody_vouches_for(server: FakeS3Server, tmp_path: Path) -> None:
    """A TLS failure of trust is reported at once: no other try could help, and no request is sent."""
    certificate = make_certificate(tmp_path, "IP:127.0.0.1")
    with FakeS3Server(server.store, tls=certificate.server_context()) as encrypted:
        async with reading(encrypted.endpoint_url) as client:
            with pytest.raises(UntrustedServerError, match=r"(?i)certificate"):
                await fetch(client)
        assert encrypted.count() == 0


async def test_a_broken_handshake(server: FakeS3Server, metrics: Metrics) -> None:
    """A server that does not speak TLS where it should is a transport failure, and tried again while time is left."""
    async with reading(server.endpoint_url.replace("http", "https"), metrics, io_timeout="0.1") as client:
        with pytest.raises(TransportError, match="speaks no TLS at this port"):
            await fetch(client)
    assert metrics.failed_requests >= 1
    assert server.count() == 0


async def test_a_name_that_is_not_known(monkeypatch: pytest.MonkeyPatch, metrics: Metrics) -> None:
    """A failing name server is a transport failure that names the host, and tried again while time is left."""

    def fail(*_: Any) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    async with reading("http://no-such-host.example", metrics, io_timeout="0.3") as client:
        with pytest.raises(TransportError, match=r"no-such-host.example.*name resolution"):
            await client.head(VERSION)
    assert metrics.head_requests > 1


async def test_a_name_server_that_hangs_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lookups hang, threads are left for the disk: reads of the cache do not wait for a name server."""
    answer, hanging = threading.Event(), list[str]()

    def hang(host: str, port: int, family: int, type_: int, proto: int, flags: int) -> None:
        if flags & socket.AI_NUMERICHOST:  # trio's own look at whether it is an address
            raise socket.gaierror(socket.EAI_NONAME, "not an address")
        hanging.append(host)
        answer.wait()

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        async with (
            reading("http://no-such-host.example", max_connections="64") as client,
            trio.open_nursery() as nursery,
        ):
            for _ in range(60):
                nursery.start_soon(client.head, VERSION)
            while len(hanging) < 4:
                await trio.testing.wait_all_tasks_blocked(0.01)
            with trio.fail_after(60):  # a lookup hangs without end
                assert await trio.to_thread.run_sync(lambda: "from the disk") == "from the disk"
            nursery.cancel_scope.cancel()
    finally:
        answer.set()


# Looking up names by libcurl, which asks the system's name server itself: in a process that has another one


def run_with_name_server(function: Callable[[], Awaitable[None]], tmp_path: Path) -> None:
    """Run a function of this module in a process whose system has `NameServer` for names."""
    resolv = tmp_path / "resolv.conf"
    resolv.write_text(f"nameserver {NAME_SERVER}\noptions timeout:30 attempts:1\n")
    setup = f'{NO_MOUNTS}; mount --bind "$1" /etc/resolv.conf && exec "$2" -c "$3"'
    program = f"import trio; from {__name__} import {function.__name__} as run; trio.run(run)"
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", setup, "sh", resolv, sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


async def _fetch_of_an_unknown_host() -> None:
    metrics = Metrics()
    async with reading("http://no-such-host.example", metrics, io_timeout="1") as client:
        with pytest.raises(TransportError, match=r"resolve.*no-such-host.example"):
            await fetch(client)
    assert metrics.range_requests > 1


@pytest.mark.root
def test_a_name_that_libcurl_does_not_find(tmp_path: Path) -> None:
    """To libcurl, too, a name that is not known is a transport failure that names the host, and tried again."""
    with NameServer(hangs=False) as name_server:
        run_with_name_server(_fetch_of_an_unknown_host, tmp_path)
    assert name_server.asked > 1


async def _fetch_after_a_change_of_address() -> None:
    store = MemoryStore("data-bucket")
    store.put(VERSION.key, Pattern(SIZE), version_id=VERSION.version_id)
    name = "s3.example"
    with NameServer(hangs=False, addresses={name: ["127.0.0.1"]}) as names, FakeS3Server(store) as by_ipv4:
        metrics, port = Metrics(), by_ipv4.port
        async with reading(f"http://{name}:{port}", metrics, io_timeout="5") as client:
            assert await fetch(client) == WANTED
            by_ipv4.stop()
            names.addresses[name] = ["127.0.0.1", "::1"]
            with FakeS3Server(store, host="::1", port=port) as by_ipv6:
                assert await fetch(client) == WANTED
                assert (await client.head(VERSION)).size_bytes == SIZE
                assert by_ipv6.count("get_range") == 1
        assert metrics.range_requests <= 4


@pytest.mark.root
def test_a_network_with_other_addresses(tmp_path: Path) -> None:
    """A second try asks for the server's addresses anew: after a change from IPv4 to IPv6, reads go on at once.

    Of several addresses one that does not answer is no hindrance.
    """
    run_with_name_server(_fetch_after_a_change_of_address, tmp_path)


async def _fetch_by(transport: CurlTransport, base: str) -> bytes:
    get, received = get_of(base, RangeRequest(VERSION, RANGE, SIZE)), bytearray()

    async def receive(piece: Piece) -> None:
        received.extend(piece.data)

    async with transport.begin(get) as transfer:
        await receive_all(transfer, get, receive)
    return bytes(received)


async def _fetch_while_lookups_hang() -> None:
    store = MemoryStore("data-bucket")
    store.put(VERSION.key, Pattern(SIZE), version_id=VERSION.version_id)
    with FakeS3Server(store) as server:
        known = f"{server.endpoint_url}/data-bucket"
        async with CurlTransport(trust=Trust(), proxy=None, max_connections=64) as transport:
            async with trio.open_nursery() as nursery:
                for _ in range(60):
                    nursery.start_soon(_fetch_by, transport, "http://no-such-host.example")
                await trio.testing.wait_all_tasks_blocked(0.2)
                with trio.fail_after(5):
                    assert await _fetch_by(transport, known) == WANTED
                    assert await trio.to_thread.run_sync(lambda: "from the disk") == "from the disk"
                nursery.cancel_scope.cancel()
            with trio.fail_after(5):  # nor does a fetch wait for lookups that were given up
                assert await _fetch_by(transport, known) == WANTED


@pytest.mark.root
def test_a_name_server_that_hangs_does_not_hold_libcurl(tmp_path: Path) -> None:
    """While lookups of libcurl hang, and when they are given up, its other requests go on, and other threads do."""
    began = time.monotonic()
    with NameServer(hangs=True) as name_server:
        run_with_name_server(_fetch_while_lookups_hang, tmp_path)
    assert name_server.asked > 0
    assert time.monotonic() - began < 25  # a lookup takes 30 s

"""The port at which metrics are answered: what is, what is refused, and who cannot hold it up."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.ports import free_port
from vbnfs.daemon import metrics_port
from vbnfs.errors import MountError


async def text(accept: str) -> tuple[bytes, str]:
    if accept == "fail":
        raise TypeError(accept)
    return f"metrics {accept}\n".encode(), "text/plain"


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    port = free_port()
    listener = metrics_port.listen(f"127.0.0.1:{port}")
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(metrics_port.serve, listener, text)
        yield port
        nursery.cancel_scope.cancel()


async def asked(port: int, request: bytes) -> bytes:
    """All that comes in answer to some bytes."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(request)
        return b"".join([piece async for piece in stream])


async def test_the_metrics_are_answered() -> None:
    """GET has them in the format that it accepts, HEAD their length; the connection is closed then."""
    async with served() as port:
        request = b"GET /metrics?x=1 HTTP/1.1\r\nHost: localhost:9464\r\naccept: a/b\r\n\r\n"
        head, _, body = (await asked(port, request)).partition(b"\r\n\r\n")
        assert body == b"metrics a/b\n"
        assert head.split(b"\r\n") == [
            *(b"HTTP/1.1 200 OK", b"Content-Type: text/plain", b"Content-Length: 12", b"Connection: close"),
        ]
        head, _, body = (await asked(port, b"HEAD /metrics HTTP/1.1\r\n\r\n")).partition(b"\r\n\r\n")
        assert (body, b"Content-Length: 9" in head) == (b"", True)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example:80\r\n\r\n", 403),
        (b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", 403),
        (b"GET /metrics HTTP/1.1\r\nHost: 127.1.2.3:9464\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.1\r\nHost: [::1]:9464\r\n\r\n", 200),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01" * 10 + b"\r\n\r\n", 400),
        (b"x" * 20_000, 400),
    ],
)
async def test_what_is_refused(request_: bytes, status: int) -> None:
    """Other paths, methods, names of hosts, and what is no request."""
    async with served() as port:
        reply = await asked(port, request_)
        assert reply.startswith(f"HTTP/1.1 {status} ".encode())
        assert (b"metrics \n" in reply) == (status == 200)


async def test_an_answer_that_fails() -> None:
    """A defect ends the answer in which it is, and no other, nor what is answered later."""
    async with served() as port:
        failed = await asked(port, b"GET /metrics HTTP/1.1\r\nAccept: fail\r\n\r\n")
        assert failed.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert (await asked(port, b"GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_clients_that_say_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """They have a time limit, and no more than eight are heard at a time; then the next one is answered."""
    autojump_clock.autojump_threshold = 0.2  # sockets are real
    async with served() as port:
        silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(8)]
        assert (await asked(port, b"GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        for one in silent:
            await one.aclose()


async def test_a_port_that_is_taken() -> None:
    """The message says so, and what to do."""
    async with served() as port:
        with pytest.raises(MountError, match=r"Address already in use .another mount.*; choose another"):
            metrics_port.listen(f"127.0.0.1:{port}")

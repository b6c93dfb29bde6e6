"""A loopback port at which `GET /metrics` is answered, and nothing else (RFC 9112).

Every user of the machine can ask there; what is answered names no file and no program. Web pages cannot: a request
that names another host than this one is refused, as a browser's would be that a name has led here.
"""

import re
import socket
from collections.abc import Awaitable, Callable
from errno import EADDRINUSE
from typing import Final

import structlog
import trio

from vbnfs.daemon.accepting import accept_each
from vbnfs.errors import MountError

log = structlog.get_logger()

_MOST_ASKERS: Final = 8  # at the same time; others wait, and take nothing of the daemon's meanwhile
_SECONDS: Final = 10.0  # for a request and its answer
_MOST_BYTES: Final = 16 << 10  # of a request
_OURS: Final = frozenset({"localhost", "[::1]"})
_PLAIN: Final = "text/plain; charset=utf-8"
_REASONS: Final = {
    **{200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"},
    500: "Internal Server Error",
}

Text = Callable[[str], Awaitable[tuple[bytes, str]]]  # of the field `Accept`: the metrics, and their type


def listen(address: str, *, option: str = "--metrics-port") -> trio.SocketListener:
    """A listener at `host:port`, where the host is an address of this machine's own; `option` says so.

    Raises `MountError`.
    """
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host.strip("[]"), int(port)))
        made.listen(_MOST_ASKERS)
    except OSError as error:
        made.close()
        taken = " (another mount, or another program, has it)" if error.errno == EADDRINUSE else ""
        reason = f"{error.strerror}{taken}; choose another {option}"
        raise MountError(f"the metrics cannot be had at {address}: {reason}") from error
    return trio.SocketListener(trio.socket.from_stdlib_socket(made))


async def serve(listener: trio.SocketListener, text: Text) -> None:
    """Answer until cancelled."""
    places = trio.Semaphore(_MOST_ASKERS)

    async def answer(stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await _answer(stream, text)
        finally:
            places.release()

    await accept_each(listener, places, answer, what="metrics")


async def _answer(stream: trio.SocketStream, text: Text) -> None:
    with trio.move_on_after(_SECONDS):
        try:
            head = await _head(stream)
            status, body, content_type = await _reply(head, text)
            method = head.partition(b" ")[0]
            await stream.send_all(_packed(status, body, content_type, is_head=method == b"HEAD"))
            await stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("metrics: the asker went away")


async def _head(stream: trio.SocketStream) -> bytes:
    """A request up to its empty line, or as much as comes of it."""
    data = bytearray()
    while b"\r\n\r\n" not in data and len(data) < _MOST_BYTES:
        piece = await stream.receive_some(_MOST_BYTES)
        if not piece:
            break
        data += piece
    return bytes(data)


async def _reply(head: bytes, text: Text) -> tuple[int, bytes, str]:
    begin, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    words = begin.split(" ")
    if b"\r\n\r\n" not in head or len(words) != 3 or not words[2].startswith("HTTP/1."):
        return 400, b"not a request of HTTP/1.1\n", _PLAIN
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if not _is_ours(fields.get("host", "localhost")):
        return 403, b"ask for it by an address of this machine's own\n", _PLAIN
    if words[0] not in {"GET", "HEAD"}:
        return 405, b"GET is answered\n", _PLAIN
    if words[1].partition("?")[0] != "/metrics":
        return 404, b"the metrics are at /metrics\n", _PLAIN
    try:
        body, content_type = await text(fields.get("accept", ""))
    except Exception:  # a defect, which ends this answer and no other
        log.exception("metrics: no answer")
        return 500, b"a defect; the daemon's log says more\n", _PLAIN
    return 200, body, content_type


def _is_ours(host: str) -> bool:
    name, colon, port = host.rpartition(":")
    name = (name if colon and port.isdecimal() else host).lower()
    return name in _OURS or re.fullmatch(r"127(\.\d{1,3}){3}", name) is not None


def _packed(status: int, body: bytes, content_type: str, *, is_head: bool) -> bytes:
    fields = {"Content-Type": content_type, "Content-Length": len(body), "Connection": "close"}
    if status == 405:
        fields["Allow"] = "GET, HEAD"
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} {_REASONS[status]}\r\n{head}\r\n".encode() + (b"" if is_head else body)

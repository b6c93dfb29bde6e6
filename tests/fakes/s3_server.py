"""`FakeS3Server`: a real HTTP/1.1 server on loopback that serves a `MemoryStore` as S3 does, or worse.

It lives in threads of this process, so it works for tests that drive a mount in another process. Every
request is recorded. What it answers can be changed by *behaviours*: functions that are given the request and
the honest reply, and return another reply, or None to leave it as it is.
"""

import base64
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import parse_qsl, quote_plus, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.fakes.store import MemoryStore, StoredVersion

_STEP_SECONDS: Final = 0.02  # a slow body comes in pieces that take so long
_NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came. `path` is still percent-encoded; `query` and `headers` (lower case) are decoded."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    key: str  # decoded; "" for the bucket itself
    connection: int  # 0, 1, ...: which connection it came on

    @property
    def kind(self) -> Literal["list_objects", "list_versions", "head", "get_object", "get_range"]:
        """The method of `ObjectClient` that asks like this."""
        if not self.key:
            return "list_versions" if "versions" in self.query else "list_objects"
        if self.method == "HEAD":
            return "head"
        return "get_range" if "range" in self.headers else "get_object"


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent. Content-Length is that of `body` unless `headers` give another; "" leaves a header out.

    `cut` closes the connection after so many bytes of the body, with `is_reset` by a reset. `raw` is sent instead of
    everything else. `gate`: the head waits for it, and with `gate_after` so many bytes of the body are sent first.
    `pause_seconds` is a wait in the same place. `bytes_per_second` is how fast the body, or `raw`, comes.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    is_reset: bool = False
    raw: bytes | None = None
    gate: threading.Event | None = None
    gate_after: int | None = None
    pause_seconds: float = 0.0
    bytes_per_second: float | None = None

    def with_headers(self, **headers: str) -> "Reply":
        """The same with other headers; `_` in names stands for `-`."""
        return replace(
            self, headers={**self.headers, **{name.replace("_", "-"): text for name, text in headers.items()}}
        )


Behaviour = Callable[[Request, Reply], Reply | None]


def error(status: int, code: str, message: str = "refused", **headers: str) -> Reply:
    """An S3 error."""
    body = f"<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Reply(status, {"Content-Type": "application/xml"}, body.encode()).with_headers(**headers)


def always(reply: Reply) -> Behaviour:
    """Answer everything with this."""
    return lambda _request, _honest: reply


def for_kind(kind: str, behaviour: Behaviour) -> Behaviour:
    """A behaviour for requests of one kind (see `Request.kind`) only."""
    return lambda request, honest: behaviour(request, honest) if request.kind == kind else None


def times(count: int, behaviour: Behaviour) -> Behaviour:
    """A behaviour that wears off after it has changed `count` replies."""
    left, lock = [count], threading.Lock()

    def limited(request: Request, honest: Reply) -> Reply | None:
        with lock:
            reply = behaviour(request, honest) if left[0] else None
            left[0] -= reply is not None
        return reply

    return limited


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Each of the next replies is changed by one of the behaviours, in their order; those after them are honest."""
    left, lock = list(behaviours), threading.Lock()

    def next_one(request: Request, honest: Reply) -> Reply | None:
        with lock:
            behaviour = left.pop(0) if left else None
        return None if behaviour is None else behaviour(request, honest)

    return next_one


def cut_after(body_bytes: int) -> Behaviour:
    """Close the connection after so many bytes of a body that is longer."""
    return lambda _request, honest: replace(honest, cut=body_bytes) if len(honest.body) > body_bytes else None


def at_most(body_bytes: int) -> Behaviour:
    """Send no more of a range than so many bytes, and say so, as a server may (RFC 9110, 15.3.7)."""

    def shortened(_request: Request, honest: Reply) -> Reply | None:
        if honest.status != 206 or len(honest.body) <= body_bytes:
            return None
        span, _, size = honest.headers["Content-Range"].partition("/")
        start = int(span.removeprefix("bytes ").partition("-")[0])
        said = f"bytes {start}-{start + body_bytes - 1}/{size}"
        return replace(honest, body=honest.body[:body_bytes]).with_headers(Content_Range=said)

    return shortened


def header(**headers: str) -> Behaviour:
    """Answer honestly but for some headers; `_` in names stands for `-`, "" leaves a header out."""
    return lambda _request, honest: honest.with_headers(**headers)


def held(gate: threading.Event) -> Behaviour:
    """Answer when the gate is set (or the server ends)."""
    return lambda _request, honest: replace(honest, gate=gate)


LISTING_REFUSED: Final[Behaviour] = lambda request, _honest: (  # noqa: E731 - a behaviour like the others
    None if request.key else error(403, "AccessDenied")
)
# A 200 of which the length is not the object's. See `FakeS3Server.ignores_range` for one that is.
RANGE_IGNORED: Final[Behaviour] = lambda request, honest: (  # noqa: E731
    Reply(200, {**honest.headers, "Content-Range": ""}, honest.body) if honest.status == 206 else None
)


class FakeS3Server:
    """A context manager: it listens on a free port of 127.0.0.1 (or `port` of `host`) while entered.

    `tls` makes it an HTTPS server. `tunnel_tls` makes it also a proxy for CONNECT, which ends every tunnel in
    itself with that certificate: so a client that believes to talk to AWS talks to it.
    `page_size` bounds the rows of a page; `unknown_version` is how it says that a version id is not known. While
    `ignores_range` is set, it sends the whole object for a range, with 200, as it may (RFC 9110, 14.2).
    """

    def __init__(
        self,
        store: MemoryStore,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        page_size: int = 1000,
        unknown_version: tuple[int, str] = (404, "NoSuchVersion"),
        tls: ssl.SSLContext | None = None,
        tunnel_tls: ssl.SSLContext | None = None,
    ) -> None:
        self.store = store
        self.page_size = page_size
        self.unknown_version = unknown_version
        self.tls = tls
        self.tunnel_tls = tunnel_tls
        self.behaviours: list[Behaviour] = []
        self.ignores_range = False
        self.ending = threading.Event()
        self._host = host
        self._port = port
        self._changed = threading.Condition()  # protects all of these
        self._requests: list[Request] = []
        self._open: dict[int, socket.socket] = {}
        self._connections = 0
        self._most_connections = 0
        self._body_bytes = 0
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.ending.clear()
        self._server = _Server(self, self._host, self._port)
        self._start_loop(self._server)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening, break every connection, and wait for the threads. May be called twice."""
        server = self._server
        if server is None:
            return
        self._server = None
        self.ending.set()
        self._end_loop(server)
        self.drop_connections()
        server.server_close()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Break every connection; while entered, new ones are refused."""
        server = self._server
        assert server is not None, "the server is not running"
        self._end_loop(server)
        self.drop_connections()  # before a client can notice that it does not listen any more
        server.socket.close()
        yield
        server.listen_again()
        self._start_loop(server)

    def drop_connections(self) -> None:
        """Break every connection as a failing network does; the server goes on."""
        with self._changed:
            for connection in self._open.values():
                _break(connection)

    def _start_loop(self, server: "_Server") -> None:
        self._thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="fake-s3", daemon=True)
        self._thread.start()

    def _end_loop(self, server: "_Server") -> None:
        assert self._thread is not None
        server.shutdown()
        self._thread.join()

    @property
    def port(self) -> int:
        assert self._server is not None, "the server is not running"
        return int(self._server.server_address[1])

    @property
    def endpoint_url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    @property
    def requests(self) -> list[Request]:
        """All requests so far, in the order in which they came (a copy)."""
        with self._changed:
            return list(self._requests)

    def count(self, kind: str | None = None) -> int:
        """How many requests there were, of one kind (see `Request.kind`) or at all."""
        return sum(1 for request in self.requests if kind is None or request.kind == kind)

    def forget_requests(self) -> None:
        """Count from 0 again."""
        with self._changed:
            self._requests.clear()
            self._body_bytes = 0

    @property
    def asked_bytes(self) -> int:
        """Bytes of ranges that were asked for, also those that are on their way yet.

        A range that was asked for twice, since its answer was late, counts once.
        """
        asked = {(one.key, one.headers["range"]) for one in self.requests if one.kind == "get_range"}
        spans = (text.removeprefix("bytes=").split("-") for _, text in asked)
        return sum(int(last) - int(first) + 1 for first, last in spans)

    @property
    def body_bytes(self) -> int:
        """Bytes of bodies that were written to connections. The one that gets them may have them a moment earlier."""
        with self._changed:
            return self._body_bytes

    @property
    def connections(self) -> int:
        """How many connections were made since the start."""
        with self._changed:
            return self._connections

    @property
    def open_connections(self) -> int:
        """How many there are now."""
        with self._changed:
            return len(self._open)

    @property
    def most_connections(self) -> int:
        """The most that were open at one time."""
        with self._changed:
            return self._most_connections

    def wait_until(self, condition: Callable[["FakeS3Server"], bool], *, seconds: float = 10.0) -> None:
        """Wait, in a thread, until a condition on the counters above holds."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), seconds):
                raise TimeoutError("the condition never came true")

    # For the connections' threads

    def opened(self, connection: socket.socket) -> int:
        with self._changed:
            number = self._connections
            self._connections += 1
            self._open[number] = connection
            self._most_connections = max(self._most_connections, len(self._open))
            self._changed.notify_all()
            return number

    def rewrapped(self, number: int, connection: socket.socket) -> None:
        with self._changed:
            self._open[number] = connection

    def closed(self, number: int) -> None:
        with self._changed:
            del self._open[number]
            self._changed.notify_all()

    def wrote(self, count_bytes: int) -> None:
        with self._changed:
            self._body_bytes += count_bytes
            self._changed.notify_all()

    def answer(self, request: Request) -> Reply:
        """Record a request, and give the honest reply as the behaviours have changed it."""
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()
        reply = self._honest(request)
        for behaviour in list(self.behaviours):
            reply = behaviour(request, reply) or reply
        return reply

    def bucket_and_key(self, path: str, host: str) -> tuple[str, str]:
        """Virtual-hosted where the host's name begins with the bucket's, else path style."""
        name, key = host.rpartition(":")[0] or host, unquote(path[1:])
        if name.startswith(self.store.bucket + "."):
            return self.store.bucket, key
        bucket, _, key = key.partition("/")
        return bucket, key

    def _honest(self, request: Request) -> Reply:
        if self.bucket_and_key(request.path, request.headers.get("host", ""))[0] != self.store.bucket:
            return error(404, "NoSuchBucket")
        if request.method not in {"GET", "HEAD"}:
            return error(403, "AccessDenied")
        if request.kind == "list_objects":
            return self._list_objects(request.query)
        if request.kind == "list_versions":
            return self._list_versions(request.query)
        return self._object(request)

    def _object(self, request: Request) -> Reply:
        version_id = request.query.get("versionId")
        row = self.store.get(request.key, version_id)
        if row is None and version_id is not None:
            return error(*self.unknown_version)
        if row is None:
            return error(404, "NoSuchKey")
        if row.data is None:
            marker = {"x_amz_delete_marker": "true", "x_amz_version_id": row.version_id}
            return error(405, "MethodNotAllowed", **marker) if version_id else error(404, "NoSuchKey", **marker)
        headers = {
            "x-amz-version-id": row.version_id,
            "Last-Modified": format_datetime(row.modified.astimezone(UTC), usegmt=True),
            "ETag": row.etag,
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        if request.headers.get("if-match", row.etag) != row.etag:
            return error(412, "PreconditionFailed")
        if request.method == "HEAD":
            return Reply(200, {**headers, "Content-Length": str(row.size_bytes)})
        return _ranged(None if self.ignores_range else request.headers.get("range"), row, headers)

    def _list_objects(self, query: Mapping[str, str]) -> Reply:
        prefix = query.get("prefix", "")
        try:
            after = base64.urlsafe_b64decode(query.get("continuation-token", "")).decode()
        except ValueError:
            return error(400, "InvalidArgument")
        after = after or query.get("start-after", "")
        rows, more = self._cut(query, self.store.objects(prefix, after_key=after))
        parts = [f"<KeyCount>{len(rows)}</KeyCount>"]
        if more:
            token = base64.urlsafe_b64encode(rows[-1].key.encode()).decode()
            parts.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
        parts += [f"<Contents>{_row(row, query)}</Contents>" for row in rows]
        return self._listing("ListBucketResult", query, parts, more=more)

    def _list_versions(self, query: Mapping[str, str]) -> Reply:
        after = {"after_key": query.get("key-marker", ""), "after_version_id": query.get("version-id-marker", "")}
        rows, more = self._cut(query, self.store.versions(query.get("prefix", ""), **after))
        parts = []
        if more:
            parts.append(f"<NextKeyMarker>{_encoded(rows[-1].key, query)}</NextKeyMarker>")
            parts.append(f"<NextVersionIdMarker>{escape(rows[-1].version_id)}</NextVersionIdMarker>")
        for row in rows:
            tag = "DeleteMarker" if row.data is None else "Version"
            latest = "true" if self.store.is_latest(row) else "false"
            version = f"<VersionId>{escape(row.version_id)}</VersionId><IsLatest>{latest}</IsLatest>"
            parts.append(f"<{tag}>{version}{_row(row, query)}</{tag}>")
        return self._listing("ListVersionsResult", query, parts, more=more)

    def _cut(self, query: Mapping[str, str], rows: Iterator[StoredVersion]) -> tuple[list[StoredVersion], bool]:
        size = min(self.page_size, int(query.get("max-keys", "1000")))
        page = list(islice(rows, size + 1))
        return page[:size], len(page) > size

    def _listing(self, root: str, query: Mapping[str, str], parts: list[str], *, more: bool) -> Reply:
        head = [
            f"<Name>{self.store.bucket}</Name><Prefix>{_encoded(query.get('prefix', ''), query)}</Prefix>",
            f"<MaxKeys>{self.page_size}</MaxKeys><IsTruncated>{'true' if more else 'false'}</IsTruncated>",
        ]
        if query.get("encoding-type") == "url":
            head.append("<EncodingType>url</EncodingType>")
        body = (
            f"<?xml version='1.0' encoding='UTF-8'?>\n<{root} xmlns='{_NAMESPACE}'>{''.join(head + parts)}</{root}>"
        )
        return Reply(200, {"Content-Type": "application/xml"}, body.encode())


def _encoded(key: str, query: Mapping[str, str]) -> str:
    """AWS's own form of `encoding-type=url`: a blank is a plus."""
    return quote_plus(key, safe="/") if query.get("encoding-type") == "url" else escape(key)


def _row(row: StoredVersion, query: Mapping[str, str]) -> str:
    modified = row.modified.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    key = f"<Key>{_encoded(row.key, query)}</Key><LastModified>{modified}</LastModified>"
    if row.data is None:
        return key
    return f"{key}<ETag>{escape(row.etag)}</ETag><Size>{row.size_bytes}</Size><StorageClass>STANDARD</StorageClass>"


def _ranged(wanted: str | None, row: StoredVersion, headers: Mapping[str, str]) -> Reply:
    assert row.data is not None
    size = row.size_bytes
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
    if match is None or match[0] == "bytes=-":
        return Reply(200, headers, row.data[:size])
    first = int(match[1]) if match[1] else max(0, size - int(match[2]))
    last = min(int(match[2]), size - 1) if match[1] and match[2] else size - 1
    if first > last:
        return error(416, "InvalidRange", Content_Range=f"bytes */{size}")
    return Reply(206, {**headers, "Content-Range": f"bytes {first}-{last}/{size}"}, row.data[first : last + 1])


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close waits for the connections' threads
    block_on_close = True
    request_queue_size = 128

    def __init__(self, fake: FakeS3Server, host: str, port: int) -> None:
        self.fake = fake
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Connection)

    def listen_again(self) -> None:
        """At the same address, after the socket was closed."""
        self.socket = socket.socket(self.address_family, self.socket_type)
        self.server_bind()
        self.server_activate()

    def server_bind(self) -> None:  # HTTPServer's own resolves the host's name, which may take seconds
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # where connections were broken just now
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or does not like our certificate, is what tests are about."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def setup(self) -> None:
        self.fake = self.server.fake
        self.number = self.fake.opened(self.request)
        try:
            super().setup()
            if self.fake.tls is not None:
                self._encrypt(self.fake.tls)
        except BaseException:
            self.fake.closed(self.number)
            raise

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:
            pass
        finally:
            if isinstance(self.connection, ssl.SSLSocket):
                _break(self.connection)
                self.connection.close()
            self.fake.closed(self.number)

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def do_CONNECT(self) -> None:
        if self.fake.tunnel_tls is None:
            self._write(error(405, "MethodNotAllowed"), with_body=True)
            return
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.wfile.flush()
        self._encrypt(self.fake.tunnel_tls)
        self.close_connection = False

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's own name
        """Nothing is printed."""

    def _encrypt(self, context: ssl.SSLContext) -> None:
        self.rfile.close()
        self.wfile.close()
        try:
            self.connection = context.wrap_socket(self.connection, server_side=True)
        finally:
            self.fake.rewrapped(self.number, self.connection)
            self.rfile = self.connection.makefile("rb", self.rbufsize)
            self.wfile = self.connection.makefile("wb", self.wbufsize)

    def _serve(self) -> None:
        url = urlsplit(self.path)
        headers = {name.lower(): text for name, text in self.headers.items()}
        _, key = self.fake.bucket_and_key(url.path, headers.get("host", ""))
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        request = Request(self.command, url.path, query, headers, key, self.number)
        try:
            self._send(self.fake.answer(request), with_body=self.command != "HEAD")
        except OSError:  # the client has gone, or the server ends
            self.close_connection = True

    def _send(self, reply: Reply, *, with_body: bool) -> None:
        if reply.gate_after is None:
            self._wait(reply)
        if reply.raw is not None:
            self._write_body(reply.raw, reply.bytes_per_second)
            self._hang_up()
            return
        self._write(reply, with_body=with_body)

    def _write(self, reply: Reply, *, with_body: bool) -> None:
        self.send_response_only(reply.status)
        given = {name.lower() for name in reply.headers}
        for name, text in reply.headers.items():
            if text:
                self.send_header(name, text)
        if "content-length" not in given:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        body = reply.body[: reply.cut] if with_body else b""
        position = 0
        if reply.gate_after is not None:
            position = reply.gate_after
            self._write_body(body[:position], reply.bytes_per_second)
            self._wait(reply)
        self._write_body(body[position:], reply.bytes_per_second)
        if reply.cut is not None:
            if reply.is_reset:  # socket(7), SO_LINGER: closing throws away what was not sent
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._hang_up()

    def _write_body(self, data: bytes, bytes_per_second: float | None) -> None:
        step = max(1, len(data) if bytes_per_second is None else int(bytes_per_second * _STEP_SECONDS))
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            self.wfile.write(piece)
            self.wfile.flush()
            self.fake.wrote(len(piece))
            if bytes_per_second is not None:
                self._pause(len(piece) / bytes_per_second)
        self.wfile.flush()

    def _wait(self, reply: Reply) -> None:
        while reply.gate is not None and not reply.gate.wait(0.02):
            if self.fake.ending.is_set():
                raise ConnectionAbortedError
        self._pause(reply.pause_seconds)

    def _pause(self, seconds: float) -> None:
        if seconds and self.fake.ending.wait(seconds):
            raise ConnectionAbortedError

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True


def _break(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)

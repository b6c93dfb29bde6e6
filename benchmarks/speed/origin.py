"""The origin: S3 on loopback, with a time to first byte and a rate a connection, as from afar.

nginx with its Lua module, a process of its own, configured on the spot. It listens on a port for each profile, with
and without TLS; `origin.lua` says what it answers. nginx's own `limit_rate` will not do: it lets a whole second's
worth pass at once, which is more than a range request asks for.
"""

import json
import os
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.speed.files import BUCKET, Files, Stored
from tests.fakes.certificates import Certificate, make_certificate

_HERE: Final = Path(__file__).parent
_MODULES: Final = Path("/usr/lib/nginx/modules")  # Debian's place
_START_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Profile:
    """How far away the origin is. A rate of 0 is none: as fast as it goes."""

    name: str
    first_byte_seconds: float
    connection_bytes_per_second: int


PROFILES: Final = (
    Profile("lan", 0.0, 0),
    Profile("near", 0.040, 60_000_000),
    Profile("home", 0.060, 25_000_000),
)
PLAIN: Final = "http"
TLS: Final = "https"


@dataclass(frozen=True, slots=True)
class Listener:
    """A port of the origin: what a profile is like over one transport (PLAIN or TLS)."""

    profile: Profile
    transport: str
    port: int

    @property
    def url(self) -> str:
        """The endpoint's URL."""
        return f"{self.transport}://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one listener was asked, and sent in bodies."""

    requests: int = 0
    body_bytes: int = 0

    def __sub__(self, earlier: "Traffic") -> "Traffic":
        """What came since."""
        return Traffic(self.requests - earlier.requests, self.body_bytes - earlier.body_bytes)


def nginx_config(directory: Path, listeners: Iterable[Listener], certificate: Certificate, *, as_root: bool) -> str:
    """The configuration of an nginx that keeps everything in `directory` and stays in the foreground (pure)."""
    kept = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "\n".join([
        *(f"load_module {_MODULES}/{name}_module.so;" for name in ("ndk_http", "ngx_http_lua")),
        *(["user root;"] if as_root else []),
        "daemon off; worker_processes 2;",
        f"pid {directory}/pid; error_log {directory}/error.log warn;",
        "events { worker_connections 1024; }",
        "http {",
        *(f"    {name}_temp_path {directory}/{name};" for name in kept),
        "    log_format traffic '$server_port $status $body_bytes_sent';",
        f"    access_log {directory}/access.log traffic;",
        f"    lua_package_path '{_HERE}/?.lua;{directory}/?.lua;;';",
        "    init_by_lua_block { require 'origin' }",
        "    default_type application/octet-stream; sendfile on; tcp_nodelay on; keepalive_requests 1000000;",
        f"    ssl_certificate {certificate.path}; ssl_certificate_key {certificate.key_path};",
        *(_server(directory, listener) for listener in listeners),
        "}\n",
    ])  # fmt: skip


def _server(directory: Path, listener: Listener) -> str:
    profile = listener.profile
    tls = " ssl" if listener.transport == TLS else ""
    if profile.connection_bytes_per_second:
        rate = profile.connection_bytes_per_second
        handler = f"content_by_lua_block {{ require('origin').answer({profile.first_byte_seconds}, {rate}) }}"
    else:
        handler = f"root {directory}/objects; etag off; access_by_lua_block {{ require('origin').begin(0) }}"
    return f"    server {{ listen 127.0.0.1:{listener.port}{tls} backlog=512; location / {{ {handler} }} }}"


def lua_catalog(objects: Iterable[Stored]) -> str:
    """The module `catalog` that origin.lua reads: the bucket, and its objects sorted by key (pure)."""
    rows = [_lua_table(_row(stored)) for stored in sorted(objects, key=lambda stored: stored.key)]
    return f"return {{ bucket = {json.dumps(BUCKET)}, rows = {{\n" + ",\n".join(rows) + "\n} }\n"


def _row(stored: Stored) -> Mapping[str, str | int]:
    modified = datetime.fromtimestamp(stored.modified_seconds, UTC)
    return {
        "key": stored.key,
        "path": str(stored.path),
        "size": stored.size_bytes,
        "version_id": stored.version_id,
        "etag": stored.version_id.lower() + "-8",  # of an upload in parts, as large files have: no MD5
        "modified": modified.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "http_date": format_datetime(modified, usegmt=True),
    }


def _lua_table(row: Mapping[str, str | int]) -> str:
    """Text as JSON has it is text as Lua has it, as long as it is ASCII without control characters."""
    return "  { " + ", ".join(f"{name} = {json.dumps(value)}" for name, value in row.items()) + " }"


def free_ports(count: int) -> list[int]:
    """Ports of loopback on which no process listens now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def count_traffic(log: str) -> Counter[tuple[int, str]]:
    """Requests and body bytes by port, of lines of the log: (port, "requests") and (port, "bytes") (pure)."""
    counts: Counter[tuple[int, str]] = Counter()
    for line in log.splitlines():
        port, _, body_bytes = map(int, line.split())
        counts[port, "requests"] += 1
        counts[port, "bytes"] += body_bytes
    return counts


class Origin:
    """A context manager: nginx, serving `files` from below `directory`, which exists and is empty."""

    def __init__(self, directory: Path, files: Files) -> None:
        self.directory = directory
        self.certificate = make_certificate(directory, "IP:127.0.0.1", "DNS:localhost")
        pairs = [(profile, transport) for profile in PROFILES for transport in (PLAIN, TLS)]
        ports = free_ports(len(pairs))
        self.listeners = {
            (profile.name, transport): Listener(profile, transport, port)
            for (profile, transport), port in zip(pairs, ports, strict=True)
        }
        for stored in files.objects:
            link = directory / "objects" / BUCKET / stored.key
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(stored.path)
        (directory / "catalog.lua").write_text(lua_catalog(files.objects))
        config = nginx_config(directory, self.listeners.values(), self.certificate, as_root=os.geteuid() == 0)
        (directory / "nginx.conf").write_text(config)

    def __enter__(self) -> Self:
        log = self.directory / "error.log"
        command = ["nginx", "-p", str(self.directory), "-c", "nginx.conf", "-e", str(log)]
        path = f"{os.environ.get('PATH', '')}:/usr/sbin"
        self._process = subprocess.Popen(["env", f"PATH={path}", *command], stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        while not all(_is_open(listener.port) for listener in self.listeners.values()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                self._process.wait()
                said = log.read_text()[-500:].strip() if log.exists() else "nothing"
                raise RuntimeError(f"nginx did not start; it says: {said}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()

    def traffic(self, listener: Listener) -> Traffic:
        """What a listener was asked since the start. A request counts when it has been answered, or given up."""
        counts = count_traffic((self.directory / "access.log").read_text())
        return Traffic(counts[listener.port, "requests"], counts[listener.port, "bytes"])


def _is_open(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0

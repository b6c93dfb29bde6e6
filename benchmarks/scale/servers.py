"""The servers of a course: nginx as S3, 20 ms away, and nginx with the configuration of `vbnfs site-cache nginx`."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.scale.network import Host
from benchmarks.speed.files import BUCKET, Files
from benchmarks.speed.origin import lua_catalog

PORT: Final = 8090
SLICE_BYTES: Final = 1 << 20  # as `vbnfs site-cache nginx` has them
_LUA: Final = Path(__file__).parents[1] / "speed"
_MODULES: Final = Path("/usr/lib/nginx/modules")  # Debian's place
_KEPT: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_START_SECONDS: Final = 30.0
# Who asked, when the answer was done, how long it took, what for, what was sent.
LOG_FORMAT: Final = "'$remote_addr $msec $request_time $uri \"$http_range\" $status $body_bytes_sent'"


def origin_config(directory: Path, address: str, first_byte_seconds: float) -> str:
    """nginx.conf of S3 (pure): objects as they lie, after a time to the first byte."""
    return "\n".join([
        *(f"load_module {_MODULES}/{name}_module.so;" for name in ("ndk_http", "ngx_http_lua")),
        "user root; daemon off; worker_processes 2;",
        f"pid {directory}/pid; error_log stderr warn;",
        "events { worker_connections 8192; }",
        "http {",
        *(f"    {name}_temp_path {directory}/{name};" for name in _KEPT),
        f"    log_format asked {LOG_FORMAT};",
        f"    access_log {directory}/access.log asked;",
        f"    lua_package_path '{_LUA}/?.lua;{directory}/?.lua;;';",
        "    init_by_lua_block { require 'origin' }",
        "    default_type application/octet-stream; sendfile on; tcp_nodelay on; keepalive_requests 1000000;",
        f"    server {{ listen {address}:{PORT} backlog=4096; location / {{",
        f"        root {directory}/objects; etag off;",
        f"        access_by_lua_block {{ require('origin').begin({first_byte_seconds}) }}",
        "    } }",
        "}\n",
    ])  # fmt: skip


def with_log(configuration: str, path: Path) -> str:
    """The site cache's configuration with a log of what it is asked (pure); nothing else of it is changed."""
    said = f"log_format asked {LOG_FORMAT};\n  access_log {path} asked;"
    found, count = re.subn(r"^  access_log [^;]*;", said, configuration, flags=re.MULTILINE)
    if count != 1:
        raise ValueError("the configuration has another form: no line of access_log")
    return found


class Nginx:
    """A context manager: an nginx on a host, whose configuration stands in `directory`, and whose log is `asked`."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.host, self.directory = host, directory
        self.url: Final = f"http://{host.address}:{PORT}"
        self.log: Final = directory / "access.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of its first process; its workers are of that one's session."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it listens."""
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise RuntimeError("there is no nginx; script/setup all installs it")
        words = [program, "-c", str(self.directory / "nginx.conf"), "-e", "stderr"]
        with (self.directory / "errors").open("ab") as errors:
            self._process = subprocess.Popen([*self.host.within, *words], stderr=errors, start_new_session=True)
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_listening():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nginx did not start: {(self.directory / 'errors').read_text()[-500:]}")
            time.sleep(0.02)

    def _is_listening(self) -> bool:
        listening = subprocess.run(
            [*self.host.within, "ss", "-Hltn", f"sport = :{PORT}"], capture_output=True, text=True, check=True
        )
        return bool(listening.stdout.strip())

    def kill(self) -> None:
        """End it and its workers at once."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def lines(self) -> list[str]:
        """What its log says by now."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def make_origin(host: Host, directory: Path, files: Files, *, first_byte_seconds: float) -> Nginx:
    """S3 with these files, on a host."""
    for stored in files.objects:
        link = directory / "objects" / BUCKET / stored.key
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(stored.path)
    (directory / "catalog.lua").write_text(lua_catalog(files.objects))
    (directory / "nginx.conf").write_text(origin_config(directory, host.address, first_byte_seconds))
    return Nginx(host, directory)


def make_proxy(host: Host, directory: Path, origin_url: str, options: Sequence[str] = ()) -> Nginx:
    """A site cache before S3, on a host, with the configuration that users get."""
    kept = directory / "kept"
    kept.mkdir(parents=True)
    words = ["--listen", f"{host.address}:{PORT}", "--directory", str(kept), "--free", "1M", *options]
    command = [sys.executable, "-m", "vbnfs", "site-cache", "nginx", f"--endpoint-url={origin_url}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if f"slice {SLICE_BYTES >> 10}k;" not in done.stdout:
        raise RuntimeError("the site cache has slices of another size than SLICE_BYTES says")
    configuration = with_log(done.stdout, directory / "access.log")
    (directory / "nginx.conf").write_text(f"user root;\n{configuration}")
    return Nginx(host, directory)

"""Real proxies with the configuration that `vbnfs site-cache` writes: nginx, and Apache Traffic Server."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from tests.children import children_of
from tests.daemon.test_metrics_port import free_port
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import run_vbnfs
from tests.waiting import until


class Got(NamedTuple):
    """An answer of the proxy."""

    status: int
    body: bytes
    headers: dict[str, str]


def ask(port: int, path: str, *, byte_range: str = "", method: str = "GET", **headers: str) -> Got:
    """One request to the proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        ranged = {"Range": f"bytes={byte_range}"} if byte_range else {}
        connection.request(method, path, headers={**ranged, **headers})
        reply = connection.getresponse()
        return Got(reply.status, reply.read(), {name.lower(): value for name, value in reply.getheaders()})
    finally:
        connection.close()


class Proxy(NamedTuple):
    """One that runs: where, and as which process."""

    port: int
    process: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        """End it, and all its workers, at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def workers(self) -> set[int]:
        """Its processes that serve."""
        found = set()
        for pid in children_of(self.process.pid):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                found |= {pid} if b"worker process" in Path(f"/proc/{pid}/cmdline").read_bytes() else set()
        return found


@contextmanager
def running_nginx(
    directory: Path,
    *options: str,
    port: int = 0,
    change: Callable[[str], str] = str,
    inside: Sequence[str | Path] = (),
) -> Iterator[Proxy]:
    """nginx with the configuration that is written for these options, as `change` makes it; `inside` starts it."""
    port = port or free_port()
    words = ["--listen", f"127.0.0.1:{port}", "--directory", directory / "kept", "--free", "1M"]
    done = run_vbnfs("site-cache", "nginx", *words, *options)
    assert done.returncode == 0, done.stderr
    configuration = directory / "nginx.conf"
    configuration.write_text(change(done.stdout))
    (directory / "kept").mkdir(exist_ok=True)
    program = shutil.which("nginx")
    assert program is not None
    command = [*inside, program, "-c", configuration, "-g", "user root;", "-e", "stderr"]
    with _running(command, directory, port) as proxy:
        yield proxy


@contextmanager
def running_trafficserver(directory: Path, *options: str, port: int = 0) -> Iterator[Proxy]:
    """Traffic Server with the files that are written for these options."""
    port = port or free_port()
    words = ["--listen", f"127.0.0.1:{port}", "--directory", directory / "kept", "--size", "256M"]
    done = run_vbnfs("site-cache", "trafficserver", directory / "configuration", *words, *options)
    assert done.returncode == 0, done.stderr
    (directory / "kept").mkdir(exist_ok=True)
    program = shutil.which("traffic_server")
    assert program is not None
    with _running([program, f"--run-root={directory / 'configuration'}"], directory, port) as proxy:
        yield proxy


@contextmanager
def _running(command: list[str | Path], directory: Path, port: int) -> Iterator[Proxy]:
    with (
        (directory / "errors").open("wb") as errors,
        subprocess.Popen(command, stdout=errors, stderr=errors, start_new_session=True) as process,
    ):
        try:
            until(lambda: process.poll() is not None or is_listening(port))
            assert process.poll() is None, (directory / "errors").read_text()
            yield Proxy(port, process)
        finally:
            process.terminate()


Start = Callable[..., AbstractContextManager[Proxy]]
ENGINES: Final[Mapping[str, Start]] = {"nginx": running_nginx, "trafficserver": running_trafficserver}


def is_listening(port: int) -> bool:
    """Whether a server takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def asked_ranges(server: FakeS3Server) -> list[str]:
    """The ranges that the server was asked for, in order of their places."""
    found = [re.findall(r"\d+", each.headers["range"]) for each in server.requests if each.kind == "get_range"]
    return [f"{first}-{last}" for first, last in sorted((int(first), int(last)) for first, last in found)]

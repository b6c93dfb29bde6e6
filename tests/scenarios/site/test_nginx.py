"""A real nginx with the configuration that `vbnfs site-cache nginx` writes, before a server that counts."""

import http.client
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.daemon.test_metrics_port import free_port
from tests.fakes.certificates import make_certificate
from tests.fakes.dataset import BUCKET, FakeDataset
from tests.fakes.s3_server import FakeS3Server, Reply, Request
from tests.fakes.store import Pattern
from tests.fixtures_mount import run_vbnfs
from tests.waiting import until

pytestmark = pytest.mark.slow

KEY: Final = "visual-behavior-neuropixels/sessions/a.nwb"
DATA: Final = Pattern(5_000_001, seed=3)
SLICE_BYTES: Final = 1 << 20
READERS: Final = 16


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


class Nginx(NamedTuple):
    """One that runs: where, and as which process."""

    port: int
    process: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        """End it, and all its workers, at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running_nginx(directory: Path, *options: str, port: int = 0) -> Iterator[Nginx]:
    """nginx with the configuration that is written for these options."""
    port = port or free_port()
    words = ["--listen", f"127.0.0.1:{port}", "--directory", directory / "kept", "--free", "1M"]
    done = run_vbnfs("site-cache", "nginx", *words, *options)
    assert done.returncode == 0, done.stderr
    configuration = directory / "nginx.conf"
    configuration.write_text(done.stdout)
    (directory / "kept").mkdir(exist_ok=True)
    program = shutil.which("nginx")
    assert program is not None
    command = [program, "-c", configuration, "-g", "user root;", "-e", "stderr"]
    with (
        (directory / "errors").open("wb") as errors,
        subprocess.Popen(command, stderr=errors, start_new_session=True) as process,
    ):
        try:
            until(lambda: process.poll() is not None or is_listening(port))
            assert process.poll() is None, (directory / "errors").read_text()
            yield Nginx(port, process)
        finally:
            process.terminate()


def is_listening(port: int) -> bool:
    """Whether a server takes connections there."""
    try:
        ask(port, "/.metrics")
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def dataset() -> FakeDataset:
    """A dataset of one file, and its version id."""
    found = FakeDataset()
    found.publish("0.1.0", {"sessions/a.nwb": DATA})
    return found


@pytest.fixture
def server(dataset: FakeDataset) -> Iterator[FakeS3Server]:
    """Its server."""
    with FakeS3Server(dataset.store) as server:
        yield server


@pytest.fixture
def port(server: FakeS3Server, tmp_path: Path) -> Iterator[int]:
    """A proxy before it."""
    with running_nginx(tmp_path, f"--endpoint-url={server.endpoint_url}") as nginx:
        yield nginx.port


@pytest.fixture
def path(dataset: FakeDataset) -> str:
    """Where the proxy has the file."""
    version = dataset.store.get(KEY)
    assert version is not None
    return f"/{BUCKET}/{KEY}?versionId={version.version_id}"


def asked_ranges(server: FakeS3Server) -> list[str]:
    """The ranges that the server was asked for, in order of their places."""
    found = [re.findall(r"\d+", each.headers["range"]) for each in server.requests if each.kind == "get_range"]
    return [f"{first}-{last}" for first, last in sorted((int(first), int(last)) for first, last in found)]


def test_each_slice_is_asked_for_once(server: FakeS3Server, port: int, path: str) -> None:
    """Many readers of one range cost one request for each slice, whole and aligned, however the range lies."""
    came = threading.Event()

    def hold(request: Request, _honest: Reply) -> None:
        if request.kind == "get_range":
            came.wait(30)

    server.behaviours.append(hold)
    first, last = 700_000, 2_500_000
    with ThreadPoolExecutor(READERS) as pool:
        asked = [pool.submit(ask, port, path, byte_range=f"{first}-{last}") for _ in range(READERS)]
        until(lambda: len(server.requests) > 0)
        came.set()
        for each in asked:
            assert each.result() == (206, DATA[first : last + 1], each.result().headers)
    slices = [f"{start}-{start + SLICE_BYTES - 1}" for start in range(0, last, SLICE_BYTES)]
    assert asked_ranges(server) == slices
    again = ask(port, path, byte_range="0-9")
    assert (again.body, again.headers["x-cache-status"]) == (DATA[:10], "HIT")
    assert asked_ranges(server) == slices


def test_what_is_served(server: FakeS3Server, port: int, path: str) -> None:
    """One object version of the bucket is served, also as a whole; nothing that may change, and no other bucket."""
    whole = ask(port, path)
    assert (whole.status, whole.body) == (200, DATA[: len(DATA)])
    assert ask(port, path, method="HEAD").headers["content-length"] == str(len(DATA))
    before = len(server.requests)
    plain = path.partition("?")[0]
    for refused in (plain, f"/{BUCKET}", f"/{BUCKET}/?list-type=2", f"/other/{KEY}?versionId=1", f"{path}&acl", "/"):
        assert ask(port, refused).status == 403, refused
    assert ask(port, path, method="PUT").status == 403
    assert len(server.requests) == before
    end = ask(port, path, byte_range=f"{len(DATA) - 3}-{len(DATA) + 9}")
    assert (end.status, end.body) == (206, DATA[-3 + len(DATA) : len(DATA)])
    assert ask(port, path, byte_range=f"{len(DATA)}-").status == 416


def test_what_clients_send_does_not_reach_the_bucket(server: FakeS3Server, port: int, path: str) -> None:
    """Headers of one client change nothing that another one gets."""
    ask(port, path, byte_range="0-9", **{"If-Match": '"other"', "Authorization": "secret", "x-amz-meta": "1"})
    [request] = [each for each in server.requests if each.kind == "get_range"]
    assert set(request.headers) <= {"host", "range", "user-agent", "accept", "connection"}
    assert ask(port, path, byte_range="0-9").body == DATA[:10]


def test_failures_are_not_kept(server: FakeS3Server, port: int, path: str) -> None:
    """A server that is busy is asked again the next time; an object that is not there is no slice."""
    server.behaviours.append(lambda request, _: Reply(503, {}, b"") if request.kind == "get_range" else None)
    assert ask(port, path, byte_range="0-9").status == 503
    server.behaviours.pop()
    assert ask(port, path, byte_range="0-9").body == DATA[:10]
    assert ask(port, f"/{BUCKET}/none?versionId=1", byte_range="0-9").status == 404


def test_the_bucket_is_asked_by_tls(dataset: FakeDataset, path: str, tmp_path: Path) -> None:
    """A certificate that it does not trust, or of another name, brings no byte; the right one does."""
    for name in ("right", "wrong"):
        (tmp_path / name).mkdir()
    right, wrong = (
        make_certificate(tmp_path / name, f"DNS:{host}")
        for name, host in (("right", "localhost"), ("wrong", "other"))
    )
    for certificate, trusted, status in ((right, right, 206), (right, wrong, 502), (wrong, wrong, 502)):
        (directory := tmp_path / f"{certificate.path.parent.name}-{trusted.path.parent.name}").mkdir()
        with FakeS3Server(dataset.store, tls=certificate.server_context()) as server:
            url = server.endpoint_url.replace("127.0.0.1", "localhost")
            with running_nginx(directory, f"--endpoint-url={url}", f"--ca-bundle={trusted.path}") as nginx:
                got = ask(nginx.port, path, byte_range="0-9")
                assert (got.status, got.body == DATA[:10]) == (status, status == 206)

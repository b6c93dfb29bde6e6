"""Real proxies with the configuration that `vbnfs site-cache` writes, before a server that counts."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.fakes.certificates import make_certificate
from tests.fakes.dataset import BUCKET, FakeDataset
from tests.fakes.s3_server import FakeS3Server, Reply, Request
from tests.fakes.store import Pattern
from tests.mount_namespaces import ALONE
from tests.scenarios.site.proxies import ENGINES, Start, ask, asked_ranges, running_nginx
from tests.waiting import until
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.daemon.site_exporter import scan

pytestmark = pytest.mark.slow

KEY: Final = "visual-behavior-neuropixels/sessions/a.nwb"
DATA: Final = Pattern(5_000_001, seed=3)
SLICE_BYTES: Final = 1 << 20
READERS: Final = 16


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


@pytest.fixture(params=ENGINES)
def start(request: pytest.FixtureRequest) -> Start:
    """What starts a proxy, of each kind."""
    return ENGINES[request.param]


@pytest.fixture
def port(start: Start, server: FakeS3Server, tmp_path: Path) -> Iterator[int]:
    """A proxy before it."""
    with start(tmp_path, f"--endpoint-url={server.endpoint_url}") as proxy:
        yield proxy.port


@pytest.fixture
def path(dataset: FakeDataset) -> str:
    """Where the proxy has the file."""
    version = dataset.store.get(KEY)
    assert version is not None
    return f"/{BUCKET}/{KEY}?versionId={version.version_id}"


def test_each_slice_is_asked_for_once(start: Start, server: FakeS3Server, port: int, path: str) -> None:
    """Many readers of one range cost one request for each slice, whole and aligned, however the range lies.

    Traffic Server seldom asks for one a few times more.
    """
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
    asked_once = asked_ranges(server)
    assert list(dict.fromkeys(asked_once)) == slices
    assert len(asked_once) <= (len(slices) if start is ENGINES["nginx"] else READERS * len(slices) // 2)
    again = ask(port, path, byte_range="0-9")
    assert again.body == DATA[:10]
    assert again.headers["x-cache-status"] in {"HIT", "hit-fresh"}
    assert asked_ranges(server) == asked_once


def test_what_is_served(server: FakeS3Server, port: int, path: str) -> None:
    """One object version of the bucket is served, also as a whole; nothing that may change, and no other bucket."""
    whole = ask(port, path)
    assert (whole.status, whole.body) == (200, DATA[: len(DATA)])
    assert ask(port, path, method="HEAD").headers["content-length"] == str(len(DATA))
    before = len(server.requests)
    plain = path.partition("?")[0]
    others = (f"/{BUCKET}", f"/{BUCKET}/?list-type=2", f"/other/{KEY}?versionId=1", f"{path}&acl", "/")
    nulls = [f"{plain}?versionId={null}" for null in ("null", "n%75ll", "%6e%75%6c%6c")]  # may be replaced
    for refused in (plain, *others, *nulls):
        assert ask(port, refused).status in {403, 404}, refused
    assert ask(port, path, method="PUT").status in {403, 405}
    assert len(server.requests) == before
    end = ask(port, path, byte_range=f"{len(DATA) - 3}-{len(DATA) + 9}")
    assert (end.status, end.body) == (206, DATA[-3 + len(DATA) : len(DATA)])
    assert ask(port, path, byte_range=f"{len(DATA)}-").status == 416


def test_what_clients_send_does_not_reach_the_bucket(
    start: Start, server: FakeS3Server, port: int, path: str
) -> None:
    """Headers of one client change nothing that another one gets; Traffic Server hands on what it does not know."""
    ask(port, path, byte_range="0-9", **{"If-Match": '"other"', "Authorization": "secret", "x-amz-meta": "1"})
    [request] = [each for each in server.requests if each.kind == "get_range"]
    handed_on = set() if start is ENGINES["nginx"] else {"x-amz-meta"}
    assert set(request.headers) <= {"host", "range", "user-agent", "accept", "connection", *handed_on}
    assert ask(port, path, byte_range="0-9").body == DATA[:10]


def test_failures_are_not_kept(server: FakeS3Server, port: int, path: str) -> None:
    """A server that is busy is asked again the next time; an object that is not there is no slice."""
    server.behaviours.append(lambda request, _: Reply(503, {}, b"") if request.kind == "get_range" else None)
    assert ask(port, path, byte_range="0-9").status == 503
    server.behaviours.pop()
    assert ask(port, path, byte_range="0-9").body == DATA[:10]
    assert ask(port, f"/{BUCKET}/none?versionId=1", byte_range="0-9").status == 404


def test_the_bucket_is_asked_by_tls(start: Start, dataset: FakeDataset, path: str, tmp_path: Path) -> None:
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
            with start(directory, f"--endpoint-url={url}", f"--ca-bundle={trusted.path}") as proxy:
                # 500: Traffic Server has not read /etc/hosts yet, which it does a second after its start.
                until(lambda port=proxy.port: ask(port, path, byte_range="0-9").status != 500)
                got = ask(proxy.port, path, byte_range="0-9")
                assert (got.status, got.body == DATA[:10]) == (status, status == 206)


def test_other_networks_are_refused(start: Start, server: FakeS3Server, path: str, tmp_path: Path) -> None:
    """A machine of no network that is allowed gets nothing."""
    with start(tmp_path, f"--endpoint-url={server.endpoint_url}", "--allow=10.9.0.0/16") as proxy:
        try:
            assert ask(proxy.port, path, byte_range="0-9").status == 403
        except OSError:  # Traffic Server closes the connection
            assert start is ENGINES["trafficserver"]
    assert server.requests == []


def test_what_is_kept_survives_a_restart(start: Start, server: FakeS3Server, path: str, tmp_path: Path) -> None:
    """What was kept is served without S3 when the proxy is started again; by Traffic Server, what it has synced."""
    for is_first in (True, False):
        with start(tmp_path, f"--endpoint-url={server.endpoint_url}") as proxy:
            assert ask(proxy.port, path, byte_range="0-9").body == DATA[:10]
            if is_first and start is ENGINES["trafficserver"]:
                until(lambda port=proxy.port: syncs(port) > 0, seconds=60)
    assert len(asked_ranges(server)) == 1


def syncs(port: int) -> int:
    """How often Traffic Server has written where in its file it keeps what."""
    return int(json.loads(ask(port, "/.metrics").body)["global"]["proxy.process.cache.sync.count"])


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    """nginx keeps no more than its size, give or take what comes at the moment, and serves what is larger."""
    dataset = FakeDataset()
    size_bytes = 64 * BLOCK_BYTES
    data = Pattern(2 * size_bytes)
    dataset.publish("0.1.0", {"sessions/a.nwb": data})
    with FakeS3Server(dataset.store) as server:
        options = (f"--endpoint-url={server.endpoint_url}", f"--slice={BLOCK_BYTES}", f"--size={size_bytes}")
        with running_nginx(tmp_path, *options) as nginx:
            version = dataset.store.get(KEY)
            assert version is not None
            got = ask(nginx.port, f"/{BUCKET}/{KEY}?versionId={version.version_id}")
            assert got.body == data[: len(data)]
            until(lambda: scan(tmp_path / "kept" / "slices")[0] <= 64, seconds=120)


@pytest.mark.skipif(os.geteuid() != 0, reason="a file in the place of /etc/hosts is root's")
def test_addresses_are_looked_up_again(dataset: FakeDataset, path: str, tmp_path: Path) -> None:
    """After the signal that the unit's timer sends, nginx asks S3 at its new address."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 s3.test\n")
    inside = [*ALONE, "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts]
    with (
        FakeS3Server(dataset.store) as before,
        FakeS3Server(dataset.store, host="127.0.0.2", port=before.port) as after,
        running_nginx(tmp_path, f"--endpoint-url=http://s3.test:{before.port}", inside=inside) as nginx,
    ):
        assert ask(nginx.port, path, byte_range="0-9").body == DATA[:10]
        workers = nginx.workers()
        hosts.write_text("127.0.0.2 s3.test\n")
        nginx.process.send_signal(signal.SIGHUP)
        until(lambda: nginx.workers().isdisjoint(workers) and len(nginx.workers()) > 0)
        start = 2 * SLICE_BYTES
        assert ask(nginx.port, path, byte_range=f"{start}-{start + 9}").body == DATA[start : start + 10]
        assert (len(asked_ranges(before)), len(asked_ranges(after))) == (1, 1)

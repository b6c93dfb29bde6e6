"""`vbnfs site-cache metrics` beside a real nginx: what Prometheus gets, at the proxy's own address."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.daemon.test_metrics_port import free_port
from tests.fakes.dataset import BUCKET, FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.scenarios.site.proxies import ask, running_nginx
from tests.waiting import until

pytestmark = pytest.mark.slow

KEY = "visual-behavior-neuropixels/sessions/a.nwb"
DATA = Pattern(5_000_001, seed=3)
MIB = 1 << 20
HEADERS_BYTES = 4096  # more than those of one reply


@contextmanager
def counting(port: int, directory: Path) -> Iterator[None]:
    """The command, from when it answers."""
    words = ["site-cache", "metrics", "--listen", f"127.0.0.1:{port}", "--directory", directory]
    with subprocess.Popen([sys.executable, "-m", "vbnfs", *words]) as process:
        try:
            until(lambda: process.poll() is not None or is_answering(port), seconds=60)
            yield
        finally:
            process.terminate()


def is_answering(port: int) -> bool:
    try:
        return ask(port, "/metrics").status == 200
    except OSError:
        return False


def metrics(port: int) -> Mapping[str, float]:
    """What the proxy answers to Prometheus: values by name and label."""
    families = text_string_to_metric_families(ask(port, "/.metrics").body.decode())
    return {
        " ".join([sample.name.removeprefix("vbnfs_site_cache_"), *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_is_counted(tmp_path: Path) -> None:
    """Slices that were there and that were not, bytes from S3 and to clients, failures; what is kept."""
    dataset, port = FakeDataset(), free_port()
    dataset.publish("0.1.0", {"sessions/a.nwb": DATA})
    version = dataset.store.get(KEY)
    assert version is not None
    path = f"/{BUCKET}/{KEY}?versionId={version.version_id}"
    with FakeS3Server(dataset.store) as server, counting(port, tmp_path / "kept"):
        options = (f"--endpoint-url={server.endpoint_url}", f"--metrics=127.0.0.1:{port}")
        with running_nginx(tmp_path, *options) as nginx:
            for _ in range(2):
                assert ask(nginx.port, path, byte_range=f"100-{3 * MIB - 1}").status == 206
            assert ask(nginx.port, f"/{BUCKET}/none?versionId=1", byte_range="0-9").status == 404
            until(lambda: metrics(nginx.port)["requests_total"] == 3)
            found = metrics(nginx.port)
            assert found["slice_seconds_count miss"] == found["slice_seconds_count hit"] == 3
            assert found["failures_total 404"] == 1
            sent, fetched = found["sent_bytes_total"], found["fetched_bytes_total"]
            assert 0 <= sent - 2 * (3 * MIB - 100) < 3 * HEADERS_BYTES
            assert 0 <= fetched - 3 * MIB < 4 * HEADERS_BYTES
            assert ask(nginx.port, path, byte_range="0-9").body == DATA[:10]
            until(lambda: metrics(nginx.port)["slice_seconds_count hit"] == 4)
    with running_nginx(tmp_path, *options) as nginx, counting(port, tmp_path / "kept"):
        until(lambda: metrics(nginx.port).get("kept_slices") == 3)
        assert 0 < metrics(nginx.port)["kept_bytes"] - 3 * MIB < 4 * HEADERS_BYTES


def test_a_proxy_works_while_nothing_counts(tmp_path: Path) -> None:
    """Where the command does not run, clients get what they ask for; the metrics are refused."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", {"sessions/a.nwb": DATA})
    version = dataset.store.get(KEY)
    assert version is not None
    with FakeS3Server(dataset.store) as server:
        options = (f"--endpoint-url={server.endpoint_url}", f"--metrics=127.0.0.1:{free_port()}")
        with running_nginx(tmp_path, *options) as nginx:
            for _ in range(5):
                got = ask(nginx.port, f"/{BUCKET}/{KEY}?versionId={version.version_id}", byte_range="0-9")
                assert got.body == DATA[:10]
            assert ask(nginx.port, "/.metrics").status == 502

"""Metrics of a real mount: at its port, in its file, and what keeps it from being mounted."""

import os
import stat
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mounts, run_vbnfs, until
from tests.ports import free_port
from vbnfs.daemon import exporting
from vbnfs.errors import MountError
from vbnfs.host.mountinfo import find_mount

SESSION = "ecephys_sessions/ecephys_session_1044.nwb"

pytestmark = pytest.mark.scenario


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with one session."""
    with serve({"0.1.0": {SESSION: Pattern(300_000)}}) as server:
        yield server


def values(text: str, name: str) -> dict[str, float]:
    """A metric's values by mount point."""
    families = text_string_to_metric_families(text)
    return {one.labels["mountpoint"]: one.value for each in families for one in each.samples if one.name == name}


def get(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as reply:
        text: str = reply.read().decode()
        return text


def test_at_a_port_and_in_a_file(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """Both have what was read, under the mount's name; all may read the file, which is gone at the end."""
    port, file = free_port(), tmp_path / "vbn.prom"
    mount = mounts(server.endpoint_url, "--metrics-port", str(port), "--metrics-file", file)
    until(file.exists)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    where = str(mount.path)
    assert values(file.read_text(), "vbnfs_server_reachable") == {where: 1}
    (mount.path / SESSION).read_bytes()
    text = get(port)
    assert values(text, "vbnfs_read_bytes_total") == {where: 300_000}
    assert values(text, "vbnfs_received_bytes_total")[where] >= 300_000
    waited = values(text, "vbnfs_read_wait_seconds_count")
    assert waited == values(text, "vbnfs_read_requests_total")
    assert "ecephys" not in text
    refused = run_vbnfs("mount", "--endpoint-url", server.endpoint_url, "--metrics-port", str(port), tmp_path / "two")
    assert (refused.returncode, find_mount(tmp_path / "two")) == (1, None)
    message = f"vbnfs: the metrics cannot be had at 127.0.0.1:{port}: Address already in use (another mount"
    assert refused.stderr.startswith(message)
    assert "#metrics-that-cannot-be-had" in refused.stderr
    mount.umount()
    assert not file.exists()
    assert os.listdir(tmp_path) == [name for name in os.listdir(tmp_path) if ".prom" not in name]
    mount.mount()  # the port is free again
    assert values(get(port), "vbnfs_read_bytes_total") == {where: 0}


def test_other_addresses_are_refused(server: FakeS3Server, tmp_path: Path) -> None:
    """A port that the network could reach is wrong usage, and so is a file that node_exporter would not read."""
    for words in (("--metrics-port", "0.0.0.0:9464"), ("--metrics-file", "/tmp/vbn.txt")):
        done = run_vbnfs("mount", "--endpoint-url", server.endpoint_url, *words, tmp_path / "mnt")
        assert (done.returncode, "is wanted" in done.stderr) == (2, True), done.stderr
    done = run_vbnfs(
        "mount", "--endpoint-url", server.endpoint_url, "--metrics-file", tmp_path / "no/a.prom", tmp_path / "mnt"
    )
    assert (done.returncode, "there is no such folder; choose another --metrics-file" in done.stderr) == (1, True)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where prometheus_client is not installed, the message says how to install it."""
    with suppress(KeyError):
        monkeypatch.delitem(sys.modules, "vbnfs.daemon.exporter")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    for name in [name for name in sys.modules if name.startswith("prometheus_client.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("vbnfs.daemon.exporter", raising=False)
    with pytest.raises(MountError, match=r"metrics need prometheus_client: pip install 'vbnfs\[metrics\]'"):
        exporting.check_library()


def test_a_plain_mount_imports_none_of_it(mounts: Mounts, server: FakeS3Server) -> None:
    """Without the settings nothing of Prometheus is in the daemon's memory, and it listens at no port."""
    pid = mounts(server.endpoint_url).status()["pid"]
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert "prometheus" not in maps
    sockets = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    listening = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    assert [one for one in listening if one[3] == "0A" and f"socket:[{one[9]}]" in sockets] == []

"""What mounts know of versions and sizes when the bucket, the way to it, or the disk fails. Real mounts."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server, Reply, always, for_kind
from tests.fixtures_mount import Mounts, run_vbnfs, until
from vbnfs.s3.replies import MAX_OBJECT_BYTES

TABLE = "project_metadata/units.csv"
FILES = {TABLE: b"unit_id\n1\n", "sessions/1.nwb": b"one"}
NOTHING = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


@pytest.fixture
def dataset() -> FakeDataset:
    dataset = FakeDataset()
    dataset.publish("0.1.0", FILES)
    return dataset


@pytest.fixture
def server(dataset: FakeDataset) -> Iterator[FakeS3Server]:
    with FakeS3Server(dataset.store) as server:
        yield server


def test_a_cache_that_is_emptied_under_a_mount(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """After `rm -rf CACHE/*` under a live mount its next refresh keeps what it knows: `--offline` works."""
    mount = mounts(server.endpoint_url, "--refresh", "1")
    subprocess.run(["find", tmp_path / "cache", "-mindepth", "1", "-delete"], check=True)
    until(lambda: len({path.name for path in (tmp_path / "cache").rglob("*")} & {"index", "attributes"}) == 2)
    mount.umount()
    offline = mounts(server.endpoint_url, "--offline", name="offline")
    assert (offline.path / "sessions" / "1.nwb").stat().st_size == 3
    assert sorted(os.listdir(offline.path)) == ["README.txt", "allensdk", "manifests", "project_metadata", "sessions"]


def test_a_list_that_is_empty(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """A bucket that lists no manifests any more is mounted from what is kept, and is read; a warning tells."""
    mount = mounts(server.endpoint_url)
    mount.umount()
    for index in (tmp_path / "cache").rglob("index"):
        os.utime(index, (0, 0))  # which is asked for anew
    server.behaviours.append(for_kind("list_objects", always(Reply(200, {}, NOTHING))))
    mount.mount()
    assert "no manifest in bucket" in mount.warnings
    assert "mounted from what is kept" in mount.warnings
    assert (mount.path / TABLE).read_bytes() == FILES[TABLE]
    shown = run_vbnfs("versions", "--endpoint-url", server.endpoint_url)
    assert (shown.returncode, "0.1.0" in shown.stdout) == (0, True)
    assert "no manifest in bucket" in shown.stderr


PAGE = Reply(200, {}, b"<html>log in first</html>")


def test_a_page_in_place_of_every_manifest(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """While a proxy answers with a page of its own nothing is mounted, and nothing kept: the next mount is well."""
    (tmp_path / "mnt").mkdir()
    server.behaviours.append(for_kind("get_object", always(PAGE)))
    for _ in range(2):
        done = run_vbnfs("mount", "--endpoint-url", server.endpoint_url, tmp_path / "mnt")
        assert (done.returncode, "no dataset version can be shown" in done.stderr) == (1, True), done.stderr
    server.behaviours.clear()
    assert (mounts(server.endpoint_url).path / TABLE).read_bytes() == FILES[TABLE]


def test_what_is_cached_of_the_largest_file(mounts: Mounts, server: FakeS3Server) -> None:
    """Asking what is cached of a file looks at what is on the disk of it, however large it is said to be."""
    largest = f"<Size>{MAX_OBJECT_BYTES}</Size>".encode()
    server.behaviours.append(
        for_kind(
            "list_versions",
            lambda _, honest: Reply(200, honest.headers, honest.body.replace(b"<Size>3</Size>", largest)),
        )
    )
    path = mounts(server.endpoint_url).path / "sessions" / "1.nwb"
    assert path.stat().st_size == MAX_OBJECT_BYTES
    before = cpu_seconds(path)
    for _ in range(10):
        assert os.getxattr(path, "user.vbnfs.cached") == b"0"
        assert os.getxattr(path, "user.vbnfs.verified") == b"no: not complete"
    assert cpu_seconds(path) - before < 2


def cpu_seconds(path: Path) -> float:
    """The processor time of the mount that a file is in."""
    done = run_vbnfs("status", "--json", path.parent.parent)
    pid = done.stdout.partition('"pid": ')[2].partition(",")[0]
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

"""`vbnfs clean --convert`: what an earlier vbnfs cached is read without asking S3 for a byte of it."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.format_1 import write_segments
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mount, Mounts, run_vbnfs
from vbnfs.blocks import BLOCK_BYTES
from vbnfs.cache.claims import Claims
from vbnfs.cache.content_folder import DATA, FORMAT
from vbnfs.objects import Content, ObjectVersion

NAME = "project_metadata/units.csv"
BYTES = random.Random(11).randbytes(5 * BLOCK_BYTES + 33)


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with one table."""
    with serve({"0.1.0": {NAME: BYTES}}) as server:
        yield server


def in_format_1(mounts: Mounts, server: FakeS3Server, cache: Path) -> tuple[Mount, Path]:
    """A mount that has read the table and is gone; what it cached, as an earlier vbnfs would have."""
    mount = mounts(server.endpoint_url)
    assert (mount.path / NAME).read_bytes() == BYTES
    mount.umount()
    [data] = (cache / FORMAT).rglob(DATA)
    content = Content(data.parent.name, len(BYTES), ObjectVersion("", None))
    scope = data.relative_to(cache / FORMAT).parts[0]
    shutil.rmtree(cache / FORMAT)
    [segment] = write_segments(cache, content, BYTES, blocks=range(6), scope=scope)
    return mount, segment


def test_what_was_cached_is_not_fetched_again(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """Converting asks S3 for nothing; a mount says what it does not use, and afterwards reads it without a GET."""
    cache = tmp_path / "cache"
    mount, segment = in_format_1(mounts, server, cache)
    again = mounts(server.endpoint_url)
    assert f"'vbnfs clean --convert --cache-dir {cache}' takes them over" in again.warnings
    again.umount()
    server.forget_requests()
    tried = run_vbnfs("clean", "--convert", "--dry-run", "--endpoint-url", server.endpoint_url)
    assert f"{cache}  1.3 MiB of 1 segments of an earlier vbnfs would be taken over\n" in tried.stdout
    assert segment.exists()
    done = run_vbnfs("clean", "--convert", "--endpoint-url", server.endpoint_url)
    first, second = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert first == f"{cache}  1.3 MiB of 1 segments of an earlier vbnfs taken over"
    assert second.startswith(f"{cache}  1.3 MiB of 100.0 GiB; 0 files")
    assert not (cache / "blocks-v1").exists()
    assert server.count() == 0
    last = mounts(server.endpoint_url)
    assert last.warnings == ""
    assert (last.path / NAME).read_bytes() == BYTES
    assert last.status()["metrics"]["range_requests"] == 0
    assert mount.path != segment


def test_while_an_earlier_vbnfs_uses_it(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """It would read zeros in a segment that is cut short while it writes to it: nothing is converted till it ends."""
    _, segment = in_format_1(mounts, server, tmp_path / "cache")
    claims = Claims(segment.parent.parent)  # as an earlier vbnfs has them, too
    before = segment.read_bytes()
    done = run_vbnfs("clean", "--convert", "--endpoint-url", server.endpoint_url)
    assert (done.returncode, "a mount of an earlier vbnfs uses it: unmount that" in done.stderr) == (1, True)
    assert segment.read_bytes() == before
    del claims
    assert run_vbnfs("clean", "--convert", "--endpoint-url", server.endpoint_url).returncode == 0
    assert not segment.exists()


def test_what_is_of_no_version_stays_and_is_named(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """It may be another dataset's: nothing is deleted, and the line says what to do."""
    _, segment = in_format_1(mounts, server, tmp_path / "cache")
    other = segment.with_name(f"{segment.name[:2]}other.0")
    shutil.copy(segment, other)
    done = run_vbnfs("clean", "--convert", "--endpoint-url", server.endpoint_url)
    assert (done.returncode, "1 segments are of files that" in done.stderr) == (0, True), done.stderr
    assert "name their dataset with --dataset" in done.stderr
    assert os.listdir(segment.parent) == [other.name]


def test_what_came_from_another_server_is_named(tmp_path: Path) -> None:
    """It is not said that nothing is there: which server it is of, and how it is deleted."""
    content = Content("aa11", len(BYTES), ObjectVersion("", None))
    (tmp_path / "cache").mkdir(mode=0o700)
    write_segments(tmp_path / "cache", content, BYTES, blocks=range(2), scope="127.0.0.1_8333")
    done = run_vbnfs("clean", "--convert")
    assert (done.returncode, "nothing of an earlier vbnfs" in done.stdout) == (0, False)
    assert "is of 127.0.0.1_8333, and not of this server: give its --endpoint-url" in done.stderr
    assert f"rm -r {tmp_path}/cache/blocks-v1" in done.stderr


def test_a_cache_without_an_earlier_format(tmp_path: Path) -> None:
    """There is nothing to do, and nothing is asked."""
    (tmp_path / "cache").mkdir(mode=0o700)
    done = run_vbnfs("clean", "--convert")
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing of an earlier vbnfs is there" in done.stdout


def test_without_the_manifests_nothing_is_converted(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """Which lengths the files have is not known then: status 1, the reason, and nothing is lost."""
    _, segment = in_format_1(mounts, server, tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache" / "datasets-v1")
    done = run_vbnfs("clean", "--convert", "--endpoint-url", server.endpoint_url)
    assert done.returncode == 1
    assert "nothing is kept of the dataset" in done.stderr
    assert segment.exists()

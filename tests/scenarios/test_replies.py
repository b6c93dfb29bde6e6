"""What S3 and servers like it reply, as the user of a mount sees it. Real mounts; a fake server and a real one."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dataset import PROJECT, FakeDataset
from tests.fakes.s3_server import LISTING_REFUSED, FakeS3Server, Reply, always, at_most, error, for_kind, header
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mounts, run_vbnfs, until
from tests.fixtures_receiving import ReadyClient
from vbnfs.demo.server import SeaweedServer
from vbnfs.metrics import Metrics
from vbnfs.objects import ByteRange, ObjectVersion, Piece, RangeRequest

TABLE = "project_metadata/units.csv"
FILES = {TABLE: b"unit_id\n1\n", "sessions/1.nwb": bytes(range(256)) * 2000, "sessions/2.nwb": b"two"}


@pytest.fixture
def dataset() -> FakeDataset:
    dataset = FakeDataset()
    for version in ("0.1.0", "0.2.0", "9.0.0"):
        dataset.publish(version, FILES)
    return dataset


@pytest.fixture
def server(dataset: FakeDataset) -> Iterator[FakeS3Server]:
    with FakeS3Server(dataset.store) as server:
        yield server


def test_a_bucket_that_may_be_read_and_not_listed(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """Versions come from their names, sizes from HEAD; warnings say the reason; what is not cached is read, too."""
    server.behaviours.append(LISTING_REFUSED)
    mount = mounts(server.endpoint_url, "--versions", "0.2.0:9.0.0")
    assert "HTTP 403 AccessDenied" in mount.warnings
    assert "mounted from what is known by name" in mount.warnings
    assert "only cached" not in mount.warnings
    assert sorted(os.listdir(mount.path / "manifests")) == ["latest", "v0.2.0", "v9.0.0"]
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(mount.path / "sessions")}
    assert sizes == {"1.nwb": 512_000, "2.nwb": 3}
    assert (mount.path / "sessions" / "1.nwb").read_bytes() == FILES["sessions/1.nwb"]
    assert mount.status()["is_offline"] is False
    mount.umount()
    # What was found is kept. Without the option the dataset's own names are asked for: 0.1.0 is one of them.
    mount.options = [option for option in mount.options if option not in {"--versions", "0.2.0:9.0.0"}]
    mount.mount()
    assert "HTTP 403 AccessDenied" in mount.warnings
    assert sorted(os.listdir(mount.path / "manifests")) == ["latest", "v0.1.0", "v0.2.0", "v9.0.0"]
    assert (mount.path / TABLE).read_bytes() == FILES[TABLE]
    shown = run_vbnfs("versions", "--endpoint-url", server.endpoint_url)
    assert (shown.returncode, "9.0.0" in shown.stdout) == (0, True)
    assert "this is what is k" in shown.stderr
    none = run_vbnfs(
        "versions", "--endpoint-url", server.endpoint_url, "--cache-dir", tmp_path / "new", "--versions", "7"
    )
    assert none.returncode == 1
    assert "nothing is kept of the dataset (known by its name only" in none.stderr


def test_a_bucket_in_another_region(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """The first mount fails in words that name the region; later ones begin with what is kept, and say it as well."""
    (tmp_path / "mnt").mkdir()
    moved = always(error(301, "PermanentRedirect", x_amz_bucket_region="eu-central-1"))
    server.behaviours.append(moved)
    done = run_vbnfs("mount", "--endpoint-url", server.endpoint_url, tmp_path / "mnt")
    assert done.returncode == 1
    assert "the bucket is in the region 'eu-central-1': give --region eu-central-1" in done.stderr
    assert "check --region and --endpoint-url" in done.stderr
    server.behaviours.clear()
    mount = mounts(server.endpoint_url, "--refresh", "1e8")
    assert "--region" not in mount.warnings
    mount.umount()
    for index in (tmp_path / "cache").rglob("index"):
        os.utime(index, (0, 0))  # which is asked for anew
    server.behaviours.append(moved)
    mount.mount()
    assert "give --region eu-central-1" in mount.warnings
    assert "mounted from what is kept" in mount.warnings
    assert "only cached" not in mount.warnings
    assert errno_of(mount.path / "sessions" / "1.nwb") == errno.EIO
    assert "give --region eu-central-1" in last_error(mount.path / "sessions" / "1.nwb")


REASONS: dict[str, tuple[int, str, int, str]] = {
    "archived": (403, "InvalidObjectState", errno.EACCES, "in an archive.*ask the bucket's owner to restore it"),
    "requester pays": (403, "RequestPaymentRequired", errno.EACCES, "Requester Pays.*an account of yours"),
    "account": (403, "AllAccessDisabled", errno.EACCES, "account of the bucket's owner.*ask the bucket's owner"),
    "clock": (403, "RequestTimeTooSkewed", errno.EACCES, "the clock of this machine.*set the clock"),
    "gone": (404, "NoSuchVersion", errno.ESTALE, "does not have this.*another dataset version"),
    "access point": (404, "NoSuchAccessPoint", errno.ESTALE, "no such access point.*alias"),
}


def test_reasons_reach_the_user(mounts: Mounts, server: FakeS3Server) -> None:
    """Each refusal has its errno, and in `last_error` and `status` its cause and remedy; then the file is read."""
    mount = mounts(server.endpoint_url)
    path = mount.path / "sessions" / "1.nwb"
    for status, code, number, words in REASONS.values():
        server.behaviours[:] = [for_kind("get_range", always(error(status, code)))]
        assert errno_of(path) == number, code
        for text in (last_error(path), mount.status()["last_error"]):
            first, second = words.split(".*")
            assert first in text
            assert second in text
            assert f"HTTP {status} {code}" in text
    server.behaviours[:] = [for_kind("get_range", always(Reply(405).with_headers(x_amz_delete_marker="true")))]
    assert errno_of(path) == errno.ESTALE
    assert "was deleted: a delete marker" in last_error(path)
    server.behaviours.clear()
    assert path.read_bytes() == FILES["sessions/1.nwb"]


def test_a_server_that_ignores_ranges(mounts: Mounts, server: FakeS3Server) -> None:
    """Small files, and those with an encoding among their metadata, are read from a plain web server, too."""
    server.ignores_range = True
    server.behaviours.append(
        lambda request, honest: (
            honest.with_headers(Content_Encoding="gzip", ETag="", x_amz_version_id="")
            if request.kind == "get_range"
            else None
        )
    )
    mount = mounts(server.endpoint_url)
    for path, data in FILES.items():
        assert (mount.path / path).read_bytes() == data


def test_a_server_that_sends_parts_of_ranges(mounts: Mounts, dataset: FakeDataset) -> None:
    """Files come whole from a server that cuts each range short, by proxies that say so, and are cached and verified.

    A part that ends within a block is no block: none is stored that has not come whole.
    """
    large = Pattern(3_000_001)
    dataset.publish("9.1.0", {"sessions/large.nwb": large})
    with FakeS3Server(dataset.store) as server:
        server.behaviours += [
            for_kind("get_range", at_most(300_001)),
            for_kind("get_range", header(Warning="214 - x")),
        ]
        mount = mounts(server.endpoint_url)
        path = mount.path / "sessions" / "large.nwb"
        assert path.read_bytes() == large[:]
        until(lambda: os.getxattr(path, "user.vbnfs.verified").startswith(b"blake2b:"))
        mount.umount()
        mount.mount()
        assert path.read_bytes() == large[:]
        assert mount.range_requests() == 0


def errno_of(path: Path) -> int | None:
    try:
        path.read_bytes()
    except OSError as failure:
        return failure.errno
    return None


def last_error(path: Path) -> str:
    return os.getxattr(path, "user.vbnfs.last_error").decode()


async def test_objects_of_a_real_server_with_odd_metadata(seaweed: SeaweedServer) -> None:
    """SeaweedFS gives back what objects were stored with; their bytes are read, and all of them are listed."""
    bucket, boto3 = "odd-metadata", _bucket(seaweed, "odd-metadata")
    data = os.urandom(300_000)
    encodings = {"gzip.nwb": "gzip", "old.nwb": "aws-chunked", "both.nwb": "aws-chunked,gzip"}
    others = ("a folder/", "b+c d.nwb", "naïve-µ.nwb", "e%2Ff.nwb")
    ids = {}
    for key in (*encodings, *others):
        more = {"ContentEncoding": encodings[key]} if key in encodings else {}
        body = b"" if key.endswith("/") else data
        ids[key] = boto3.put_object(Bucket=bucket, Key=f"{PROJECT}/{key}", Body=body, **more).get("VersionId")
    async with ReadyClient(
        bucket=bucket, region="local", endpoint_url=seaweed.endpoint_url, ca_bundle=None, max_connections=2,
        metrics=Metrics(),
    ) as client:  # fmt: skip
        listed = {row.key for row in await client.list_objects(f"{PROJECT}/")}
        assert {f"{PROJECT}/{key}" for key in ids if not key.endswith("/")} <= listed
        for key in encodings:
            version = ObjectVersion(f"{PROJECT}/{key}", ids[key])
            assert (await client.head(version)).size_bytes == len(data)
            received: list[bytes] = []

            async def receive(piece: Any, received: list[bytes] = received) -> None:
                assert isinstance(piece, Piece)
                received.append(piece.data)

            await client.get_range(RangeRequest(version, ByteRange(5, 280_000), len(data)), receive)
            assert b"".join(received) == data[5:280_000]
            assert await client.get_object(version.key, max_bytes=len(data)) == data


def _bucket(seaweed: SeaweedServer, name: str) -> Any:
    seaweed.make_bucket(name)
    return seaweed.client()

"""Real mounts that ask a lab's mirror first: two servers, and a real one in the mirror's place."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.dataset import BUCKET, PROJECT, serve
from tests.fakes.faults import Damaged
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import MemoryStore, Pattern
from tests.fixtures_mount import Mount, Mounts, run_vbnfs, until
from vbnfs.demo.server import SeaweedServer

NAME = "ecephys_sessions/ecephys_session_1044.nwb"
OTHER = "ecephys_sessions/ecephys_session_1045.nwb"
DATA = {NAME: Pattern(3_000_001), OTHER: Pattern(1_000_001, seed=1)}
PLAIN = {name: data[: len(data)] for name, data in DATA.items()}
KEY = f"{PROJECT}/{NAME}"


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """The dataset's bucket: two sessions."""
    with serve({"0.1.0": DATA}) as server:
        yield server


@contextmanager
def mirrored() -> Iterator[FakeS3Server]:
    """A copy without version ids, of the first session alone, in a bucket of another name."""
    store = MemoryStore("lab-copy")
    store.put(KEY, DATA[NAME], version_id="null")
    with FakeS3Server(store) as server:
        yield server


def words(server: FakeS3Server) -> str:
    return f"endpoint_url={server.endpoint_url} bucket=lab-copy"


def is_verified(mount: Mount) -> bool:
    return os.getxattr(mount.path / NAME, "user.vbnfs.verified").startswith(b"blake2b:")


def test_what_the_mirror_has_comes_from_it(mounts: Mounts, server: FakeS3Server) -> None:
    """The bucket is asked for the rest; what was hashed serves mounts that have no mirror."""
    with mirrored() as mirror:
        mount = mounts(server.endpoint_url, "--mirror", words(mirror))
        assert (mount.path / NAME).read_bytes() == PLAIN[NAME]
        assert (mount.path / OTHER).read_bytes() == PLAIN[OTHER]
        asked = {request.key for request in server.requests if request.kind == "get_range"}
        assert asked == {f"{PROJECT}/{OTHER}"}
        assert mount.status()["metrics"]["mirror_blocks"] == 12
        url = os.getxattr(mount.path / NAME, "user.vbnfs.url").decode()
        assert url.startswith(f"{server.endpoint_url}/{BUCKET}/{KEY}?versionId=")  # the mirror has no versions
        until(lambda: is_verified(mount))
        mount.umount()
    count = server.count("get_range")
    without = mounts(server.endpoint_url, name="without")
    assert (without.path / NAME).read_bytes() == PLAIN[NAME]
    assert server.count("get_range") == count


def test_a_wrong_file_of_the_mirror_mends_itself(mounts: Mounts, server: FakeS3Server) -> None:
    """What the mirror has wrong is found when the file is complete: it is fetched from the bucket, and is good."""
    with mirrored() as mirror:
        mirror.behaviours.append(Damaged(NAME, at=1_000_000, times=1_000))
        mount = mounts(server.endpoint_url, "--mirror", words(mirror))
        (mount.path / NAME).read_bytes()
        until(lambda: mount.status()["metrics"]["mismatched_files"] == 1)
        assert "wrong       1 file without the manifest's hash" in run_vbnfs("status", mount.path).stdout
        until(lambda: (mount.path / NAME).read_bytes() == PLAIN[NAME])
        until(lambda: is_verified(mount))
        mount.umount()


def test_a_path_in_a_mount_names_its_mirror(mounts: Mounts, server: FakeS3Server) -> None:
    """`vbnfs verify --fetch` of a file in a mount completes what the mount has of the mirror, from the mirror."""
    with mirrored() as mirror:
        mount = mounts(server.endpoint_url, "--mirror", words(mirror))
        with (mount.path / NAME).open("rb") as file:
            file.read(4096)
        done = run_vbnfs("verify", "--fetch", mount.path / NAME)
        assert (done.returncode, done.stdout.split()[0]) == (0, "good")
        assert server.count("get_range") == 0
        assert mount.status()["mirror"] == f"bucket=lab-copy endpoint_url={mirror.endpoint_url}"
        assert f"bucket=lab-copy endpoint_url={mirror.endpoint_url}  " in run_vbnfs("status", mount.path).stdout


def test_what_a_mirror_sent_is_freed_by_name(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """`vbnfs clean FILE` in a mount deletes what is cached of the file, also in the mirror's scope."""
    with mirrored() as mirror:
        mount = mounts(server.endpoint_url, "--mirror", words(mirror), "--cache-dir", tmp_path / "cache")
        with (mount.path / NAME).open("rb") as file:
            file.read(4096)
        blocks = tmp_path / "cache" / "blocks-v2"
        until(lambda: any(blocks.glob("mirror-*/*/*/*/data")))
        done = run_vbnfs("clean", mount.path / NAME)
        assert done.returncode == 0, done.stderr
        assert not any(blocks.glob("mirror-*/*/*/*/data"))


def test_with_digests_a_wrong_block_of_the_mirror_is_never_read(
    mounts: Mounts, server: FakeS3Server, tmp_path: Path
) -> None:
    """Digests that another cache has made find it as it comes, and the bucket gives it."""
    other, file = f"--cache-dir={tmp_path / 'other'}", tmp_path / "file"
    url = f"--endpoint-url={server.endpoint_url}"
    assert run_vbnfs("verify", "--fetch", NAME, url, other).returncode == 0
    assert run_vbnfs("digests", "export", file, other).returncode == 0
    assert run_vbnfs("digests", "import", file).returncode == 0
    with mirrored() as mirror:
        mirror.behaviours.append(Damaged(NAME, at=1_000_000, times=1_000))
        mount = mounts(server.endpoint_url, "--mirror", words(mirror))
        assert (mount.path / NAME).read_bytes() == PLAIN[NAME]
        metrics = mount.status()["metrics"]
        assert (metrics["wrong_blocks"] > 0, metrics["mirror_blocks"] > 0, metrics["mismatched_files"]) == (
            True,
            True,
            0,
        )
        mount.umount()


def test_without_the_bucket_the_mirror_goes_on(mounts: Mounts, server: FakeS3Server) -> None:
    """A dataset that is known is read from the mirror while its bucket cannot be reached; --offline asks neither."""
    url = server.endpoint_url
    with mirrored() as mirror:
        mount = mounts(url, "--mirror", words(mirror))
        mount.umount()
        server.stop()
        offline = mounts(url, "--mirror", words(mirror), "--offline", name="offline")
        with pytest.raises(OSError, match="Network is unreachable"):
            (offline.path / NAME).read_bytes()
        assert mirror.count("get_range") == 0
        mount.mount()
        assert (mount.path / NAME).read_bytes() == PLAIN[NAME]
        count = mirror.count("get_range")
        assert (offline.path / NAME).read_bytes() == PLAIN[NAME]
        assert mirror.count("get_range") == count


def test_a_real_server_as_the_mirror(
    mounts: Mounts, server: FakeS3Server, seaweed: SeaweedServer, tmp_path: Path
) -> None:
    """SeaweedFS, which gives objects other version ids, named by the table of a dataset in the TOML file."""
    seaweed.make_bucket("lab-copy")
    seaweed.client().put_object(Bucket="lab-copy", Key=KEY, Body=PLAIN[NAME])
    config = tmp_path / "config.toml"
    config.write_text(
        f'dataset = "lab"\n[datasets.lab]\nbucket = "{BUCKET}"\nproject = "{PROJECT}"\n'
        f'mirror = {{ endpoint_url = "{seaweed.endpoint_url}", bucket = "lab-copy" }}\n'
    )
    mount = mounts(server.endpoint_url, "--config", config)
    assert (mount.path / NAME).read_bytes() == PLAIN[NAME]
    assert (mount.path / OTHER).read_bytes() == PLAIN[OTHER]
    assert mount.status()["metrics"]["mirror_blocks"] == 12
    assert {request.key for request in server.requests if request.kind == "get_range"} == {f"{PROJECT}/{OTHER}"}
    until(lambda: is_verified(mount))
    mount.umount()

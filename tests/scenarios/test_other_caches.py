"""A mount with a lab's cache behind its own: what the lab has is not fetched, and is held against its hash."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.cache_files import content_folders, scope_of
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mounts, run_vbnfs, until
from vbnfs.blocks import BLOCK_BYTES, DIGEST_BYTES, checksum
from vbnfs.cache.content_folder import CHECKSUMS, DATA
from vbnfs.cache.digests import DigestSet, DigestStore

SESSION = "ecephys_sessions/ecephys_session_1.nwb"
TABLE = "project_metadata/units.csv"
FILES = {SESSION: random.Random(1).randbytes(9 * BLOCK_BYTES + 5), TABLE: b"unit_id\n1\n"}


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with a session and a table."""
    with serve({"0.1.0": FILES}) as server:
        yield server


@pytest.fixture
def lab(server: FakeS3Server, tmp_path: Path) -> Path:
    """A cache that has the session, whole."""
    lab = tmp_path / "lab"
    done = run_vbnfs(
        "verify", "--fetch", "ecephys_sessions", "--cache-dir", lab, "--endpoint-url", server.endpoint_url
    )
    assert done.returncode == 0, done.stderr
    server.forget_requests()
    return lab


def plant(lab: Path) -> None:
    """Its owner makes up the first block of the session, with the checksum that it would have."""
    [folder] = content_folders(lab)
    wrong = b"planted" + FILES[SESSION][7:BLOCK_BYTES]
    with (folder / DATA).open("r+b") as data, (folder / CHECKSUMS).open("r+b") as checksums:
        data.write(wrong)
        checksums.seek(64)
        checksums.write(checksum(folder.name, 0, wrong))


def verified(path: Path) -> bytes:
    return os.getxattr(path, "user.vbnfs.verified")


def test_what_the_lab_has_is_not_fetched(mounts: Mounts, server: FakeS3Server, lab: Path, tmp_path: Path) -> None:
    """It is read where it is, counts as cached, and is hashed; only what the lab lacks is fetched and cached here."""
    before = {path: path.stat().st_mtime_ns for path in lab.rglob("*")}
    mount = mounts(server.endpoint_url, "--cache-also", f"{lab}:{tmp_path / 'none'}")
    assert f"--cache-also {tmp_path / 'none'}: No such file or directory" in mount.warnings
    assert str(lab) not in mount.warnings
    assert f"also read   {lab}, {tmp_path / 'none'}\n" in run_vbnfs("status", mount.path).stdout
    assert (mount.path / SESSION).read_bytes() == FILES[SESSION]
    assert os.getxattr(mount.path / SESSION, "user.vbnfs.cached") == str(len(FILES[SESSION])).encode()
    assert mount.range_requests() == 0
    until(lambda: verified(mount.path / SESSION).startswith(b"blake2b:"), seconds=20)
    assert (mount.path / TABLE).read_bytes() == FILES[TABLE]
    assert mount.range_requests() == 1
    assert len(content_folders(tmp_path / "cache")) == 1
    assert {path: path.stat().st_mtime_ns for path in lab.rglob("*")} == before


def test_wrong_bytes_with_right_checksums(mounts: Mounts, server: FakeS3Server, lab: Path) -> None:
    """What the lab's owner has planted is found by its hash; then the file is fetched, and is right."""
    plant(lab)
    mount = mounts(server.endpoint_url, "--cache-also", lab)
    assert (mount.path / SESSION).stat().st_size == len(FILES[SESSION])
    with (mount.path / SESSION).open("rb") as file:
        file.read(1)
    until(lambda: verified(mount.path / SESSION).startswith(b"blake2b:"), seconds=20)
    assert (mount.path / SESSION).read_bytes() == FILES[SESSION]


@pytest.mark.parametrize("is_whole", [True, False], ids=["a whole file", "a part of one"])
def test_a_wrong_block_is_no_programs_where_digests_are_known(
    mounts: Mounts, server: FakeS3Server, lab: Path, tmp_path: Path, is_whole: bool
) -> None:
    """With digests what the owner has planted is found at its first use: that block alone is fetched."""
    assert run_vbnfs("digests", "export", tmp_path / "digests", "--cache-dir", lab).returncode == 0
    assert run_vbnfs("digests", "import", tmp_path / "digests").returncode == 0
    plant(lab)
    [folder] = content_folders(lab)
    if not is_whole:
        partial = folder.parents[2] / "partial" / folder.parent.name
        partial.mkdir(parents=True, exist_ok=True)
        folder.rename(partial / folder.name)
    log = tmp_path / "log"
    mount = mounts(server.endpoint_url, "--cache-also", lab, "--log-file", log)
    assert (mount.path / SESSION).read_bytes() == FILES[SESSION]
    metrics = mount.status()["metrics"]
    assert (metrics["wrong_blocks"], metrics["mismatched_files"], metrics["received_bytes"]) == (1, 0, BLOCK_BYTES)
    assert mount.range_requests() == 1
    assert f"{folder.name}: block 0 came as blake2b-128:" in log.read_text()
    until(lambda: verified(mount.path / SESSION).startswith(b"blake2b:"), seconds=20)


def test_a_wrong_claim_does_not_keep_what_the_lab_has_from_being_read(
    mounts: Mounts, server: FakeS3Server, lab: Path, tmp_path: Path
) -> None:
    """S3 is asked for what is read first; its replies contradict the claim as well, and the rest is the lab's."""
    assert run_vbnfs("versions", "--endpoint-url", server.endpoint_url).returncode == 0
    size, file_hash = len(FILES[SESSION]), hashlib.blake2b(FILES[SESSION]).hexdigest()
    wrong = DigestSet(file_hash, size, bytes(-(-size // BLOCK_BYTES) * DIGEST_BYTES))
    DigestStore(tmp_path / "cache").take_in(wrong)
    mount = mounts(server.endpoint_url, "--cache-also", lab)
    assert (mount.path / SESSION).read_bytes() == FILES[SESSION]
    asked = [request.headers["range"] for request in server.requests if request.kind == "get_range"]
    assert 0 < max(int(one.partition("-")[2]) for one in asked) < 4 * BLOCK_BYTES  # one read of the kernel's
    until(lambda: verified(mount.path / SESSION).startswith(b"blake2b:"), seconds=20)


def test_a_cache_of_another_server(mounts: Mounts, server: FakeS3Server, lab: Path) -> None:
    """What another server sent to the lab is not read for this one."""
    [folder] = content_folders(lab)
    shutil.move(lab / "blocks-v2" / scope_of(folder), lab / "blocks-v2" / "aws")
    mount = mounts(server.endpoint_url, "--cache-also", lab)
    assert (mount.path / SESSION).read_bytes() == FILES[SESSION]
    assert mount.range_requests() > 0


def test_a_cache_that_others_can_write_is_refused(server: FakeS3Server, lab: Path, tmp_path: Path) -> None:
    """The mount is not made, and the message names the folder and the remedy."""
    lab.chmod(0o777)
    (tmp_path / "mnt").mkdir()
    done = run_vbnfs("mount", tmp_path / "mnt", "--endpoint-url", server.endpoint_url, "--cache-also", lab)
    assert done.returncode == 1
    assert f"'chmod go-w {lab}' keeps them from that" in done.stderr


@pytest.fixture
def far_lab(lab: Path, tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """The lab's cache on a file system in user space, and the process that answers for it."""
    far = tmp_path / "far"
    far.mkdir(mode=0o700)
    with subprocess.Popen(["bindfs", "-f", "--no-allow-other", lab, far]) as process:
        until(far.is_mount)
        yield far, process
        process.send_signal(signal.SIGCONT)
        subprocess.run(["fusermount3", "-u", "-z", far], check=True)
        process.kill()


def test_a_lab_whose_disk_hangs(
    mounts: Mounts, server: FakeS3Server, far_lab: tuple[Path, subprocess.Popen[bytes]]
) -> None:
    """Mounting does not wait for it; a read does until --io-timeout, and what is read after that comes from S3."""
    far, process = far_lab
    process.send_signal(signal.SIGSTOP)
    mount = mounts(server.endpoint_url, "--cache-also", far, "--io-timeout", "2.5")
    assert f"--cache-also {far}: its disk does not answer" in mount.warnings

    def is_read() -> bool:
        try:
            return (mount.path / SESSION).read_bytes() == FILES[SESSION]
        except TimeoutError:
            return False

    until(is_read, seconds=20)
    assert mount.range_requests() > 0

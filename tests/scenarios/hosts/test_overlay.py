"""An overlay above the mount: a dataset to which a program can write, while the dataset stays as it is."""

import errno
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mounts, run_vbnfs, until, without_address
from tests.scenarios.hosts.recipes import block
from tests.scenarios.system.namespace import Namespace
from tests.scenarios.test_ends import threads_of
from vbnfs.access.running_mounts import ask
from vbnfs.host.mountinfo import find_mount

SESSION = "ecephys_sessions/ecephys_session_1044.nwb"
OTHER = "ecephys_sessions/ecephys_session_1045.nwb"
TABLE = "project_metadata/units.csv"
DATA, OTHER_DATA = Pattern(3_000_001), Pattern(2_000_001)
MIB = 1 << 20

pytestmark = pytest.mark.root


@pytest.fixture
def dataset() -> FakeDataset:
    """A dataset with two sessions and a table."""
    dataset = FakeDataset()
    dataset.publish("0.1.0", {SESSION: DATA, OTHER: OTHER_DATA, TABLE: b"unit_id\n1\n"})
    return dataset


@pytest.fixture
def server(dataset: FakeDataset) -> Iterator[FakeS3Server]:
    """A server of the dataset."""
    with FakeS3Server(dataset.store) as server:
        yield server


@contextmanager
def overlay(lower: Path, *, options: str = "", name: str = "overlay") -> Iterator[Path]:
    """An overlay on a folder, which writes to a tmpfs."""
    top, layers = lower.parent / name, lower.parent / f"{name}-layers"
    for folder in (top, layers):
        folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", layers], check=True)
    try:
        (layers / "upper").mkdir()
        (layers / "work").mkdir()
        given = f"lowerdir={lower},upperdir={layers}/upper,workdir={layers}/work{options}"
        done = subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", given, top], capture_output=True, check=False
        )
        if done.returncode != 0:
            raise OSError(errno.EINVAL, done.stderr.decode())
        try:
            yield top
        finally:
            subprocess.run(["umount", top], check=True)
    finally:
        subprocess.run(["umount", layers], check=True)


def upper(top: Path) -> Path:
    """The folder to which an overlay writes."""
    return top.parent / f"{top.name}-layers" / "upper"


def test_reading_and_writing(mounts: Mounts, server: FakeS3Server) -> None:
    """Names, inode numbers and bytes are those of the mount; what is written is a copy, and whole.

    A whole cached file is read by the kernel itself, through the overlay, too.
    """
    mount = mounts(server.endpoint_url)
    with (mount.path / OTHER).open("rb") as opened:  # a part of it is cached now
        assert os.pread(opened.fileno(), 4096, MIB) == OTHER_DATA[MIB : MIB + 4096]
    with overlay(mount.path) as top:
        for folder, folders, files in os.walk(mount.path):
            above = top / Path(folder).relative_to(mount.path)
            assert sorted(os.listdir(above)) == sorted([*folders, *files])
        assert (top / SESSION).stat().st_ino == (mount.path / SESSION).stat().st_ino
        assert (top / SESSION).read_bytes() == DATA[:]
        until(lambda: os.getxattr(mount.path / SESSION, "user.vbnfs.read_by") == b"kernel")
        before = mount.status()["metrics"]
        with (top / SESSION).open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:] == opened.read() == DATA[:]
        after = mount.status()["metrics"]
        assert after["passthrough_opens"] > before["passthrough_opens"]
        assert after["read_requests"] == before["read_requests"]
        with (top / OTHER).open("ab") as opened:
            opened.write(b"more")
        assert (top / OTHER).read_bytes() == (upper(top) / OTHER).read_bytes() == OTHER_DATA[:] + b"more"
        (top / TABLE).unlink()
        (top / "project_metadata" / "mine.csv").write_bytes(b"x\n")
        assert os.listdir(top / "project_metadata") == ["mine.csv"]
        assert os.listdir(mount.path / "project_metadata") == ["units.csv"]
    assert (mount.path / OTHER).read_bytes() == OTHER_DATA[:]
    assert (mount.path / TABLE).read_bytes() == b"unit_id\n1\n"


def test_the_recipe(server: FakeS3Server, tmp_path: Path) -> None:
    """What docs/other-hosts.md shows can be typed as it stands: a file of one's own beside those of the dataset."""
    env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "VBNFS_LOG_FILE": str(tmp_path / "log")}
    env |= {"VBNFS_ENDPOINT_URL": server.endpoint_url, "VBNFS_CACHE_DIR": str(tmp_path / "cache")}
    with Namespace() as namespace:
        done = namespace.run("sh", "-euc", block("overlayfs", "sh"), env=env)
        assert (done.returncode, done.stdout) == (0, "mounted 0.1.0 at /mnt/vbn\n"), done.stderr
        shown = namespace.output("ls", "/mnt/work-on-vbn/project_metadata", "/mnt/vbn/project_metadata").split()
        assert (shown.count("units.csv"), shown.count("mine.txt")) == (2, 1)
        namespace.output("umount", "/mnt/work-on-vbn")


def test_options(mounts: Mounts, server: FakeS3Server) -> None:
    """chmod copies the file; with metacopy=on it copies its inode alone, and fetches nothing.

    index=on and nfs_export=on ask the mount for file handles, and get them.
    """
    mount = mounts(server.endpoint_url)
    with overlay(mount.path, options=",metacopy=on") as top:
        (top / SESSION).chmod(0o600)
        assert mount.range_requests() == 0
        assert (top / SESSION).stat().st_mode & 0o777 == 0o600
        assert (top / SESSION).read_bytes() == DATA[:]
    with overlay(mount.path, name="another") as top:
        (top / OTHER).chmod(0o600)
        assert (upper(top) / OTHER).read_bytes() == OTHER_DATA[:]
    with overlay(mount.path, options=",index=on,nfs_export=on", name="exported") as top:
        (top / TABLE).write_bytes(b"")
        assert (top / TABLE).read_bytes() == b""


def test_what_cannot_be_fetched_is_not_copied(mounts: Mounts, server: FakeS3Server) -> None:
    """Writing to a file of which a part cannot be had fails, with the mount's errno, and leaves no part of a copy."""
    mount = mounts(server.endpoint_url)
    mount.umount()
    mount.options.append("--offline")
    mount.mount()
    with overlay(mount.path) as top:
        with pytest.raises(OSError) as caught, (top / SESSION).open("ab"):  # noqa: PT011 - the errno
            pass
        assert caught.value.errno == errno.ENETUNREACH
        assert not (upper(top) / SESSION).exists()


def test_what_happens_below(mounts: Mounts, server: FakeS3Server, dataset: FakeDataset) -> None:
    """What an overlay shows stays right when a version turns up below it, and one that is mounted then shows that.

    On a dead mount it is dead, too, and hangs no program; on the mount that is made anew it works.
    """
    mount = mounts(server.endpoint_url)
    with overlay(mount.path) as top:
        assert os.listdir(top / "manifests") == ["latest", "v0.1.0"]
        assert b"0.1.0" in (top / "README.txt").read_bytes()
        dataset.publish("0.2.0", {SESSION: DATA, OTHER: OTHER_DATA})
        entry = find_mount(mount.path)
        assert entry is not None
        assert ask(entry, "refresh") == {"new": ["0.2.0"]}
        until(lambda: "v0.2.0" in os.listdir(mount.path / "manifests"))  # the kernel keeps a listing for a second
        assert (top / SESSION).read_bytes() == (top / "manifests" / "v0.1.0" / SESSION).read_bytes() == DATA[:]
        until(lambda: b"v0.2.0" in (top / "README.txt").read_bytes())  # the one file whose bytes change
        os.kill(mount.status()["pid"], signal.SIGKILL)
        mount.mount()
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is what is asked for
            (top / OTHER).read_bytes()
        assert caught.value.errno in {errno.ENOTCONN, errno.ECONNABORTED, errno.ESTALE}
    with overlay(mount.path, name="another") as top:
        assert "v0.2.0" in os.listdir(top / "manifests")
        assert (top / OTHER).read_bytes() == OTHER_DATA[:]


def test_unmounting_below_an_overlay(mounts: Mounts, server: FakeS3Server) -> None:
    """Unmounting says that an overlay is on the mount, which goes on; when that is unmounted the daemon ends."""
    mount = mounts(server.endpoint_url)
    pid = mount.status()["pid"]
    with overlay(mount.path) as top:
        done = run_vbnfs("umount", mount.path)
        message = f"vbnfs: {mount.path}: unmounted, but {top} is an overlay on it, which goes on: unmount that, too\n"
        assert (done.returncode, without_address(done.stderr)) == (1, message)
        assert (top / TABLE).read_bytes() == b"unit_id\n1\n"
    until(lambda: threads_of(pid) == [])


def test_a_cache_on_an_overlay(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """Passthrough from a cache on an overlay leaves no room for one above the mount; without it there is."""
    (tmp_path / "below").mkdir()
    with overlay(tmp_path / "below", name="disk") as disk:
        mount = mounts(server.endpoint_url, "--cache-dir", disk / "cache")
        with pytest.raises(OSError, match=r"wrong fs type|Invalid"), overlay(mount.path):
            pass
        mount.umount()
        mount.options += ["--passthrough", "no"]
        mount.mount()
        with overlay(mount.path, name="another") as top:
            assert (top / SESSION).read_bytes() == DATA[:]
        mount.umount()

"""`vbnfs umount` of mounts that do not end by themselves, and mounts under names and conditions that are rare."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mount, Mounts, run_vbnfs, until, without_address
from tests.scenarios.test_descriptors import limit_of_files, no_more_files
from tests.scenarios.test_ends import threads_of
from vbnfs.daemon import unmounting
from vbnfs.errors import MountError
from vbnfs.host.mountinfo import find_mount

TABLE = "project_metadata/units.csv"
# Other tests' mounts are not held: their daemons would not end.
HOLDING = """
findmnt --raw --noheadings --types fuse.vbnfs --output TARGET |
    grep --line-regexp --invert-match --fixed-strings "$1" |
    xargs --no-run-if-empty --delimiter '\\n' umount --lazy
echo
exec sleep 1000
"""
AT_ONCE_SECONDS = 15.0  # half of what a daemon is waited for that does not end


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with one table."""
    with serve({"0.1.0": {TABLE: b"unit_id\n1\n"}}) as server:
        yield server


def test_a_daemon_that_is_stopped(mounts: Mounts, server: FakeS3Server) -> None:
    """Unmounting gives up in time and names --lazy, which takes the mount away."""
    mount = mounts(server.endpoint_url)
    pid = mount.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        done = run_vbnfs("umount", mount.path)
        assert (done.returncode, f"'vbnfs umount --lazy {mount.path}'" in done.stderr) == (1, True), done.stderr
        assert run_vbnfs("umount", "--lazy", mount.path).returncode == 0
        assert find_mount(mount.path) is None
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: threads_of(pid) == [])


@pytest.mark.root
def test_a_part_that_is_mounted_elsewhere(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """Unmounting says where the mount goes on, at once; and when that is unmounted the daemon ends."""
    mount, place = mounts(server.endpoint_url), tmp_path / "place"
    pid = mount.status()["pid"]
    place.mkdir()
    subprocess.run(["mount", "--bind", mount.path / "project_metadata", place], check=True)
    try:
        began = time.monotonic()
        done = run_vbnfs("umount", mount.path)
        assert time.monotonic() - began < AT_ONCE_SECONDS
        assert (done.returncode, f"{place} is of the same mount (mount --bind)" in done.stderr) == (1, True)
        assert (place / "units.csv").read_bytes() == b"unit_id\n1\n"
    finally:
        subprocess.run(["umount", place], check=True)
    until(lambda: threads_of(pid) == [])


@pytest.mark.root
def test_a_mount_in_another_namespace(mounts: Mounts, server: FakeS3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unmounting says which process has the mount in a mount namespace of its own, and waits for it a little."""
    monkeypatch.setattr(unmounting, "_SOON_SECONDS", 0.5)
    mount, notes = mounts(server.endpoint_url), list[str]()
    pid = mount.status()["pid"]
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", HOLDING, "sh", mount.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"\n"
        try:
            with pytest.raises(MountError, match=f"process {other.pid} has it at {mount.path}"):
                unmounting.unmount_to_the_end(mount.path, lazy=False, note=notes.append)
            assert f"it goes on as long as process {other.pid} has it at {mount.path}" in notes[0]
        finally:
            other.kill()
    until(lambda: threads_of(pid) == [])


@pytest.mark.parametrize("limited", [no_more_files, partial(limit_of_files, limit=20)])
def test_unmounting_with_no_descriptor_left(
    mounts: Mounts, server: FakeS3Server, tmp_path: Path, limited: Callable[[int], AbstractContextManager[None]]
) -> None:
    """A daemon that can open no more files ends as any other, and takes its mount away.

    So does one whose limit is lowered to fewer files than it has open, that of /dev/fuse among them.
    """
    mount = mounts(server.endpoint_url)
    assert (mount.path / TABLE).read_bytes() == b"unit_id\n1\n"
    pid = mount.status()["pid"]
    with limited(pid):
        os.kill(pid, signal.SIGTERM)
        until(lambda: find_mount(mount.path) is None)
    until(lambda: threads_of(pid) == [])
    events = [json.loads(line) for line in (tmp_path / "vbnfs.log").read_text().splitlines()]
    assert events[-1]["event"] == "unmounted"
    assert [line for line in events if line["level"] == "error"] == []


@pytest.mark.parametrize("end", [b"", *(sign.encode() for sign in "\r\f\x1c\x85\u2028")])
def test_a_mount_point_that_is_not_text(mounts: Mounts, server: FakeS3Server, end: bytes) -> None:
    """Names of folders are bytes: any is a mount point like others, also one that is no UTF-8, or ends lines."""
    name = os.fsdecode(b"caf\xe9 \n1" + end + b"2")
    mount: Mount = mounts(server.endpoint_url, name=name)
    assert (mount.path / TABLE).read_bytes() == b"unit_id\n1\n"
    assert os.path.lexists(mount.path / "allensdk" / "_manifest_last_used.txt")
    assert os.fsencode(mount.status()["mountpoint"]) == os.fsencode(mount.path)
    shown = run_vbnfs("status", mount.path)
    assert (shown.returncode, r"caf\udce9 \n1" in shown.stdout) == (0, True), shown.stderr
    assert run_vbnfs("verify", mount.path / TABLE).returncode == 0
    again = run_vbnfs("mount", *mount.options, mount.path)
    assert (again.returncode, "already a vbnfs mount" in again.stderr) == (1, True)
    mount.umount()


@pytest.mark.root
@pytest.mark.usefixtures("engine")
def test_what_is_mounted_over_a_mount_stays(mounts: Mounts, server: FakeS3Server) -> None:
    """Unmounting takes away no other file system that covers the mount; nor does a daemon that ends."""
    mount = mounts(server.endpoint_url)
    pid = mount.status()["pid"]
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mount.path], check=True)
    try:
        (mount.path / "file").write_text("precious")
        done = run_vbnfs("umount", mount.path)
        message = f"vbnfs: {mount.path}: something else is mounted over it (tmpfs, from tmpfs): unmount that first\n"
        assert (done.returncode, without_address(done.stderr)) == (1, message)
        os.kill(pid, signal.SIGTERM)
        until(lambda: threads_of(pid) == [])
        assert (mount.path / "file").read_text() == "precious"
    finally:
        subprocess.run(["umount", mount.path], check=True)
    assert run_vbnfs("umount", mount.path).returncode == 0  # what the daemon left

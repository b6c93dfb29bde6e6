"""A daemon in a job's step: what becomes of its mount, its readers and its cache when the step ends."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server, for_kind, held
from tests.fakes.store import Pattern
from tests.fixtures_mount import Mount, Mounts, run_vbnfs, until
from tests.scenarios.hosts.step import Step, hierarchy
from vbnfs.host.mountinfo import find_mount

SESSION = "ecephys_sessions/ecephys_session_1044.nwb"
OTHER = "ecephys_sessions/ecephys_session_1045.nwb"
DATA, OTHER_DATA = Pattern(3_000_001), Pattern(2_000_001)

pytestmark = pytest.mark.root


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with two sessions."""
    with serve({"0.1.0": {SESSION: DATA, OTHER: OTHER_DATA}}) as server:
        yield server


@pytest.fixture
def step(tmp_path: Path) -> Iterator[Step]:
    """A step of a job."""
    with hierarchy(tmp_path / "cgroup") as folder, Step(folder, "batch") as step:
        yield step


def mount_in(step: Step, mounts: Mounts, server: FakeS3Server) -> Mount:
    """A mount that a program of the step has made, which has ended since."""
    mount = Mount(mounts.directory / "mnt", ["--endpoint-url", server.endpoint_url])
    mounts.made.append(mount)
    done = step.run(sys.executable, "-m", "vbnfs", "mount", *mount.options, mount.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert mount.status()["pid"] in step.processes()
    return mount


@contextmanager
def waiting_reader(mount: Mount, server: FakeS3Server) -> Iterator["subprocess.Popen[bytes]"]:
    """A program, of no step, that waits for bytes which the server does not send."""
    server.behaviours.append(for_kind("get_range", held(threading.Event())))
    before = server.count("get_range")
    with subprocess.Popen(["cat", mount.path / OTHER], stdout=subprocess.DEVNULL) as reader:
        server.wait_until(lambda server: server.count("get_range") > before)
        yield reader
    server.behaviours.clear()


def test_a_step_that_is_suspended_and_ends(step: Step, mounts: Mounts, server: FakeS3Server) -> None:
    """What a step leaves running is killed: readers get an error, the mount is made anew, the cache is whole.

    While a step is suspended, programs that read its mount wait; when it goes on, they have the right bytes.
    """
    mount = mount_in(step, mounts, server)
    step.suspend(True)
    with subprocess.Popen(["cat", mount.path / SESSION], stdout=subprocess.PIPE) as program:
        step.suspend(False)
        assert program.communicate(timeout=20)[0] == DATA[:]
    until(lambda: os.getxattr(mount.path / SESSION, "user.vbnfs.cached") == b"%d" % len(DATA))
    with waiting_reader(mount, server) as reader:
        step.end()  # SIGKILL, to all at once
        assert reader.wait(20) == 1
    said = run_vbnfs("status", mount.path)
    assert (said.returncode, "'vbnfs mount' mounts it anew" in said.stderr) == (1, True), said.stderr
    mount.mount()  # of the next job
    before = server.count("get_range")
    assert (mount.path / SESSION).read_bytes() == DATA[:]
    assert server.count("get_range") == before
    assert (mount.path / OTHER).read_bytes() == OTHER_DATA[:]


def test_a_step_that_is_cancelled(step: Step, mounts: Mounts, server: FakeS3Server) -> None:
    """SIGTERM to all of a step: the mount goes away in order, also while programs wait for the server."""
    mount = mount_in(step, mounts, server)
    with waiting_reader(mount, server) as reader:
        step.signal(signal.SIGTERM)
        until(lambda: not step.processes())
        assert find_mount(mount.path) is None
        assert reader.wait(20) == 1
    assert run_vbnfs("umount", "--if-mounted", mount.path).returncode == 0  # an epilog has nothing to do


def test_an_epilog(step: Step, mounts: Mounts, server: FakeS3Server) -> None:
    """`vbnfs umount --if-mounted --lazy` clears what a killed step has left, also while a program is in it."""
    mount = mount_in(step, mounts, server)
    with subprocess.Popen(["sleep", "1000"], cwd=mount.path) as other:
        try:
            step.end()
            for _ in range(2):  # the second time there is nothing
                done = run_vbnfs("umount", "--if-mounted", "--lazy", mount.path)
                assert (done.returncode, done.stderr) == (0, "")
            assert find_mount(mount.path) is None
        finally:
            other.kill()


def test_what_batch_systems_go_by(step: Step, mounts: Mounts, server: FakeS3Server) -> None:
    """A daemon has a session and a process group of its own, and keeps its job's control group and all groups."""
    mount = Mount(mounts.directory / "mnt", ["--endpoint-url", server.endpoint_url])
    mounts.made.append(mount)
    command = (sys.executable, "-m", "vbnfs", "mount", *mount.options, mount.path)
    done = step.run("setpriv", "--groups", "20,47110", "--", *command)
    assert (done.returncode, done.stderr) == (0, "")
    daemon = mount.status()["pid"]
    assert os.getsid(daemon) == os.getpgid(daemon) == daemon
    assert daemon in step.processes()
    status = Path(f"/proc/{daemon}/status").read_text()
    assert [line.split()[1:] for line in status.splitlines() if line.startswith("Groups:")] == [["20", "47110"]]

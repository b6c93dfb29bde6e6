"""A mount that another program has made: it opens /dev/fuse, mounts, and starts vbnfs with the descriptor."""

import json
import sys
from collections.abc import Iterator
from functools import partial

import pytest

from tests.fakes.dataset import PROJECT, serve
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import until
from tests.scenarios.system.namespace import HOME, REPOSITORY, USER, Namespace
from vbnfs.host.processes import has_exited

VBN = "/mnt/vbn"
UNITS = "project_metadata/units.csv"
# A program as container engines and CSI drivers have them: it mounts as root, and an ordinary user's process serves.
MOUNT_AND_DROP = """
import ctypes, os, sys
folder, url, *more = sys.argv[1:]
device = os.open("/dev/fuse", os.O_RDWR)
data = f"fd={device},rootmode=40000,user_id=4711,group_id=4711,default_permissions,allow_other"
call = ctypes.CDLL(None, use_errno=True).mount
if call(b"s3:csi", folder.encode(), b"fuse.vbnfs", ctypes.c_ulong(6), data.encode()) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
os.set_inheritable(device, True)
os.setgroups([])
os.setgid(4711)
os.setuid(4711)
command = [sys.executable, "-m", "vbnfs", "mount", f"/dev/fd/{device}", "--endpoint-url", url, *more]
os.execve(sys.executable, command, {"HOME": "/mnt/somebody", "PATH": "/usr/bin:/bin"})
"""


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server with one version of a dataset."""
    with serve({"0.4.0": {UNITS: b"unit_id\n1\n"}}) as server:
        yield server


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A namespace in which `vbnfs install-helper` was run."""
    with Namespace() as namespace:
        assert namespace.vbnfs("install-helper").returncode == 0
        yield namespace


def test_a_mount_that_another_program_has_made(namespace: Namespace, server: FakeS3Server) -> None:
    """It is served, by both engines; `status` and `umount` name its folder; the daemon ends with it."""
    for more in ([], ["--gid", "lab", "--fuse", "pyfuse3"]):
        script = [sys.executable, "-c", MOUNT_AND_DROP, VBN, server.endpoint_url, *more]
        done = namespace.run(*script, folder=str(REPOSITORY))
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert done.stdout.startswith("mounted 0.4.0 at /dev/fd/")
        assert namespace.output("cat", f"{VBN}/{UNITS}") == "unit_id\n1\n"
        assert namespace.output("stat", "-c", "%u %G", VBN).split() == ["4711", "lab" if more else USER]
        refused = namespace.run("sh", "-c", f"echo >{VBN}/{UNITS}")
        assert "Read-only file system" in refused.stderr or "Permission denied" in refused.stderr
        status = namespace.vbnfs("status", "--json", VBN, user=USER)
        assert status.returncode == 0, status.stderr
        report = json.loads(status.stdout)
        assert (report["mountpoint"], report["cache_dir"]) == (VBN, f"{HOME}/.cache/vbnfs")
        if more:
            assert namespace.vbnfs("umount", VBN, user=USER).returncode == 0
        else:
            namespace.output("umount", VBN)  # by the program that has mounted
        until(partial(has_exited, report["pid"]))
    script = MOUNT_AND_DROP.replace("os.set_inheritable(device, True)", "os.dup2(device, 1); device = 1")
    done = namespace.run(sys.executable, "-c", script, VBN, server.endpoint_url, folder=str(REPOSITORY))
    assert (done.returncode, "as descriptor 3 or above" in done.stderr) == (1, True), done.stderr
    namespace.output("umount", VBN)
    done = namespace.vbnfs("umount", "/dev/fd/3")
    assert (done.returncode, "name the folder that it is mounted on" in done.stderr) == (2, True), done.stderr


@pytest.mark.slow
def test_a_daemon_in_the_foreground(namespace: Namespace, server: FakeS3Server) -> None:
    """With `-f`, as container engines give it, it serves until it is ended; its maker takes the mount away."""
    script = "import subprocess, sys, time; from pathlib import Path\n" + WAIT_AND_END
    done = namespace.run(
        *(sys.executable, "-c", script, MOUNT_AND_DROP, VBN, server.endpoint_url), folder=str(REPOSITORY)
    )
    assert (done.returncode, done.stdout) == (0, "unit_id\n1\n0\n"), done.stderr
    assert namespace.mounts() == [VBN]
    assert "not connected" in namespace.run("ls", VBN).stderr
    namespace.output("umount", VBN)


WAIT_AND_END = """
program, folder, url = sys.argv[1:]
daemon = subprocess.Popen([sys.executable, "-c", program, folder, url, "-f"])
file = Path(folder, "project_metadata/units.csv")
while not file.exists():
    time.sleep(0.02)
sys.stdout.write(file.read_text())
daemon.terminate()
print(daemon.wait(30))
"""


@pytest.mark.slow
def test_drop_privileges_of_mount_fuse3(namespace: Namespace, server: FakeS3Server) -> None:
    """mount.fuse3 mounts, drops all capabilities for good and starts the helper; `mount -t vbnfs` cannot do that."""
    helper = namespace.output("readlink", "/sbin/mount.vbnfs").strip()
    options = f"ro,endpoint_url={server.endpoint_url},cache_dir=/mnt/cache,log_file=/mnt/vbnfs.log,drop_privileges"
    done = namespace.run("mount", "-t", "vbnfs", PROJECT, VBN, "-o", options)
    assert (done.returncode, "use setuid=USER" in done.stderr) == (1, True), done.stderr
    done = namespace.run("/sbin/mount.fuse3", f"{helper}#{PROJECT}", VBN, "-o", options)
    assert done.returncode == 0, done.stderr
    assert namespace.output("cat", f"{VBN}/{UNITS}") == "unit_id\n1\n"
    [daemon] = namespace.output("pgrep", "-f", f"mount.vbnfs.*{server.endpoint_url}").split()
    capabilities = namespace.output("grep", "-E", "CapEff|NoNewPrivs", f"/proc/{daemon}/status").split()
    assert capabilities == ["CapEff:", "0000000000000000", "NoNewPrivs:", "1"]
    namespace.output("umount", VBN)
    until(partial(has_exited, int(daemon)))

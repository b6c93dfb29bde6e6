"""podman with the volumes of docs/other-hosts.md, on a root folder in the place of an image."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.scenarios.hosts.recipes import block
from tests.scenarios.system.namespace import REPOSITORY, Namespace

TABLE = "project_metadata/units.csv"
TEXT = "unit_id\n1\n"
BIN = Path(sys.executable).parent
# What a machine of tests may lack: rights over limits, control groups of one version, a network of containers.
CONTAINERS = """
[containers]
netns = "host"
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
env = ["PATH={bin}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "PYTHONPATH={repository}", "{endpoint}"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
"""
STORAGE = '[storage]\ndriver = "vfs"\ngraphroot = "/mnt/podman"\nrunroot = "/run/podman"\n'
SETUP = """
umount /sys/fs/cgroup/unified 2>/dev/null || true
for name in bin data dev etc proc run sys tmp; do mkdir -p /mnt/root/$name; done
cp /bin/busybox /mnt/root/bin
for name in sh cat ls; do ln -s busybox /mnt/root/bin/$name; done
mkdir /mnt/data
mount --bind /mnt/data /mnt/data && mount --make-shared /mnt/data
"""
FOLLOWING, INSIDE = 1, 2  # blocks of the document

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with one table."""
    with serve({"0.1.0": {TABLE: TEXT.encode()}}) as server:
        yield server


@pytest.fixture
def podman(server: FakeS3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Namespace]:
    """A namespace in which podman runs, with a small root folder at /mnt/root."""
    endpoint = f"VBNFS_ENDPOINT_URL={server.endpoint_url}"
    text = CONTAINERS.format(bin=BIN, repository=REPOSITORY, endpoint=endpoint)
    for name, content in (("CONTAINERS_CONF", text), ("CONTAINERS_STORAGE_CONF", STORAGE)):
        (tmp_path / name).write_text(content)
        monkeypatch.setenv(name, str(tmp_path / name))
    with Namespace() as namespace:
        namespace.output("sh", "-euc", SETUP)
        yield namespace


def mount(namespace: Namespace, server: FakeS3Server) -> int:
    """Mount as the document does; the daemon's process."""
    path = f"{BIN}:{os.environ['PATH']}"
    env = {"PATH": path, "VBNFS_ENDPOINT_URL": server.endpoint_url, "VBNFS_CACHE_DIR": "/mnt/cache"}
    done = namespace.run("sh", "-euc", block("Containers", "sh", 0), env={**env, "VBNFS_LOG_FILE": "/mnt/log"})
    assert (done.returncode, done.stdout) == (0, "mounted 0.1.0 at /mnt/data/vbn\n"), done.stderr
    pid: int = json.loads(namespace.vbnfs("status", "--json", "/mnt/data/vbn").stdout)["pid"]
    return pid


@contextmanager
def shell(namespace: Namespace, volume: str) -> Iterator["Shell"]:
    """A shell in a container that runs for long."""
    command = ["podman", "run", "--rm", "--interactive", "-v", volume, "--rootfs", "/mnt/root", "sh"]
    with subprocess.Popen(
        ["nsenter", f"--mount={namespace.path}", "--", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Shell(process)
        process.communicate()


class Shell:
    """The shell, which waits for commands."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, command: str) -> str:
        """What a command prints."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command} 2>&1; echo .\n")
        self._process.stdin.flush()
        return "".join(iter(self._process.stdout.readline, ".\n"))


def test_volumes(podman: Namespace, server: FakeS3Server) -> None:
    """The document's container reads; one that runs on sees what is mounted anew if its volume is the rslave one."""
    pid = mount(podman, server)
    command = block("Containers", "sh", FOLLOWING).replace("IMAGE", "--rootfs /mnt/root")
    assert podman.output("sh", "-euc", command) == TEXT
    volumes = re.findall(r"^\| `-v (\S+)`", Path(REPOSITORY, "docs/other-hosts.md").read_text(), re.MULTILINE)
    follows, keeps = volumes[:2]
    with shell(podman, follows) as one, shell(podman, keeps) as other:
        for each in (one, other):
            assert each.run(f"cat /data/vbn/{TABLE}") == TEXT
        os.kill(pid, signal.SIGKILL)
        mount(podman, server)
        assert one.run(f"cat /data/vbn/{TABLE}") == TEXT
        # musl's words, or glibc's.
        assert re.search("Socket not connected|endpoint is not connected", other.run(f"cat /data/vbn/{TABLE}"))


def test_mounting_inside(podman: Namespace) -> None:
    """In a container with the device and the capability, vbnfs mounts; the cache may be in the container itself."""
    command = block("Containers", "sh", INSIDE).replace("IMAGE", "--rootfs /:O")
    assert podman.output("sh", "-euc", command) == f"mounted 0.1.0 at /srv\n{TEXT}"

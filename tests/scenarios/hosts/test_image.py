"""The image that deploy/container/build makes, and the manifests of deploy/kubernetes on it, run by podman."""

import json
import os
import re
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.code_blocks import blocks_of
from tests.deploy.manifests import Manifest, of_kind, pod_spec
from tests.deploy.test_kubernetes import IMAGE
from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server, for_kind, held
from tests.fixtures_mount import until
from tests.ports import free_port
from tests.scenarios.hosts.kubelet import Kubelet
from tests.scenarios.system.guest import DEBIAN
from tests.scenarios.system.namespace import MEMBER, REPOSITORY, Namespace

TABLE: Final = "project_metadata/units.csv"
TEXT: Final = "unit_id\n1\n"
OTHER: Final = "project_metadata/probes.csv"
OTHER_TEXT: Final = "probe_id\n2\n"
PORT: Final = "9464"  # of the manifests
CONTAINERS: Final = """
[containers]
netns = "host"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
env = ["VBNFS_ENDPOINT_URL={endpoint}"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
infra_image = "localhost/debian"
"""
STORAGE: Final = '[storage]\ndriver = "overlay"\ngraphroot = "/run/storage"\nrunroot = "/run/podman"\n'
SETUP: Final = """
umount /sys/fs/cgroup/unified 2>/dev/null || true
mount -t tmpfs tmpfs /var/cache
mount -t tmpfs tmpfs /dev/shm  # where podman has its locks
mount --make-shared /mnt
mkdir /mnt/pods /mnt/data /run/temporary
"""
# The Debian that systemd's tests boot, as a base image, without what no program of it reads.
BASE: Final = "localhost/debian"
MAKE_BASE: Final = f"""
export TMPDIR=/run/temporary
container=$(buildah from scratch)
root=$(buildah mount "$container")
tar --extract --preserve-permissions --numeric-owner --strip-components=1 --directory="$root" --file="$1" \
    --exclude='root/usr/share/doc/*' --exclude='root/usr/share/man/*' --exclude='root/usr/share/locale/*' \
    --exclude='root/var/cache/apt/*' --exclude='root/var/lib/apt/lists/*'
buildah umount "$container" >/dev/null
buildah config --cmd '["sh", "-c", "trap exit TERM; sleep infinity & wait"]' "$container"  # it holds pods, too
buildah commit --quiet --rm --format docker "$container" {BASE}
"""

# Containers go with their processes; so do the control groups that podman has made on this machine.
TEAR_DOWN: Final = """
podman pod rm --force --all --time 0
podman rm --force --all --time 0
find /sys/fs/cgroup -depth -type d -path '*/libpod_parent*' -exec rmdir {} +
umount --lazy /run/storage/overlay
"""
# What is said of what is missing, in each document.
TABLES: Final = {"container-image.md": "What is missing", "kubernetes.md": "What keeps it from working"}
# On a busy machine, for what takes half a minute on another, and for what takes a second.
SECONDS: Final = 600
WAIT_SECONDS: Final = 120

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture(scope="module")
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with one table."""
    with serve({"0.1.0": {TABLE: TEXT.encode(), OTHER: OTHER_TEXT.encode()}}) as server:
        yield server


@pytest.fixture(scope="module")
def machine(server: FakeS3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """A namespace with the image in podman's storage, which is in memory, and goes with it."""
    assert DEBIAN.exists(), f"{DEBIAN} is missing: run script/setup all"
    folder = tmp_path_factory.mktemp("image")
    texts = {
        "CONTAINERS_CONF": CONTAINERS.format(endpoint=server.endpoint_url),
        "CONTAINERS_STORAGE_CONF": STORAGE,
    }
    with pytest.MonkeyPatch.context() as patch, Namespace() as namespace:
        for name, text in texts.items():
            (folder / name).write_text(text)
            patch.setenv(name, str(folder / name))
        patch.setenv("BUILDAH_ISOLATION", "chroot")
        patch.setenv("DISABLE_HC_SYSTEMD", "true")
        namespace.output("sh", "-euc", SETUP)
        try:
            namespace.output("sh", "-euc", MAKE_BASE, "sh", str(DEBIAN), seconds=SECONDS)
            build = ("env", "TMPDIR=/run/temporary", "deploy/container/build", "--base", BASE)
            assert namespace.output(*build, folder=str(REPOSITORY), seconds=SECONDS) == f"{IMAGE}\n"
            yield namespace
        finally:
            namespace.run("sh", "-c", TEAR_DOWN, seconds=SECONDS)


@pytest.fixture
def kubelet(machine: Namespace, server: FakeS3Server, tmp_path: Path) -> Iterator[Kubelet]:
    """Runs manifests; what they have left is gone after the test."""
    kubelet = Kubelet(machine, Path("/mnt/pods"), tmp_path, {"VBNFS_ENDPOINT_URL": server.endpoint_url})
    yield kubelet
    kubelet.remove_all()
    machine.run("umount", "--all", "--lazy", "--types", "fuse.vbnfs")
    machine.run("sh", "-c", "rm -rf /var/cache/vbnfs /mnt/pods/* /mnt/vbnfs /mnt/data/*")


def first_container(manifest: Manifest) -> Manifest:
    spec = pod_spec(manifest)
    assert spec is not None
    container: Manifest = (spec.get("initContainers") or spec["containers"])[0]
    return container


def with_port(kind: str, port: int) -> Any:
    """A manifest of the DaemonSet, with another port than the one that all have."""
    return json.loads(json.dumps(of_kind(kind)).replace(PORT, str(port)))


def state_of(machine: Namespace, container: str) -> str:
    return machine.run("podman", "inspect", "--format={{.State.Status}}", container).stdout.strip()


def commands(heading: str) -> list[str]:
    """What docs/container-image.md has one type in a section."""
    return [
        one.code for one in blocks_of("docs/container-image.md") if (one.heading, one.language) == (heading, "sh")
    ]


def following_the_claim() -> Any:
    """The pod that reads, as one that runs for long, and names a claim in the place of hostPath."""
    pod = json.loads(json.dumps(of_kind("Pod", "reader")))
    pod["metadata"]["name"] = "following"
    pod["spec"]["containers"][0]["command"] = ["sleep", "infinity"]
    pod["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "vbnfs"}}]
    return pod


@contextmanager
def reader_with(machine: Namespace, path: str) -> Iterator["subprocess.Popen[str]"]:
    """A program of the host that has a file open, and reads it when it gets a line."""
    script = 'exec 3<"$1"; echo open; read line; cat <&3'
    command = ["nsenter", f"--mount={machine.path}", "--", "sh", "-c", script, "sh", path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process


def test_a_daemon_set(kubelet: Kubelet, machine: Namespace) -> None:
    """The node and its pods read the mount, and a daemon that is stuck fails its probe.

    One that was killed starts anew, over its dead mount, and a pod that runs on sees the new one. The end waits for a
    program that has a file open.
    """
    port = free_port()
    manifest = with_port("DaemonSet", port)
    container, name = first_container(manifest), "vbnfs-vbnfs"
    [pod] = kubelet.pods(manifest)
    kubelet.play(with_port("ConfigMap", port), pod)
    kubelet.wait_until_ready(name, container)
    assert machine.output("cat", f"/mnt/vbnfs/vbn/{TABLE}", user=MEMBER) == TEXT
    asked = container["readinessProbe"]["httpGet"]
    assert asked["port"] == port
    with urllib.request.urlopen(f"http://{asked['host']}:{port}{asked['path']}", timeout=WAIT_SECONDS) as reply:
        assert b"vbnfs_read_bytes_total" in reply.read()

    status = json.loads(kubelet.output(name, ["vbnfs", "status", "--json", "/mnt/vbnfs/vbn"]))
    assert status["passthrough"]["reason"] is None  # the kernel reads whole files, for pods, too

    [reader] = kubelet.pods(of_kind("Pod", "reader"))
    kubelet.play(reader)
    assert machine.output("podman", "wait", "reader-reader") == "0\n"
    assert machine.output("podman", "logs", "reader-reader") == TEXT

    [pod] = kubelet.pods(following_the_claim())
    kubelet.play(pod)
    assert kubelet.output("following-reader", ["cat", f"/data/vbn/{TABLE}"]) == TEXT

    pid = kubelet.pid_of(name)
    os.kill(pid, signal.SIGSTOP)
    assert kubelet.execute(name, ["timeout", "1", *container["livenessProbe"]["exec"]["command"]]) != 0
    os.kill(pid, signal.SIGKILL)
    until(lambda: kubelet.pid_of(name) not in {0, pid}, seconds=WAIT_SECONDS)
    kubelet.wait_until_ready(name, container)
    assert machine.output("cat", f"/mnt/vbnfs/vbn/{TABLE}") == TEXT
    assert kubelet.output("following-reader", ["cat", f"/data/vbn/{TABLE}"]) == TEXT
    assert machine.mounts() == ["/mnt/vbnfs/vbn"]

    pid = kubelet.pid_of(name)
    with reader_with(machine, f"/mnt/vbnfs/vbn/{OTHER}") as program:
        with kubelet.running(name, container["lifecycle"]["preStop"]["exec"]["command"]):
            until(lambda: machine.mounts() == [], seconds=WAIT_SECONDS)
            assert Path(f"/proc/{pid}").exists()
            assert program.communicate("\n", timeout=WAIT_SECONDS)[0] == OTHER_TEXT
        until(lambda: not Path(f"/proc/{pid}").exists(), seconds=WAIT_SECONDS)


def test_a_sidecar(kubelet: Kubelet, machine: Namespace) -> None:
    """The pod's containers read what the sidecar has mounted in the pod's folder; its hook leaves nothing mounted."""
    manifest = of_kind("Pod", "analysis")
    container, name = first_container(manifest), "analysis-vbnfs-vbnfs"
    sidecar, pod = kubelet.pods(manifest)
    kubelet.play(sidecar)
    kubelet.wait_until_ready(name, container)
    kubelet.play(pod)
    assert machine.output("podman", "wait", "analysis-analysis") == "0\n"
    assert machine.output("podman", "logs", "analysis-analysis") == TEXT
    kubelet.execute(name, container["lifecycle"]["preStop"]["exec"]["command"])
    machine.output("podman", "wait", name)
    assert machine.mounts() == []


def test_a_mount_for_the_host(kubelet: Kubelet, machine: Namespace, server: FakeS3Server) -> None:
    """The document's container mounts for the host, and says that it is healthy; commands use its mount.

    Stopping unmounts. What it has fetched is on the host, and is fetched no more when it starts again.
    """
    start, use = commands("A mount for the host, from a container")
    machine.output("sh", "-euc", start)

    def is_healthy() -> bool:
        return machine.run("podman", "healthcheck", "run", "vbnfs").returncode == 0

    until(is_healthy, seconds=WAIT_SECONDS)
    assert machine.output("cat", f"/mnt/data/vbn/{TABLE}", user=MEMBER) == TEXT
    labels = json.loads(machine.output("podman", "inspect", "--format={{json .Config.Labels}}", IMAGE))
    assert labels["org.opencontainers.image.version"] == IMAGE.partition(":")[2]
    shown = machine.output("sh", "-euc", use)
    assert "/data/vbn" in shown
    assert state_of(machine, "vbnfs") == "exited"
    assert machine.mounts() == []
    server.forget_requests()
    machine.output("podman", "start", "vbnfs")
    until(is_healthy, seconds=WAIT_SECONDS)
    assert machine.output("cat", f"/mnt/data/vbn/{TABLE}") == TEXT
    assert server.count("get_range") == 0


def test_stopping_while_it_waits(kubelet: Kubelet, machine: Namespace, server: FakeS3Server) -> None:
    """A container whose daemon still waits for S3 ends when it is stopped, as by Ctrl-C, and is not killed."""
    gate = threading.Event()
    server.forget_requests()
    server.behaviours.append(for_kind("list_objects", held(gate)))
    try:
        machine.output("podman", "run", "--detach", "--name=waiting", "--privileged", IMAGE)
        server.wait_until(lambda one: one.count() > 0, seconds=WAIT_SECONDS)
        machine.output("podman", "stop", "--time=60", "waiting")
    finally:
        gate.set()
        server.behaviours.clear()
    assert (
        machine.output("podman", "inspect", "--format={{.State.ExitCode}}", "waiting") != f"{128 + signal.SIGKILL}\n"
    )


def test_mounts_inside(kubelet: Kubelet, machine: Namespace) -> None:
    """The document's containers mount for themselves, as root and as a user; without a mount no right is needed."""
    [inside] = commands("A mount inside of a container")
    as_user, without_mount = commands("Without root")
    assert machine.output("sh", "-euc", inside) == f"mounted 0.1.0 at /data/vbn\n{TEXT}"
    assert machine.output("sh", "-euc", as_user) == f"mounted 0.1.0 at /home/vbnfs/vbn\n{TEXT}"
    assert "0.1.0" in machine.output("sh", "-euc", without_mount)
    assert machine.mounts() == []


@pytest.mark.parametrize(
    ("options", "row"),
    [
        ([], 0),
        (["--device=/dev/fuse"], 1),
        (["--device=/dev/fuse", "--user=vbnfs", "--env=VBNFS_CACHE_DIR=/tmp/c"], 1),
    ],
    ids=["no device", "no capability", "no capability, a user"],
)
def test_what_is_missing(kubelet: Kubelet, machine: Namespace, options: list[str], row: int) -> None:
    """Where the device or the capability is missing, the message names it, and how containers and pods get it."""
    command = ["podman", "run", "--rm", *options, IMAGE, "mount", "/tmp/vbn", "--foreground"]
    done = machine.run(*command)
    assert done.returncode == 1
    for document, heading in (
        ("container-image.md", "What is missing"),
        ("kubernetes.md", "What keeps it from working"),
    ):
        section = Path(REPOSITORY, "docs", document).read_text().partition(f"## {heading}")[2]
        words = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)[row].removesuffix(" ...").removesuffix("...")
        assert words.rstrip() in done.stderr
    assert "privileged: true" in done.stderr
    assert "docs/troubleshooting.md#" in done.stderr

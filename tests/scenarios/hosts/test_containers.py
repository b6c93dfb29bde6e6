"""Containers that read the mount of their host: what they see when the daemon starts anew, and who may read."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mounts, run_vbnfs, until
from tests.scenarios.hosts.container import Container, shared
from tests.scenarios.system.namespace import HOME, USER, Namespace
from vbnfs.host.mountinfo import find_mount

TABLE = "project_metadata/units.csv"
TEXT = "unit_id\n1\n"
DEAD = "Transport endpoint is not connected"

pytestmark = pytest.mark.root


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with one table."""
    with serve({"0.1.0": {TABLE: TEXT.encode()}}) as server:
        yield server


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A folder of the host that containers have as a volume."""
    with shared(tmp_path / "data") as folder:
        yield folder


def test_a_daemon_that_starts_anew(mounts: Mounts, server: FakeS3Server, data: Path, tmp_path: Path) -> None:
    """With the folder above as an rslave volume a container follows the host; with the mount itself it does not."""
    with ExitStack() as entered:

        def started(host: Path, propagation: str) -> tuple[Container, Path]:
            inside = tmp_path / f"{propagation}-{host.name}"
            return entered.enter_context(Container(host, inside, propagation)), inside

        follows, above = started(data, "rslave")
        mount = mounts(server.endpoint_url, name="data/vbn")  # after the container's start
        assert follows.run("cat", above / "vbn" / TABLE).stdout == TEXT
        lasting, copy = started(mount.path, "rprivate")
        above_but_private, place = started(data, "rprivate")
        for container, path in ((lasting, copy / TABLE), (above_but_private, place / "vbn" / TABLE)):
            assert container.run("cat", path).stdout == TEXT
        os.kill(mount.status()["pid"], signal.SIGKILL)
        until(lambda: DEAD in follows.run("ls", above / "vbn").stderr)
        mount.mount()
        assert follows.run("cat", above / "vbn" / TABLE).stdout == TEXT
        for container, path in ((lasting, copy), (above_but_private, place / "vbn")):
            assert DEAD in container.run("ls", path).stderr
    mount.umount()


def test_unmounting_under_a_container(mounts: Mounts, server: FakeS3Server, data: Path, tmp_path: Path) -> None:
    """A program in a container keeps the mount busy; without one, unmounting takes it away from there, too."""
    mount = mounts(server.endpoint_url, name="data/vbn")
    with Container(data, tmp_path / "inside", "rslave") as container:
        inside = tmp_path / "inside" / "vbn"
        script = f"exec 3<{inside / TABLE}; echo; exec sleep 1000"
        with subprocess.Popen(container.command("sh", "-c", script), stdout=subprocess.PIPE) as program:
            try:
                assert program.stdout is not None
                assert program.stdout.readline() == b"\n"
                done = run_vbnfs("umount", mount.path)
                assert (done.returncode, "busy" in done.stderr) == (1, True), done.stderr
            finally:
                program.kill()
        mount.umount()
        assert container.run("ls", inside).stdout == ""


def test_mounting_inside(mounts: Mounts, server: FakeS3Server, data: Path, tmp_path: Path) -> None:
    """A mount that is made in a container, on an rshared volume, is there on the host and ends with its daemon."""
    with Container(data, tmp_path / "inside", "rshared") as container:
        path = tmp_path / "inside" / "vbn"
        vbnfs = (sys.executable, "-m", "vbnfs")
        done = container.run(*vbnfs, "mount", "--endpoint-url", server.endpoint_url, path)
        assert (done.returncode, done.stderr) == (0, "")
        try:
            assert (data / "vbn" / TABLE).read_text() == TEXT
            assert find_mount(data / "vbn") is not None
        finally:
            done = container.run(*vbnfs, "umount", path)
        assert (done.returncode, done.stderr) == (0, "")
        assert find_mount(data / "vbn") is None


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A namespace with a user of its own."""
    with Namespace() as namespace:
        yield namespace


def test_containers_of_ordinary_users(namespace: Namespace, server: FakeS3Server) -> None:
    """In a user namespace root's mount can be read with allow_other alone, a user's own one by that user.

    An overlay that root has mounted on a user's own mount can be read by nobody, either.
    """
    inside = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        'mount --rbind "$0" /opt && cat "/opt/$1"',
    ]
    theirs = ["--cache-dir", "/mnt/cache", "--log-file", "/mnt/vbnfs.log"]
    url = ["--endpoint-url", server.endpoint_url]
    namespace.output("mkdir", "/mnt/closed")
    for folder, options, expected in (
        ("/mnt/closed", [], "Permission denied"),
        ("/mnt/vbn", ["--allow-other"], TEXT),
    ):
        assert namespace.vbnfs("mount", *url, *theirs, *options, folder).returncode == 0
        done = namespace.run(*inside, folder, TABLE, user=USER)
        assert expected in done.stdout + done.stderr
    assert namespace.vbnfs("mount", *url, f"{HOME}/vbn", user=USER).returncode == 0
    done = namespace.run(*inside, f"{HOME}/vbn", TABLE, user=USER)
    assert (done.stdout, done.stderr) == (TEXT, "")
    namespace.output("mkdir", "/mnt/upper", "/mnt/work", "/mnt/top")
    layers = f"lowerdir={HOME}/vbn,upperdir=/mnt/upper,workdir=/mnt/work"
    namespace.output("mount", "-t", "overlay", "overlay", "-o", layers, "/mnt/top")
    assert "Permission denied" in namespace.run("cat", f"/mnt/top/{TABLE}").stderr
    namespace.output("umount", "/mnt/top")  # or the mount would go on, and with it its daemon and this namespace

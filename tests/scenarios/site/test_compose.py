"""The compose file of `vbnfs site-cache compose`, run by podman-compose with this machine's nginx as the image."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.fakes.dataset import BUCKET, FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Pattern
from tests.fixtures_mount import run_vbnfs
from tests.ports import free_port
from tests.programs import copy_program
from tests.scenarios.hosts.test_podman import STORAGE
from tests.scenarios.site.proxies import ask, asked_ranges, is_listening
from tests.scenarios.system.namespace import Namespace
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.slow]

KEY: Final = "visual-behavior-neuropixels/sessions/a.nwb"
DATA: Final = Pattern(3_000_000, seed=3)
IMAGE: Final = "docker.io/library/nginx:stable"  # as the file names it; there is no registry here
# What a machine of tests may lack: control groups of one version, rights over limits.
CONTAINERS: Final = """
[containers]
cgroups = "disabled"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
"""


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Namespace]:
    """A namespace in which podman runs, with an image of that name."""
    for name, content in (("CONTAINERS_CONF", CONTAINERS), ("CONTAINERS_STORAGE_CONF", STORAGE)):
        (tmp_path / name).write_text(content)
        monkeypatch.setenv(name, str(tmp_path / name))
    make_root(tmp_path / "root")
    with Namespace() as namespace:
        namespace.run("umount", "/sys/fs/cgroup/unified")
        archive = str(tmp_path / "root.tar")
        namespace.output("tar", "--create", "--file", archive, "--directory", str(tmp_path / "root"), ".")
        namespace.output("podman", "import", archive, IMAGE)
        yield namespace


def make_root(root: Path) -> None:
    """A root folder with this machine's nginx, what it links to, a shell, and its user."""
    nginx = shutil.which("nginx")
    assert nginx is not None
    for folder in ("bin", "dev", "etc", "proc", "sys", "tmp", "usr/sbin", "var/cache", "var/log/nginx"):
        (root / folder).mkdir(parents=True)
    copy_program(nginx, root)
    shutil.copy("/bin/busybox", root / "bin/sh")
    (root / "bin/sleep").symlink_to("sh")
    for name in ("passwd", "group"):
        shutil.copy(f"/etc/{name}", root / "etc" / name)


@pytest.mark.parametrize("has_folder", [False, True])
def test_the_compose_file(podman: Namespace, tmp_path: Path, *, has_folder: bool) -> None:
    """The file's one container serves as nginx on the machine itself does, and ends when it is taken down.

    What it keeps in a folder of the machine is there afterwards.
    """
    dataset, port, folder, kept = FakeDataset(), free_port(), tmp_path / "site", tmp_path / "kept"
    kept.mkdir()
    own = ["--directory", str(kept)] if has_folder else []
    dataset.publish("0.1.0", {"sessions/a.nwb": DATA})
    version = dataset.store.get(KEY)
    assert version is not None
    path = f"/{BUCKET}/{KEY}?versionId={version.version_id}"
    folder.mkdir()
    with FakeS3Server(dataset.store) as server:
        options = ["--listen", f"127.0.0.1:{port}", f"--endpoint-url={server.endpoint_url}", "--free", "1M"]
        (folder / "vbnfs-site-cache.conf").write_text(run_vbnfs("site-cache", "nginx", *options, *own).stdout)
        text = run_vbnfs("site-cache", "compose", *own).stdout
        assert "nofile: 65536\n" in text
        (folder / "compose.yaml").write_text(text.replace("nofile: 65536\n", "nofile: 1024\n      nproc: 1024\n"))
        compose = [str(Path(sys.executable).with_name("podman-compose")), "--file", "compose.yaml"]
        try:
            done = podman.run(*compose, "up", "--detach", folder=str(folder))
            assert done.returncode == 0, done.stdout + done.stderr
            until(lambda: is_listening(port), seconds=60)
            for _ in range(2):
                assert ask(port, path, byte_range="0-9").body == DATA[:10]
            assert len(asked_ranges(server)) == 1
        finally:
            done = podman.run(*compose, "down", "--volumes", folder=str(folder))
        assert done.returncode == 0, done.stdout + done.stderr
        until(lambda: not is_listening(port))
    assert sum(path.is_file() for path in kept.glob("slices/**/*")) == has_folder

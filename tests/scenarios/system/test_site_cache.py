"""The units of a site cache under a running systemd, with this machine's nginx."""

import shutil
import subprocess
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
from tests.scenarios.site.proxies import ask, asked_ranges, is_listening
from tests.scenarios.system.guest import Guest, make_root
from tests.waiting import until
from vbnfs.cli.site import DIRECTORY

pytestmark = [pytest.mark.root, pytest.mark.slow]

KEY: Final = "visual-behavior-neuropixels/sessions/a.nwb"
DATA: Final = Pattern(3_000_000, seed=3)
UNIT: Final = "vbnfs-site-cache.service"
UNITS: Final = "/etc/systemd/system"
LOW_PORT: Final = 987


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A running system that has nginx."""
    root = make_root(tmp_path_factory.mktemp("debian") / "root")
    nginx = shutil.which("nginx")
    assert nginx is not None
    copy_program(nginx, root)
    with Guest(root, tmp_path_factory.mktemp("guest") / "work") as guest:
        yield guest
    subprocess.run(["rm", "-rf", "--one-file-system", root], check=True)


@pytest.mark.parametrize("directory", [DIRECTORY, "/data/site"])
@pytest.mark.parametrize("port", [LOW_PORT, 0])
def test_it_serves(guest: Guest, tmp_path: Path, directory: str, port: int) -> None:
    """With any folder, and at any port, the unit starts, keeps what passes there, and has it when it starts anew."""
    dataset, port = FakeDataset(), port or free_port()
    dataset.publish("0.1.0", {"sessions/a.nwb": DATA})
    version = dataset.store.get(KEY)
    assert version is not None
    path = f"/{BUCKET}/{KEY}?versionId={version.version_id}"
    with FakeS3Server(dataset.store) as server:
        options = ["--listen", f"127.0.0.1:{port}", f"--endpoint-url={server.endpoint_url}", "--free", "1M"]
        text = run_vbnfs("site-cache", "nginx", *options, "--directory", directory).stdout
        guest.write("/etc/vbnfs-site-cache.conf", text)
        assert run_vbnfs("site-cache", "units", tmp_path, "--directory", directory).returncode == 0
        for unit in tmp_path.iterdir():
            guest.write(f"{UNITS}/{unit.name}", unit.read_text())
        guest.output("systemctl", "daemon-reload")
        try:
            for _ in range(2):
                guest.output("systemctl", "restart", UNIT)
                until(lambda: is_listening(port), seconds=60)
                assert ask(port, path, byte_range="0-9").body == DATA[:10]
            assert len(asked_ranges(server)) == 1
            assert guest.output("find", f"{directory}/slices", "-type", "f").count("\n") == 1
            assert guest.shows(UNIT, "NRestarts") == "0"
        finally:
            guest.output("systemctl", "stop", UNIT)
            guest.output("rm", "-r", f"{directory}/slices")

"""What the commands import: a command without a mount needs neither FUSE nor a daemon."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server

RUN = """
import sys
import vbnfs.cli.main
try:
    vbnfs.cli.main.main()
finally:
    print("", *(name for name in sys.modules), sep="\\nimported ")
"""
OF_A_MOUNT = ("vbnfs.fuse", "vbnfs.filesystem", "vbnfs.daemon")
WITH_A_DATASET = [["versions"], ["diff"], ["urls"], ["verify", "--fetch", "0.2.0"], ["units"], ["tables"]]


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with two versions, of which a table differs."""
    with serve({f"0.{n}.0": {"project_metadata/units.csv": b"unit_id\n%d\n" % n} for n in (1, 2)}) as server:
        yield server


def imported_by(command: list[str], *, status: int = 0) -> set[str]:
    """The modules of vbnfs that a command has imported when it ends with this status."""
    done = subprocess.run([sys.executable, "-c", RUN, *command], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    names = {line.removeprefix("imported ") for line in done.stdout.splitlines() if line.startswith("imported ")}
    return {name for name in names if name.startswith("vbnfs.")}


def of_a_mount(modules: set[str]) -> set[str]:
    return {name for name in modules if name.startswith(OF_A_MOUNT)}


@pytest.mark.parametrize("command", WITH_A_DATASET, ids=lambda command: command[0])
def test_a_command_without_a_mount(command: list[str], server: FakeS3Server) -> None:
    """`versions`, `diff`, `urls`, `verify`, `units` and `tables` do their work, and import no module of a mount."""
    modules = imported_by([*command, "--endpoint-url", server.endpoint_url])
    assert "vbnfs.access.opening" in modules
    assert of_a_mount(modules) == set()


def test_cleaning_without_a_mount(tmp_path: Path) -> None:
    """`clean` imports no module of a mount, and nothing of the network."""
    (tmp_path / "cache").mkdir(mode=0o700)
    modules = imported_by(["clean"])
    assert "vbnfs.cache.eviction" in modules
    assert {name for name in modules if name.startswith((*OF_A_MOUNT, "vbnfs.s3"))} == set()


def test_asking_for_mounts_imports_no_daemon(tmp_path: Path) -> None:
    """`status` imports no module of a mount: the asking end of the control socket is below them."""
    modules = imported_by(["status", str(tmp_path)], status=1)
    assert "vbnfs.access.mount_status" in modules
    assert of_a_mount(modules) == set()


def test_unmounting_imports_no_server(tmp_path: Path) -> None:
    """`umount` imports of the daemon what takes a mount away, and nothing that serves one."""
    modules = imported_by(["umount", str(tmp_path)], status=1)
    assert of_a_mount(modules) == {"vbnfs.daemon", "vbnfs.daemon.unmounting"}

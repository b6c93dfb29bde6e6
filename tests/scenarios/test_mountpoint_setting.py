"""A mount point that the settings name: `vbnfs mount` and `vbnfs umount` without a folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import FakeDataset
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mounts, run_vbnfs


@pytest.fixture
def settings(tmp_path: Path, mounts: Mounts) -> Iterator[Path]:
    """A TOML file with a server and a folder that is not there yet."""
    dataset = FakeDataset()
    dataset.publish("0.4.0", {"project_metadata/units.csv": b"unit_id\n1\n"})
    path = tmp_path / "x.toml"
    with FakeS3Server(dataset.store) as server:
        path.write_text(f'endpoint_url = "{server.endpoint_url}"\nmountpoint = "{tmp_path}/new/mnt"\n')
        yield path


def test_mount_and_umount(settings: Path, tmp_path: Path) -> None:
    """The folder is made, mounted on, and unmounted, all by the file that names it."""
    done = run_vbnfs("mount", "--config", settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "new/mnt/project_metadata/units.csv").read_bytes() == b"unit_id\n1\n"
    assert run_vbnfs("umount", "--config", settings).returncode == 0
    assert not os.path.ismount(tmp_path / "new/mnt")


def test_the_command_line_wins(settings: Path, tmp_path: Path) -> None:
    """A folder on the command line takes the place of the file's, and is made where the one above it is there."""
    other = tmp_path / "other"
    done = run_vbnfs("mount", "--config", settings, other / "below")
    assert (done.returncode, "mkdir -p" in done.stderr) == (1, True)
    done = run_vbnfs("mount", "--config", settings, other)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"mounted 0.4.0 at {other}\n", "")
    assert not (tmp_path / "new").exists()
    assert run_vbnfs("umount", other).returncode == 0


def test_a_folder_that_was_made_for_nothing(tmp_path: Path) -> None:
    """A folder that was made for a mount that failed is taken away again; one that was there stays."""
    (tmp_path / "old").mkdir()
    for name in ("new", "old"):
        assert run_vbnfs("mount", "--endpoint-url", "http://127.0.0.1:1", tmp_path / name).returncode == 1
    assert [path.name for path in tmp_path.iterdir() if path.name in {"new", "old"}] == ["old"]


def test_nothing_to_unmount(settings: Path) -> None:
    """Where nothing is mounted, `umount` fails, and with --if-mounted does not."""
    assert run_vbnfs("umount", "--config", settings).returncode == 1
    assert run_vbnfs("umount", "--if-mounted", "--config", settings).returncode == 0


@pytest.mark.parametrize("command", ["mount", "umount"])
def test_no_folder_at_all(command: str) -> None:
    """Without a folder from anywhere it is asked for."""
    done = run_vbnfs(command)
    assert (done.returncode, "which folder?" in done.stderr) == (2, True)


def test_a_folder_that_cannot_be_made(settings: Path, tmp_path: Path) -> None:
    """A folder below a file is an error."""
    (tmp_path / "new").touch()
    done = run_vbnfs("mount", "--config", settings)
    assert (done.returncode, "/new/mnt: cannot be made: Not a directory" in done.stderr) == (1, True)

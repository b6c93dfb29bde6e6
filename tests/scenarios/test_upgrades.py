"""Upgrades: mounts of another version of vbnfs, the cache that they leave, and taking all mounts away."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.fakes.dataset import serve
from tests.fixtures_mount import Mounts, run_vbnfs
from vbnfs import __version__
from vbnfs.cli.main import cli
from vbnfs.errors import MountError
from vbnfs.host import mountinfo

SESSION = "ecephys_sessions/ecephys_session_1.nwb"
FILES = {"project_metadata/units.csv": b"unit_id\n1\n", SESSION: b"x" * 600_000}
# A process of `vbnfs` that is of another version.
OTHER = "import sys, vbnfs; vbnfs.__version__ = sys.argv.pop(1); from vbnfs.__main__ import main; main()"


def test_the_daemon_of_another_version_and_its_successor(mounts: Mounts) -> None:
    """A mount of another version says so, to people and programs; a daemon of this one takes over what it cached."""
    with serve({"0.1.0": FILES}) as server:
        mount = mounts(server.endpoint_url)
        mount.umount()
        command = [sys.executable, "-c", OTHER, "9.9.9", "mount", *mount.options, mount.path]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        mount.is_mounted = True
        (mount.path / SESSION).read_bytes()
        assert mount.status()["vbnfs_version"] == "9.9.9"
        shown = run_vbnfs("status", mount.path).stdout
        assert f"vbnfs 9.9.9; installed is {__version__}: it begins with the next mount" in shown
        mount.umount()
        mount.mount()
        assert (mount.path / SESSION).read_bytes() == FILES[SESSION]
        assert mount.status()["vbnfs_version"] == __version__
        assert mount.range_requests() == 0


def test_all_mounts_are_taken_away(mounts: Mounts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`umount --all` names each mount that it takes away; one in use is named, and the others go all the same."""
    every = mountinfo.list_mounts

    def ours() -> list[mountinfo.MountEntry]:  # this machine may have others
        return [entry for entry in every() if entry.mountpoint.is_relative_to(tmp_path)]

    monkeypatch.setattr(mountinfo, "list_mounts", ours)
    with serve({"0.1.0": FILES}) as server:
        first, second = mounts(server.endpoint_url, name="one"), mounts(server.endpoint_url, name="two")
        with (second.path / SESSION).open("rb"):
            done = CliRunner().invoke(cli, ["umount", "--all"])
            assert isinstance(done.exception, MountError)
            assert str(second.path) in str(done.exception)
            assert done.stdout == f"unmounted {first.path}\n"
        assert CliRunner().invoke(cli, ["umount", "--all"]).stdout == f"unmounted {second.path}\n"
        first.is_mounted = second.is_mounted = False
    done = CliRunner().invoke(cli, ["umount", "--all"])
    assert (done.exit_code, done.stdout) == (0, "")

"""Mounts whose daemons are stopped: what asks about them is answered in time, and can end."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mount, Mounts
from vbnfs.cli import mounting, verify_as_reader
from vbnfs.cli.asked import place_of
from vbnfs.config.sources import load_config
from vbnfs.errors import DatasetError, MountError
from vbnfs.host import apart
from vbnfs.host.mountinfo import absolute

TABLE = "project_metadata/units.csv"
AT_ONCE_SECONDS = 0.5


@pytest.fixture
def server() -> Iterator[FakeS3Server]:
    """A server of a dataset with one table."""
    with serve({"0.1.0": {TABLE: b"unit_id\n1\n"}}) as server:
        yield server


@pytest.fixture
def stopped(mounts: Mounts, server: FakeS3Server) -> Iterator[list[Mount]]:
    """Two mounts with stopped daemons."""
    made = [mounts(server.endpoint_url, name=f"stopped-{number}") for number in range(2)]
    pids = [one.status()["pid"] for one in made]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    yield made
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def test_what_asks_a_stopped_daemon_ends(
    stopped: list[Mount],
    mounts: Mounts,
    server: FakeS3Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`verify` by a reader, `status` of all mounts, and a look at paths give up, and name the mount that is silent.

    `status` asks all at once, and shows those that answer. Where a path leads is found without touching the mount.
    """
    one, other = stopped
    live = mounts(server.endpoint_url, name="live")
    for path in (one.path, one.path / TABLE, one.path / "not" / "yet" / "known"):
        with pytest.raises(MountError, match=r"its daemon does not answer: nothing has come for 0\.5 s"):
            verify_as_reader.run([path], show=lambda finding: None, seconds=AT_ONCE_SECONDS)
        with pytest.raises(TimeoutError):
            apart.first_missing([path / "x"], seconds=AT_ONCE_SECONDS)
        assert absolute(path) == path
    monkeypatch.setattr(mounting, "_OF_ALL_SECONDS", AT_ONCE_SECONDS)
    with pytest.raises(MountError) as caught:
        mounting.status.main([], standalone_mode=False)
    assert [str(mount.path) in str(caught.value) for mount in (one, other, live)] == [True, True, False]
    assert f"{live.path}\n" in capsys.readouterr().out


def test_paths_in_a_mount(mounts: Mounts, server: FakeS3Server, tmp_path: Path) -> None:
    """Links on the way to a mount are followed, also up from it; those in it are the tree's, and found there."""
    mount = mounts(server.endpoint_url)
    (tmp_path / "link").symlink_to("mnt/manifests")
    (tmp_path / "round").symlink_to(mount.path / ".." / "link")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "link" / "latest" / TABLE, tmp_path / "round" / "latest" / TABLE):
        assert absolute(path) == mount.path / "manifests" / "latest" / TABLE
    assert absolute(tmp_path / "round" / ".." / ".." / "x") == tmp_path.parent / "x"  # `..` of a path is its own
    with pytest.raises(MountError, match="too many links"):
        absolute(tmp_path / "loop" / "x")
    place = place_of(load_config(command_line={}), [tmp_path / "link" / "latest"], given=set())
    assert place.paths == ["manifests/latest"]
    with pytest.raises(DatasetError, match=f"'ls {mount.path / 'manifests'}' lists those that there are"):
        place_of(load_config(command_line={}), [mount.path / "manifests" / "no" / "such"], given=set())

"""Taking a mount away: which one goes, and which ones stay."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.dataset import serve
from tests.fixtures_mount import Mounts
from vbnfs.daemon.alone import take_away
from vbnfs.fuse.mounting import open_mount
from vbnfs.fuse.server import Server
from vbnfs.host.mount_programs import detach
from vbnfs.host.mountinfo import MountEntry, find_mount

OPTIONS = ("ro", "subtype=vbnfs")


class _NoOperations:
    """A file system of which nothing is asked."""


def connect(folder: Path) -> tuple[Server, MountEntry]:
    """A mount on a folder, made but not served."""
    folder.mkdir()
    connection = Server(open_mount(folder, OPTIONS), _NoOperations())  # type: ignore[arg-type]
    entry = find_mount(folder)
    assert entry is not None
    return connection, entry


def test_the_mount_of_the_connection_goes(tmp_path: Path) -> None:
    """What was mounted is taken away, though nothing answers on it."""
    connection, entry = connect(tmp_path / "mnt")
    take_away(connection, entry)
    assert find_mount(entry.mountpoint) is None


@pytest.mark.parametrize("is_named_alike", [False, True])
def test_a_later_mount_with_the_same_number_stays(mounts: Mounts, tmp_path: Path, is_named_alike: bool) -> None:
    """A daemon that ends after its mount was taken away leaves the mount that has its device number now, anywhere."""
    connection, entry = connect(tmp_path / "earlier")
    detach(entry.mountpoint, lazy=True)
    with serve({"0.1.0": {"project_metadata/units.csv": b"unit_id\n1\n"}}) as server:
        later = mounts(server.endpoint_url, name="earlier" if is_named_alike else "later")
        found = find_mount(later.path)
        assert found is not None
        take_away(connection, replace(entry, device=found.device))
        assert find_mount(later.path) == found
        assert (later.path / "project_metadata" / "units.csv").read_bytes() == b"unit_id\n1\n"

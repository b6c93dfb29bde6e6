"""The program that takes a mount away when its daemon was killed."""

from pathlib import Path

import pytest

from vbnfs.daemon import auto_unmount
from vbnfs.fuse.mounting import open_mount
from vbnfs.host.mountinfo import find_mount


def test_a_dead_mount_goes(mountpoint: Path) -> None:
    """When its pipe ends, the program takes the dead mount away, and ends."""
    device = open_mount(mountpoint, ["ro", "subtype=vbnfs"])
    entry = find_mount(mountpoint)
    assert entry is not None
    watcher = auto_unmount.start(entry.device)
    assert watcher.stdin is not None
    device.close()
    watcher.stdin.close()
    assert watcher.wait(60) == 0
    assert find_mount(mountpoint) is None


def test_a_mount_that_lives_stays(mountpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not dead is left alone, also when the time is over, and so is what is not mounted."""
    monkeypatch.setattr(auto_unmount, "_MOST_SECONDS", 0.05)
    monkeypatch.setattr(auto_unmount, "is_alive", lambda path: True)
    device = open_mount(mountpoint, ["ro", "subtype=vbnfs"])
    entry = find_mount(mountpoint)
    assert entry is not None
    auto_unmount.take_away_if_dead(entry.device)
    assert find_mount(mountpoint) is not None
    device.close()
    auto_unmount.take_away_if_dead("0:99999")

"""Mount points, as mountinfo tells them, and the programs that take them away."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbnfs.errors import MountError
from vbnfs.mount.mountpoint import (
    MountEntry,
    absolute,
    check_mountpoint,
    find_mount,
    parse_mountinfo,
    unmount,
)

LINE = r"61 29 0:45 / /home/me/my\040data\134 ro,nosuid shared:5 - fuse.vbnfs a\011b ro,user_id=1000,group_id=1000"


def test_a_line_of_mountinfo() -> None:
    """Place, device, type, source and owner of a mount are read; octal escapes are undone."""
    [entry] = parse_mountinfo(LINE)
    assert entry == MountEntry(Path("/home/me/my data\\"), "0:45", "fuse.vbnfs", "a\tb", 1000)


def test_lines_of_other_mounts() -> None:
    """Mounts without an owner are root's; optional fields may be missing; odd lines are passed over."""
    text = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\nnonsense\n\n1 2 3 - x\n"
    assert parse_mountinfo(text) == [MountEntry(Path("/"), "8:1", "ext4", "/dev/sda1", 0)]


@given(st.text(max_size=200))
def test_any_text_is_survived(text: str) -> None:
    """No mountinfo, however odd, is more than passed over."""
    parse_mountinfo(text)


def test_this_machines_mounts() -> None:
    """The kernel's own list can be read, and the root folder is no vbnfs mount."""
    assert find_mount(Path("/")) is None


def test_absolute_follows_links(tmp_path: Path) -> None:
    """Links to a mount point and on the way to it are followed; a circle of them is refused."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "mnt").symlink_to("/nowhere")
    assert absolute(tmp_path / "link" / "mnt") == Path("/nowhere")
    assert absolute(tmp_path / "link" / "other") == tmp_path / "real" / "other"
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(MountError, match="too many links"):
        absolute(tmp_path / "circle")
    assert absolute(tmp_path / "link" / ".." / "mnt") == tmp_path / "mnt"


def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    """A mount point must be a folder that is neither in the cache folder nor around it."""
    mountpoint, cache = tmp_path / "mnt", tmp_path / "cache"
    with pytest.raises(MountError, match="mkdir -p"):
        check_mountpoint(mountpoint, cache_dir=cache)
    mountpoint.touch()
    with pytest.raises(MountError, match="not a folder"):
        check_mountpoint(mountpoint, cache_dir=cache)
    mountpoint.unlink()
    mountpoint.mkdir()
    check_mountpoint(mountpoint, cache_dir=cache)
    for cache_dir in (mountpoint, mountpoint / "cache", tmp_path):
        with pytest.raises(MountError, match="must not lie in one another"):
            check_mountpoint(mountpoint, cache_dir=cache_dir)


def test_unmounting_what_is_no_mount(tmp_path: Path) -> None:
    """Taking away what is not there is told."""
    with pytest.raises(MountError, match="no vbnfs mount"):
        unmount(tmp_path, lazy=False, timeout_seconds=1)


def test_missing_fusermount_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without fusermount3 the package that has it is named."""
    monkeypatch.setenv("PATH", str(tmp_path))
    from vbnfs.mount.mountpoint import fusermount  # noqa: PLC0415

    with pytest.raises(MountError, match="apt install fuse3"):
        fusermount()
    (tmp_path / "fusermount3").touch(mode=0o755)
    assert fusermount() == os.fspath(tmp_path / "fusermount3")

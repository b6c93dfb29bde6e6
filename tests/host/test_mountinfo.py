"""What /proc/self/mountinfo says of mounts, and paths with their links followed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbnfs.errors import MountError
from vbnfs.host import mountinfo
from vbnfs.host.mountinfo import MountEntry, absolute, all_mounts, find_mount, is_local, is_shared, parse_mountinfo

LINE = r"61 29 0:45 / /home/me/my\040data\134 ro,nosuid shared:5 - fuse.vbnfs a\011b ro,user_id=1000,group_id=1000"


def test_a_line_of_mountinfo() -> None:
    """Place, device, type, source and owner of a mount are read; octal escapes are undone."""
    [entry] = parse_mountinfo(LINE)
    assert entry == MountEntry(Path("/home/me/my data\\"), "0:45", "fuse.vbnfs", "a\tb", 1000, 1000)


def test_lines_of_other_mounts() -> None:
    """Mounts without an owner are root's; optional fields may be missing; odd lines are passed over."""
    text = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\nnonsense\n\n1 2 3 - x\n"
    assert parse_mountinfo(text) == [MountEntry(Path("/"), "8:1", "ext4", "/dev/sda1", 0)]


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ("ro,lowerdir=/a", ["/a"]),
        (r"rw,lowerdir=/a:/b\134:c:/d\040e::/data,upperdir=/up,workdir=/w", ["/a", "/b:c", "/d e", "/data"]),
        (r"rw,lowerdir+=/a:b,lowerdir+=/c\054d,datadir+=/e,upperdir=/up", ["/a:b", "/c,d", "/e"]),
        ("rw,upperdir=/up", []),
    ],
)
def test_layers_of_an_overlay(options: str, layers: list[str]) -> None:
    """The folders that an overlay reads are found in either way of writing them; other mounts have none."""
    for kind, expected in (("overlay", layers), ("ext4", [])):
        [entry] = parse_mountinfo(f"61 29 0:45 / /mnt rw - {kind} overlay {options}\n")
        assert list(entry.layers) == [Path(layer) for layer in expected]


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


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("nfs", False), ("nfs4", False), ("cifs", False), ("fuse.sshfs", False), ("ceph", False), ("ext4", True)],
)
def test_what_is_local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, expected: bool) -> None:
    """A cache is local if the kernel's table says that it is on a disk's file system; what is not known is not."""
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 0:1 / / rw - ext4 /dev/root rw\n2 1 0:2 / {tmp_path} rw - {kind} host:/export rw\n")
    monkeypatch.setattr(mountinfo, "_MOUNTINFO", table)
    assert is_local(tmp_path / "cache") is expected
    assert is_shared(tmp_path / "cache") is not expected
    assert all_mounts()[-1].options == {"rw"}
    monkeypatch.setattr(mountinfo, "_MOUNTINFO", tmp_path / "none")  # another system
    assert not is_shared(tmp_path / "cache")

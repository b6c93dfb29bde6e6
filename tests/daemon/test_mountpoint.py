"""Mount points, as mountinfo tells them, and the programs that take them away."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbnfs.daemon.mountpoint import check_mountpoint, detach, unmount
from vbnfs.errors import MountError
from vbnfs.host.mountinfo import MountEntry, absolute, find_mount, parse_mountinfo

LINE = r"61 29 0:45 / /home/me/my\040data\134 ro,nosuid shared:5 - fuse.vbnfs a\011b ro,user_id=1000,group_id=1000"


def test_a_line_of_mountinfo() -> None:
    """Place, device, type, source and owner of a mount are read; octal escapes are undone."""
    [entry] = parse_mountinfo(LINE)
    assert entry == MountEntry(Path("/home/me/my data\\"), "0:45", "fuse.vbnfs", "a\tb", 1000, 1000)


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


AS_NOBODY = """
import os, sys
from functools import partial
from pathlib import Path
from vbnfs.errors import MountError
from vbnfs.daemon.mountpoint import check_empty, check_mountpoint, make_mountpoint
cache, *folders = map(Path, sys.argv[1:])
if os.geteuid() == 0:
    os.setgroups([])
    os.setresuid(65534, 65534, 65534)
for folder in folders:
    checks = partial(make_mountpoint, parents=True), partial(check_mountpoint, cache_dir=cache), check_empty
    for check in checks:
        try:
            check(folder)
        except MountError as error:
            print(error)
"""


def test_folders_of_somebody_else() -> None:
    """An ordinary user is told which folders will do, of one that they may not see, write or list."""
    with tempfile.TemporaryDirectory() as name_of_place:  # pytest's own are closed to others
        place = Path(name_of_place)
        place.chmod(0o755)
        for name, mode in (("hidden", 0o000), ("roots", 0o555), ("unlisted", 0o333), ("full", 0o777)):
            (place / name).mkdir(mode=mode)
            (place / name).chmod(mode)
        (place / "full" / "file").touch()
        folders = [place / name for name in ("hidden/x", "roots/x", "roots", "unlisted", "full")]
        command = [sys.executable, "-c", AS_NOBODY, "/nowhere", *map(str, folders)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        (place / "hidden").chmod(0o700)  # for whoever tidies up
        mine = "mount on an empty folder of your own, such as ~/vbn"
        refused = f"Permission denied; {mine}"
        assert done.stdout.replace(str(place), "").splitlines() == [
            f"/hidden/x: cannot be made: {refused}",
            f"/hidden/x: {refused}",
            f"/hidden/x: {refused}",
            f"/roots/x: cannot be made: {refused}",
            "/roots/x: no such folder; make it with 'mkdir -p'",
            f"/roots/x: No such file or directory; {mine}",
            f"/roots: only who may write a folder, or root, can mount on it; {mine}",
            f"/unlisted: {refused}",
            "/full: not empty, and a mount would hide what is there; name an empty folder, or add -o nonempty",
        ]


def test_unmounting_what_is_no_mount(tmp_path: Path) -> None:
    """Taking away what is not there is told."""
    with pytest.raises(MountError, match="no vbnfs mount"):
        unmount(tmp_path, lazy=False, timeout_seconds=1)


def test_who_comes_second_to_a_mount_that_goes_away(tmp_path: Path) -> None:
    """Where nothing is mounted any more, taking it away is done: somebody else was faster."""
    detach(tmp_path, lazy=False)
    detach(tmp_path, lazy=True)


def test_missing_fusermount_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without fusermount3 the package that has it is named."""
    monkeypatch.setenv("PATH", str(tmp_path))
    from vbnfs.daemon.mountpoint import fusermount  # noqa: PLC0415

    with pytest.raises(MountError, match="apt install fuse3"):
        fusermount()
    (tmp_path / "fusermount3").touch(mode=0o755)
    assert fusermount() == os.fspath(tmp_path / "fusermount3")

"""Writing a file that a user has named: as a whole, and never in the place of a device."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from vbnfs.host.atomic import output_file


def write(path: Path, data: bytes, mode: int | None = None) -> None:
    with output_file(path, mode=mode) as out:
        out.write(data)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """What was there stays until all is written, also after an error; a link stays a link; nothing is left over."""
    file, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to("file")
    write(link, b"first", mode=0o640)
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode), link.is_symlink()) == (b"first", 0o640, True)
    with output_file(file) as out:
        out.write(b"second")
        out.flush()
        assert file.read_bytes() == b"first"
    assert file.read_bytes() == b"second"
    with pytest.raises(ZeroDivisionError), output_file(file) as out:
        out.write(b"third" * (1 // 0))
    assert file.read_bytes() == b"second"
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]


@pytest.mark.root
def test_a_device_stays_one(tmp_path: Path) -> None:
    """/dev/null, which root could replace, stays the device that it is: that of this test is made for it."""
    null = tmp_path / "null"
    os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    write(null, b"nothing")
    assert stat.S_ISCHR(null.stat().st_mode)
    assert os.listdir(tmp_path) == ["null"]


@pytest.mark.root
def test_a_link_that_another_user_has_planted(tmp_path: Path) -> None:
    """In a folder like /tmp a link of another user is not followed, which could lead to any file; one of ours is."""
    folder, file, link = tmp_path / "all", tmp_path / "file", tmp_path / "all" / "report.txt"
    folder.mkdir()
    folder.chmod(0o1777)
    file.write_bytes(b"precious")
    link.symlink_to(file)
    os.chown(link, 65534, 65534, follow_symlinks=False)
    with pytest.raises(PermissionError):
        write(link, b"report")
    assert (file.read_bytes(), os.listdir(folder)) == (b"precious", ["report.txt"])
    os.chown(link, 0, 0, follow_symlinks=False)
    write(link, b"report")
    assert file.read_bytes() == b"report"


def test_what_is_a_pipe() -> None:
    """/dev/stdout may be a pipe: what is written comes out of it."""
    script = "from pathlib import Path; from vbnfs.host.atomic import output_file\n"
    script += "with output_file(Path('/dev/stdout')) as out: out.write(b'some bytes')"
    root = Path(__file__).parents[2]
    assert (
        subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, check=True).stdout
        == b"some bytes"
    )

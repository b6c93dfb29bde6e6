"""The mount helper and the units find their places, and nothing of anybody else's is touched."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures_mount import run_vbnfs
from tests.test_documents import LINK
from vbnfs.cli import install
from vbnfs.cli.install import MARK, unit_word
from vbnfs.errors import InstallError

REPOSITORY = Path(__file__).parents[2]
SYSTEM_UNITS = ["vbnfs-clean.service", "vbnfs-clean.timer", "vbnfs@.service"]


def files_below(root: Path) -> list[str]:
    """The files and links, as seen from the root."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or path.is_file())


def test_the_helper_has_two_names(tmp_path: Path) -> None:
    """Both names are links to this installation's program, listed on standard output; it may be repeated."""
    for _ in range(2):
        done = run_vbnfs("install-helper", "--root", tmp_path)
        assert done.returncode == 0, done.stderr
    assert files_below(tmp_path) == ["sbin/mount.fuse.vbnfs", "sbin/mount.vbnfs"]
    target = Path(os.readlink(tmp_path / "sbin" / "mount.vbnfs"))
    assert f"{tmp_path}/sbin/mount.vbnfs -> {target}\n" in done.stdout
    assert target.name == "mount.vbnfs"
    assert subprocess.run([target], capture_output=True, check=False).returncode == 1
    done = run_vbnfs("install-helper", "--root", tmp_path, "--remove")
    assert done.stdout.count("removed") == 2
    assert files_below(tmp_path) == []
    assert run_vbnfs("install-helper", "--root", tmp_path, "--remove").stdout == ""


@pytest.mark.parametrize("flags", [[], ["--remove"]])
def test_another_helper_stays(tmp_path: Path, flags: list[str]) -> None:
    """A program, or a link to another one, is refused by name; then the other name is left alone as well."""
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin" / "mount.fuse.vbnfs").symlink_to("/opt/other/mount.other")
    done = run_vbnfs("install-helper", "--root", tmp_path, *flags)
    assert (done.returncode, "mount.fuse.vbnfs: not installed by vbnfs" in done.stderr) == (1, True)
    assert files_below(tmp_path) == ["sbin/mount.fuse.vbnfs"]


def test_the_helper_of_another_installation_is_replaced(tmp_path: Path) -> None:
    """A link to the program of an older vbnfs that may be gone is ours."""
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin" / "mount.vbnfs").symlink_to("/old/venv/bin/mount.vbnfs")
    assert run_vbnfs("install-helper", "--root", tmp_path).returncode == 0
    assert (tmp_path / "sbin" / "mount.vbnfs").exists()


@pytest.mark.parametrize(
    ("flags", "places"),
    [
        ([], [f"etc/systemd/system/{name}" for name in SYSTEM_UNITS] + ["etc/tmpfiles.d/vbnfs.conf"]),
        (["--user"], [f"etc/systemd/user/{name}" for name in SYSTEM_UNITS]),
    ],
)
def test_units_of_a_package(tmp_path: Path, flags: list[str], places: list[str]) -> None:
    """With --root units go to the system's places below it, with this installation's program in them."""
    done = run_vbnfs("install-units", *flags, "--root", tmp_path)
    assert done.returncode == 0, done.stderr
    assert files_below(tmp_path) == places
    texts = [(tmp_path / place).read_text() for place in places]
    assert all(text.startswith(MARK) and "@VBNFS@" not in text for text in texts)
    program = install.program("vbnfs")
    assert any(f"ExecStart={program} mount" in text for text in texts)
    assert {(tmp_path / place).stat().st_mode & 0o777 for place in places} == {0o644}
    assert run_vbnfs("install-units", *flags, "--root", tmp_path).returncode == 0
    assert run_vbnfs("install-units", *flags, "--root", tmp_path, "--remove").returncode == 0
    assert files_below(tmp_path) == []


def test_units_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--user installs below ~/.config, and the next steps are printed."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "dot-config"))
    done = run_vbnfs("install-units", "--user")
    assert (done.returncode, "systemctl --user enable --now vbnfs@NAME" in done.stderr) == (0, True)
    assert files_below(tmp_path / "dot-config") == [f"systemd/user/{name}" for name in SYSTEM_UNITS]


def test_a_unit_of_another_origin_stays(tmp_path: Path) -> None:
    """A unit without our first line is refused, and none of the others is written."""
    own = tmp_path / "etc/systemd/system/vbnfs@.service"
    own.parent.mkdir(parents=True)
    own.write_text("[Service]\n")
    done = run_vbnfs("install-units", "--root", tmp_path)
    assert (done.returncode, "not installed by vbnfs" in done.stderr) == (1, True)
    assert files_below(tmp_path) == ["etc/systemd/system/vbnfs@.service"]


def test_a_root_that_is_none(tmp_path: Path) -> None:
    """What the system refuses is reported with the path."""
    (tmp_path / "file").touch()
    done = run_vbnfs("install-units", "--root", tmp_path / "file")
    assert (done.returncode, f"{tmp_path}/file" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr


def test_a_program_that_is_not_there() -> None:
    """Where a program is missing, the message has the remedy."""
    with pytest.raises(InstallError, match="pip install"):
        install.program("no-such-program")


def test_a_program_for_everybody(tmp_path: Path) -> None:
    """A program in a private folder cannot be run by every user."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    program = private / "program"
    program.touch(mode=0o755)
    assert not install.is_for_all_users(program)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("/usr/bin/vbnfs", "/usr/bin/vbnfs"),
        ("/with blank/vbnfs", '"/with blank/vbnfs"'),
        ("/100%/$x/vbnfs", '"/100%%/$$x/vbnfs"'),
        ('/a"b\\c', '"/a\\"b\\\\c"'),
    ],
)
def test_words_of_a_unit(text: str, word: str) -> None:
    """What systemd would take for something else is escaped."""
    assert unit_word(text) == word


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
def test_words_of_a_unit_can_be_read_back(text: str) -> None:
    """Undoing the escapes gives the text again."""
    word = unit_word(text)
    inner = word[1:-1] if word.startswith('"') else word
    for escaped, plain in (("%%", "%"), ("$$", "$"), ('\\"', '"'), ("\\\\", "\\")):
        inner = inner.replace(escaped, plain)
    assert inner == text or "\\" in text


def test_a_wheel_has_the_units_and_the_documents(tmp_path: Path) -> None:
    """From an installed wheel the same units come as from a clone, and a failing command names a page in it."""
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(REPOSITORY),
    ]
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    names = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "systemd").rglob("*") if path.is_file()}
    assert names == {f"systemd/{path}" for path in files_below(tmp_path / "installed" / "vbnfs" / "systemd")}
    # The program is found where this Python has its programs.
    code = "from vbnfs.cli.install import rendered; print(len(list(rendered('system', '/x'))))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "installed", capture_output=True, text=True, check=True
    )
    assert done.stdout == "3\n"
    check_the_page_in(tmp_path / "installed")


def check_the_page_in(installed: Path) -> None:
    """The page of the wheel is named, and what it links to is there, too."""
    code = "from vbnfs.cli.troubleshooting import where_to_read; print(where_to_read(KeyError()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=installed, capture_output=True, text=True, check=True)
    page = installed / "vbnfs" / "docs" / "troubleshooting.md"
    assert done.stdout == f"see {page}#the-daemon-ended-or-there-was-a-defect\n"
    targets = {target for target, _ in LINK.findall(page.read_text(encoding="utf-8")) if target}
    assert len(targets) > 5
    assert [target for target in targets if not (page.parent / target).is_file()] == []

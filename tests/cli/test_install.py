"""The mount helper and the units find their places, and nothing of anybody else's is touched."""

import json
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
from vbnfs.cli import install, placing
from vbnfs.cli.install import MARK, Piece, identity_of_bytes, unit_word
from vbnfs.errors import InstallError

REPOSITORY = Path(__file__).parents[2]
SYSTEM_UNITS = ["vbnfs-clean.service", "vbnfs-clean.timer", "vbnfs@.service"]
USER_UNITS = sorted([*SYSTEM_UNITS, "vbnfs-web.service"])


LIST = "var/lib/vbnfs/installed.json"


def files_below(root: Path) -> list[str]:
    """The files and links, as seen from the root, without the list of them."""
    every = [path for path in root.rglob("*") if path.is_symlink() or path.is_file()]
    return sorted(name for path in every if (name := str(path.relative_to(root))) != LIST)


def all_below(root: Path) -> list[Path]:
    """Whatever is there."""
    return sorted(root.rglob("*"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, in which nothing is."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return folder


# install and uninstall


def test_all_of_a_user(home: Path) -> None:
    """`install --user` puts completions, pages and units in place; `uninstall` leaves nothing behind."""
    trial = run_vbnfs("install", "--user", "--dry-run")
    assert (trial.returncode, all_below(home)) == (0, [])
    done = run_vbnfs("install", "--user")
    assert (done.returncode, done.stdout) == (0, trial.stdout), done.stderr
    there = [f"{home}/{name}" for name in files_below(home)]
    assert {*there} - {f"{home}/.local/state/vbnfs/installed.json"} == {*done.stdout.splitlines()}
    for name in (
        ".local/share/bash-completion/completions/vbnfs",
        ".local/share/zsh/site-functions/_vbnfs",
        ".config/fish/completions/vbnfs.fish",
        ".local/share/man/man1/vbnfs-mount.1",
        ".local/share/man/man8/mount.vbnfs.8",
        ".config/systemd/user/vbnfs@.service",
    ):
        assert f"{home}/{name}" in there
    assert "fpath+=" in done.stderr
    assert run_vbnfs("install", "--user").stdout == done.stdout  # it may be repeated
    wants = home / ".config/systemd/user/default.target.wants"
    wants.mkdir()
    (wants / "vbnfs@vbn.service").symlink_to("../vbnfs@.service")  # as `systemctl --user enable vbnfs@vbn` does
    trial = run_vbnfs("uninstall", "--user", "--dry-run")
    gone = run_vbnfs("uninstall", "--user")
    assert (gone.returncode, trial.stdout.replace("would remove", "removed")) == (0, gone.stdout)
    assert f"removed {wants}/vbnfs@vbn.service" in gone.stdout
    assert all_below(home) == []
    again = run_vbnfs("uninstall", "--user")
    assert (again.returncode, again.stdout) == (0, "")
    assert "has put nothing in place for this user" in again.stderr


def test_all_of_a_system(tmp_path: Path) -> None:
    """For all users the helper comes, too; what other files made of the folders stays."""
    (tmp_path / "usr").mkdir()
    done = run_vbnfs("install", "--system", "--root", tmp_path)
    assert done.returncode == 0, done.stderr
    there = files_below(tmp_path)
    assert [f"{tmp_path}/{name}" for name in there] == sorted(line.split()[0] for line in done.stdout.splitlines())
    assert {"sbin/mount.vbnfs", "etc/fish/completions/vbnfs.fish", "etc/tmpfiles.d/vbnfs.conf"} <= {*there}
    (tmp_path / "etc/own").touch()
    stamps = tmp_path / "var/lib/systemd/timers"
    stamps.mkdir(parents=True)
    (stamps / "stamp-vbnfs-clean.timer").touch()  # as systemd does when the timer is enabled
    (stamps / "stamp-other.timer").touch()
    assert run_vbnfs("uninstall", "--system", "--root", tmp_path).returncode == 0
    assert files_below(tmp_path) == ["etc/own", "var/lib/systemd/timers/stamp-other.timer"]
    assert not (tmp_path / "var/lib/vbnfs").exists()
    assert (tmp_path / "usr").exists()  # it was there before


def test_what_was_changed_stays(home: Path) -> None:
    """A file that was changed since is refused by `install`, which then writes nothing, and named by `uninstall`."""
    assert run_vbnfs("install", "--user").returncode == 0
    changed = home / ".config/fish/completions/vbnfs.fish"
    changed.write_text("# mine\n")
    missing = home / ".local/share/bash-completion/completions/vbnfs"
    missing.unlink()
    done = run_vbnfs("install", "--user")
    assert (done.returncode, f"{changed}: changed since vbnfs installed it" in done.stderr) == (1, True)
    assert not missing.exists()
    done = run_vbnfs("uninstall", "--user")
    assert (done.returncode, str(changed) in done.stderr.splitlines()) == (1, True)
    assert str(changed) not in done.stdout
    assert files_below(home) == [".config/fish/completions/vbnfs.fish"]
    done = run_vbnfs("install", "--user", "--only", "completions")
    assert (done.returncode, "not installed by vbnfs" in done.stderr) == (1, True)


def test_one_part(home: Path) -> None:
    """`--only` puts one part in place; a later `install` adds the others to the list."""
    assert run_vbnfs("install", "--user", "--only", "units").returncode == 0
    assert {Path(name).parts[0:3] for name in files_below(home)} == {
        (".config", "systemd", "user"),
        (".local", "state", "vbnfs"),
    }
    assert run_vbnfs("install", "--user").returncode == 0
    assert run_vbnfs("uninstall", "--user").returncode == 0
    assert all_below(home) == []


def test_what_pipx_shows_is_left(home: Path) -> None:
    """A link into the environment's own `share` is an installer's: it is not replaced, and not removed."""
    page = home / ".local/share/man/man1/vbnfs.1"
    page.parent.mkdir(parents=True)
    page.symlink_to(Path(sys.prefix) / "share/man/man1/vbnfs.1")
    done = run_vbnfs("install", "--user", "--only", "manual")
    assert (done.returncode, f"{page}\n" in done.stdout) == (0, False)
    assert run_vbnfs("uninstall", "--user").returncode == 0
    assert files_below(home) == [".local/share/man/man1/vbnfs.1"]


def test_a_package_has_its_places_and_no_list(tmp_path: Path) -> None:
    """With --package all goes where a distribution's packages have it, and no list is kept."""
    assert run_vbnfs("install", "--package", "--root", tmp_path).returncode == 0
    there = {*files_below(tmp_path)}
    assert {"usr/lib/systemd/system/vbnfs@.service", "usr/share/zsh/vendor-completions/_vbnfs"} <= there
    assert not [name for name in there if name.startswith(("etc/", "usr/local/"))]
    assert not (tmp_path / LIST).exists()


def test_uninstall_says_what_remains(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache with what it takes, settings, log and program are named, each with what removes it."""
    monkeypatch.setenv("VBNFS_CACHE_DIR", str(tmp_path / "a cache"))
    (tmp_path / "a cache").mkdir()
    (tmp_path / "a cache/file").write_bytes(b"x" * 300_000)
    (tmp_path / "vbnfs.log").touch()
    (home / ".config/vbnfs").mkdir(parents=True)
    (home / ".config/vbnfs/config.toml").touch()
    done = run_vbnfs("uninstall", "--user")
    assert f"the cache {tmp_path}/a cache remains (" in done.stderr
    assert f"rm -r '{tmp_path}/a cache'" in done.stderr
    assert f"rm {tmp_path}/vbnfs.log" in done.stderr
    assert f"rm -r {home}/.config/vbnfs" in done.stderr
    assert "the program remains: " in done.stderr


@pytest.mark.parametrize("text", ["{", '{"files": {"a": "b"}, "folders": []}', '{"files": {}, "folders": [5]}'])
def test_a_list_that_cannot_be_read(home: Path, text: str) -> None:
    """A damaged list is named, with the remedy, and nothing is removed; without it all comes on a new list."""
    assert run_vbnfs("install", "--user", "--only", "completions").returncode == 0
    kept = home / ".local/state/vbnfs/installed.json"
    kept.write_text(text)
    done = run_vbnfs("uninstall", "--user")
    assert (done.returncode, f"{kept}: not a list of what vbnfs installed" in done.stderr) == (1, True)
    assert (home / ".config/fish/completions/vbnfs.fish").exists()
    kept.unlink()
    assert run_vbnfs("install", "--user", "--only", "completions").returncode == 0
    assert run_vbnfs("uninstall", "--user").returncode == 0
    assert all(path.is_dir() for path in all_below(home))  # folders that it has not made


@pytest.mark.parametrize("name", ["/../outside", "/usr/../../outside"])
def test_a_list_that_names_what_is_outside(tmp_path: Path, name: str) -> None:
    """A list in an image cannot have a file deleted that is not in it."""
    (tmp_path / "outside").write_bytes(b"x")
    placed = tmp_path / "image" / LIST
    placed.parent.mkdir(parents=True)
    placed.write_text(json.dumps({"files": {name: identity_of_bytes(b"x")}, "folders": []}))
    with pytest.raises(InstallError, match="not a list"):
        placing.read_list(placed, tmp_path / "image")


def pieces_in(root: Path) -> list[Piece]:
    return [Piece(root / "usr" / name, name) for name in ("first", "second", "third")]


def test_a_process_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is on the list as soon as it is there; one that did not get onto it counts all the same."""
    root, placed = tmp_path, placing.read_list(tmp_path / LIST, tmp_path)
    first, second, third = pieces_in(root)

    def killed(piece: Piece) -> None:
        write(piece)
        if piece is second:
            there = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
            left.update(there)
            raise KeyboardInterrupt

    write, left = placing._write, dict[Path, bytes]()
    monkeypatch.setattr(placing, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        placing.put([first, second, third], placed)
    for path in root.rglob("*"):
        if path.is_file():
            path.unlink()
    for path, data in left.items():
        path.write_bytes(data)
    monkeypatch.undo()
    placed = placing.read_list(placed.path, root)
    assert [*placed.files] == ["/usr/first"]
    placing.put(placing.to_be_put([first, second, third], placed), placed)
    placing.take([], placing.read_list(placed.path, root), is_all=True)
    assert all_below(root) == []


def test_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One waits for the other to end, and a while later says so; of the lock nothing stays."""
    monkeypatch.setattr(placing, "_OTHERS_SECONDS", 0.0)
    monkeypatch.setattr(placing, "make_runtime_directory", lambda: tmp_path)  # other tests install, too
    lock = tmp_path / "install.lock"
    with placing.alone():
        assert lock.stat().st_mode & 0o777 == 0o600  # no other user can hold it
        with pytest.raises(InstallError, match="is at work; try again"), placing.alone():
            pass
    assert not lock.exists()
    with placing.alone():
        pass


def test_folders_for_all_users(tmp_path: Path) -> None:
    """All users can enter the folders that are made for them, also where root's umask keeps others out."""
    for is_for_all, mode in ((True, 0o755), (False, 0o700)):
        root = tmp_path / str(is_for_all)
        before = os.umask(0o077)
        try:
            placing.put(pieces_in(root), placing.read_list(root / LIST, root), is_for_all=is_for_all)
        finally:
            os.umask(before)
        assert {path.stat().st_mode & 0o777 for path in root.rglob("*") if path.is_dir()} == {mode}
        assert {path.stat().st_mode & 0o777 for path in (root / "usr").iterdir()} == {0o644}


def test_what_pip_has_put_there_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `pip install --user`, or where Python is in /usr/local, a wheel's pages are where ours would be."""
    first, *others = pieces_in(tmp_path)
    first.path.parent.mkdir()
    first.path.write_text("of the wheel")
    monkeypatch.setattr(placing, "brought_by_installer", lambda: {str(first.path.resolve())})
    assert placing.to_be_put([first, *others], placing.read_list(tmp_path / LIST, tmp_path)) == others


# The two parts that have commands of their own


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


def test_the_helper_of_a_package_stays(tmp_path: Path) -> None:
    """What script/package's package has put there is its own: it is refused by name, and not taken away."""
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin" / "mount.vbnfs").symlink_to("/usr/lib/vbnfs/bin/mount.vbnfs")
    done = run_vbnfs("install-helper", "--root", tmp_path)
    assert (done.returncode, "mount.vbnfs: of the package vbnfs, so it stays; 'apt remove" in done.stderr) == (
        1,
        True,
    )
    assert run_vbnfs("uninstall", "--system", "--root", tmp_path).returncode == 0
    assert files_below(tmp_path) == ["sbin/mount.vbnfs"]


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
        (["--user"], [f"etc/systemd/user/{name}" for name in USER_UNITS]),
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
    assert files_below(tmp_path / "dot-config") == [f"systemd/user/{name}" for name in USER_UNITS]


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


@pytest.mark.root
def test_a_program_of_a_user_that_root_runs(tmp_path: Path) -> None:
    """Who could change what root runs is found: by the program itself, a folder above it, or where its link leads."""
    (tmp_path / "home" / "bin").mkdir(parents=True)
    program, link = tmp_path / "home" / "bin" / "vbnfs", tmp_path / "vbnfs"
    program.touch()
    link.symlink_to(program)
    before = install.who_can_change(link)
    os.chown(tmp_path / "home", 65534, 65534)
    assert (before, install.who_can_change(program)) == (None, install.who_can_change(link))
    assert install.who_can_change(link) is not None


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

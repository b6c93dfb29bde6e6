"""Where each user's own file is: the choice, and what it looks at."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from vbnfs.mount.own_files import OwnFiles, choose_place, home_of, is_safe

OWN, HOME, RUNTIME = Path("/cache/allensdk"), Path("/home/me"), Path("/run/user/1")


def among(*folders: Path) -> Callable[[Path], bool]:
    """A look at a disk that has these folders only."""
    return folders.__contains__


@pytest.mark.parametrize(
    ("own", "home", "there", "place"),
    [
        (OWN, HOME, (OWN, HOME, RUNTIME), "/cache/allensdk/name"),
        (OWN, HOME, (HOME,), "/home/me/.vbnfs-name"),
        (None, HOME, (OWN, HOME, HOME / ".cache", RUNTIME), "/home/me/.cache/.vbnfs-name"),
        (None, HOME, (HOME, RUNTIME), "/home/me/.vbnfs-name"),
        (None, HOME, (HOME / ".cache", RUNTIME), "/run/user/1/.vbnfs-name"),
        (None, None, (HOME, RUNTIME), "/run/user/1/.vbnfs-name"),
        (None, HOME, (), "/dev/null"),
        (None, None, (), "/dev/null"),
    ],
)
def test_the_first_safe_folder_is_taken(
    own: Path | None, home: Path | None, there: tuple[Path, ...], place: str
) -> None:
    """Our own folder; else the home's .cache or the home, if the home is safe; else /run/user; else nowhere."""
    assert choose_place(own, home, RUNTIME, "name", among(*there)) == place


@pytest.mark.parametrize(
    ("mode", "expected"), [(0o700, True), (0o755, True), (0o770, False), (0o777, False), (0o1777, False)]
)
def test_a_folder_that_others_can_write_is_not_safe(mode: int, expected: bool, tmp_path: Path) -> None:
    """Others could put a link there that leads to a file of the user's; a sticky bit does not keep them from it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    assert is_safe(folder, os.geteuid()) == expected


def test_somebody_elses_folder_is_not_safe(tmp_path: Path) -> None:
    """Whoever owns a folder can put something in it, whatever its mode; files and absent folders are none."""
    tmp_path.chmod(0o755)
    assert not is_safe(tmp_path, os.geteuid() + 1)
    (tmp_path / "file").touch()
    assert not is_safe(tmp_path / "file", os.geteuid())
    assert not is_safe(tmp_path / "absent", os.geteuid())


def test_homes_are_those_of_the_password_database() -> None:
    """The environment plays no part: it is that of the mount's owner. Who is not in the database has no home."""
    known = pwd.getpwuid(os.getuid())
    assert home_of(known.pw_uid) == Path(known.pw_dir)
    unknown = max(entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid < 65534) + 1000
    for uid in (unknown, 1 << 40):
        assert home_of(uid) is None


def test_our_own_folder_is_made(tmp_path: Path) -> None:
    """The owner of the mount has a place in the cache directory at once, for nobody else to look into."""
    place = Path(OwnFiles(tmp_path / "allensdk", ["a"]).place_for(os.geteuid()))
    assert place.parent == tmp_path / "allensdk"
    assert place.parent.stat().st_mode & 0o777 == 0o700
    assert not place.exists()
    assert OwnFiles(tmp_path / "allensdk", ["a"]).place_for(os.geteuid()) == str(place)


def test_mounts_have_files_of_their_own(tmp_path: Path) -> None:
    """What differs in any name, and be it where one ends, is another file."""
    names = [["a", "b"], ["ab", ""], ["", "ab"], ["a", "c"]]
    assert len({OwnFiles(tmp_path / "allensdk", n).place_for(os.geteuid()) for n in names}) == len(names)


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path: Path) -> None:
    """Then the owner is treated as others are; the mount is made all the same."""
    (tmp_path / "file").touch()
    with structlog.testing.capture_logs() as logs:
        files = OwnFiles(tmp_path / "file" / "allensdk", ["a"])
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert not files.place_for(os.geteuid()).startswith(str(tmp_path))

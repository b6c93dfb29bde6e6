"""Putting files in place, keeping a list of them, and taking away what is on it.

The list is JSON: of each file where it is and what it was (a hash, or where a link leads), and which folders were
made for them. A file that is not on it, or is not what it was, is another's: it stays, and is named. A vbnfs that
kept no list marked its files (`Piece.is_ours`): they count as ours, too. So does a file that is already what is to be
put there, as a process leaves one that is killed before it is on the list.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from vbnfs import __version__
from vbnfs.cli.install import Piece, brought_by_installer, identity_of_bytes, identity_of_link, within
from vbnfs.config.environment import user_data_directory, user_state_directory
from vbnfs.errors import InstallError, MountError
from vbnfs.host.locks import lock_path
from vbnfs.host.runtime import make_runtime_directory

_LIST: Final = "installed.json"
_LOCK: Final = "install.lock"
_SYSTEM: Final = Path("/var/lib/vbnfs")
_SYSTEM_UNITS: Final = Path("/etc/systemd/system")
_SYSTEM_STAMPS: Final = Path("/var/lib/systemd/timers")
_OTHERS_SECONDS: Final = 20.0  # for another one to end
_FOR_ALL_MODE: Final = 0o755


@dataclass(frozen=True, slots=True)
class Placed:
    """What is in place by the list at `path`. `files` have paths as seen from `root`."""

    path: Path
    root: Path = Path("/")
    files: Mapping[str, str] = field(default_factory=dict)
    folders: Sequence[str] = ()

    def identity(self, path: Path) -> str | None:
        """What a file was; None if it is not on the list."""
        return self.files.get(self.name_of(path))

    def is_unchanged(self, path: Path) -> bool:
        """Whether a file is on the list, and what it was."""
        return self.identity(path) == _identity(path)

    def has(self, path: Path) -> bool:
        """Whether a file is on the list."""
        return self.name_of(path) in self.files

    def name_of(self, path: Path) -> str:
        """A path as the list has it."""
        return f"/{path.relative_to(self.root)}"


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken away, or would be, and what of the list stays because it is not what it was."""

    gone: Sequence[Path]
    changed: Sequence[Path]


def list_of(root: Path, *, for_user: bool) -> Path:
    """Where the list is: the system's below `root`, or a user's."""
    return (user_state_directory() / "vbnfs" if for_user else within(root, _SYSTEM)) / _LIST


@contextmanager
def alone() -> Iterator[None]:
    """While entered, no other process of this user installs. Raises `InstallError` where one does not end.

    Where there is no place for a lock, as where another user holds the folder for it, this goes without.
    """
    try:
        path = make_runtime_directory() / _LOCK
        descriptor = lock_path(path, _OTHERS_SECONDS)
    except (MountError, OSError):
        yield
        return
    if descriptor is None:
        raise InstallError("another 'vbnfs install' or 'uninstall' is at work; try again when it has ended")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def read_list(path: Path, root: Path) -> Placed:
    """What a list says; an empty one where there is none. Raises `InstallError` for one that cannot be read."""
    with _explained(path):
        try:
            document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return Placed(path, root, *_parts_of(document))
        except FileNotFoundError:
            return Placed(path, root)
        except (ValueError, KeyError, TypeError) as error:
            raise InstallError(f"{path}: not a list of what vbnfs installed; delete it, and install again") from error


def _parts_of(document: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Files and folders. Raises `ValueError`, `KeyError` or `TypeError` for what is no list."""
    files, folders = dict(document["files"]), list(document["folders"])
    paths = [Path(name) for name in (*files, *folders)]
    if not all(path.is_absolute() and ".." not in path.parts for path in paths):
        raise ValueError("files")
    return files, folders


def to_be_put(pieces: Sequence[Piece], placed: Placed) -> list[Piece]:
    """Those that are to be put in place; not what this installation's own installer (pip, pipx) has put there.

    Raises `InstallError` where a file is in the way that vbnfs did not put there, or that was changed since.
    """
    brought = brought_by_installer()
    wanted = [piece for piece in pieces if not _leads_to_us(piece.path) and _real(piece.path) not in brought]
    for piece in wanted:
        _check(piece, placed)
    return wanted


def put(pieces: Sequence[Piece], placed: Placed, *, is_listed: bool = True, is_for_all: bool = False) -> None:
    """Put them in place, and each on the list. Raises `InstallError`.

    `is_for_all`: every user can enter the folders that have to be made.
    """
    files, folders = dict(placed.files), list(placed.folders)

    def make_folder(path: Path) -> None:
        with _explained(path):
            folders.extend(_make_folder(path.parent, placed.root, is_for_all=is_for_all))

    def store() -> None:
        if is_listed and files:
            make_folder(placed.path)
            _store(Placed(placed.path, placed.root, files, folders))

    try:
        for piece in pieces:
            make_folder(piece.path)
            with _explained(piece.path):
                _write(piece)
            files[placed.name_of(piece.path)] = piece.identity
            store()  # now: this may be killed
    finally:  # with the folders that a failure left
        store()


def take(pieces: Sequence[Piece], placed: Placed, *, is_trial: bool = False, is_all: bool = False) -> Taken:
    """Take away what is on the list, of `pieces` or (`is_all`) whatever is, and those of `pieces` that have our mark.

    Raises `InstallError` where the system refuses.
    """
    listed = [within(placed.root, Path(name)) for name in placed.files]
    named = {piece.path for piece in pieces}
    listed = [path for path in listed if is_all or path in named]
    marked = [p.path for p in pieces if os.path.lexists(p.path) and not placed.has(p.path) and p.is_ours()]
    there = [path for path in listed if os.path.lexists(path)]
    changed = [path for path in there if not placed.is_unchanged(path)]
    gone = [path for path in there if path not in changed] + marked
    enabled = [link for path in gone for link in _enabled_by(path)]
    stamps = [stamp for path in gone if os.path.lexists(stamp := _stamp_of(path, placed.root))]
    if not is_trial:
        for path in (*enabled, *gone, *stamps):
            with _explained(path):
                path.unlink()
        for link in enabled:
            with suppress(OSError):  # another unit's link is in it
                link.parent.rmdir()
        if (left := _without(placed, listed)).files:
            _store(left)
    return Taken([*enabled, *gone, *stamps], changed)


def _without(placed: Placed, paths: Sequence[Path]) -> Placed:
    """The list without some files, and without folders that nothing needs any more: these are removed."""
    names = {placed.name_of(path) for path in paths}
    files = {name: what for name, what in placed.files.items() if name not in names}
    if not files:
        with _explained(placed.path):
            placed.path.unlink(missing_ok=True)
    folders: list[str] = []
    for folder in sorted(placed.folders, key=len, reverse=True):
        try:
            within(placed.root, Path(folder)).rmdir()
        except FileNotFoundError:
            pass
        except OSError:  # something is in it
            folders.append(folder)
    return Placed(placed.path, placed.root, files, sorted(folders) if files else ())


def _store(placed: Placed) -> None:
    """Replace the list."""
    with _explained(placed.path):
        document = {"vbnfs": __version__, "files": placed.files, "folders": placed.folders}
        temporary = placed.path.with_suffix(".new")
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        temporary.replace(placed.path)


def _make_folder(folder: Path, root: Path, *, is_for_all: bool) -> list[str]:
    """Make a folder, and name those that had to be made for it: `is_for_all`, whatever the umask says."""
    made = [one for one in (folder, *folder.parents) if one.is_relative_to(root) and not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in made if is_for_all else ():
        one.chmod(_FOR_ALL_MODE)
    return [f"/{one.relative_to(root)}" for one in made if one != root]


def _write(piece: Piece) -> None:
    temporary = piece.path.with_name(f".{piece.path.name}.new")
    temporary.unlink(missing_ok=True)
    if piece.target is None:
        temporary.write_text(piece.text, encoding="utf-8")
        temporary.chmod(0o644)
    else:
        temporary.symlink_to(piece.target)
    temporary.replace(piece.path)


def _identity(path: Path) -> str:
    """What a file is, as `Piece.identity` has it; '' where there is none."""
    try:
        return identity_of_link(os.readlink(path)) if path.is_symlink() else identity_of_bytes(path.read_bytes())
    except OSError:
        return ""


def _real(path: Path) -> str:
    """The path of a file, whatever links lead to its folder."""
    return os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118 - as text


def _leads_to_us(path: Path) -> bool:
    """Whether a link leads into this program's environment: pipx shows manual pages so."""
    return path.is_symlink() and Path(os.path.realpath(path)).is_relative_to(
        os.path.realpath(Path(sys.prefix) / "share")
    )


def _check(piece: Piece, placed: Placed) -> None:
    with _explained(piece.path):
        if not os.path.lexists(piece.path) or _identity(piece.path) in {placed.identity(piece.path), piece.identity}:
            return
        if placed.has(piece.path):
            raise InstallError(f"{piece.path}: changed since vbnfs installed it, so it stays; move it away yourself")
        if piece.is_packages():
            raise InstallError(f"{piece.path}: of the package vbnfs, so it stays; 'apt remove vbnfs' takes it away")
        if not piece.is_ours():
            raise InstallError(f"{piece.path}: not installed by vbnfs, so it stays; remove it yourself")


def _enabled_by(unit: Path) -> Iterator[Path]:
    """The links by which `systemctl enable` has a unit started: systemd.unit(5)."""
    if unit.suffix not in {".service", ".timer"}:
        return
    for link in sorted(unit.parent.glob("*.wants/vbnfs*")):
        if link.is_symlink() and Path(os.readlink(link)).name == unit.name:
            yield link


def _stamp_of(unit: Path, root: Path) -> Path:
    """Where systemd notes when a timer ran last: systemd.timer(5), `Persistent=`."""
    is_of_system = unit.parent == within(root, _SYSTEM_UNITS)
    folder = within(root, _SYSTEM_STAMPS) if is_of_system else user_data_directory() / "systemd" / "timers"
    return folder / f"stamp-{unit.name}"


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Failures of the system as `InstallError`s with a remedy."""
    try:
        yield
    except PermissionError as error:
        raise InstallError(
            f"{path}: {error.strerror}; only root may do that (sudo), or give another --root"
        ) from error
    except OSError as error:
        raise InstallError(f"{path}: {error.strerror}") from error

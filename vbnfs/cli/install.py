"""Install the mount helper and the systemd units where the system expects them, and remove them again.

A list of `Piece`s decides first which file goes where; then all of them are checked, and only then is anything done.
A file that vbnfs did not install is never touched: a link of vbnfs leads to a `mount.vbnfs`, a unit of vbnfs begins
with `MARK`.
"""

import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path
from typing import Final

from vbnfs.config.environment import user_config_directory
from vbnfs.errors import InstallError

HELPER: Final = "mount.vbnfs"
MARK: Final = "# Installed by 'vbnfs install-units'"
# The only paths at which mount(8) finds a helper of `-t vbnfs` and of `-t fuse.vbnfs`.
_HELPER_LINKS: Final = (Path("/sbin/mount.vbnfs"), Path("/sbin/mount.fuse.vbnfs"))
_SYSTEM_UNITS: Final = Path("/etc/systemd/system")
_USER_UNITS: Final = Path("/etc/systemd/user")
_TMPFILES: Final = Path("/etc/tmpfiles.d")
_PROGRAM: Final = "@VBNFS@"  # in the units: the place of this installation's program


@dataclass(frozen=True, slots=True)
class Piece:
    """A file with this text, or a link to `target`, at `path`."""

    path: Path
    text: str = ""
    target: Path | None = None

    def is_ours(self) -> bool:
        """Whether vbnfs installed the file at `path`, which must exist."""
        if self.target is not None:
            return self.path.is_symlink() and Path(os.readlink(self.path)).name == HELPER
        return self.path.is_file() and self.path.read_text(errors="replace").startswith(MARK)


def helper_pieces(root: Path) -> list[Piece]:
    """The mount helper's two names. Raises `InstallError` if this installation has no such program."""
    target = program(HELPER)
    return [Piece(within(root, path), target=target) for path in _HELPER_LINKS]


def unit_pieces(root: Path, *, for_user: bool) -> list[Piece]:
    """The units of the system, or of this user, or with another `root` than / of every user."""
    if not for_user:
        places = {"system": _SYSTEM_UNITS, "tmpfiles.d": _TMPFILES}
    elif root == Path("/"):
        places = {"user": user_config_directory() / "systemd" / "user"}
    else:
        places = {"user": _USER_UNITS}
    return [
        Piece(within(root, place) / name, text)
        for kind, place in places.items()
        for name, text in rendered(kind, str(program("vbnfs")))
    ]


def rendered(kind: str, executable: str) -> Iterator[tuple[str, str]]:
    """Names and texts of the `system` or `user` units, or of `tmpfiles.d`, for this program."""
    packaged = files("vbnfs").joinpath("systemd")  # in a wheel; a clone has them beside the package
    folder = packaged if packaged.is_dir() else files("vbnfs").joinpath("..", "systemd")
    for source in sorted(folder.joinpath(kind).iterdir(), key=lambda one: one.name):
        text = source.read_text(encoding="utf-8").replace(_PROGRAM, unit_word(executable))
        yield source.name, f"{MARK}, which replaces it; to change it, use 'systemctl edit'.\n{text}"


def unit_word(text: str) -> str:
    """Any text as a word for ExecStart=: systemd.service(5), "COMMAND LINES"."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if escaped == text and not set(text) & set(" \t';") else f'"{escaped}"'


def within(root: Path, path: Path) -> Path:
    """The absolute `path`, below `root`."""
    return root / path.relative_to("/")


def program(name: str) -> Path:
    """A program of this installation of vbnfs. Raises `InstallError` if there is none."""
    try:
        installed = distribution("vbnfs").files or []
    except PackageNotFoundError:
        installed = []
    found = [Path(os.path.abspath(str(file.locate()))) for file in installed if file.name == name]  # noqa: PTH100
    found.append(Path(sysconfig.get_path("scripts"), name))
    path = next((path for path in found if os.access(path, os.X_OK)), None)
    if path is None:
        raise InstallError(f"{found[0]}: not there: this vbnfs was not installed ('pip install' makes the programs)")
    return path


def is_for_all_users(path: Path) -> bool:
    """Whether every user may run a program, and the Python that it needs."""
    return all(
        part.stat().st_mode & 0o001
        for runnable in (path, Path(os.path.realpath(sys.executable)))
        for part in (runnable, *runnable.parents)
    )


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


def install(pieces: Sequence[Piece]) -> None:
    """Put all of them in place, or none. Raises `InstallError`."""
    _check(pieces)
    for piece in pieces:
        with _explained(piece.path):
            piece.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = piece.path.with_name(f".{piece.path.name}.new")
            temporary.unlink(missing_ok=True)
            if piece.target is None:
                temporary.write_text(piece.text, encoding="utf-8")
                temporary.chmod(0o644)
            else:
                temporary.symlink_to(piece.target)
            temporary.replace(piece.path)


def remove(pieces: Sequence[Piece]) -> list[Path]:
    """Remove those that exist, and return their paths. Raises `InstallError`."""
    _check(pieces)
    there = [piece.path for piece in pieces if os.path.lexists(piece.path)]
    for path in there:
        with _explained(path):
            path.unlink()
    return there


def _check(pieces: Sequence[Piece]) -> None:
    for piece in pieces:
        with _explained(piece.path):
            if os.path.lexists(piece.path) and not piece.is_ours():
                raise InstallError(f"{piece.path}: not installed by vbnfs, so it stays; remove it yourself")

"""Which files `vbnfs install` puts where: completions, manual pages, units, the mount helper.

A list of `Piece`s decides which file goes where; `placing.py` puts them there, and takes them away.
"""

import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path
from typing import Final

from vbnfs.config.environment import user_config_directory, user_data_directory
from vbnfs.errors import InstallError
from vbnfs.host.identity import user_name

HELPER: Final = "mount.vbnfs"
MARK: Final = "# Installed by 'vbnfs install-units'"
# The only paths at which mount(8) finds a helper of `-t vbnfs` and of `-t fuse.vbnfs`.
_HELPER_LINKS: Final = (Path("/sbin/mount.vbnfs"), Path("/sbin/mount.fuse.vbnfs"))
_SYSTEM_UNITS: Final = Path("/etc/systemd/system")
_USER_UNITS: Final = Path("/etc/systemd/user")
_TMPFILES: Final = Path("/etc/tmpfiles.d")
# Of a package of the distribution: file-hierarchy(7), systemd.unit(5), tmpfiles.d(5).
_PACKAGED_HELPER_LINKS: Final = (Path("/usr/sbin/mount.vbnfs"), Path("/usr/sbin/mount.fuse.vbnfs"))  # /sbin is a link
_PACKAGED_UNITS: Final = Path("/usr/lib/systemd/system")
_PACKAGED_USER_UNITS: Final = Path("/usr/lib/systemd/user")
_PACKAGED_TMPFILES: Final = Path("/usr/lib/tmpfiles.d")
_PACKAGE_HOME: Final = Path("/usr/lib/vbnfs")  # script/package
_PROGRAM: Final = "@VBNFS@"  # in the units: the place of this installation's program


@dataclass(frozen=True, slots=True)
class Piece:
    """A file with this text, or a link to `target`, at `path`."""

    path: Path
    text: str = ""
    target: Path | None = None

    @property
    def identity(self) -> str:
        """What the file is once it is in place: where the link leads, or a hash of its bytes."""
        return identity_of_bytes(self.text.encode()) if self.target is None else identity_of_link(str(self.target))

    def is_ours(self) -> bool:
        """Whether a vbnfs that kept no list installed the file at `path`, which must exist."""
        if self.target is not None:
            return self.path.is_symlink() and Path(os.readlink(self.path)).name == HELPER and not self.is_packages()
        return self.path.is_file() and self.path.read_text(errors="replace").startswith(MARK)

    def is_packages(self) -> bool:
        """Whether what is at `path` is a link that the distribution's package has put there."""
        return self.path.is_symlink() and Path(os.readlink(self.path)).is_relative_to(_PACKAGE_HOME)


def identity_of_bytes(data: bytes) -> str:
    """What a file with these bytes is, in a list of what is in place."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def identity_of_link(target: str) -> str:
    """What a link is there."""
    return f"-> {target}"


def helper_pieces(root: Path, *, is_package: bool = False) -> list[Piece]:
    """The mount helper's two names. Raises `InstallError` if this installation has no such program."""
    target = seen_from(root, program(HELPER))
    links = _PACKAGED_HELPER_LINKS if is_package else _HELPER_LINKS
    return [Piece(within(root, path), target=target) for path in links]


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
        for name, text in rendered(kind, str(seen_from(root, program("vbnfs"))))
    ]


def package_unit_pieces(root: Path) -> list[Piece]:
    """The units of the system and of all users, in the places of a distribution's package."""
    places = {"system": _PACKAGED_UNITS, "user": _PACKAGED_USER_UNITS, "tmpfiles.d": _PACKAGED_TMPFILES}
    return [
        Piece(within(root, place) / name, text)
        for kind, place in places.items()
        for name, text in rendered(kind, str(seen_from(root, program("vbnfs"))))
    ]


@dataclass(frozen=True, slots=True)
class Shares:
    """Where shells and man(1) look for what programs bring: for each shell the whole path of the file."""

    completions: Mapping[str, Path]
    manual: Path


def shares_of_user() -> Shares:
    """The user's own places: bash-completion's, fish's, and one that zsh has to be given in `fpath`."""
    data = user_data_directory()
    completions = {
        "bash": data / "bash-completion" / "completions" / "vbnfs",
        "zsh": data / "zsh" / "site-functions" / "_vbnfs",
        "fish": user_config_directory() / "fish" / "completions" / "vbnfs.fish",
    }
    return Shares(completions, data / "man")


def shares_of_system(root: Path, *, is_package: bool = False) -> Shares:
    """Those of all users: the administrator's (/usr/local, /etc), or those of a distribution's package."""
    usr = Path("/usr/share") if is_package else Path("/usr/local/share")
    fish = Path("/usr/share/fish/vendor_completions.d") if is_package else Path("/etc/fish/completions")
    zsh = usr / "zsh" / ("vendor-completions" if is_package else "site-functions")
    completions = {
        "bash": usr / "bash-completion" / "completions" / "vbnfs",
        "zsh": zsh / "_vbnfs",
        "fish": fish / "vbnfs.fish",
    }
    return Shares({shell: within(root, path) for shell, path in completions.items()}, within(root, usr / "man"))


def completion_pieces(shares: Shares, scripts: Mapping[str, str]) -> list[Piece]:
    """The completions, of which `scripts` has the text for each shell."""
    return [Piece(path, scripts[shell]) for shell, path in shares.completions.items()]


def manual_pieces(shares: Shares, pages: Mapping[str, str]) -> list[Piece]:
    """The manual pages, by file name."""
    return [Piece(shares.manual / f"man{name[-1]}" / name, text) for name, text in pages.items()]


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


def seen_from(root: Path, path: Path) -> Path:
    """A path below `root`, as it is once that is the system's root; any other as it is."""
    return Path("/", path.relative_to(root)) if path.is_relative_to(root) else path


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


def is_package() -> bool:
    """Whether this program is the one of the distribution's package, which has put all of it in place."""
    return Path(sys.prefix) == _PACKAGE_HOME


def brought_by_installer() -> frozenset[str]:
    """The real paths of completions and manual pages that the installer of this program has put into its `share`.

    With `pip install --user`, and in an image whose Python is in /usr/local, these are the very places of ours.
    """
    try:
        installed = distribution("vbnfs").files or []
    except PackageNotFoundError:
        installed = []
    ours = (file for file in installed if file.parts[-4:-3] == ("share",))
    return frozenset(os.path.realpath(str(file.locate())) for file in ours)


def is_for_all_users(path: Path) -> bool:
    """Whether every user may run a program, and the Python that it needs."""
    return all(part.stat().st_mode & 0o001 for part in _all_of(path))


def who_can_change(path: Path) -> str | None:
    """A user other than root who can put something else in the place of a program; None if there is none."""
    return next((user_name(uid) for part in _all_of(path) if (uid := part.stat().st_uid) != 0), None)


def _all_of(path: Path) -> Iterator[Path]:
    """A program, the Python that it needs, and the folders above them."""
    for runnable in (path, Path(os.path.realpath(path)), Path(os.path.realpath(sys.executable))):
        yield from (runnable, *runnable.parents)

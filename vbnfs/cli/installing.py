"""`vbnfs install`, `uninstall`: at home on a machine. Which files go where is in install.py, how in placing.py."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from vbnfs.cli import install as what
from vbnfs.cli import placing, streams
from vbnfs.cli.options import EXIT_STATUS, echo_note, echo_warning
from vbnfs.config.environment import user_data_directory
from vbnfs.errors import InstallError
from vbnfs.host.identity import our_uid

_PARTS: Final = ("completions", "manual", "units", "helper")
_SYSTEM: Final = Path("/")
_ZSH: Final = "zsh: put 'fpath+=({})' into ~/.zshrc, before compinit"


def _root_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--root",
        type=Path,
        default=_SYSTEM,
        metavar="DIR",
        help="Folder to install below: for packages and images.",
    )(command)


def _scope_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = _root_option(command)
    command = click.option(
        "--user/--system", "for_user", default=None, help="For this user alone, or for all.  [default: all, for root]"
    )(command)
    return click.option("--dry-run", "is_trial", is_flag=True, help="Say what would be done, and do nothing.")(
        command
    )


@click.command(epilog=EXIT_STATUS)
@click.option(
    "--only",
    "parts",
    type=click.Choice(_PARTS),
    multiple=True,
    help="This part alone; may be repeated.",
)
@click.option(
    "--package", "is_package", is_flag=True, help="In the places of a distribution's package, without a list."
)
@_scope_options
def install(parts: tuple[str, ...], is_package: bool, for_user: bool | None, root: Path, is_trial: bool) -> None:
    """Put completions, manual pages, units and mount helper in place.

    Completions of bash, zsh and fish, manual pages, systemd units and, for all users, what mount(8) and fstab(5)
    need. A list is kept of what was put where: 'vbnfs uninstall' goes by it. Run it again after an upgrade.
    """
    is_user = _is_user(for_user, root)
    pieces = _pieces(parts or _PARTS, root, is_user=is_user, is_package=is_package)
    _put(pieces, root, is_user=is_user, is_trial=is_trial, is_listed=not is_package)
    if not is_package and not is_trial:
        _say_what_is_next(parts or _PARTS, is_user=is_user)


@click.command(epilog=EXIT_STATUS)
@_scope_options
def uninstall(for_user: bool | None, root: Path, is_trial: bool) -> None:
    """Remove what 'vbnfs install' has put in place.

    What was changed since stays, and is named. It says what else there is of vbnfs: mounts, cache, settings, log,
    and what removes them.
    """
    from vbnfs.cli.remaining import what_remains  # noqa: PLC0415

    is_user = _is_user(for_user, root)
    with placing.alone():
        placed = placing.read_list(_list_of(root, is_user=is_user), root)
        taken = placing.take(_known_pieces(root, is_user=is_user), placed, is_trial=is_trial, is_all=True)
    _say_gone(taken, is_trial=is_trial)
    if not taken.gone and not taken.changed:
        whom = "this user" if is_user else "all users"
        echo_note(f"'vbnfs install' has put nothing in place for {whom}: there is no list at {placed.path}")
    for line in what_remains(is_user=is_user) if root == _SYSTEM else ():
        echo_note(line)
    if taken.changed:
        names = "\n".join(map(str, taken.changed))
        raise InstallError(f"changed since vbnfs installed it, so it stays; remove it yourself:\n{names}")


@click.command(epilog=EXIT_STATUS, hidden=True)
@click.option("--remove", is_flag=True, help="Remove what was installed.")
@_root_option
def install_helper(root: Path, remove: bool) -> None:
    """Let mount(8) and fstab(5) mount with vbnfs.

    The same as 'vbnfs install --only helper'.
    """
    _one_part("helper", root, is_user=False, remove=remove)


@click.command(epilog=EXIT_STATUS, hidden=True)
@click.option("--user", is_flag=True, help="For this user alone, in ~/.config/systemd/user.")
@click.option("--remove", is_flag=True, help="Remove what was installed.")
@_root_option
def install_units(user: bool, root: Path, remove: bool) -> None:
    """Let systemd mount at boot or at log-in.

    The same as 'vbnfs install --only units'.
    """
    _one_part("units", root, is_user=user, remove=remove)


def _one_part(part: str, root: Path, *, is_user: bool, remove: bool) -> None:
    pieces = _pieces((part,), root, is_user=is_user)
    if not remove:
        _put(pieces, root, is_user=is_user)
        _say_what_is_next((part,), is_user=is_user)
        return
    with placing.alone():
        placed = placing.read_list(_list_of(root, is_user=is_user), root)
        placing.to_be_put(pieces, placed)  # what is another's is refused before anything is removed
        taken = placing.take(pieces, placed)
    _say_gone(taken, is_trial=False)


def _is_user(for_user: bool | None, root: Path) -> bool:
    return for_user if for_user is not None else our_uid() != 0 and root == _SYSTEM


def _is_for_all(root: Path, *, is_user: bool) -> bool:
    """Whether it is for all users: below another root units of `is_user` are every user's."""
    return not is_user or root != _SYSTEM


def _list_of(root: Path, *, is_user: bool) -> Path:
    return placing.list_of(root, for_user=not _is_for_all(root, is_user=is_user))


def _pieces(parts: tuple[str, ...], root: Path, *, is_user: bool, is_package: bool = False) -> list[what.Piece]:
    """All that is to be in place; nothing where a package has put it there."""
    if what.is_package() and root == _SYSTEM and not is_user:
        return []
    shares = what.shares_of_user() if is_user else what.shares_of_system(root, is_package=is_package)
    pieces: list[what.Piece] = []
    if "completions" in parts:
        from vbnfs.cli.shell_scripts import scripts  # noqa: PLC0415 - not for the other parts

        pieces += what.completion_pieces(shares, scripts())
    if "manual" in parts:
        from vbnfs.cli.main import cli  # noqa: PLC0415 - which has this command
        from vbnfs.cli.manual import pages  # noqa: PLC0415

        pieces += what.manual_pieces(shares, pages(cli))
    if "units" in parts:
        pieces += what.package_unit_pieces(root) if is_package else what.unit_pieces(root, for_user=is_user)
    if "helper" in parts and not is_user:
        pieces += what.helper_pieces(root, is_package=is_package)
    return pieces


def _known_pieces(root: Path, *, is_user: bool) -> list[what.Piece]:
    """What a vbnfs may have put in place that kept no list."""
    try:
        return _pieces(("units", "helper"), root, is_user=is_user)
    except InstallError:  # this one has no programs
        return []


def _put(
    pieces: list[what.Piece], root: Path, *, is_user: bool, is_trial: bool = False, is_listed: bool = True
) -> None:
    if not pieces:
        echo_note("nothing is to be done: the package vbnfs has put it in place")
        return
    with placing.alone():
        placed = placing.read_list(_list_of(root, is_user=is_user), root)
        wanted = placing.to_be_put(pieces, placed)
        if not is_trial:
            placing.put(wanted, placed, is_listed=is_listed, is_for_all=_is_for_all(root, is_user=is_user))
    for piece in wanted:
        click.echo(f"{piece.path}{f' -> {piece.target}' if piece.target else ''}")
    if is_trial:
        echo_note("nothing was done: that is what --dry-run asks for")


def _say_gone(taken: placing.Taken, *, is_trial: bool) -> None:
    for path in taken.gone:
        click.echo(f"{'would remove' if is_trial else 'removed'} {path}")


def _say_what_is_next(parts: tuple[str, ...], *, is_user: bool) -> None:
    steps: list[str] = []
    if "completions" in parts and is_user:
        steps.append(_ZSH.format(shlex.quote(str(user_data_directory() / "zsh" / "site-functions"))))
    if "completions" in parts:
        steps.append("completions: in the next shell")
    if "helper" in parts and not is_user:
        steps.append("mount -t vbnfs visual-behavior-neuropixels FOLDER   (for fstab see docs/mounting.md)")
    if "units" in parts:
        folder, systemctl = ("~/.config/vbnfs", "systemctl --user") if is_user else ("/etc/vbnfs", "systemctl")
        when = "at log-in" if is_user else "at each start of the machine"
        steps += [] if is_user else ["systemd-tmpfiles --create vbnfs.conf"]
        steps += [
            f'to mount {when}: write {folder}/NAME.toml, with: mountpoint = "/some/folder"',
            f"{systemctl} daemon-reload",
            f"{systemctl} enable --now vbnfs@NAME vbnfs-clean.timer",
        ]
    streams.say("now: " + "\n     ".join(steps))
    program = what.program(what.HELPER)
    if "helper" in parts and not is_user and not what.is_for_all_users(program):
        echo_warning(f"only root can run {program}: fstab's option 'user' will not work")
    if {"helper", "units"} & {*parts} and not is_user and (user := what.who_can_change(program)) is not None:
        echo_warning(
            f"root runs {program} from now on, and {user} can change it; README.md shows how to install vbnfs in"
            " /opt, where only root can"
        )

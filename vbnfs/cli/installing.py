"""`vbnfs install-helper`, `install-units`: for the administrator of a machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vbnfs.cli import install, streams
from vbnfs.cli.options import EXIT_STATUS, echo_warning


def _installing(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--remove", is_flag=True, help="Remove what was installed.")(command)
    return click.option(
        "--root",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="Folder to install below: for packages and images.",
    )(command)


def _carry_out(pieces: list[install.Piece], *, remove: bool, then: str) -> None:
    if remove:
        for path in install.remove(pieces):
            click.echo(f"removed {path}")
        return
    install.install(pieces)
    for piece in pieces:
        click.echo(f"{piece.path}{f' -> {piece.target}' if piece.target else ''}")
    streams.say(then)


@click.command(epilog=EXIT_STATUS)
@_installing
def install_helper(root: Path, remove: bool) -> None:
    """Let mount(8) and fstab(5) mount with vbnfs.

    Then 'mount -t vbnfs DATASET FOLDER' works, and so do lines of fstab: see docs/mounting.md.
    """
    _carry_out(
        pieces := install.helper_pieces(root),
        remove=remove,
        then="now: mount -t vbnfs visual-behavior-neuropixels FOLDER   (for fstab see docs/mounting.md)",
    )
    program = pieces[0].target
    if program and not remove and not install.is_for_all_users(program):
        echo_warning(f"only root can run {program}: fstab's option 'user' will not work")


@click.command(epilog=EXIT_STATUS)
@click.option("--user", is_flag=True, help="For this user alone, in ~/.config/systemd/user.")
@_installing
def install_units(user: bool, root: Path, remove: bool) -> None:
    """Let systemd mount at boot or at log-in.

    It installs a unit that mounts what a file /etc/vbnfs/NAME.toml (~/.config/vbnfs/NAME.toml with --user) describes:
    see docs/mounting.md.
    """
    folder, systemctl = ("~/.config/vbnfs", "systemctl --user") if user else ("/etc/vbnfs", "systemctl")
    steps = [
        f'write {folder}/NAME.toml, with: mountpoint = "/some/folder"',
        f"{systemctl} daemon-reload",
        f"{systemctl} enable --now vbnfs@NAME vbnfs-clean.timer",
    ]
    if not user:
        steps.insert(0, "systemd-tmpfiles --create vbnfs.conf")
    _carry_out(install.unit_pieces(root, for_user=user), remove=remove, then="now: " + "\n     ".join(steps))

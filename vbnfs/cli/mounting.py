"""`vbnfs mount`, `umount`, `status`."""

import os
import select
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from vbnfs.cli import render
from vbnfs.cli.options import EXIT_STATUS, config_of, given_options, settings, warn
from vbnfs.config import NON_EMPTY, SETTING_BY_NAME, Config, split_mount_options
from vbnfs.errors import MountError, UsageError
from vbnfs.lean import lean_imports

_UMOUNT_SECONDS: Final = 30.0


@click.command(epilog=EXIT_STATUS)
@click.argument("mountpoint", type=Path, required=False)
@click.option(
    "-o",
    "mount_options",
    metavar="OPTION[,...]",
    multiple=True,
    help="Options as for mount(8): cache_size=500G, allow_other, nonempty ...",
)
@settings("mountpoint")
def mount(mountpoint: Path | None, mount_options: tuple[str, ...], **options: Any) -> None:
    """Mount the dataset on a folder.

    MOUNTPOINT is an empty folder, such as ~/vbn. If it is not given, the settings name one ('mountpoint' in the TOML
    file), which is made if need be.

    Returns when the files can be listed. Settings come from the command line, else from -o, else from VBNFS_*
    variables (VBNFS_CACHE_DIR, ...), else from the TOML file (cache_dir = ...), else they have their default.
    """
    with lean_imports():
        from vbnfs.mount import background  # noqa: PLC0415 - only what a command needs: `vbnfs --help` is to be quick
        from vbnfs.mount import mountpoint as mounts  # noqa: PLC0415

    config = config_of(options, mount_options)
    where = mounts.absolute(mountpoint or _mountpoint_of(config))
    if mountpoint is None:
        mounts.make_mountpoint(where)
    mounts.check_mountpoint(where, cache_dir=config.cache_dir)
    if NON_EMPTY not in split_mount_options(mount_options):  # mount(8) and fstab may name any folder
        mounts.check_empty(where)

    def announce(warnings: Iterable[str]) -> None:
        for warning in warnings:
            warn(warning)

    if config.foreground:
        background.run_in_foreground(config, where, announce)
    else:
        announce(background.run_in_background(config, where))


def _mountpoint_of(config: Config) -> Path:
    if config.mountpoint is None:
        raise UsageError("which folder? Name it, or set 'mountpoint' in the TOML file")
    return config.mountpoint


@click.command(epilog=EXIT_STATUS)
@click.argument("mountpoint", type=Path, required=False)
@click.option("--lazy", is_flag=True, help="Detach now; it ends when no program uses it any more.")
@click.option("--if-mounted", is_flag=True, help="Do nothing, with status 0, where nothing is mounted.")
@settings(*SETTING_BY_NAME)
def umount(mountpoint: Path | None, lazy: bool, if_mounted: bool, **options: Any) -> None:
    """Take a mount away.

    MOUNTPOINT is its folder, or else the one that the settings name. Returns when the mount and its daemon are gone.
    """
    from vbnfs.mount import control  # noqa: PLC0415
    from vbnfs.mount import mountpoint as mounts  # noqa: PLC0415

    if mountpoint is not None and (given := given_options(options)):
        raise UsageError(f"{given[0]} would have no effect where a folder is named: leave {given[0]} out")
    where = mounts.absolute(mountpoint or _mountpoint_of(config_of(options)))
    entry = mounts.find_mount(where)
    if entry is None and if_mounted:
        return
    pid, daemon = None, None
    if entry is not None:
        with suppress(MountError, OSError):  # it can be unmounted all the same
            pid = control.ask(entry, "status")["pid"]
            daemon = os.pidfd_open(pid)
    mounts.unmount(where, lazy=lazy, timeout_seconds=_UMOUNT_SECONDS)
    if daemon is not None and not lazy:
        done, _, _ = select.select([daemon], [], [], _UMOUNT_SECONDS)
        if not done:
            raise MountError(
                f"unmounted here, but the daemon (process {pid}) has not ended after {_UMOUNT_SECONDS:.0f} s:"
                " is it mounted in another mount namespace (a container), too?"
            )


@click.command(epilog=EXIT_STATUS)
@click.argument("mountpoint", type=Path, required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(mountpoint: Path | None, as_json: bool) -> None:
    """Show what is mounted, from where, and what was read.

    MOUNTPOINT is the folder of one mount; without it all of yours are shown, to root everybody's.
    """
    from vbnfs.mount import control  # noqa: PLC0415
    from vbnfs.mount import mountpoint as mounts  # noqa: PLC0415

    if mountpoint is None:
        entries = [entry for entry in mounts.list_mounts() if mounts.is_ours(entry)]
    else:
        where = mounts.absolute(mountpoint)
        entries = [entry for entry in mounts.list_mounts() if entry.mountpoint == where]
        if not entries:
            raise MountError(f"{where}: no vbnfs mount; 'vbnfs status' lists those that there are")
    found: list[dict[str, Any]] = []
    silent: list[str] = []
    for entry in entries:
        try:
            found.append(control.ask(entry, "status"))
        except MountError as error:
            silent.append(str(error))
    if as_json:
        render.print_json(found[0] if mountpoint is not None and found else found)
    else:
        for one in found:
            render.print_status(one)
        if not entries:
            click.echo("nothing is mounted", err=True)
    if silent:
        raise MountError("\n".join(silent))

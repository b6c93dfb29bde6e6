"""The command line, `vbnfs mount` and the other commands.

Results go to standard output, everything else to standard error. Exit status: 0 done; 1 it could not be done, the
message says why; 2 wrong usage.
"""

import os
import select
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click

from vbnfs import __version__
from vbnfs.cli import install, render
from vbnfs.cli.clean import clean as clean_cache
from vbnfs.cli.clean import configurations
from vbnfs.config import SETTING_BY_NAME, SETTINGS, Config, default_config_file, load_config
from vbnfs.errors import DatasetError, DemoError, MountError, UsageError, VbnfsError
from vbnfs.logs import configure_logging

_EXIT_STATUS: Final = "Exit status: 0 done, 1 not done (the message says why), 2 wrong usage."
_UMOUNT_SECONDS: Final = 30.0

_T = TypeVar("_T")


def main() -> NoReturn:
    """Run the command line; failures are told in one line, without a traceback."""
    try:
        cli.main(prog_name="vbnfs", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except BrokenPipeError:  # nobody reads on, as in `vbnfs urls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)  # as click does
    except click.Abort:
        _fail("interrupted", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except UsageError as error:
        _fail(str(error), 2)
    except VbnfsError as error:
        _fail(str(error), 1)
    sys.exit(0)


def _fail(message: str, status: int) -> NoReturn:
    lines = "\n".join(render.printable(line) for line in message.split("\n"))
    click.echo(f"vbnfs: {lines}", err=True)
    sys.exit(status)


def _settings(*left_out: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command an option for every setting, `--config`, and the `Config` that results."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for setting in reversed([s for s in SETTINGS if s.name not in left_out]):
            default = "" if setting.default in (None, False) else f"  [default: {_shown(setting.default)}]"
            kind: dict[str, Any] = (
                {"is_flag": True, "default": None} if setting.is_flag else {"metavar": setting.metavar}
            )
            command = click.option(setting.option, setting.name, help=setting.help + default, **kind)(command)
        return click.option(
            "--config", "config_file", metavar="FILE", help=f"TOML file  [default: {default_config_file()}]"
        )(command)

    return decorate


def _shown(default: object) -> str:
    return render.size(default) if isinstance(default, int) and default > 1_000_000 else str(default)


def _config(options: dict[str, Any], mount_options: tuple[str, ...] = ()) -> Config:
    config_file = options.pop("config_file")
    given = {name: "true" if value is True else value for name, value in options.items() if value is not None}
    return load_config(
        command_line=given,
        mount_options=mount_options,
        config_file=Path(config_file) if config_file else None,
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXIT_STATUS)
@click.version_option(__version__, prog_name="vbnfs")
def cli() -> None:
    """A versioned scientific dataset on S3 as a local, read-only file system."""


@cli.command(epilog=_EXIT_STATUS)
@click.argument("mountpoint", type=Path, required=False)
@click.option("-o", "mount_options", metavar="OPTION[,...]", multiple=True, help="Options as for mount(8).")
@_settings("mountpoint")
def mount(mountpoint: Path | None, mount_options: tuple[str, ...], **options: Any) -> None:
    """Mount the dataset on the folder MOUNTPOINT, or on the one that the settings name (it is made if need be).

    Returns when the files can be listed. Settings come from the command line, else from -o, else from VBNFS_*
    variables (VBNFS_CACHE_DIR, ...), else from the TOML file (cache_dir = ...), else they have their default.
    """
    from vbnfs.mount import background  # noqa: PLC0415 - libfuse only where it is needed
    from vbnfs.mount import mountpoint as mounts  # noqa: PLC0415

    config = _config(options, mount_options)
    where = mounts.absolute(mountpoint or _mountpoint_of(config))
    if mountpoint is None:
        mounts.make_mountpoint(where)
    mounts.check_mountpoint(where, cache_dir=config.cache_dir)

    def warn(warnings: tuple[str, ...] | list[str]) -> None:
        for warning in warnings:
            _warn(warning)

    if config.foreground:
        background.run_in_foreground(config, where, warn)
    else:
        warn(background.run_in_background(config, where))


def _mountpoint_of(config: Config) -> Path:
    if config.mountpoint is None:
        raise UsageError("which folder? Name it, or set 'mountpoint' in the TOML file")
    return config.mountpoint


@cli.command(epilog=_EXIT_STATUS)
@click.argument("mountpoint", type=Path, required=False)
@click.option("--lazy", is_flag=True, help="Detach now, end when no program uses it any more.")
@click.option("--if-mounted", is_flag=True, help="Where nothing is mounted, all is well.")
@_settings(*SETTING_BY_NAME)
def umount(mountpoint: Path | None, lazy: bool, if_mounted: bool, **options: Any) -> None:
    """Take the mount on MOUNTPOINT (or where the settings say) away, and return when it and its daemon are gone."""
    from vbnfs.mount import control  # noqa: PLC0415
    from vbnfs.mount import mountpoint as mounts  # noqa: PLC0415

    where = mounts.absolute(mountpoint or _mountpoint_of(_config(options)))
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


@cli.command(epilog=_EXIT_STATUS)
@click.argument("mountpoint", type=Path, required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(mountpoint: Path | None, as_json: bool) -> None:
    """Show the mount on MOUNTPOINT, or all of them."""
    from vbnfs.mount import control  # noqa: PLC0415
    from vbnfs.mount import mountpoint as mounts  # noqa: PLC0415

    entries = mounts.list_mounts()
    if mountpoint is not None:
        where = mounts.absolute(mountpoint)
        entries = [entry for entry in entries if entry.mountpoint == where]
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


_ONLY_OF_A_MOUNT: Final = ("foreground", "allow_other", "refresh", "log_file", "log_level", "mountpoint")


def _look(options: dict[str, Any], work: Callable[..., Awaitable[_T]], *about: Any, **more: Any) -> _T:
    """Do some work with the dataset that the settings name, without a mount. Its problems become warnings."""
    from vbnfs.cli.dataset import look_at  # noqa: PLC0415

    config = _config(options)
    configure_logging(sys.stderr, level="error", as_json=False)  # what matters is told by `_warn`
    return look_at(config, lambda dataset: work(dataset, *about, **more), warn=_warn)


def _warn(warning: str) -> None:
    _tell(f"warning: {warning}")


def _tell(message: str) -> None:
    click.echo(f"vbnfs: {render.printable(message)}", err=True)


@cli.command(epilog=_EXIT_STATUS)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@_settings("dataset_version", *_ONLY_OF_A_MOUNT)
def versions(as_json: bool, **options: Any) -> None:
    """List the dataset's versions."""
    from vbnfs.cli.versions import list_versions  # noqa: PLC0415

    rows = _look(options, list_versions)
    if as_json:
        render.print_json([row.as_json() for row in rows])
    else:
        render.print_table(
            ("version", "published", "files ", "size ", "cached ", ""),
            [
                (row.version, row.published, f"{row.files:,}", render.size(row.size_bytes),
                 render.size(row.cached_bytes), "newest" if row.is_newest else "")
                for row in rows
            ],
        )  # fmt: skip


@cli.command(
    epilog="Exit status: 0 compared, whether or not there are differences; 1 not done, or a table could not"
    " be fetched (the message says why); 2 wrong usage."
)
@click.argument("old")
@click.argument("new", default="latest")
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "allensdk"]),
    default="text",
    help="'allensdk': what AllenSDK's compare_manifests returns, to the letter.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--summary", is_flag=True, help="Leave the list of files out.")
@click.option("--no-tables", is_flag=True, help="Compare the manifests only: fetch no tables to look into.")
@_settings("dataset_version", *_ONLY_OF_A_MOUNT)
def diff(old: str, new: str, style: str, as_json: bool, summary: bool, no_tables: bool, **options: Any) -> None:
    """Show what changed from the dataset version OLD to NEW: 0.4.0, v0.4.0 or latest.

    Files are changed, renamed, created or deleted, by the manifests' hashes; 'fetch' is what of them is not in the
    cache yet. Tables (the project's metadata) that changed are fetched and compared by row and column. NEW is the
    latest version if it is not given.
    """
    from vbnfs.cli.diff import allensdk_report, make_report  # noqa: PLC0415
    from vbnfs.cli.diff_text import print_report  # noqa: PLC0415

    old, new = _version(old), _version(new)
    if style == "allensdk":
        if as_json:
            raise UsageError("--json and --format allensdk exclude each other")
        click.echo(_look(options, allensdk_report, old, new))
        return
    report = _look(options, make_report, old, new, with_tables=not no_tables, tell=_tell)
    if as_json:
        render.print_json(report.as_json(with_files=not summary))
    else:
        print_report(report, with_files=not summary)
    if report.unread:
        raise DatasetError("\n".join(report.unread))


def _version(text: str) -> str:
    try:
        return str(SETTING_BY_NAME["dataset_version"].parse(text))
    except ValueError as error:
        raise UsageError(f"{text!r} will not do: {error}") from error


@cli.command(epilog=_EXIT_STATUS)
@click.option("--json", "as_json", is_flag=True, help="As JSON, with version_id, file_hash, path and size_bytes.")
@_settings(*_ONLY_OF_A_MOUNT)
def urls(as_json: bool, **options: Any) -> None:
    """List the URL of every file of a dataset version, with its versionId, in the manifest's order.

    Each fetches exactly the released bytes, also when the bucket has newer ones: vbnfs urls | xargs -n 1 curl -O
    """
    from vbnfs.cli.urls import list_urls  # noqa: PLC0415

    rows = _look(options, list_urls)
    if as_json:
        render.print_json([row.as_json() for row in rows])
    else:
        for row in rows:
            render.print_line(row.url)


@cli.command(epilog=_EXIT_STATUS)
@click.option(
    "--config-folder",
    type=Path,
    metavar="DIR",
    help="Clean the caches of all *.toml in this folder.",
)
@_settings(*(SETTING_BY_NAME.keys() - {"cache_dir", "cache_size"}))
def clean(config_folder: Path | None, **options: Any) -> None:
    """Bring the cache within its size, and remove what dead processes left there.

    A mount does that itself; this is for a size that was lowered while nothing is mounted.
    """
    configure_logging(sys.stderr, level="error", as_json=False)  # what matters is told below
    problems: list[str] = []
    for config in configurations(config_folder) if config_folder else [_config(options)]:
        try:
            if isinstance(config, UsageError):
                raise config
            done = clean_cache(config)
        except UsageError as error:
            problems.append(str(error))
        else:
            usage, limit, freed = map(render.size, (done.usage_bytes, done.limit_bytes, done.freed_bytes))
            click.echo(f"{done.cache_dir}  {usage} of {limit}; {done.deleted_files} files, {freed} freed")
    if problems:
        raise UsageError("\n".join(problems))


def _installing(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--remove", is_flag=True, help="Take away what was installed.")(command)
    return click.option(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="Below this folder: for packages and images."
    )(command)


def _carry_out(pieces: list[install.Piece], *, remove: bool, then: str) -> None:
    if remove:
        for path in install.remove(pieces):
            click.echo(f"removed {path}")
        return
    install.install(pieces)
    for piece in pieces:
        click.echo(f"{piece.path}{f' -> {piece.target}' if piece.target else ''}")
    click.echo(then, err=True)


@cli.command(epilog=_EXIT_STATUS)
@_installing
def install_helper(root: Path, remove: bool) -> None:
    """Let mount(8) and fstab(5) know vbnfs: 'mount -t vbnfs PROJECT FOLDER'."""
    _carry_out(
        pieces := install.helper_pieces(root),
        remove=remove,
        then="now: mount -t vbnfs visual-behavior-neuropixels FOLDER   (for fstab see docs/mounting.md)",
    )
    program = pieces[0].target
    if program and not remove and not install.is_for_everybody(program):
        click.echo(f"vbnfs: warning: only root can run {program}: fstab's option 'user' will not work", err=True)


@cli.command(epilog=_EXIT_STATUS)
@click.option("--user", is_flag=True, help="Units of a user's own, in ~/.config/systemd/user.")
@_installing
def install_units(user: bool, root: Path, remove: bool) -> None:
    """Install systemd units that mount at boot (or log-in) what a configuration file describes."""
    folder, systemctl = ("~/.config/vbnfs", "systemctl --user") if user else ("/etc/vbnfs", "systemctl")
    steps = [
        f'write {folder}/NAME.toml, with: mountpoint = "/some/folder"',
        f"{systemctl} daemon-reload",
        f"{systemctl} enable --now vbnfs@NAME vbnfs-clean.timer",
    ]
    if not user:
        steps.insert(0, "systemd-tmpfiles --create vbnfs.conf")
    _carry_out(install.unit_pieces(root, for_user=user), remove=remove, then="now: " + "\n     ".join(steps))


@cli.command(epilog=_EXIT_STATUS)
@click.argument("directory", type=Path, required=False)
@click.option("--keep", is_flag=True, help="Leave the server and the mount running until Ctrl-C.")
def demo(directory: Path | None, keep: bool) -> None:
    """Show all of it on a small genuine release, served by a real S3 server on this machine.

    Works in DIRECTORY (default: a temporary folder that is removed at the end).
    """
    try:
        from vbnfs.demo.tour import run_demo  # noqa: PLC0415 - the demo's libraries are an extra
    except ModuleNotFoundError as error:
        raise DemoError(f"{error.name} is not installed: pip install 'vbnfs[demo]'") from error
    run_demo(directory, keep=keep)

"""The command line: `vbnfs mount`, `umount`, `status`, `versions`, `demo`.

Results go to standard output, everything else to standard error. Exit status: 0 done; 1 it could not be done, the
message says why; 2 wrong usage.
"""

import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import trio

from vbnfs import __version__
from vbnfs.cli import render
from vbnfs.config import SETTINGS, Config, default_config_file, load_config
from vbnfs.errors import DemoError, MountError, UsageError, VbnfsError
from vbnfs.logs import configure_logging

_EXIT_STATUS: Final = "Exit status: 0 done, 1 not done (the message says why), 2 wrong usage."
_UMOUNT_SECONDS: Final = 30.0


def main() -> NoReturn:
    """Run the command line; failures are told in one line, without a traceback."""
    try:
        cli.main(prog_name="vbnfs", standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
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
@click.argument("mountpoint", type=Path)
@click.option("-o", "mount_options", metavar="OPTION[,...]", multiple=True, help="Options as for mount(8).")
@_settings()
def mount(mountpoint: Path, mount_options: tuple[str, ...], **options: Any) -> None:
    """Mount the dataset on the folder MOUNTPOINT.

    Returns when the files can be listed. Settings come from the command line, else from -o, else from VBNFS_*
    variables (VBNFS_CACHE_DIR, ...), else from the TOML file (cache_dir = ...), else they have their default.
    """
    from vbnfs.mount import background  # noqa: PLC0415 - libfuse only where it is needed
    from vbnfs.mount import mountpoint as mounts  # noqa: PLC0415

    config = _config(options, mount_options)
    where = mounts.absolute(mountpoint)
    mounts.check_mountpoint(where, cache_dir=config.cache_dir)

    def warn(warnings: tuple[str, ...] | list[str]) -> None:
        for warning in warnings:
            click.echo(f"vbnfs: warning: {render.printable(warning)}", err=True)

    if config.foreground:
        background.run_in_foreground(config, where, warn)
    else:
        warn(background.run_in_background(config, where))


@cli.command(epilog=_EXIT_STATUS)
@click.argument("mountpoint", type=Path)
@click.option("--lazy", is_flag=True, help="Detach now, end when no program uses it any more.")
def umount(mountpoint: Path, lazy: bool) -> None:
    """Take the mount on MOUNTPOINT away, and return when it and its daemon are gone."""
    from vbnfs.mount import control  # noqa: PLC0415
    from vbnfs.mount import mountpoint as mounts  # noqa: PLC0415

    where = mounts.absolute(mountpoint)
    entry = mounts.find_mount(where)
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


@cli.command(epilog=_EXIT_STATUS)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@_settings("dataset_version", "foreground", "allow_other", "refresh")
def versions(as_json: bool, **options: Any) -> None:
    """List the dataset's versions."""
    from vbnfs.cli.versions import load_versions  # noqa: PLC0415

    config = _config(options)
    configure_logging(sys.stderr, level="error", as_json=False)  # what matters is told below
    rows, problems = trio.run(load_versions, config)
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
    for problem in problems:
        click.echo(f"vbnfs: warning: {render.printable(problem)}", err=True)


@cli.command(epilog=_EXIT_STATUS)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=Path)
@click.option("--fetch", is_flag=True, help="Fetch what is missing, and what is wrong once more.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@_settings("foreground", "allow_other", "refresh", "verify")
def verify(paths: tuple[Path, ...], fetch: bool, as_json: bool, **options: Any) -> None:
    """Hold cached files against the hashes in the manifests.

    PATH is a file or folder in a mount, or in the dataset (ecephys_sessions, manifests/v0.5.0/...), or a dataset
    version (0.5.0). Without any, all files that are completely cached are verified. A file that does not match is
    dropped from the cache, and reads of it fail until it was fetched anew and is good.
    """
    from vbnfs.cli import verify as verifying  # noqa: PLC0415

    config, inner = verifying.of_mount(_config(options), paths)
    configure_logging(sys.stderr, level="critical", as_json=False)  # what matters is told below

    def tell(finding: verifying.Finding) -> None:
        detail = f": {finding.detail}" if finding.detail else ""
        if not as_json:
            click.echo(render.printable(f"{finding.outcome:<12} {finding.path}{detail}"))

    findings = trio.run(partial(verifying.verify, config, inner, fetch=fetch, tell=tell))
    if as_json:
        render.print_json([finding.as_json() for finding in findings])
    else:
        good = [finding for finding in findings if finding.outcome == verifying.GOOD]
        size = render.size(sum(finding.size_bytes or 0 for finding in good))
        click.echo(f"{len(good)} of {len(findings)} files good, {size}", err=True)
    verifying.check(findings)


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

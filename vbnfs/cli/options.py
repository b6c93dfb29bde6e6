"""What the commands have in common: an option for every setting, and how messages are written to a person."""

import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from vbnfs.cli import render, streams
from vbnfs.config.environment import variables
from vbnfs.config.settings import SETTINGS, Config, Setting
from vbnfs.config.sources import LoadedSettings, load_settings, misspelled, settings_given_in
from vbnfs.errors import UsageError

if TYPE_CHECKING:
    from vbnfs.access.tree_files import Place
    from vbnfs.dask.cluster import OnCluster

_T = TypeVar("_T")
_Command = TypeVar("_Command", bound=Callable[..., Any])

# How every command's help ends. "\b" keeps click from filling the lines.
STATUSES: Final = "Exit status: 0 done, 1 not done (the message says why), 2 wrong usage."
WHERE_SETTINGS_ARE: Final = "'vbnfs settings' shows all settings, 'vbnfs settings --help' their options."
EXIT_STATUS: Final = f"\b\n{STATUSES}\n{WHERE_SETTINGS_ARE}"
# The settings that matter to a mount alone.
ONLY_OF_A_MOUNT: Final = (
    *("fuse", "passthrough", "record", "trust_cache", "hdf5", "index", "foreground", "allow_other", "refresh"),
    *("allow_root", "uid", "gid", "umask", "fmask", "dmask", "auto_unmount"),
    *("log_file", "log_level", "mountpoint", "status_folder", "metrics_port", "metrics_file"),
)


def settings(*left_out: str, shown: Collection[str] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command an option for every setting but those `left_out`, and `--config`.

    The command's help lists those of `shown` (a setting's name, or "config") after the command's own options; the
    others work all the same.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option(
            "--config",
            "config_file",
            metavar="FILE",
            help="TOML file of settings.  [default: vbnfs/config.toml in $XDG_CONFIG_HOME or ~/.config]",
            hidden="config" not in shown,
        )(command)
        for setting in reversed([s for s in SETTINGS if s.name not in left_out]):
            command = _option(setting, hidden=setting.name not in shown)(command)
        return command

    return decorate


def _option(setting: Setting, *, hidden: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        f"{setting.option}/--no-{setting.option[2:]}" if setting.is_on else setting.option,
        setting.name,
        metavar=None if setting.is_flag else setting.metavar,
        is_flag=setting.is_flag,
        default=None,
        help=setting.help,  # `vbnfs settings` shows the defaults
        hidden=hidden,
    )


def settings_of(options: dict[str, Any], mount_options: tuple[str, ...] = ()) -> LoadedSettings:
    """The settings, of which `options` are those of the command line. Raises `UsageError`."""
    config_file = options.pop("config_file")
    given = {name: _text(value) for name, value in options.items() if value is not None}
    for variable, nearest in misspelled(variables()):
        echo_warning(f"{variable} is the variable of no setting; near it: {', '.join(nearest)}")
    return load_settings(
        command_line=given,
        mount_options=mount_options,
        config_file=Path(config_file) if config_file else None,
    )


def _text(value: str | bool) -> str:
    return value if isinstance(value, str) else str(value).lower()


def config_of(options: dict[str, Any], mount_options: tuple[str, ...] = ()) -> Config:
    """The configuration of `settings_of`. Raises `UsageError`."""
    return settings_of(options, mount_options).config


def texts_given(options: dict[str, Any]) -> dict[str, str]:
    """The settings that stand on the command line, as text by name."""
    names = {setting.name for setting in SETTINGS}
    return {name: _text(value) for name, value in options.items() if name in names and value is not None}


def on_dask(command: _Command) -> _Command:
    """Give a command the options of a Dask cluster, which `dask_of` takes out again."""
    for option in reversed(_DASK):
        command = option(command)
    return command


_DASK: Final = (
    click.option("--dask", metavar="SCHEDULER", help="By a Dask cluster's workers (docs/dask.md): address or file."),
    click.option(
        "--dask-caches",
        type=click.Choice(["auto", "node", "shared"]),
        hidden=True,
        help="Whether workers share one cache, or each node has its own.  [default: auto]",
    ),
    click.option("--every-node", is_flag=True, hidden=True, help="All files into each node's cache."),
    click.option(
        "--dask-wait",
        metavar="SECONDS",
        type=click.FloatRange(0),
        hidden=True,
        help="How long to wait for workers.  [default: 60]",
    ),
    click.option(
        "--dask-workers",
        metavar="N",
        type=click.IntRange(1),
        hidden=True,
        help="For how many workers to wait at the start.  [default: 1]",
    ),
)


@dataclass(frozen=True, slots=True)
class OnDask:
    """What a command line says of a cluster: where its scheduler is, how it is used, and its own settings as text."""

    scheduler: str
    cluster: "OnCluster"
    given: Mapping[str, str]


def dask_of(options: dict[str, Any]) -> OnDask | None:
    """What a command line says of a Dask cluster; None where it names none. Raises `UsageError`."""
    scheduler, caches, every_node, wait_seconds, n_workers = (
        options.pop(name) for name in ("dask", "dask_caches", "every_node", "dask_wait", "dask_workers")
    )
    if scheduler is None:
        if every_node or {caches, wait_seconds, n_workers} != {None}:
            raise UsageError(
                "--dask-caches, --every-node, --dask-wait and --dask-workers are of a cluster: add --dask SCHEDULER"
            )
        return None
    cluster: OnCluster = {"caches": caches or "auto", "every_node": every_node}
    if wait_seconds is not None:
        cluster["wait_seconds"] = wait_seconds
    if n_workers is not None:
        cluster["n_workers"] = n_workers
    return OnDask(scheduler, cluster, texts_given(options))


def given_options(options: dict[str, Any]) -> list[str]:
    """The options of `settings` that stand on the command line."""
    named = {"config_file": "--config", **{setting.name: setting.option for setting in SETTINGS}}
    return [named[name] for name, value in options.items() if value is not None]


def given_in(options: dict[str, Any]) -> set[str]:
    """The names of the settings that this command line gives: by an option, by a dataset's name, or in a file."""
    given = {name for name, value in options.items() if value is not None and name != "config_file"}
    config_file = options["config_file"]
    return settings_given_in(given, options.get("dataset"), Path(config_file) if config_file else None)


def run_on_versions(options: dict[str, Any], work: Callable[..., Awaitable[_T]], *about: Any, **more: Any) -> _T:
    """Do some work with the versions of the dataset that the settings name. Their problems become warnings."""
    from vbnfs.cli.running import run_with_versions  # noqa: PLC0415 - takes a while

    config = config_of(options)
    log_to_terminal("error")  # what matters is written by `echo_warning`
    return run_with_versions(config, lambda versions: work(versions, *about, **more), warn=echo_warning)


def echo_warning(warning: str) -> None:
    """Write a warning to standard error."""
    echo_note(f"warning: {warning}")


def echo_note(message: str) -> None:
    """Write a message that is no result to standard error."""
    streams.say(f"vbnfs: {render.escape(message)}")


def log_to_terminal(level: str) -> None:
    """Show on standard error what is logged from `level` up, for a command that writes its results itself."""
    from vbnfs.logs import configure_logging  # noqa: PLC0415 - takes a tenth of a second

    configure_logging(sys.stderr, level=level, as_json=False)


def files_in(paths: Sequence[Path], options: dict[str, Any]) -> "Place":
    """The files that a command is about: without paths those of the dataset version that a setting names, or all.

    Raises what `place_of` raises.
    """
    from vbnfs.cli.asked import place_of  # noqa: PLC0415

    given, version = given_in(options), options.get("dataset_version")
    return place_of(config_of(options), paths or ([Path(version)] if version else ()), given=given)

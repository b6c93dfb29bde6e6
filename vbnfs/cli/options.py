"""What the commands have in common: an option for every setting, and how things are said to a person."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from vbnfs.cli import render, streams
from vbnfs.config.environment import default_config_file
from vbnfs.config.settings import SETTINGS, Config
from vbnfs.config.sources import load_config, settings_in

EXIT_STATUS: Final = (
    "Exit status: 0 done, 1 not done (the message says why), 2 wrong usage: the command line, a variable or a"
    " configuration file is wrong."
)


def settings(*left_out: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command an option for every setting, `--config`, and the `Config` that results."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for setting in reversed([s for s in SETTINGS if s.name not in left_out]):
            default = "" if setting.default in (None, False) else f"  [default: {_shown(setting.default)}]"
            kind: dict[str, Any] = (
                {"is_flag": True, "default": None} if setting.is_flag else {"metavar": setting.metavar}
            )
            command = click.option(setting.option, setting.name, help=setting.help + default, **kind)(command)
        return click.option(
            "--config",
            "config_file",
            metavar="FILE",
            help=f"TOML file of settings.  [default: {default_config_file()}]",
        )(command)

    return decorate


def _shown(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


def config_of(options: dict[str, Any], mount_options: tuple[str, ...] = ()) -> Config:
    """The settings, of which `options` are those of the command line. Raises `UsageError`."""
    config_file = options.pop("config_file")
    given = {name: "true" if value is True else value for name, value in options.items() if value is not None}
    return load_config(
        command_line=given,
        mount_options=mount_options,
        config_file=Path(config_file) if config_file else None,
    )


def given_options(options: dict[str, Any]) -> list[str]:
    """The options of `settings` that stand on the command line."""
    named = {"config_file": "--config", **{setting.name: setting.option for setting in SETTINGS}}
    return [named[name] for name, value in options.items() if value is not None]


def given_in(options: dict[str, Any]) -> set[str]:
    """The names of the settings that were asked for here and now: by an option, or in the file that one names."""
    given = {name for name, value in options.items() if value is not None and name != "config_file"}
    config_file = options["config_file"]
    return given | (set(settings_in(Path(config_file))) if config_file else set())


def echo_warning(warning: str) -> None:
    """Say what is not as it should be."""
    echo_note(f"warning: {warning}")


def echo_note(message: str) -> None:
    """Say something that is no result."""
    streams.say(f"vbnfs: {render.escape(message)}")


def log_to_terminal(level: str) -> None:
    """Show on standard error what is logged from `level` up, of a command that tells its results itself."""
    from vbnfs.logs import configure_logging  # noqa: PLC0415 - takes a tenth of a second

    configure_logging(sys.stderr, level=level, as_json=False)

"""Completion of command lines in bash, zsh and fish.

The shell runs `vbnfs` itself at a Tab, with variables that click documents ("Shell Completion"). What is offered are
commands, options, and what this machine knows without network: datasets, versions and paths of stored manifests,
pins, mounts. Nothing here asks a server or a mount. What cannot be read offers nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import click
from click import shell_completion
from click.shell_completion import CompletionItem, ShellComplete

from vbnfs.cli import known_names
from vbnfs.cli.shell_scripts import SHELLS
from vbnfs.config.settings import SETTING_BY_NAME, Config
from vbnfs.config.sources import load_settings

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:  # generic since click 8.2
    _ParamType = click.ParamType

_FILE: Final = (CompletionItem("", type="file"),)
_FOLDER: Final = (CompletionItem("", type="dir"),)
_LONG: Final = "--"

# Parameters by their names in the functions of the commands.
_FOLDERS: Final = frozenset({"mountpoint", "folder", "directory", "root", "config_folder"})
_FILES: Final = frozenset({"file", "config_file", "output", "report", "record"})
_PATHS: Final = frozenset({"paths", "path", "words"})
_KNOWN: Final[Mapping[str, Callable[[Config], Iterable[str]]]] = {
    "dataset": lambda _: known_names.datasets(),
    **dict.fromkeys(("dataset_version", "old", "new", "freed"), known_names.versions),
    **dict.fromkeys(("paths", "path", "words"), known_names.paths),
    **dict.fromkeys(("names", "pin"), known_names.pins),
    "name": known_names.tables,
    "mountpoint": lambda _: known_names.mounts(),
}
# Settings that have few values.
_VALUES: Final[Mapping[str, Sequence[str]]] = {
    "log_level": ("debug", "info", "warning", "error"),
    "verify": ("first-use", "always"),
    "fuse": ("native", "pyfuse3"),
    "passthrough": ("yes", "no"),
}
# Commands that go by other names than their parameters' names say.
_OTHERWISE: Final[Mapping[tuple[str, str], Callable[[Config], Iterable[str]]]] = {
    ("mount", "mountpoint"): lambda _: (),
    ("limit-rate", "words"): lambda _: known_names.mounts(),
    **{(command, "name"): lambda _: () for command in ("pin", "prefetch")},
}


def register(cli: click.Group) -> None:
    """Have click complete command lines of `cli` by what this module knows."""
    for shell, kind in SHELLS.items():
        shell_completion.add_completion_class(_with_known(kind, cli), shell)


def _with_known(kind: type[ShellComplete], cli: click.Group) -> type[ShellComplete]:
    class Completing(kind):  # type: ignore[valid-type, misc]
        def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
            with suppress(Exception):  # a traceback in the middle of a command line helps nobody
                command = _command_of(cli, args)
                for param in command.params:
                    _teach(param, typed=incomplete)
                return list(super().get_completions(args, incomplete))
            return []

    return Completing


def _command_of(cli: click.Group, args: list[str]) -> click.Command:
    """The command that a line has so far."""
    command: click.Command = cli
    for word in args:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(click.Context(command), word) or command
    return command


def _teach(param: click.Parameter, *, typed: str) -> None:
    """Give a parameter of this process's command what it is completed by."""
    if isinstance(param, click.Option) and param.name in SETTING_BY_NAME and len(typed) > len(_LONG):
        param.hidden = False  # beyond `--` all settings are offered, also those that the help does not list
    if not isinstance(param.type, click.Choice) and not getattr(param, "is_flag", False):
        param.type = _Completed(param.type, param)


class _Completed(_ParamType):
    """A parameter's type, which also knows what can stand there."""

    def __init__(self, inner: _ParamType, param: click.Parameter) -> None:
        self.name = inner.name
        self._inner = inner
        self._is_argument = isinstance(param, click.Argument)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._inner.convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        name = param.name or ""
        found: list[CompletionItem] = []
        if name in _VALUES:
            return [CompletionItem(one) for one in _VALUES[name] if one.startswith(incomplete)]
        known = _OTHERWISE.get((ctx.command.name or "", name)) or _KNOWN.get(name)
        is_of_dataset = name not in _PATHS or not incomplete.startswith(("/", "~", "."))
        if known is not None and is_of_dataset:
            names = (name for name in known(_config(ctx)) if name.isprintable())  # others cannot be typed
            found = [CompletionItem(one) for one in _next_steps(names, incomplete)]
        return [*_files_for(name, is_argument=self._is_argument), *found]


def _config(ctx: click.Context) -> Config:
    """The settings of the line so far, as far as they are right."""
    given = {name: str(value) for name, value in ctx.params.items() if name in SETTING_BY_NAME and value is not None}
    return load_settings(command_line=given).config


def _next_steps(names: Iterable[str], typed: str) -> list[str]:
    """What names begin with `typed`, up to the next slash; where only one folder does, what is in it."""
    matching = [name for name in names if name.startswith(typed)]
    steps = {name[: name.find("/", len(typed)) + 1] or name for name in matching}
    if len(steps) == 1 and (only := steps.pop()).endswith("/"):
        return _next_steps(matching, only)
    return sorted(steps or matching)


def _files_for(name: str, *, is_argument: bool) -> tuple[CompletionItem, ...]:
    """Whether the shell adds files or folders itself."""
    metavar = SETTING_BY_NAME[name].metavar if name in SETTING_BY_NAME else ""
    if name in _FOLDERS or metavar.startswith("DIR"):
        return _FOLDER
    is_file = name in _FILES or metavar.startswith(("FILE", "PATH"))
    return _FILE if is_file or (is_argument and name in _PATHS) else ()

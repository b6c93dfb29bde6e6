"""The settings from their four sources, and which source wins.

    command line  >  -o options  >  environment  >  TOML file  >  default

Nothing else reads a configuration file.
"""

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vbnfs.config.environment import default_config_file, foreign_home, variables
from vbnfs.config.mount_options import parse_mount_options
from vbnfs.config.settings import SETTING_BY_NAME, SETTINGS, Config, Setting, parse_path
from vbnfs.errors import UsageError

_Source = tuple[Callable[[Setting], str], Mapping[str, str]]  # what it calls a setting, and its texts by name


def load_config(
    *,
    command_line: Mapping[str, str],
    mount_options: tuple[str, ...] = (),
    config_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    defaults: Mapping[str, str] | None = None,
) -> Config:
    """The settings from all sources, in the order that the module's docstring gives.

    `command_line` and `defaults` (which stand in for those of `SETTINGS`) map settings' names to text.
    `config_file` None means the usual place, where a file may or may not be. Raises `UsageError`, which names
    the source and the setting.
    """
    environ = variables() if environ is None else environ
    options, passed = parse_mount_options(mount_options)
    named = config_file or _config_variable(environ)
    path = named or default_config_file()
    sources: tuple[_Source, ...] = (
        (lambda setting: setting.option, command_line),
        (lambda setting: f"-o {setting.name}", options),
        (lambda setting: setting.variable, _from_environment(environ)),
        (lambda setting: f"{setting.name} in {path}", _from_toml(path, must_exist=named is not None)),
        (lambda setting: f"{setting.name} by default", defaults or {}),
    )
    values = {setting.field: _value(setting, sources) for setting in SETTINGS}
    return Config(**values, fuse_options=passed)


def settings_in(path: Path) -> Mapping[str, str]:
    """The settings in a TOML file, as text by name. Raises `UsageError`."""
    return _from_toml(path, must_exist=True)


def _value(setting: Setting, sources: tuple[_Source, ...]) -> Any:
    for label_of, source in sources:
        if setting.name in source:
            text = source[setting.name]
            try:
                return setting.parse(text)
            except ValueError as error:
                raise UsageError(f"{label_of(setting)}: {text!r} will not do: {error}") from error
    return setting.parse(setting.default) if isinstance(setting.default, str) else setting.default


def _config_variable(environ: Mapping[str, str]) -> Path | None:
    text = environ.get("VBNFS_CONFIG")
    try:
        return parse_path(text) if text else None
    except ValueError as error:
        raise UsageError(f"VBNFS_CONFIG: {text!r} will not do: {error}") from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {s.name: environ[s.variable] for s in SETTINGS if environ.get(s.variable)}


def _from_toml(path: Path, *, must_exist: bool) -> dict[str, str]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # HOME=/dev/null is usual for services
        if must_exist:
            raise UsageError(f"{path}: no such configuration file") from None
        return {}
    except PermissionError as error:
        if not must_exist and foreign_home() is not None:  # somebody else's settings
            return {}
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: not a TOML file: {error}") from error
    if unknown := sorted(set(table) - set(SETTING_BY_NAME)):
        raise UsageError(f"{path}: no such setting: {', '.join(unknown)}")
    return {name: _toml_text(path, name, value) for name, value in table.items()}


def _toml_text(path: Path, name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return os.fsdecode(str(value).encode())  # as if typed: the file is UTF-8, whatever the locale
    raise UsageError(f"{name} in {path}: a text, a number, true or false is wanted")

"""The settings from their sources, and which source wins.

    command line  >  -o options  >  environment  >  TOML file  >  default

A named dataset ranks just below the source that names it; the default dataset ranks last. docs/settings.md has the
rules. Nothing else reads a configuration file.
"""

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from vbnfs.config.datasets import (
    DATASET_SETTINGS,
    DEFAULT_DATASET,
    NamedDataset,
    all_datasets,
    complete_dataset,
    mirror_text,
)
from vbnfs.config.environment import default_config_file, foreign_home, variables
from vbnfs.config.mount_options import parse_mount_options
from vbnfs.config.settings import SEPARATOR, SETTING_BY_NAME, SETTINGS, Config, Setting, parse_path
from vbnfs.config.sharing import sharing_of
from vbnfs.errors import UsageError
from vbnfs.suggestions import hint, near

COMMAND_LINE: Final = "command line"
MOUNT_OPTIONS: Final = "mount options"
ENVIRONMENT: Final = "environment"
FILE: Final = "file"
DATASET: Final = "dataset"
DEFAULT: Final = "default"

_PREFIX: Final = "VBNFS_"
_CONFIG: Final = f"{_PREFIX}CONFIG"
_TABLES: Final = "datasets"  # the key of the TOML file that is no setting
_IDENTITY: Final = ("bucket", "project", "endpoint_url")  # with another one of these it is not the named dataset


@dataclass(frozen=True, slots=True)
class Source:
    """Settings as text by name. `kind` is one of the constants above; `name` is that of a file or a dataset."""

    kind: str
    texts: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    file: Path | None = None  # where the table of a dataset would stand

    def name_of(self, setting: Setting) -> str:
        """What gave a setting: an option, a variable, a file or a dataset; "" for a default."""
        names = {COMMAND_LINE: setting.option, MOUNT_OPTIONS: f"-o {setting.name}", ENVIRONMENT: setting.variable}
        return names.get(self.kind, self.name)

    def label_of(self, setting: Setting) -> str:
        """How a message names a setting of this source."""
        if self.kind == FILE:
            return f"{setting.name} in {self.name}"
        if self.kind == DATASET:
            return f"{setting.name} of [{_TABLES}.{self.name}] in {self.file}"
        return self.name_of(setting)


@dataclass(frozen=True, slots=True)
class SettingValue:
    """A setting's value, and the source that gave it."""

    setting: Setting
    value: Any
    source: Source


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """All settings, each with its source, the configuration that they are, and the names of all datasets."""

    config: Config
    values: Sequence[SettingValue]
    datasets: Sequence[str]


def load_config(
    *,
    command_line: Mapping[str, str],
    mount_options: tuple[str, ...] = (),
    config_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    mount_source: str | None = None,
) -> Config:
    """The configuration of `load_settings`, with the same parameters. Raises `UsageError`."""
    return load_settings(
        command_line=command_line,
        mount_options=mount_options,
        config_file=config_file,
        environ=environ,
        mount_source=mount_source,
    ).config


def load_settings(
    *,
    command_line: Mapping[str, str],
    mount_options: tuple[str, ...] = (),
    config_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    mount_source: str | None = None,
) -> LoadedSettings:
    """The settings from all sources, in the order that the module's docstring gives.

    `command_line` maps settings' names to text. `config_file` None means the usual place, where a file may or may
    not be. `mount_source` is what mount(8) mounts: a dataset's name or a project. Raises `UsageError`, which names
    the source and the setting.
    """
    environ = variables() if environ is None else environ
    options, passed = parse_mount_options(mount_options)
    file, tables = _read_file(config_file, environ)
    datasets = all_datasets(tables)
    stated = [Source(COMMAND_LINE, command_line), Source(MOUNT_OPTIONS, options), _from_environment(environ), file]
    if mount_source is None or DATASET in options:
        dataset, sources = _rank_dataset(stated, datasets, Path(file.name))
    else:
        dataset, sources = _rank_mount_source(stated, datasets, mount_source, Path(file.name))
    values = [_value(setting, sources) for setting in SETTINGS]
    config = Config(**{found.setting.field: found.value for found in values}, fuse_options=passed)
    if not _is_of(dataset, config):
        config = replace(config, dataset=None)
    sharing_of(config)  # raises where settings exclude each other
    return LoadedSettings(config, values, list(datasets))


def settings_given_in(command_line: Iterable[str], dataset: str | None, config_file: Path | None) -> set[str]:
    """The names of the settings that the command line and the file named there give, by a dataset's name, too.

    `command_line` are the names of its settings, `dataset` is its dataset's name. Raises `UsageError`.
    """
    file, tables = _read_file(config_file, variables())
    texts = file.texts if config_file is not None else {}
    named = all_datasets(tables).get(dataset or texts.get(DATASET, ""))
    return {*command_line, *texts, *(named.texts if named else ())}


def _rank_dataset(
    stated: Sequence[Source], datasets: Mapping[str, NamedDataset], path: Path
) -> tuple[NamedDataset, list[Source]]:
    """The dataset that the strongest source names, and all sources with it in its place."""
    rank = next((rank for rank, source in enumerate(stated) if DATASET in source.texts), len(stated))
    name = stated[rank].texts[DATASET] if rank < len(stated) else DEFAULT_DATASET
    if name not in datasets:
        raise UsageError(
            f"{stated[rank].label_of(SETTING_BY_NAME[DATASET])}: {name!r} will not do: there are"
            f" {', '.join(datasets)}; a table [{_TABLES}.NAME] in {path} adds one"
        )
    dataset = datasets[name]
    return dataset, [*stated[: rank + 1], Source(DATASET, dataset.texts, name, path), *stated[rank + 1 :]]


def _rank_mount_source(
    stated: Sequence[Source], datasets: Mapping[str, NamedDataset], name: str, path: Path
) -> tuple[NamedDataset, list[Source]]:
    """The dataset that mount(8)'s source names. Its project wins over all sources; the rest of it ranks last."""
    dataset = datasets.get(name) or complete_dataset(name, {})
    source = Source(COMMAND_LINE, {DATASET: name, "project": dataset.texts["project"]})
    return dataset, [source, *stated, Source(DATASET, dataset.texts, name, path)]


def _is_of(dataset: NamedDataset, config: Config) -> bool:
    """Whether no other source replaced what makes the dataset."""
    return all(
        getattr(config, name) == SETTING_BY_NAME[name].parse(dataset.texts[name])
        for name in _IDENTITY
        if name in dataset.texts
    )


def _value(setting: Setting, sources: Iterable[Source]) -> SettingValue:
    for source in sources:
        if setting.name in source.texts:
            text = source.texts[setting.name]
            try:
                return SettingValue(setting, setting.parse(text), source)
            except ValueError as error:
                raise UsageError(f"{source.label_of(setting)}: {text!r} will not do: {error}") from error
    default = setting.parse(setting.default) if isinstance(setting.default, str) else setting.default
    return SettingValue(setting, default, Source(DEFAULT))


def misspelled(environ: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Variables that look like those of settings and are none, each with those that it may be meant for."""
    names = [setting.variable.removeprefix(_PREFIX) for setting in SETTINGS]
    for variable in sorted(environ):
        name = variable.removeprefix(_PREFIX)
        if name == variable or name in names or variable == _CONFIG:
            continue
        if nearest := near(name, names):
            yield variable, [f"{_PREFIX}{one}" for one in nearest]


def _from_environment(environ: Mapping[str, str]) -> Source:
    return Source(ENVIRONMENT, {s.name: environ[s.variable] for s in SETTINGS if environ.get(s.variable)})


# The TOML file


def _read_file(named: Path | None, environ: Mapping[str, str]) -> tuple[Source, dict[str, dict[str, str]]]:
    """The settings of the TOML file, and its tables of datasets, as text by name. Raises `UsageError`."""
    named = named or _config_variable(environ)
    path = named or default_config_file()
    table = _parse_file(path, must_exist=named is not None)
    tables = table.pop(_TABLES, {})
    if isinstance(table.get(DATASET), dict):
        raise UsageError(f"[{DATASET}] in {path}: the table of a dataset is spelled [{_TABLES}.NAME]")
    if unknown := sorted(set(table) - set(SETTING_BY_NAME)):
        message = f"{path}: no such setting: {', '.join(unknown)}; 'vbnfs settings --help' lists those that there are"
        raise UsageError(message + hint(unknown[0], SETTING_BY_NAME))
    texts = {name: text_of_value(f"{name} in {path}", name, value) for name, value in table.items()}
    if not isinstance(tables, dict):
        raise UsageError(f"{_TABLES} in {path}: a table for each dataset is wanted, such as [{_TABLES}.NAME]")
    return Source(FILE, texts, str(path)), {name: _dataset_table(path, name, one) for name, one in tables.items()}


def _config_variable(environ: Mapping[str, str]) -> Path | None:
    text = environ.get(_CONFIG)
    try:
        return parse_path(text) if text else None
    except ValueError as error:
        raise UsageError(f"{_CONFIG}: {text!r} will not do: {error}") from error


def _parse_file(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # HOME=/dev/null is usual for services
        if must_exist:
            raise UsageError(f"{path}: no such configuration file") from None
        return {}
    except PermissionError as error:
        if not must_exist and foreign_home() is not None:  # another user's settings
            return {}
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: not a TOML file: {error}") from error


def _dataset_table(path: Path, name: str, table: Any) -> dict[str, str]:
    """The table [datasets.`name`] as text by name. Raises `UsageError`."""
    where = f"[{_TABLES}.{name}] in {path}"
    try:
        SETTING_BY_NAME[DATASET].parse(name)
    except ValueError as error:
        raise UsageError(f"{where}: {name!r} will not do: {error}") from error
    if not isinstance(table, dict):
        raise UsageError(f"{_TABLES}.{name} in {path}: a table is wanted: [{_TABLES}.{name}]")
    for key in table:
        if key in SETTING_BY_NAME and key not in DATASET_SETTINGS:
            raise UsageError(f"{where}: {key} holds for all datasets: write it above the tables")
        if key not in DATASET_SETTINGS:
            raise UsageError(f"{where}: no such key: {key}; there are {', '.join(DATASET_SETTINGS)}")
    return {key: text_of_value(f"{key} of {where}", key, value) for key, value in table.items()}


def text_of_value(label: str, name: str, value: Any) -> str:
    """A value of the TOML file, or of Python, as if it were typed. Raises `UsageError` for one that cannot be."""
    if name == "mirror" and isinstance(value, dict):
        return mirror_text({key: text_of_value(f"{key} of {label}", key, one) for key, one in value.items()})
    if name in SETTING_BY_NAME and SETTING_BY_NAME[name].is_octal and not isinstance(value, str):
        raise UsageError(f'{label}: a text is wanted, such as {name} = "027"')
    if isinstance(value, bool):
        return "true" if value else "false"
    if name == "site_cache" and isinstance(value, list):
        return " ".join(text_of_value(label, name, one) for one in value)
    if isinstance(value, list) and all(isinstance(one, str) and SEPARATOR not in one for one in value):
        return SEPARATOR.join(text_of_value(label, name, one) for one in value)
    if isinstance(value, str | int | float):
        return os.fsdecode(str(value).encode())  # the file is UTF-8, whatever the locale
    raise UsageError(f"{label}: a text, a number, true or false is wanted (of several values a list of texts)")

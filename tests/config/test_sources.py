"""The sources of settings, their order, and the words of refusals."""

import itertools
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.config.examples import BAD, EXAMPLES, SOURCES, load_from, plain, toml, value_of
from vbnfs.config.environment import default_config_file
from vbnfs.config.settings import SETTING_BY_NAME, SETTINGS, Config
from vbnfs.config.sources import load_config
from vbnfs.errors import UsageError


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("name", "text", "value"), [(n, t, v) for n, pairs in EXAMPLES.items() for t, v in pairs])
def test_every_setting_from_every_source(tmp_path: Path, name: str, text: str, value: Any, source: str) -> None:
    """Each setting is understood from each source, with the same meaning, and no other setting changes.

    But a dataset has settings of its own, and with another bucket or project it is not the named one.
    """
    config = load_from(tmp_path, name, {source: text})
    assert value_of(config, name) == value
    linked = {"dataset": {"bucket", "project", "versions"}, "bucket": {"dataset"}, "project": {"dataset"}}
    changed = {SETTING_BY_NAME[name].field, *linked.get(name, ())}
    others = [field.name for field in fields(Config) if field.name not in changed]
    assert [getattr(config, other) for other in others] == [getattr(plain(), other) for other in others]


@pytest.mark.parametrize(("stronger", "weaker"), [*itertools.combinations(SOURCES, 2)])
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_order_of_every_pair(tmp_path: Path, name: str, stronger: str, weaker: str) -> None:
    """Of any two sources the one that stands before the other wins, whichever value it has."""
    for (first, value), (second, _) in itertools.permutations(EXAMPLES[name][:2]):
        assert value_of(load_from(tmp_path, name, {stronger: first, weaker: second}), name) == value


def test_all_sources_at_once(tmp_path: Path) -> None:
    """Each source can give another setting; all of them count."""
    config = load_config(
        command_line={"bucket": "from-line"},
        mount_options=("project=from-o",),
        environ={"VBNFS_REGION": "from-env"},
        config_file=toml(tmp_path, 'log_level = "error"'),
    )
    assert (config.bucket, config.project, config.region, config.log_level) == (
        "from-line",
        "from-o",
        "from-env",
        "error",
    )


def test_the_environment_is_the_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no environment is handed in, the process's own is read."""
    monkeypatch.setenv("VBNFS_BUCKET", "from-process")
    assert load_config(command_line={}).bucket == "from-process"


def test_an_empty_variable_is_none() -> None:
    """A variable that is set to nothing counts as not set, whatever its setting."""
    empty = {setting.variable: "" for setting in SETTINGS} | {"VBNFS_CONFIG": ""}
    assert load_config(command_line={}, environ=empty) == plain()


def test_other_variables_are_left_alone() -> None:
    """Variables that look like settings and are none do no harm."""
    assert (
        load_config(command_line={}, environ={"VBNFS_CACHE_SIZES": "x", "VBNFS_": "x", "CACHE_SIZE": "x"}) == plain()
    )


def can_give(source: str, text: str) -> bool:
    """An empty variable is none, and a comma ends a mount option."""
    return not (source == "environment" and not text) and not (source == "-o" and "," in text)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_a_bad_value_names_source_and_setting(tmp_path: Path, name: str, text: str) -> None:
    """A value that will not do is refused with the name under which it was given, and with the value."""
    setting = SETTING_BY_NAME[name]
    labels = {
        "command line": setting.option,
        "-o": f"-o {name}",
        "environment": setting.variable,
        "TOML": f"{name} in {tmp_path / 'settings.toml'}",
    }
    for source in (source for source in SOURCES if can_give(source, text)):
        with pytest.raises(UsageError) as refusal:
            load_from(tmp_path, name, {source: text})
        assert str(refusal.value).startswith(f"{labels[source]}: {text!r} will not do: ")
        assert not str(refusal.value).endswith(": ")


def test_a_bad_value_that_is_overruled_is_not_read(tmp_path: Path) -> None:
    """A weaker source's value plays no part, not even a bad one."""
    assert load_from(tmp_path, "cache_size", {"command line": "2M", "TOML": "nonsense"}).cache_size_bytes == 2 << 20


# TOML


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("allow_other = true", "allow_other", True),
        ("allow_other = false", "allow_other", False),
        ("allow_other = 1", "allow_other", True),
        ("max_connections = 7", "max_connections", 7),
        ("io_timeout = 2", "io_timeout", 2.0),
        ("io_timeout = 2.5", "io_timeout", 2.5),
        ("cache_size = 1_048_576", "cache_size", 1 << 20),
        ("cache_size = '200G' # as text", "cache_size", 200 << 30),
    ],
)
def test_toml_values_of_their_own_type(tmp_path: Path, text: str, name: str, value: Any) -> None:
    """Numbers, true and false may stand unquoted in TOML."""
    assert value_of(load_config(command_line={}, environ={}, config_file=toml(tmp_path, text)), name) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cache_size = nonsense", "not a TOML file"),
        ("\xff = 1", "not a TOML file"),
        ("cache_size = 1\ncache_size = 2", "not a TOML file"),
        ("cache-size = 1", "no such setting: cache-size"),
        ("zebra = 1\napple = 2", "no such setting: apple, zebra"),
        ("[mount]\nbucket = 'x'", "no such setting: mount"),
        ("config = 'x'", "no such setting: config; 'vbnfs settings --help' lists those that there are"),
    ],
)
def test_toml_that_will_not_do(tmp_path: Path, text: str, reason: str) -> None:
    """A file that is not TOML, or has keys that are no settings, is refused by its name."""
    path = toml(tmp_path, text)
    with pytest.raises(UsageError, match=re.escape(f"{path}: {reason}")):
        load_config(command_line={}, environ={}, config_file=path)


@pytest.mark.parametrize("value", ["[1]", "{a = 1}", "2024-01-01", "07:32:00"])
def test_toml_values_of_another_type(tmp_path: Path, value: str) -> None:
    """Lists, tables and times are refused by setting and file."""
    path = toml(tmp_path, f"bucket = {value}")
    with pytest.raises(UsageError, match=re.escape(f"bucket in {path}: a text, a number, true or false is wanted")):
        load_config(command_line={}, environ={}, config_file=path)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1.0"])
def test_toml_numbers_that_are_no_seconds(tmp_path: Path, value: str) -> None:
    """TOML's own nan and inf are no number of seconds."""
    with pytest.raises(UsageError, match=r"io_timeout in .*: a number of seconds from 0.1 to 86,400 is wanted"):
        load_config(command_line={}, environ={}, config_file=toml(tmp_path, f"io_timeout = {value}"))


def test_braces_in_a_files_name(tmp_path: Path) -> None:
    """Whatever a configuration file is called, a refusal names it as it is."""
    path = tmp_path / "{x}{0}.toml"
    path.write_text("cache_size = 'x'")
    with pytest.raises(UsageError, match=re.escape(f"cache_size in {path}: 'x'")):
        load_config(command_line={}, environ={}, config_file=path)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    """A file in another encoding is refused, not guessed at."""
    path = tmp_path / "latin.toml"
    path.write_bytes(b"bucket = '\xe9'")
    with pytest.raises(UsageError, match=r"not a TOML file: .*utf-8"):
        load_config(command_line={}, environ={}, config_file=path)


def test_the_file_is_found_in_three_ways(tmp_path: Path) -> None:
    """The file that is handed in wins over VBNFS_CONFIG's, and that one over the usual place."""
    usual = default_config_file()
    assert usual == tmp_path / "config" / "vbnfs" / "config.toml"
    usual.parent.mkdir(parents=True)
    usual.write_text("bucket = 'usual'")
    (tmp_path / "variable.toml").write_text("bucket = 'variable'")
    environ = {"VBNFS_CONFIG": str(tmp_path / "variable.toml")}
    assert load_config(command_line={}, environ={}).bucket == "usual"
    assert load_config(command_line={}, environ=environ).bucket == "variable"
    given = toml(tmp_path, "bucket = 'given'")
    assert load_config(command_line={}, environ=environ, config_file=given).bucket == "given"


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    """A missing file is refused if it was named; in the usual place there need not be one."""
    missing = tmp_path / "missing.toml"
    with pytest.raises(UsageError, match=re.escape(f"{missing}: no such configuration file")):
        load_config(command_line={}, environ={}, config_file=missing)
    with pytest.raises(UsageError, match=re.escape(f"{missing}: no such configuration file")):
        load_config(command_line={}, environ={"VBNFS_CONFIG": str(missing)})
    assert load_config(command_line={}, environ={}) == plain()


def test_a_home_that_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service whose home is /dev/null has no configuration file, and that is no fault."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/dev/null")
    assert load_config(command_line={}, environ={}).bucket == "visual-behavior-neuropixels-data"
    with pytest.raises(UsageError, match="no such configuration file"):
        load_config(command_line={}, environ={}, config_file=Path("/dev/null/config.toml"))


def test_a_folder_in_the_files_place(tmp_path: Path) -> None:
    """A configuration file that cannot be read is refused with the system's reason."""
    with pytest.raises(UsageError, match=re.escape(f"{tmp_path}: cannot be read: Is a directory")):
        load_config(command_line={}, environ={}, config_file=tmp_path)


@pytest.mark.parametrize("text", ["a\0b", "~no-such-user-here/config.toml"])
def test_a_variable_that_names_no_file(text: str) -> None:
    """A path in VBNFS_CONFIG that cannot be one is refused by the variable's name."""
    with pytest.raises(UsageError, match=r"VBNFS_CONFIG: .* will not do"):
        load_config(command_line={}, environ={"VBNFS_CONFIG": text})

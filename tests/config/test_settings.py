"""The settings: every source, their order, and the words of refusals."""

import itertools
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbnfs.config.settings import (
    SETTING_BY_NAME,
    SETTINGS,
    Config,
    Setting,
    Supervisor,
    default_config_file,
    load_config,
    load_supervisor,
    parse_mount_options,
    parse_size,
)
from vbnfs.errors import UsageError

# For each setting four texts with the values that they mean, so that four sources can differ. A flag has two.
EXAMPLES: dict[str, list[tuple[str, Any]]] = {
    "bucket": [(name, name) for name in ("one", "b-two", "b.3", "44")],
    "project": [(name, name) for name in ("one", "Two_2", "p.3", "4-4")],
    "region": [(name, name) for name in ("eu-west-1", "us-east-2", "local", "r4")],
    "endpoint_url": [(url, url) for url in ("http://a", "https://b:1", "http://[::1]:8333", "http://d/path")],
    "ca_bundle": [(path, Path(path)) for path in ("/1.pem", "/2.pem", "/3.pem", "/4.pem")],
    "dataset_version": [
        ("0.1.0", "0.1.0"),
        ("v0.2.0", "0.2.0"),
        ("1.0.0-rc.1", "1.0.0-rc.1"),
        ("1.0.0+b", "1.0.0+b"),
    ],
    "cache_dir": [(path, Path(path)) for path in ("/1", "/2/2", "/with blank", "/größe")],
    "cache_size": [("1M", 1 << 20), ("1.5 GiB", 3 << 29), ("2097152", 2 << 20), ("3tb", 3 << 40)],
    "memory_limit": [("16M", 16 << 20), ("1G", 1 << 30)],
    "verify": [("first-use", "first-use"), ("always", "always")],
    "max_connections": [("1", 1), ("2", 2), (" 3 ", 3), ("256", 256)],
    "ranges_by": [("curl", "curl"), ("httpx", "httpx")],
    "io_timeout": [("0.1", 0.1), ("0.5", 0.5), ("86.4e3", 86400.0), (".25", 0.25)],
    "refresh": [("1", 1.0), ("1.5", 1.5), ("1e8", 1e8), ("2.25", 2.25)],
    "offline": [("true", True), ("no", False)],
    "allow_other": [("yes", True), ("off", False)],
    "foreground": [("1", True), ("False", False)],
    "log_file": [(path, Path(path)) for path in ("/1.log", "/2.log", "/3.log", "/4.log")],
    "log_level": [(level, level) for level in ("debug", "info", "warning", "error")],
    "mountpoint": [(path, Path(path)) for path in ("/1", "/2/2", "/with blank", "/größe")],
}
BAD: dict[str, list[str]] = {
    "bucket": ["", "Upper", "a", "a/b", "../x", "x" * 64, "a b", "-a"],
    "project": ["", "..", ".x", "a/b", "a\n", "é", "x" * 256],
    "region": ["", "EU", "a.b", "a/b", "x" * 33],
    "endpoint_url": [
        *("", "localhost:8333", "ftp://a", "http://", "http://:80", "http:///path", "http://a:b", "http://a:99999"),
        *("http://[::1", "http://a?b=c", "http://a/?", "http://a#b", "http://a/#", "http://user:password@a"),
        *("http://user@a", "http://a b", "http://a\n", "http://a\tb", "http://\u202ea", "file:///etc/passwd"),
    ],
    "ca_bundle": ["", "a\0b", "~no-such-user-here/x"],
    "dataset_version": ["", "v", "../1.0.0", "1.0.0/x", "1.0.0 ", "-1", "x" * 101],
    "cache_dir": ["", "a\0b", "~no-such-user-here/x"],
    "cache_size": [
        *("", "0", "1048575", "1023K", "0.9M", "-1G", "+1G", "1e9", "1,5G", "1.G", ".5G", "G", "1 G G", "1X", "1GG"),
        *("nan", "inf", "8192P", "9" * 19, "9" * 400, "9" * 5000, "0x100000", "1_000_000", "100 %", "1\n2M"),
    ],
    "memory_limit": ["", "15M", "much"],
    "verify": ["", "never", "Always"],
    "max_connections": ["", "0", "257", "-1", "1.5", "x", "9" * 5000, "1_0", "nan"],
    "ranges_by": ["", "Curl", "curl "],
    "io_timeout": ["", "0", "0.099", "86401", "-1", "nan", "inf", "-inf", "1e9", "x", "1 s", "0x1", "9" * 400],
    "refresh": ["", "0", "0.001", "0.99", "100000001", "-1", "nan", "inf", "x"],
    "offline": ["", "2", "maybe"],
    "allow_other": ["", "2", "maybe", "tru"],
    "foreground": ["", "2", "maybe"],
    "log_file": ["", "a\0b", "~no-such-user-here/x"],
    "log_level": ["", "INFO", "trace", "debug|info", "debugx"],
    "mountpoint": ["", "a\0b", "~no-such-user-here/x"],
}
SOURCES = ("command line", "-o", "environment", "TOML")  # the first one that has a value wins


@pytest.fixture(autouse=True)
def _no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting comes from the environment of the tests, and no TOML file is in the usual place."""
    for variable in [name for name in os.environ if name.startswith("VBNFS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def toml(directory: Path, text: str) -> Path:
    path = directory / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def quoted(text: str) -> str:
    """A TOML text."""
    return '"' + "".join(f"\\u{ord(c):04x}" if c in '"\\' or ord(c) < 32 or ord(c) == 127 else c for c in text) + '"'


def load_from(directory: Path, name: str, texts: Mapping[str, str]) -> Config:
    """A configuration in which each source (of `SOURCES`) gives the setting `name` its text."""
    setting = SETTING_BY_NAME[name]
    file = toml(directory, f"{name} = {quoted(texts['TOML'])}" if "TOML" in texts else "")
    return load_config(
        command_line={name: texts["command line"]} if "command line" in texts else {},
        mount_options=(f"{name}={texts['-o']}",) if "-o" in texts else (),
        environ={setting.variable: texts["environment"]} if "environment" in texts else {},
        config_file=file,
    )


def value_of(config: Config, name: str) -> Any:
    return getattr(config, SETTING_BY_NAME[name].field)


def plain(**settings: str) -> Config:
    return load_config(command_line=settings, environ={})


# The table


def test_every_setting_has_examples() -> None:
    """The examples here are complete: a new setting is tested, or this fails."""
    assert list(EXAMPLES) == list(BAD) == list(SETTING_BY_NAME)


def test_settings_and_fields_belong_together() -> None:
    """Each setting fills one field of the configuration, and each field but the kernel's options has a setting."""
    assert [setting.field for setting in SETTINGS] == [field.name for field in fields(Config)][:-1]
    assert fields(Config)[-1].name == "fuse_options"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_names_follow_from_one(setting: Setting) -> None:
    """The option, the variable and the mount option are the TOML key in another form; each has a sentence of help."""
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", setting.name)
    assert setting.option.removeprefix("--").replace("-", "_") == setting.name
    assert setting.variable.removeprefix("VBNFS_").lower() == setting.name
    assert setting.help
    assert setting.is_flag == (setting.metavar == "")


def test_defaults() -> None:
    """Without any source every setting has its default, and the cache's size is for the cache to know."""
    config = plain()
    assert config == Config(
        bucket="visual-behavior-neuropixels-data",
        project="visual-behavior-neuropixels",
        region="us-west-2",
        endpoint_url=None,
        ca_bundle=None,
        dataset_version=None,
        cache_dir=config.cache_dir,
        cache_size_bytes=None,
        memory_limit_bytes=256 << 20,
        verify="first-use",
        max_connections=24,
        ranges_by="curl",
        io_timeout_seconds=30.0,
        refresh_seconds=300.0,
        offline=False,
        allow_other=False,
        foreground=False,
        log_file=config.log_file,
        log_level="info",
        mountpoint=None,
    )
    assert config.cache_dir.name == "vbnfs"
    assert config.log_file.name == "vbnfs.log"


# Sources and their order


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("name", "text", "value"), [(n, t, v) for n, pairs in EXAMPLES.items() for t, v in pairs])
def test_every_setting_from_every_source(tmp_path: Path, name: str, text: str, value: Any, source: str) -> None:
    """Each setting is understood from each source, with the same meaning, and no other setting changes."""
    config = load_from(tmp_path, name, {source: text})
    assert value_of(config, name) == value
    others = [field.name for field in fields(Config) if field.name != SETTING_BY_NAME[name].field]
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
    told = {
        "command line": setting.option,
        "-o": f"-o {name}",
        "environment": setting.variable,
        "TOML": f"{name} in {tmp_path / 'settings.toml'}",
    }
    for source in (source for source in SOURCES if can_give(source, text)):
        with pytest.raises(UsageError) as refusal:
            load_from(tmp_path, name, {source: text})
        assert str(refusal.value).startswith(f"{told[source]}: {text!r} will not do: ")
        assert not str(refusal.value).endswith(": ")


def test_a_bad_value_that_is_overruled_is_not_read(tmp_path: Path) -> None:
    """A weaker source's value plays no part, not even a bad one."""
    assert load_from(tmp_path, "cache_size", {"command line": "2M", "TOML": "nonsense"}).cache_size_bytes == 2 << 20


# -o


def test_options_for_the_kernel_and_options_that_say_nothing() -> None:
    """What the kernel understands is handed on in order; what is so anyway, and x-*, is taken and dropped."""
    config = load_config(
        command_line={},
        mount_options=("ro,noatime,_netdev", "nofail,x-systemd.automount,x-foo=bar,nodev,,defaults,noauto,user", ""),
        environ={},
    )
    assert config == load_config(
        command_line={}, mount_options=("noatime,nodev,users,user=me,comment=x=y,X-a,sync,relatime",), environ={}
    )
    assert config.fuse_options == ("noatime", "nodev")
    assert config == load_config(command_line={}, mount_options=("noatime,nodev",), environ={})


def test_rw_is_refused() -> None:
    """Mounting for writing is refused with the reason, also among others."""
    with pytest.raises(UsageError, match="-o rw: the dataset is read-only"):
        parse_mount_options(("noatime,rw",))


@pytest.mark.parametrize(
    "option", ["cachesize=1G", "nonsense", "ro=1", "noatime=yes", "cache--size=1G", "Ro", " ro", "=", "users=x"]
)
def test_unknown_options_are_refused(option: str) -> None:
    """An option that is not known is refused by its own words."""
    with pytest.raises(UsageError, match=re.escape(f"-o {option}: no such mount option")):
        parse_mount_options(("ro," + option,))


@pytest.mark.parametrize(
    ("option", "value"), [("allow_other", True), ("allow_other=true", True), ("allow_other=no", False)]
)
def test_flags_with_and_without_a_value(option: str, value: bool) -> None:
    """A flag needs no value among the mount options, and may have one."""
    assert load_config(command_line={}, mount_options=(option,), environ={}).allow_other is value


@pytest.mark.parametrize("setting", [s for s in SETTINGS if not s.is_flag], ids=lambda setting: setting.name)
def test_settings_that_want_a_value(setting: Setting) -> None:
    """A setting that is no flag is refused without a value, with an example of how it is given."""
    with pytest.raises(UsageError, match=re.escape(f"-o {setting.name}: a value is wanted, as in {setting.name}=")):
        parse_mount_options((setting.name,))


def test_both_spellings() -> None:
    """A setting may be spelled as on the command line, too."""
    assert parse_mount_options(("cache-dir=/a-b,allow-other",)) == ({"cache_dir": "/a-b", "allow_other": "true"}, ())


def test_options_that_contradict_each_other() -> None:
    """Of `noexec` and `exec` the later one counts: for `user` mount(8) puts one before the other."""
    assert parse_mount_options(("noexec,nosuid,nodev", "exec,suid,noexec")) == ({}, ("noexec", "suid", "nodev"))


def test_values_with_an_equals_sign() -> None:
    """Only the first `=` divides; of two values for one setting the later one counts."""
    settings, passed = parse_mount_options(("cache_dir=/a=b", "bucket=x,bucket=y"))
    assert settings == {"cache_dir": "/a=b", "bucket": "y"}
    assert passed == ()


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
        ("config = 'x'", "no such setting: config"),
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
    """A missing file is refused if somebody named it; in the usual place there need not be one."""
    missing = tmp_path / "missing.toml"
    with pytest.raises(UsageError, match=re.escape(f"{missing}: no such configuration file")):
        load_config(command_line={}, environ={}, config_file=missing)
    with pytest.raises(UsageError, match=re.escape(f"{missing}: no such configuration file")):
        load_config(command_line={}, environ={"VBNFS_CONFIG": str(missing)})
    assert load_config(command_line={}, environ={}) == plain()


def test_a_home_that_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service whose home is /dev/null has no configuration file, and that is no fault."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/dev/null")
    assert load_config(command_line={}, environ={}).bucket == SETTING_BY_NAME["bucket"].default
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


def test_defaults_of_whoever_asks(tmp_path: Path) -> None:
    """A default that is handed in counts where no source has a value, and is refused by the setting's name."""
    environ, given = {"VBNFS_BUCKET": "given"}, {"bucket": "derived"}
    assert load_config(command_line={}, environ={}, defaults=given).bucket == "derived"
    assert load_config(command_line={}, environ=environ, defaults=given).bucket == "given"
    with pytest.raises(UsageError, match="bucket by default: 'Ä' will not do"):
        load_config(command_line={}, environ={}, defaults={"bucket": "Ä"})


# Supervisor


@pytest.mark.parametrize(
    ("environ", "supervisor"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": ""}, None),
        ({"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "1"}, None),
        ({"NOTIFY_SOCKET": "/run/n"}, Supervisor("/run/n", None)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "2500000"}, Supervisor("@n", 2.5)),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "7"}, Supervisor("/n", 2.0)),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "8"}, Supervisor("/n", None)),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"}, Supervisor("/n", None)),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"}, Supervisor("/n", None)),
    ],
)
def test_supervisor(environ: dict[str, str], supervisor: Supervisor | None) -> None:
    """sd_notify(3)'s variables: a socket of this machine, and a watchdog, if it is meant for this process."""
    assert load_supervisor(environ, pid=7) == supervisor


# Values


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("200G", 200 << 30),
        ("1.5TiB", 3 << 39),
        ("64 MB", 64 << 20),
        ("64mib", 64 << 20),
        (" 1M ", 1 << 20),
        ("1024K", 1 << 20),
        ("1048576", 1 << 20),
        ("1048576B", 1 << 20),
        ("1048576.9", 1 << 20),
        ("0.001T", 1_099_511_627),
        ("8191P", 8191 << 50),
        ("9007199254740993", 9_007_199_254_740_993),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    """Units are powers of 1024, with or without B and iB, in capitals or not; part of a byte is left out."""
    assert parse_size(text) == size_bytes


@given(st.integers(1 << 20, (1 << 63) - 1), st.sampled_from(["", "B", " b"]))
def test_every_number_of_bytes_is_exact(size_bytes: int, unit: str) -> None:
    """Any number of bytes that can be a size is read exactly."""
    assert parse_size(f"{size_bytes}{unit}") == size_bytes


@given(
    st.integers(1, 8191), st.sampled_from("MGTP"), st.sampled_from(["", "B", "iB"]), st.sampled_from(["", " ", "  "])
)
def test_every_unit_is_exact(number: int, unit: str, suffix: str, blank: str) -> None:
    """A whole number of any unit is that number times the unit."""
    assert parse_size(f"{number}{blank}{unit}{suffix}") == number << {"M": 20, "G": 30, "T": 40, "P": 50}[unit]


@given(st.integers(1, 8000), st.integers(0, 999), st.sampled_from("GTP"))
def test_every_decimal_part_is_exact(number: int, thousandths: int, unit: str) -> None:
    """Three decimals of a unit are exact, rounded down to a byte."""
    power = {"G": 30, "T": 40, "P": 50}[unit]
    assert parse_size(f"{number}.{thousandths:03}{unit}") == ((number * 1000 + thousandths) << power) // 1000


@given(st.text() | st.from_regex(r"[0-9]{1,400}(\.[0-9]{1,40})?\s?[kKmMgGtTpP]?i?[bB]?", fullmatch=True))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    """Whatever the text: it is a size within the limits, or a `ValueError`."""
    try:
        size_bytes = parse_size(text)
    except ValueError:
        return
    assert 1 << 20 <= size_bytes < 1 << 63


@pytest.mark.parametrize(
    ("texts", "value"),
    [(("1", "true", "YES", "On", " on "), True), (("0", "False", "no", "OFF"), False)],
)
def test_booleans(texts: Iterable[str], value: bool) -> None:
    """Eight words, in capitals or not, are yes or no."""
    assert [plain(allow_other=text).allow_other for text in texts] == [value for _ in texts]


def test_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`~` is the home folder, a relative path starts at the current one; `..` is taken out, links stay."""
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("/elsewhere")
    for text, path in {
        "~": "/home/somebody",
        "~/cache": "/home/somebody/cache",
        "/a/../b//c/": "/b/c",
        "relative": str(tmp_path / "relative"),
        "link/x": str(tmp_path / "link" / "x"),
        "a~b": str(tmp_path / "a~b"),
    }.items():
        assert plain(cache_dir=text).cache_dir == Path(path)


def test_a_current_folder_that_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A relative path from a folder that was deleted is refused; an absolute one does not mind."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="--cache-dir: 'relative' will not do"):
        plain(cache_dir="relative")
    assert plain(cache_dir="/absolute").cache_dir == Path("/absolute")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://localhost:8333", "http://localhost:8333"),
        ("http://localhost:8333/", "http://localhost:8333"),
        ("https://proxy.example/s3//", "https://proxy.example/s3"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://[2001:db8::1]:9000/", "http://[2001:db8::1]:9000"),
    ],
)
def test_endpoints(text: str, url: str) -> None:
    """An endpoint is a host with or without port and path, IPv6 in brackets; a slash at the end is left out."""
    assert plain(endpoint_url=text).endpoint_url == url

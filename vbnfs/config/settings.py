"""The settings: what they are called everywhere, and the order in which their sources win.

One table, `SETTINGS`, gives every setting its name, its parser and its help. From the name follow the
command-line option (`--cache-size`), the mount(8) option (`-o cache_size=`), the environment variable
(`VBNFS_CACHE_SIZE`) and the TOML key (`cache_size`). The first source that has a value wins:

    command line  >  -o options  >  environment  >  TOML file  >  default

This is the only module that reads the environment or a configuration file.
"""

import math
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import platformdirs

from vbnfs.errors import UsageError

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
LEAST_MEMORY_BYTES: Final = 16 * MIB  # a GET for a reader who reads on, and little more

_UNITS: Final = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": 1 << 40, "P": 1 << 50}
_BOOLEANS: Final = {
    "1": True, "true": True, "yes": True, "on": True,
    "0": False, "false": False, "no": False, "off": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that a mount needs to know; `SETTINGS` below documents each field."""

    bucket: str
    project: str
    region: str
    endpoint_url: str | None
    ca_bundle: Path | None
    dataset_version: str | None
    cache_dir: Path
    cache_size_bytes: int | None
    memory_limit_bytes: int
    verify: str
    max_connections: int
    ranges_by: str
    io_timeout_seconds: float
    refresh_seconds: float
    offline: bool
    fuse_engine: str
    allow_other: bool
    foreground: bool
    log_file: Path
    log_level: str
    mountpoint: Path | None
    fuse_options: tuple[str, ...] = ()


def parse_size(text: str) -> int:
    """Bytes of `200G`, `1.5TiB`, `64 MB`, `1048576`: units are powers of 1024, as in df -h and du -h."""
    match = re.fullmatch(r"(\d+)(?:\.(\d+))?\s*([KMGTP]?)(?:I?B)?", text.strip().upper())
    if match is None:
        raise ValueError("a size such as 200G, 1.5T or 1048576 (bytes) is wanted")
    decimals = match[2] or ""
    size_bytes: int = int(match[1] + decimals) * _UNITS[match[3]] // 10 ** len(decimals)
    if not MIB <= size_bytes < 1 << 63:
        raise ValueError("at least 1M and less than 8192P is wanted")
    return size_bytes


def _memory(text: str) -> int:
    size_bytes = parse_size(text)
    if size_bytes < LEAST_MEMORY_BYTES:
        raise ValueError("at least 16M is wanted")
    return size_bytes


def _boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text.strip().lower()]
    except KeyError:
        raise ValueError("one of true, false, yes, no, on, off, 1, 0 is wanted") from None


def _seconds(least: float, most: float) -> Callable[[str], float]:
    """The parser of a number of seconds from `least` to `most`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:  # nor is nan
            raise ValueError(f"a number of seconds from {least:g} to {most:,.0f} is wanted")
        return value

    return parse


def _connections(text: str) -> int:
    match = re.fullmatch(r"\d{1,9}", text.strip())
    if match is None or not 1 <= int(match[0]) <= 256:
        raise ValueError("a number from 1 to 256 is wanted")
    return int(match[0])


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("a path is wanted")
    try:
        return Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 - resolve() would follow links
    except (RuntimeError, OSError) as error:  # ~ of an unknown user; a current folder that is gone
        raise ValueError(str(error)) from error


def _matching(pattern: str, wanted: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"{wanted} is wanted")
        return text

    return parse


def _endpoint(text: str) -> str:
    """The URL without a slash at its end. Names and passwords are refused: they would show in logs and paths."""
    parts = urlsplit(text)
    is_plain = re.fullmatch(r"[!-~]+", text) is not None and not set(text) & set("@?#")
    if parts.scheme not in {"http", "https"} or not parts.hostname or not is_plain:
        raise ValueError("a URL such as http://localhost:8333 is wanted")
    _ = parts.port  # raises ValueError where it is not a number
    parts.hostname.encode("idna")  # raises UnicodeError, a ValueError, where a part of the name is too long
    return text.rstrip("/")


def _dataset_version(text: str) -> str:
    """Usually a semantic version; other names are for the bucket to know."""
    version = text.removeprefix("v")
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,99}", version) is None:
        raise ValueError("a version such as 0.5.0 is wanted")
    return version


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table: `name` as in TOML, the `Config` field, how text becomes its value, and help.

    A `default` that is text is parsed like any other.
    """

    name: str
    field: str
    parse: Callable[[str], Any]
    metavar: str
    help: str
    default: Any = None
    is_flag: bool = False

    @property
    def option(self) -> str:
        """The command line's form of the name."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment's form of the name."""
        return "VBNFS_" + self.name.upper()


def _setting(name: str, parse: Callable[[str], Any], metavar: str, text: str, **more: Any) -> Setting:
    return Setting(name, more.pop("field", name), parse, metavar, text, **more)


_NAME = _matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", "a name of letters, digits, '.', '_' and '-'")

SETTINGS: Final = (
    _setting("bucket", _matching(r"[a-z0-9][a-z0-9.-]{1,62}", "an S3 bucket's name"), "NAME",
             "S3 bucket that holds the dataset.", default="visual-behavior-neuropixels-data"),
    _setting("project", _NAME, "NAME", "Project: the first folder of every key in the bucket.",
             default="visual-behavior-neuropixels"),
    _setting("region", _matching(r"[a-z0-9-]{1,32}", "an AWS region's name"), "NAME",
             "AWS region of the bucket.", default="us-west-2"),
    _setting("endpoint_url", _endpoint, "URL",
             "S3-compatible server or proxy to use instead of AWS (path style)."),
    _setting("ca_bundle", _path, "FILE",
             "Certificates to trust instead of the usual ones (also: SSL_CERT_FILE)."),
    _setting("dataset_version", _dataset_version, "X.Y.Z",
             "Dataset version to show at the top, or to list.  [default: the newest]"),
    _setting("cache_dir", _path, "DIR", "Where blocks and manifests are kept, for all mounts and runs.",
             default=platformdirs.user_cache_path("vbnfs")),
    _setting("cache_size", parse_size, "SIZE",
             "How much disk the cache may take.  [default: what it was told last, or 100G]",
             field="cache_size_bytes"),
    _setting("memory_limit", _memory, "SIZE",
             "How much memory blocks on their way and answers may take.",
             field="memory_limit_bytes", default="256M"),
    _setting("verify", _matching("first-use|always", "first-use or always"), "WHEN",
             "Check cached blocks when they are used for the first time, or always.", default="first-use"),
    _setting("max_connections", _connections, "N", "Connections to S3 at the most.", default=24),
    _setting("ranges_by", _matching("curl|httpx", "curl or httpx"), "LIBRARY",
             "What fetches ranges of files: curl, or httpx, which costs more.",
             default="curl"),
    _setting("io_timeout", _seconds(0.1, 86_400), "SECONDS", "A read that S3 has not answered by then fails.",
             field="io_timeout_seconds", default=30.0),
    _setting("refresh", _seconds(1, 1e8), "SECONDS", "How often the bucket is asked for new dataset versions.",
             field="refresh_seconds", default=300.0),
    _setting("offline", _boolean, "", "Use what is kept and cached alone; the network is never asked.",
             default=False, is_flag=True),
    _setting("fuse", _matching("native|pyfuse3", "native or pyfuse3"), "ENGINE",
             "What speaks to the kernel: native, or pyfuse3, an extra.", field="fuse_engine", default="native"),
    _setting("allow_other", _boolean, "", "Let other users of this machine read the mount.",
             default=False, is_flag=True),
    _setting("foreground", _boolean, "", "Stay in the terminal and log to it.", default=False, is_flag=True),
    _setting("log_file", _path, "FILE", "The daemon's log.",
             default=platformdirs.user_log_path("vbnfs") / "vbnfs.log"),
    _setting("log_level", _matching("debug|info|warning|error", "debug, info, warning or error"), "LEVEL",
             "How much to log: debug, info, warning or error.", default="info"),
    _setting("mountpoint", _path, "DIR", "Where to mount, if the command line does not say."),
)  # fmt: skip
_Source = tuple[Callable[[Setting], str], Mapping[str, str]]  # what it calls a setting, and its texts by name
SETTING_BY_NAME: Final[Mapping[str, Setting]] = {setting.name: setting for setting in SETTINGS}

NON_EMPTY: Final = "nonempty"  # of libfuse: on a folder with files in it, too
# mount(8) options that vbnfs knows and leaves to the kernel or to libfuse ...
_PASSED_OPTIONS: Final = frozenset({"noatime", "nodiratime", "nodev", "nosuid", "noexec", "dev", "suid", "exec"})
# ... those that say what is so anyway, or speak to mount(8), and those that only begin like this.
_IGNORED_OPTIONS: Final = frozenset({
    "ro", "defaults", "auto", "noauto", "nofail", "_netdev", "user", "nouser", "users", "nousers", "owner", "noowner",
    "group", "nogroup", NON_EMPTY, "atime", "relatime", "strictatime", "async", "sync", "dirsync", "silent", "loud",
})  # fmt: skip
_IGNORED_BEGINNINGS: Final = ("x-", "X-", "comment=", "user=")


def split_mount_options(texts: Iterable[str]) -> list[str]:
    """The options of several `-o` texts, in their order."""
    return [option for text in texts for option in text.split(",") if option]


def is_mount_option(option: str) -> bool:
    """Whether `parse_mount_options` knows an option, whatever it thinks of its value."""
    return (
        _setting_name(option.partition("=")[0]) in SETTING_BY_NAME
        or option in _PASSED_OPTIONS | _IGNORED_OPTIONS
        or option.startswith(_IGNORED_BEGINNINGS)
    )


def parse_mount_options(texts: tuple[str, ...]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Split `-o a,b=c` texts into settings by name, and options for the kernel. Raises `UsageError`."""
    settings: dict[str, str] = {}
    passed: dict[str, str] = {}  # of `noexec` and a later `exec` (mount(8) gives both) the later one counts
    for option in split_mount_options(texts):
        word, equals, value = option.partition("=")
        name = _setting_name(word)
        if option == "rw":
            raise UsageError("-o rw: the dataset is read-only; leave the option out")
        if not is_mount_option(option):
            raise UsageError(f"-o {option}: no such mount option; {_options_like(word)}")
        if name in SETTING_BY_NAME:
            settings[name] = value if equals else _flag_value(name)
        elif option in _PASSED_OPTIONS:
            passed[option.removeprefix("no")] = option
    return settings, tuple(passed.values())


def _options_like(word: str) -> str:
    """Which options there are, after the one that may have been meant."""
    import difflib  # noqa: PLC0415 - for those who mistype

    names = [setting.name for setting in SETTINGS]
    meant = difflib.get_close_matches(_setting_name(word), [*names, *_PASSED_OPTIONS, *_IGNORED_OPTIONS], n=1)
    asked = f"did you mean {meant[0]}? " if meant else ""
    return f"{asked}There are {', '.join(names)}, and mount(8)'s own, such as ro, nodev, nofail"


def _setting_name(word: str) -> str:
    """Both spellings will do: cache_dir=, and cache-dir= as on the command line."""
    return word.replace("-", "_")


def _flag_value(name: str) -> str:
    if not SETTING_BY_NAME[name].is_flag:
        raise UsageError(f"-o {name}: a value is wanted, as in {name}={SETTING_BY_NAME[name].metavar}")
    return "true"


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
    environ = os.environ if environ is None else environ
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


def default_config_file() -> Path:
    """Where the TOML file is looked for when no other is named."""
    return platformdirs.user_config_path("vbnfs") / "config.toml"


def foreign_home(environ: Mapping[str, str] | None = None) -> str | None:
    """HOME, if it is not a folder of this user, as where su(1) keeps it; None where it is, or is not there at all."""
    home = (os.environ if environ is None else environ).get("HOME", "")
    try:
        return home if home and os.stat(home).st_uid != os.geteuid() else None
    except PermissionError:
        return home
    except (OSError, ValueError):
        return None


def user_config_directory() -> Path:
    """Where a user's programs keep their settings: ~/.config."""
    return platformdirs.user_config_path()


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
        return _path(text) if text else None
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


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Who started this process and wants to hear of it, as systemd does: sd_notify(3), sd_watchdog_enabled(3).

    `watchdog_seconds` is how long it waits for a sign of life; None: for ever.
    """

    socket: str
    watchdog_seconds: float | None


def load_supervisor(environ: Mapping[str, str] | None = None, *, pid: int | None = None) -> Supervisor | None:
    """The supervisor that the environment names, or None. A watchdog of another process than `pid` (us) is none."""
    environ = os.environ if environ is None else environ
    socket = environ.get("NOTIFY_SOCKET", "")
    if not socket.startswith(("/", "@")):  # anything else is no socket of this machine
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    is_ours = environ.get("WATCHDOG_PID", str(pid or os.getpid())) == str(pid or os.getpid())
    is_set = is_ours and re.fullmatch(r"0*[1-9]\d{0,17}", microseconds) is not None
    return Supervisor(socket, int(microseconds) / 1e6 if is_set else None)

"""The settings: one table, a row for each.

`SETTINGS` gives every setting its name, its parser and its help. From the name follow the command-line option
(`--cache-size`), the mount(8) option (`-o cache_size=`), the environment variable (`VBNFS_CACHE_SIZE`) and the TOML
key (`cache_size`). The values come from `vbnfs.config.sources`.
"""

import math
import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from vbnfs.config.datasets import DEFAULT_DATASET, MIRROR_KEYS, MirrorPlace
from vbnfs.config.environment import user_cache_directory, user_log_file
from vbnfs.host.identity import gid_of, uid_of
from vbnfs.rate import LEAST_RATE, OFF

SEPARATOR: Final = os.pathsep  # between the values of a setting that has several: a colon, on Windows a semicolon
KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
LEAST_MEMORY_BYTES: Final = 16 * MIB  # a GET for a sequential reader, and little more

_LAST_PORT: Final = 65535
_NO_ID: Final = 0xFFFFFFFF  # chown(2)
_ALL_PERMISSIONS: Final = 0o777
_UNITS: Final = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": 1 << 40, "P": 1 << 50}
_BOOLEANS: Final = {
    "1": True, "true": True, "yes": True, "on": True,
    "0": False, "false": False, "no": False, "off": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that a mount needs to know; `SETTINGS` below documents each field."""

    dataset: str | None  # its name; None if its bucket, project or server was replaced
    bucket: str
    project: str
    region: str
    endpoint_url: str | None
    ca_bundle: Path | None
    mirror: MirrorPlace | None
    site_cache: tuple[str, ...]
    dataset_version: str | None
    versions: tuple[str, ...]
    cache_dir: Path
    cache_size_bytes: int | None
    cache_reserve_bytes: int | None
    cache_also: tuple[Path, ...]
    trusted_users: tuple[str, ...]
    memory_limit_bytes: int
    verify: str
    passthrough: bool
    record: Path | None
    trust_cache: bool
    hdf5: bool
    index: str | None  # a file or a URL
    max_connections: int
    limit_rate_bytes: int | None  # a second; OFF: no limit; None: what was set last
    receivers: int
    io_timeout_seconds: float
    silence_timeout_seconds: float
    refresh_seconds: float
    offline: bool
    fuse_engine: str
    allow_other: bool
    allow_root: bool
    uid: int | None
    gid: int | None
    umask: int | None
    fmask: int | None
    dmask: int | None
    auto_unmount: bool
    foreground: bool
    log_file: Path
    log_level: str
    mountpoint: Path | None
    status_folder: str
    metrics_address: str | None  # host:port, on this machine alone
    metrics_file: Path | None
    source: str | None = None  # how mount(8) calls what is mounted; None: by the project's name
    fuse_options: tuple[str, ...] = ()
    most_answer_seconds: float = math.inf  # what the kernel allows for the answer to a request

    @property
    def silence_seconds(self) -> float:
        """After so long without a byte a read fails: never later than one that brings some."""
        return min(self.silence_timeout_seconds, self.io_timeout_seconds)


def parse_size(text: str, *, least_bytes: int = MIB) -> int:
    """Bytes of `200G`, `1.5TiB`, `64 MB`, `1048576`: units are powers of 1024, as in df -h and du -h."""
    size_bytes = _size(text)
    if size_bytes is None:
        raise ValueError("a size such as 200G, 1.5T or 1048576 (bytes) is wanted")
    if not least_bytes <= size_bytes < 1 << 63:
        raise ValueError(f"at least {least_bytes // MIB}M and less than 8192P is wanted")
    return size_bytes


def _size(text: str) -> int | None:
    """The bytes that a text names; None if it names none."""
    match = re.fullmatch(r"(\d+)(?:\.(\d+))?\s*([KMGTP]?)(?:I?B)?", text.strip().upper())
    if match is None:
        return None
    decimals = match[2] or ""
    size_bytes: int = int(match[1] + decimals) * _UNITS[match[3]] // 10 ** len(decimals)
    return size_bytes


def parse_rate(text: str) -> int:
    """Bytes a second of `5M`, `1.5MiB/s`, `500K`: units are powers of 1024. `off` and 0 are no limit: `OFF`."""
    word = text.strip().lower()
    rate = OFF if word == "off" else _size(word.removesuffix("/s"))
    if rate is None or not (rate == OFF or LEAST_RATE <= rate < 1 << 50):
        raise ValueError("a rate in bytes a second such as 5M or 500K, at least 16K, or off is wanted")
    return rate


def _any_size(text: str) -> int:
    return parse_size(text, least_bytes=0)


def _memory(text: str) -> int:
    return parse_size(text, least_bytes=LEAST_MEMORY_BYTES)


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


def _receivers(text: str) -> int:
    if text.strip() not in {"0", "1"}:
        raise ValueError("0 or 1 is wanted")
    return int(text)


def parse_path(text: str) -> Path:
    """An absolute path; `~` is the home folder. Links stay. Raises `ValueError`."""
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


def _several(parse: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """The parser of several values with `SEPARATOR` between them, as in PATH; none for an empty text."""

    def parse_all(text: str) -> tuple[Any, ...]:
        return tuple(parse(part) for part in text.split(SEPARATOR)) if text else ()

    return parse_all


def _urls(text: str) -> tuple[str, ...]:
    """URLs of servers with commas or blanks between them; a blank is what mount(8) can have in an option."""
    return tuple(map(_endpoint, re.split(r"[,\s]+", text.strip()))) if text.strip() else ()


def _id(find: Callable[[str], int | None], wanted: str) -> Callable[[str], int]:
    """The parser of a user or a group, by number or by name."""

    def parse(text: str) -> int:
        number = int(text) if re.fullmatch(r"\d{1,10}", text) else find(text)
        if number is None or number >= _NO_ID:
            raise ValueError(f"{wanted} of this machine, by name or number, is wanted")
        return number

    return parse


def _mask(text: str) -> int:
    """A umask, in octal as umask(1) and mount(8) have it."""
    if re.fullmatch(r"[0-7]{1,4}", text) is None or int(text, 8) > _ALL_PERMISSIONS:
        raise ValueError("permissions to withhold, in octal such as 027, are wanted")
    return int(text, 8)


def _endpoint(text: str) -> str:
    """The URL without a slash at its end. Names and passwords are refused: they would show in logs and paths."""
    parts = urlsplit(text)
    is_plain = re.fullmatch(r"[!-~]+", text) is not None and not set(text) & set("@?#")
    # A zone of IPv6 ('%', RFC 6874) is understood by one of the two HTTP clients alone.
    if parts.scheme not in {"http", "https"} or not parts.hostname or "%" in parts.hostname or not is_plain:
        raise ValueError("a URL such as http://localhost:8333 is wanted")
    _ = parts.port  # raises ValueError where it is not a number
    parts.hostname.encode("idna")  # raises UnicodeError, a ValueError, where a part of the name is too long
    return text.rstrip("/")


def parse_loopback(text: str) -> str:
    """`host:port` of a port, or of a port at an address of this machine's own: the network is not to read it."""
    host, _, port = text.strip().rpartition(":")
    is_own = host in {"", "localhost", "[::1]"} or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None
    if not is_own or re.fullmatch(r"\d{1,5}", port) is None or not 1 <= int(port) <= _LAST_PORT:
        raise ValueError("a port such as 9464, at no address but this machine's own (127.0.0.1, [::1]), is wanted")
    return f"{'127.0.0.1' if host in {'', 'localhost'} else host}:{int(port)}"


def _textfile(text: str) -> Path:
    """A path that ends in .prom: node_exporter's textfile collector reads no others."""
    if not text.endswith(".prom"):
        raise ValueError("a path that ends in .prom, as node_exporter wants it, is wanted")
    return parse_path(text)


def _index(text: str) -> str:
    """A file's absolute path, or a URL, which neither names nor passwords stand in: they would show in logs."""
    if "://" not in text:
        return str(parse_path(text))
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.path.strip("/"):
        raise ValueError("a file, or a URL such as https://example.org/vbn.index, is wanted")
    _endpoint(f"{parts.scheme}://{parts.netloc}")
    if re.fullmatch(r"[!-~]+", text) is None or "#" in text:
        raise ValueError("a URL without blanks and without '#' is wanted")
    return text


def _dataset_version(text: str) -> str:
    """Usually a semantic version; the bucket decides whether another name exists."""
    version = text.removeprefix("v")
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,99}", version) is None:
        raise ValueError("a version such as 0.5.0 is wanted")
    return version


def _known_version(text: str) -> str:
    """A version, or the whole file name of its manifest."""
    if not text.endswith(".json"):
        return _dataset_version(text)
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,199}_manifest_v[A-Za-z0-9.+_-]{1,99}\.json", text) is None:
        raise ValueError("a version such as 0.5.0, or a manifest's file name, ..._manifest_v0.5.0.json, is wanted")
    return text


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table: `name` as in TOML, the `Config` field, how text becomes its value, and help.

    A `default` that is text is parsed like any other. `unset` describes what holds where there is no value at all.
    One that `is_octal` is a text in the TOML file, too, where 027 is no number and 0o27 would be another text.
    """

    name: str
    field: str
    parse: Callable[[str], Any]
    metavar: str
    help: str
    default: Any = None
    unset: str = ""
    is_flag: bool = False
    is_octal: bool = False

    @property
    def is_on(self) -> bool:
        """Whether a flag holds unless it is turned off."""
        return self.is_flag and self.default == "yes"

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


_BUCKET = _matching(r"[a-z0-9][a-z0-9.-]{1,62}", "an S3 bucket's name")
_REGION = _matching(r"[a-z0-9-]{1,32}", "an AWS region's name")


def _mirror(text: str) -> MirrorPlace:
    """Words such as `bucket=lab-copy endpoint_url=https://s3.example.org`; blanks within one are quoted."""
    parsers = dict(zip(MIRROR_KEYS, (_BUCKET, _endpoint, _REGION, parse_path), strict=True))
    found: dict[str, Any] = {}
    for word in shlex.split(text):
        key, _, value = word.partition("=")
        if key not in parsers or key in found:
            raise ValueError(f"each of {', '.join(MIRROR_KEYS)} once, as in bucket=lab-copy, is wanted")
        found[key] = parsers[key](value)
    if not found.keys() & {"bucket", "endpoint_url"}:
        raise ValueError("a bucket or an endpoint_url is wanted, as in endpoint_url=https://s3.example.org")
    return MirrorPlace(**found)


_USER = _matching(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,254}", "names of users, with ':' between them,")
_NAME = _matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", "a name of letters, digits, '.', '_' and '-'")

SETTINGS: Final = (
    _setting("dataset", _NAME, "NAME", "Which dataset, by its name.",
             default=DEFAULT_DATASET),
    _setting("bucket", _BUCKET, "NAME",
             "S3 bucket that holds the dataset.", unset="the dataset's"),
    _setting("project", _NAME, "NAME", "The first folder of every key in the bucket.",
             unset="the dataset's"),
    _setting("region", _REGION, "NAME",
             "AWS region of the bucket.", unset="the dataset's"),
    _setting("endpoint_url", _endpoint, "URL",
             "Server or proxy instead of AWS (path style).", unset="AWS"),
    _setting("ca_bundle", parse_path, "PATH", "File or folder of certificates to trust, and no others.",
             unset="the system's, or the variables'"),
    _setting("mirror", _mirror, "WORDS", "A copy to ask first: endpoint_url=URL bucket=NAME.", unset="none"),
    _setting("site_cache", _urls, "URL,...", "Proxies near you that keep what others fetched, to ask before S3.",
             default=(), unset="-"),
    _setting("dataset_version", _dataset_version, "X.Y.Z", "Version to show at the top, or to list.",
             unset="the newest"),
    _setting("versions", _several(_known_version), "X.Y.Z:...", "Versions to find where the bucket lists none.",
             default=(), unset="-"),
    _setting("cache_dir", parse_path, "DIR", "Where blocks and manifests are stored.",
             default=user_cache_directory()),
    _setting("cache_size", parse_size, "SIZE", "How much disk the cache may take.",
             field="cache_size_bytes", unset="what was set last, or 100G"),
    _setting("cache_reserve", _any_size, "SIZE", "How much of its disk the cache leaves free.",
             field="cache_reserve_bytes", unset="2G, or 5 % of the disk if that is more"),
    _setting("cache_also", _several(parse_path), "DIR:...", "Other caches, to read in before S3 is asked.",
             default=(), unset="-"),
    _setting("trusted_users", _several(_USER), "NAME:...", "Users besides root whose caches and files are believed.",
             default=(), unset="-"),
    _setting("memory_limit", _memory, "SIZE", "How much memory blocks and replies may take.",
             field="memory_limit_bytes", default="256M"),
    _setting("verify", _matching("first-use|always", "first-use or always"), "WHEN",
             "Check cached blocks at first-use, or always.", default="first-use"),
    _setting("passthrough", _boolean, "yes|no", "Let the kernel read whole cached files by itself (root only).",
             default="yes"),
    _setting("record", parse_path, "FILE", "Write down in FILE which bytes programs read, and when.", unset="-"),
    _setting("trust_cache", _boolean, "", "Believe the stored verdict on a file that is unchanged since.",
             default=False, is_flag=True),
    _setting("hdf5", _boolean, "", "Read the structure of HDF5 files ahead of programs.",
             default="yes", is_flag=True),
    _setting("index", _index, "FILE|URL", "Which blocks of HDF5 files hold their structure, as others found it.",
             unset="the bucket's, if it has one"),
    _setting("max_connections", _connections, "N", "Connections to S3 at the most.", default=32),
    _setting("limit_rate", parse_rate, "RATE", "Bytes a second that S3 may send, such as 5M; off.",
             field="limit_rate_bytes", unset="what was set last, or off"),
    _setting("receivers", _receivers, "N", "Processes that receive what S3 sends: 0 (a thread does) or 1.",
             default=0),
    _setting("io_timeout", _seconds(0.1, 86_400), "SECONDS", "When a read fails that S3 has not answered.",
             field="io_timeout_seconds", default=30.0),
    _setting("silence_timeout", _seconds(0.1, 86_400), "SECONDS", "When a read fails of which no byte came.",
             field="silence_timeout_seconds", default=15.0),
    _setting("refresh", _seconds(1, 1e8), "SECONDS", "How often to ask for new dataset versions.",
             field="refresh_seconds", default=300.0),
    _setting("offline", _boolean, "", "Use what is stored and cached, and no network.",
             default=False, is_flag=True),
    _setting("fuse", _matching("native|pyfuse3", "native or pyfuse3"), "ENGINE",
             "What speaks to the kernel: native, or pyfuse3, an extra.", field="fuse_engine", default="native"),
    _setting("allow_other", _boolean, "", "Let other users of this machine read the mount.",
             default=False, is_flag=True),
    _setting("allow_root", _boolean, "", "Let root read the mount, besides the user to whom its files belong.",
             default=False, is_flag=True),
    _setting("uid", _id(uid_of, "a user"), "USER", "To whom files are shown to belong.", unset="who mounts"),
    _setting("gid", _id(gid_of, "a group"), "GROUP", "To which group files are shown to belong.",
             unset="of who mounts"),
    _setting("umask", _mask, "OCTAL", "Permissions that files and folders lack, such as 027.", unset="000",
             is_octal=True),
    _setting("fmask", _mask, "OCTAL", "The same of files alone.", unset="umask", is_octal=True),
    _setting("dmask", _mask, "OCTAL", "The same of folders alone.", unset="umask", is_octal=True),
    _setting("auto_unmount", _boolean, "", "Take the mount away also when the daemon was killed.",
             default=False, is_flag=True),
    _setting("foreground", _boolean, "", "Stay in the terminal and log to it.", default=False, is_flag=True),
    _setting("log_file", parse_path, "FILE", "The daemon's log.", default=user_log_file()),
    _setting("log_level", _matching("debug|info|warning|error", "debug, info, warning or error"), "LEVEL",
             "How much to log: debug, info, warning or error.", default="info"),
    _setting("mountpoint", parse_path, "DIR", "Where to mount, if no folder is named."),
    _setting("status_folder", _matching("hidden|listed|off", "hidden, listed or off"), "HOW",
             "The folder .vbnfs in the mount: hidden, listed or off.", default="hidden"),
    _setting("metrics_port", parse_loopback, "PORT", "Port of this machine at which Prometheus finds metrics.",
             field="metrics_address", unset="none"),
    _setting("metrics_file", _textfile, "FILE.prom", "File of metrics for node_exporter's textfile collector.",
             unset="none"),
)  # fmt: skip
SETTING_BY_NAME: Final[Mapping[str, Setting]] = {setting.name: setting for setting in SETTINGS}

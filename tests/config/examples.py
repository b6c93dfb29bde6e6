"""Texts for every setting, good and bad, and configurations made of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vbnfs.config.datasets import MirrorPlace
from vbnfs.config.settings import SETTING_BY_NAME, Config
from vbnfs.config.sources import load_config

# For each setting four texts with the values that they mean, so that four sources can differ. A flag has two.
EXAMPLES: dict[str, list[tuple[str, Any]]] = {
    "dataset": [(name, name) for name in ("visual-behavior-ophys", "visual-behavior-neuropixels")],
    "bucket": [(name, name) for name in ("one", "b-two", "b.3", "44")],
    "project": [(name, name) for name in ("one", "Two_2", "p.3", "4-4")],
    "region": [(name, name) for name in ("eu-west-1", "us-east-2", "local", "r4")],
    "endpoint_url": [(url, url) for url in ("http://a", "https://b:1", "http://[::1]:8333", "http://d/path")],
    "ca_bundle": [(path, Path(path)) for path in ("/1.pem", "/2.pem", "/3.pem", "/4.pem")],
    "mirror": [
        ("bucket=one", MirrorPlace("one")),
        ("endpoint_url=http://a", MirrorPlace(endpoint_url="http://a")),
        ("region=local bucket=one endpoint_url=http://b:1", MirrorPlace("one", "http://b:1", "local")),
        ("bucket=one 'ca_bundle=/with blank'", MirrorPlace("one", ca_bundle=Path("/with blank"))),
    ],
    "site_cache": [
        ("http://a:8090", ("http://a:8090",)),
        ("http://a https://b:1/", ("http://a", "https://b:1")),
        ("http://[::1]:2", ("http://[::1]:2",)),
        ("http://d/path", ("http://d/path",)),
    ],
    "dataset_version": [
        ("0.1.0", "0.1.0"),
        ("v0.2.0", "0.2.0"),
        ("1.0.0-rc.1", "1.0.0-rc.1"),
        ("1.0.0+b", "1.0.0+b"),
    ],
    "versions": [
        ("0.1.0", ("0.1.0",)),
        ("v0.2.0:0.3.0", ("0.2.0", "0.3.0")),
        ("a_manifest_v1.0.0.json:1.1.0", ("a_manifest_v1.0.0.json", "1.1.0")),
        ("1.0.0+b", ("1.0.0+b",)),
    ],
    "cache_dir": [(path, Path(path)) for path in ("/1", "/2/2", "/with blank", "/größe")],
    "cache_size": [("1M", 1 << 20), ("1.5 GiB", 3 << 29), ("2097152", 2 << 20), ("3tb", 3 << 40)],
    "cache_reserve": [("0", 0), ("1K", 1024), ("20G", 20 << 30), ("1T", 1 << 40)],
    "cache_also": [
        ("/1", (Path("/1"),)),
        ("/2:/3/a b", (Path("/2"), Path("/3/a b"))),
        ("/2", (Path("/2"),)),
        ("/größe", (Path("/größe"),)),
    ],
    "trusted_users": [("a", ("a",)), ("b:c_d", ("b", "c_d")), ("e@f.g", ("e@f.g",)), ("h-1", ("h-1",))],
    "memory_limit": [("16M", 16 << 20), ("1G", 1 << 30)],
    "verify": [("first-use", "first-use"), ("always", "always")],
    "passthrough": [("yes", True), ("no", False)],
    "record": [("/r.jsonl", Path("/r.jsonl")), ("/a b/c", Path("/a b/c"))],
    "trust_cache": [("1", True), ("off", False)],
    "hdf5": [("yes", True), ("off", False)],
    "index": [
        *(("/1", "/1"), ("/with blank", "/with blank"), ("http://a/b", "http://a/b")),
        ("https://[::1]:8/x?y=z", "https://[::1]:8/x?y=z"),
    ],
    "max_connections": [("1", 1), ("2", 2), (" 3 ", 3), ("256", 256)],
    "limit_rate": [
        *(("5M", 5 << 20), ("500K", 500 << 10), ("1.5MiB/s", 3 << 19), ("16k", 16 << 10), (" 10 MB/s ", 10 << 20)),
        *(("1048576", 1 << 20), ("off", 0), ("OFF", 0), ("0", 0)),
    ],
    "receivers": [("0", 0), ("1", 1), (" 1 ", 1)],
    "io_timeout": [("0.1", 0.1), ("0.5", 0.5), ("86.4e3", 86400.0), (".25", 0.25)],
    "silence_timeout": [("0.1", 0.1), ("15", 15.0), ("60", 60.0)],
    "refresh": [("1", 1.0), ("1.5", 1.5), ("1e8", 1e8), ("2.25", 2.25)],
    "offline": [("true", True), ("no", False)],
    "fuse": [("native", "native"), ("pyfuse3", "pyfuse3")],
    "allow_other": [("yes", True), ("off", False)],
    "allow_root": [("yes", True), ("off", False)],
    "uid": [("0", 0), ("root", 0), ("4711", 4711), ("4294967294", 4294967294)],
    "gid": [("0", 0), ("root", 0), ("4711", 4711), ("4294967294", 4294967294)],
    "umask": [("0", 0), ("027", 0o27), ("77", 0o77), ("0777", 0o777)],
    "fmask": [("0", 0), ("0137", 0o137), ("77", 0o77), ("777", 0o777)],
    "dmask": [("0", 0), ("027", 0o27), ("77", 0o77), ("777", 0o777)],
    "auto_unmount": [("yes", True), ("off", False)],
    "foreground": [("1", True), ("False", False)],
    "log_file": [(path, Path(path)) for path in ("/1.log", "/2.log", "/3.log", "/4.log")],
    "log_level": [(level, level) for level in ("debug", "info", "warning", "error")],
    "mountpoint": [(path, Path(path)) for path in ("/1", "/2/2", "/with blank", "/größe")],
    "status_folder": [(text, text) for text in ("hidden", "listed", "off")],
    "metrics_port": [
        *((text, "127.0.0.1:9464") for text in ("9464", "localhost:9464", "127.0.0.1:9464", " 09464 ")),
        *((text, text) for text in ("127.1.2.3:1", "[::1]:65535")),
    ],
    "metrics_file": [(path, Path(path)) for path in ("/1.prom", "/with blank/a.prom")],
}
BAD: dict[str, list[str]] = {
    "dataset": ["", "..", "no-such-dataset", "Visual-Behavior-Ophys", "visual-behavior-ophys ", "a/b", "x" * 256],
    "bucket": ["", "Upper", "a", "a/b", "../x", "x" * 64, "a b", "-a"],
    "project": ["", "..", ".x", "a/b", "a\n", "é", "x" * 256],
    "region": ["", "EU", "a.b", "a/b", "x" * 33],
    "endpoint_url": [
        *("", "localhost:8333", "ftp://a", "http://", "http://:80", "http:///path", "http://a:b", "http://a:99999"),
        *("http://[::1", "http://a?b=c", "http://a/?", "http://a#b", "http://a/#", "http://user:password@a"),
        *("http://user@a", "http://a b", "http://a\n", "http://a\tb", "http://\u202ea", "file:///etc/passwd"),
        "http://[fe80::1%25eth0]:8333",
    ],
    "ca_bundle": ["", "a\0b", "~no-such-user-here/x"],
    "mirror": [
        *("", "lab-copy", "region=local", "bucket=A", "bucket=", "endpoint_url=localhost", "other=1 bucket=one"),
        *("bucket=one bucket=two", "bucket=one 'region=local", "bucket=one ca_bundle=", "bucket=one region=a/b"),
    ],
    "site_cache": ["a:8090", "http://a,", "ftp://a", "http://user:pw@a", "http://a?b", "http://a b"],
    "dataset_version": ["", "v", "../1.0.0", "1.0.0/x", "1.0.0 ", "-1", "x" * 101],
    "versions": [":", "0.1.0:", "0.1.0,0.2.0", "a.json", "../a_manifest_v1.json", "a/b_manifest_v1.json", "x" * 101],
    "cache_dir": ["", "a\0b", "~no-such-user-here/x"],
    "cache_size": [
        *("", "0", "1048575", "1023K", "0.9M", "-1G", "+1G", "1e9", "1,5G", "1.G", ".5G", "G", "1 G G", "1X", "1GG"),
        *("nan", "inf", "8192P", "9" * 19, "9" * 400, "9" * 5000, "0x100000", "1_000_000", "100 %", "1\n2M"),
    ],
    "cache_reserve": ["", "-1", "5%", "8192P"],
    "cache_also": [":", "/1:", "a\0b", "~no-such-user-here/x"],
    "trusted_users": [":", "a:", "a b", "a,b", "-a", "a/b"],
    "memory_limit": ["", "15M", "much"],
    "verify": ["", "never", "Always"],
    "passthrough": ["", "maybe", "2"],
    "record": ["", "a\0b"],
    "trust_cache": ["", "never"],
    "hdf5": ["", "maybe"],
    "index": [
        *("", "a\0b", "~no-such-user-here/x", "ftp://a/b", "http://a", "http://a/", "http:///b", "http://u:p@a/b"),
        *("http://a/b#c", "http://a/b c", "http://a:b/c", "file:///etc/passwd"),
    ],
    "max_connections": ["", "0", "257", "-1", "1.5", "x", "9" * 5000, "1_0", "nan"],
    "limit_rate": ["", "15K", "1", "-5M", "10Mbit", "10Mb/s/s", "fast", "on", "1024P"],
    "receivers": ["", "2", "-1", "1.0", "01", "x", "yes"],
    "io_timeout": ["", "0", "0.099", "86401", "-1", "nan", "inf", "-inf", "1e9", "x", "1 s", "0x1", "9" * 400],
    "silence_timeout": ["", "0", "0.099", "86401", "nan", "inf", "x"],
    "refresh": ["", "0", "0.001", "0.99", "100000001", "-1", "nan", "inf", "x"],
    "offline": ["", "2", "maybe"],
    "fuse": ["", "Native", "libfuse", "pyfuse3 "],
    "allow_other": ["", "2", "maybe", "tru"],
    "allow_root": ["", "2", "maybe"],
    "uid": ["", "no-such-user-here", "-1", "4294967295", "99999999999", "1.5", "0x0", " 0", "a\0b"],
    "gid": ["", "no-such-group-here", "-1", "4294967295", "99999999999", "1.5", "0x0", " 0", "a\0b"],
    "umask": ["", "8", "0o27", "1777", "-1", "u=rwx", "00027", "7 7"],
    "fmask": ["", "9", "1777"],
    "dmask": ["", "9", "1777"],
    "auto_unmount": ["", "2", "maybe"],
    "foreground": ["", "2", "maybe"],
    "log_file": ["", "a\0b", "~no-such-user-here/x"],
    "log_level": ["", "INFO", "trace", "debug|info", "debugx"],
    "mountpoint": ["", "a\0b", "~no-such-user-here/x"],
    "status_folder": ["", "yes", "Hidden", "show"],
    "metrics_port": [
        *("", "0", "65536", "-1", "x", "9464x", "0.0.0.0:9464", "10.0.0.1:9464", "[::]:9464", "::1:9464"),
        *("example.org:80", "127.0.0.1:", ":9464x", "127.0.0.1.evil.org:80", "999999"),
    ],
    "metrics_file": ["", "/metrics", "/metrics.txt", "a\0b.prom"],
}
SOURCES = ("command line", "-o", "environment", "TOML")  # the first one that has a value wins


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

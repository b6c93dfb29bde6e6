"""What is known to be private here: names, folders, servers and secrets, of settings, variables and mounts."""

import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from vbnfs.config.datasets import MirrorPlace, all_datasets
from vbnfs.config.environment import default_config_file, variables
from vbnfs.config.settings import SETTING_BY_NAME, SETTINGS, Config
from vbnfs.doctor.mounts import MountFacts
from vbnfs.host.identity import group_name, our_groups, our_uid, real_name, user_name
from vbnfs.s3.addresses import partition_at
from vbnfs.s3.trust import VARIABLES

_PUBLIC_FOLDERS: Final = frozenset(
    {
        *("/", "/home", "/tmp", "/var", "/usr", "/etc", "/run", "/mnt", "/media", "/srv", "/opt", "/root", "/dev"),
        *("/run/user", "/var/cache", "/var/tmp", "/var/log", "/usr/local", "/proc", "/sys", "/data", "/scratch"),
    }
)
_USUAL_NAMES: Final = frozenset({".cache", ".config", ".local", "vbnfs.log", "config.toml"})  # of folders and files
_NAMES_USERS: Final = ("USER", "LOGNAME", "USERNAME", "SUDO_USER", "DOAS_USER")
_NAMES_MACHINES: Final = ("HOSTNAME", "HOST", "SLURMD_NODENAME", "SLURM_SUBMIT_HOST")
_NAMES_PROXIES: Final = re.compile(r"(?:https?|all|no|ftp|socks)_proxy", re.IGNORECASE)
_NAMES_SECRETS: Final = re.compile(r"AWS_|KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|COOKIE|SESSION", re.IGNORECASE)
_OF_ALL: Final = frozenset({"root", "users", "nogroup", "localhost", "nobody"})
_LONGEST_SECRET: Final = 4096  # characters, as of a path: no name of this machine is longer
_LEAST_SECRET: Final = 4  # characters: shorter values of variables are numbers and switches


def known_private(config: Config, mounts: Sequence[MountFacts], *, has_wrong_settings: bool) -> dict[str, str]:
    """What is private, and the mark for each: also of mounts, which may have other settings than `config`.

    `has_wrong_settings`: values of variables may stand in messages.
    """
    environ = variables()
    statuses = [one.status for one in mounts if one.status is not None]
    found = dict(
        [
            *_secrets(environ, has_wrong_settings=has_wrong_settings),
            *_machines(environ),
            *_users(config, environ),
            *_servers(config),
            *(found for status in statuses for found in _servers_of(status)),
            *_folders(config, environ, mounts),
        ]
    )
    return {
        text: mark for text, mark in found.items() if text.casefold() not in _OF_ALL and len(text) <= _LONGEST_SECRET
    }


def _secrets(environ: Mapping[str, str], *, has_wrong_settings: bool) -> Iterator[tuple[str, str]]:
    for name, text in environ.items():
        if _NAMES_PROXIES.fullmatch(name):
            yield from _of_proxy(text)
        elif name not in VARIABLES and _NAMES_SECRETS.search(name) and len(text) >= _LEAST_SECRET:
            yield text, "<secret>"
        elif name.startswith("VBNFS_") and has_wrong_settings and len(text) >= _LEAST_SECRET:
            yield text, "<value>"


def _of_proxy(text: str) -> Iterator[tuple[str, str]]:
    yield text, "<proxy>"
    for one in re.split(r"[,\s]+", text):
        yield one, "<proxy>"
    with suppress(ValueError):
        parts = urlsplit(text if "://" in text else f"//{text}")
        for secret in (parts.username, parts.password):
            yield from ((spelled, "<secret>") for spelled in {secret or "", unquote(secret or "")})
        yield parts.hostname or "", "<proxy>"


def _machines(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    names = [socket.gethostname(), *(environ.get(name, "") for name in _NAMES_MACHINES)]
    for name in names:
        label, _, domain = name.partition(".")
        yield from ((text, "<machine>") for text in (name, label, domain))


def _users(config: Config, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    names = [user_name(our_uid()), *(environ.get(name, "") for name in _NAMES_USERS), *config.trusted_users]
    real = real_name(our_uid())
    yield from ((name, "<user>") for name in (*names, real, *real.split()))
    yield from ((group_name(gid), "<group>") for gid in our_groups() if not group_name(gid).isdecimal())


def _servers(config: Config) -> Iterator[tuple[str, str]]:
    yield from _of_dataset(config.dataset, config.project, config.bucket, config.endpoint_url)
    if config.mirror is not None:
        yield from _of_mirror(config.mirror)
    for url in config.site_cache:
        yield from _of_url(url, "<site>")
    if config.index is not None:
        yield from _of_url(config.index, "<index>")
    yield from ((text, "<value>") for text in (config.source or "", *config.fuse_options) if "=" in text)


def _servers_of(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Of a mount's status, which is checked (access/mount_status.py)."""
    yield from _of_dataset(*(status.get(name) for name in ("dataset", "project", "bucket", "endpoint_url")))
    if text := status.get("mirror"):
        yield text, "<mirror>"
        with suppress(ValueError):
            yield from _of_mirror(SETTING_BY_NAME["mirror"].parse(text))
    for server in status.get("site_cache") or ():
        yield from _of_url(server["url"], "<site>")
    if text := status.get("proxy"):
        yield from _of_proxy(text.partition(" (")[0])  # behind it stands the variable's name


def _of_dataset(
    name: str | None, project: str | None, bucket: str | None, endpoint_url: str | None
) -> Iterator[tuple[str, str]]:
    datasets = all_datasets({})
    public = {text for dataset in datasets.values() for text in dataset.texts.values()} | datasets.keys()
    marked = {name: "<dataset>", project: "<project>", bucket: "<bucket>"}
    yield from ((text, mark) for text, mark in marked.items() if text and text not in public)
    if endpoint_url is not None and partition_at(endpoint_url) is None:
        yield from _of_url(endpoint_url, "<server>")


def _of_mirror(place: MirrorPlace) -> Iterator[tuple[str, str]]:
    yield place.bucket or "", "<mirror>"
    yield str(place), "<mirror>"
    yield from _of_url(place.endpoint_url or "", "<mirror>")


def _of_url(url: str, mark: str) -> Iterator[tuple[str, str]]:
    with suppress(ValueError):
        parts = urlsplit(url)
        yield from ((text, mark) for text in (url, parts.netloc, parts.hostname or "", parts.path.strip("/")))


def _paths_of(config: Config) -> Iterator[Path]:
    """The paths that settings name."""
    for setting in SETTINGS:
        value = getattr(config, setting.field)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Path) or (isinstance(one, str) and one.startswith("/")):
                yield Path(one)


def _paths_in(status: Mapping[str, Any]) -> Iterator[tuple[str | None, str]]:
    """The paths that a mount's status names."""
    certificates, record = status.get("certificates") or "", status.get("record") or {}
    paths = [certificates.partition(" (")[0], record.get("file"), status.get("ca_bundle")]
    yield from ((path, "<path>") for path in (*paths, *(status.get("cache_also") or ())))
    yield from ((status.get("log_file"), "<log>"), (status.get("cache_dir"), "<cache>"))


def _folders(config: Config, environ: Mapping[str, str], mounts: Sequence[MountFacts]) -> Iterator[tuple[str, str]]:
    """All folders above these, too, and what they are called; the last of equal ones counts."""
    marked: list[tuple[str | os.PathLike[str] | None, str]] = [
        *((environ.get(name), "<path>") for name in ("VBNFS_CONFIG", "TMPDIR", "XDG_RUNTIME_DIR")),
        *((path, "<path>") for path in (default_config_file(), *_paths_of(config))),
        (config.mirror.ca_bundle if config.mirror is not None else None, "<path>"),
        *(found for one in mounts for found in _paths_in(one.status or {})),
        *((path, "<mount>") for path in (config.mountpoint, *(one.mountpoint for one in mounts))),
        (config.log_file, "<log>"),
        (environ.get("HOME"), "<home>"),
        (config.cache_dir, "<cache>"),
    ]
    paths = [(Path(path), mark) for path, mark in marked if path]
    for path, _ in paths:
        for one in (path, *path.parents):
            if str(one) not in _PUBLIC_FOLDERS:
                yield str(one), "<path>"
                if re.search(r"\W", one.name) and one.name not in _USUAL_NAMES:
                    yield one.name, "<name>"
    yield from ((str(path), mark) for path, mark in paths if str(path) not in _PUBLIC_FOLDERS)

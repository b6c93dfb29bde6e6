"""A site cache, whichever program it is: what is wanted of it, and what no configuration can have (pure)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.errors import UsageError
from vbnfs.objects import NULL_VERSION

PRIVATE_NETWORKS: Final = ("127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
CA_BUNDLE: Final = "/etc/ssl/certs/ca-certificates.crt"  # of Debian
# The query of what it keeps: one version id, which names no bytes that may be replaced. S3's ids need no escapes (S3
# User Guide, "How S3 Versioning works": "URL-ready"); with them, `null` could be written otherwise.
QUERY: Final = f"^versionId=(?!{NULL_VERSION}$)[^&%]+$"
DIRECTORY: Final = "/var/cache/vbnfs-site-cache"
# How the unit of its program ends, behind what is the program's own: a user and a folder of its own, and no more. The
# one capability is for ports below 1024.
CONFINED: Final = """\
DynamicUser=yes
User=vbnfs-site-cache
CacheDirectory=vbnfs-site-cache
CacheDirectoryMode=0700
LimitNOFILE=65536
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
AmbientCapabilities=CAP_NET_BIND_SERVICE
PrivateDevices=yes
ProtectSystem=strict
ProtectHome=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
LockPersonality=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""
# How it begins, where another folder keeps the blocks. It becomes its user's: that one's number is the one of its own
# folder, for as long as that is there (systemd.exec(5), "DynamicUser=").
_FOLDER: Final = """\
[Unit]
RequiresMountsFor={directory}

[Service]
ReadWritePaths=-{directory}
ExecStartPre=+/bin/mkdir --parents {directory}
ExecStartPre=+/bin/chown --reference={own}/ {directory}

"""
_HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # ProtectHome=, and PrivateTmp= by DynamicUser=
_UNPRINTABLE: Final = frozenset("\"'\\;{}$\n\r\t #")
_LEAST_SLICES: Final = 64


@dataclass(frozen=True, slots=True)
class Site:
    """A site cache: what it stands before, where it listens, for whom, and what it keeps where. Sizes in bytes."""

    bucket: str
    base: str  # the bucket's address
    listen: str
    networks: Sequence[str]
    directory: str
    size_bytes: int
    free_bytes: int
    slice_bytes: int
    ca_bundle: str | None = None
    metrics: str | None = None  # where `vbnfs site-cache metrics` listens


def check(site: Site, program: str) -> None:
    """Raises `UsageError` for what the program could not take, or vbnfs's blocks do not go into."""
    if site.slice_bytes <= 0 or site.slice_bytes % BLOCK_BYTES:
        raise UsageError(f"--slice {site.slice_bytes}: a multiple of 256K is wanted, which are vbnfs's blocks")
    if site.size_bytes < _LEAST_SLICES * site.slice_bytes:
        raise UsageError(
            f"--size {site.size_bytes}: it keeps at least {_LEAST_SLICES} slices of {site.slice_bytes} bytes"
        )
    words = {"--listen": site.listen, "--directory": site.directory, "--ca-bundle": site.ca_bundle or ""}
    check_words([*words.items(), *(("--allow", network) for network in site.networks)], program)


def check_words(words: Iterable[tuple[str, str]], program: str) -> None:
    """Raises `UsageError` for a word, by its option, that would be more than one in the program's configuration."""
    for option, word in words:
        if found := _UNPRINTABLE.intersection(word):
            raise UsageError(f"{option} {word!r}: {program}'s configuration cannot have {min(found)!r} there")


def unseen_by_units(directory: str) -> str | None:
    """Why the unit of a program cannot keep blocks there; None: it can."""
    hidden = next(filter(Path(directory).is_relative_to, _HIDDEN), None)
    return None if hidden is None else f"the unit does not see what is in {hidden}"


def folder_of_a_unit(directory: str) -> str:
    """How the unit of a program begins that keeps blocks there. Raises `UsageError` where a unit could not."""
    check_words([("--directory", directory)], "systemd")
    if (why := unseen_by_units(directory)) is not None:
        raise UsageError(f"--directory {directory}: {why}; choose another folder")
    in_unit = directory.replace("%", "%%")
    return "" if directory == DIRECTORY else _FOLDER.format(directory=in_unit, own=DIRECTORY)

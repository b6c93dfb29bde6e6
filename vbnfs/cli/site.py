"""A site cache, whichever program it is: what is wanted of it, and what no configuration can have (pure)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.errors import UsageError
from vbnfs.objects import NULL_VERSION

PRIVATE_NETWORKS: Final = ("127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
CA_BUNDLE: Final = "/etc/ssl/certs/ca-certificates.crt"  # of Debian
# The query of what it keeps: one version id, which names no bytes that may be replaced. S3's ids need no escapes (S3
# User Guide, "How S3 Versioning works": "URL-ready"); with them, `null` could be written otherwise.
QUERY: Final = f"^versionId=(?!{NULL_VERSION}$)[^&%]+$"
# How the unit of its program ends, behind what is the program's own: a user and a folder of its own, and no more.
CONFINED: Final = """\
DynamicUser=yes
User=vbnfs-site-cache
CacheDirectory=vbnfs-site-cache
CacheDirectoryMode=0700
LimitNOFILE=65536
NoNewPrivileges=yes
CapabilityBoundingSet=
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

"""Whose certificates are trusted: read once, and given to both clients as one text (PEM, RFC 7468).

    --ca-bundle             a file or a folder: these alone
    the variables below     the files and folders that any of them names, all of them together
    the system's            where distributions have it; what OpenSSL was made for; or that of the package certifi

References: SSL_CERT_FILE and SSL_CERT_DIR: SSL_CTX_load_verify_locations(3ssl); CURL_CA_BUNDLE: curl(1);
REQUESTS_CA_BUNDLE: Requests, "SSL Cert Verification"; AWS_CA_BUNDLE: AWS SDKs and Tools Reference Guide.
"""

import os
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from vbnfs.errors import UsageError

VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")
NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, X509_VERIFY_PARAM_set_flags(3ssl)

_OPTION: Final = "--ca-bundle"
_LIST: Final = "SSL_CERT_DIR"  # may name several folders, some of which may be empty or missing
# Where distributions have the certificates of all: Debian, Ubuntu, Arch, Gentoo; Fedora, RHEL; openSUSE; Alpine.
_SYSTEM_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN (X509 )?CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END (X509 )?CERTIFICATE-----"
)
_HASHED: Final = re.compile(r"[0-9a-f]{8}\.[0-9]{1,3}")  # openssl-rehash(1)
_SUFFIXES: Final = frozenset({".pem", ".crt", ".cer"})
_MAX_FILE_BYTES: Final = 16 << 20

Exists = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder with certificates, and what names it."""

    path: Path
    named_by: str

    def __str__(self) -> str:
        return f"{self.path} ({self.named_by})"


@dataclass(frozen=True, slots=True)
class Trust:
    """The certificates that are trusted, as PEM. `origin` says in words where they come from."""

    pem: bytes = b""
    origin: str = "none"

    def context(self, *, checks_time: bool = True) -> ssl.SSLContext:
        """A client's context, which judges as libcurl does: it trusts each certificate, and is not strict.

        Since Python 3.13 its own contexts refuse authorities of many a TLS-inspecting proxy (VERIFY_X509_STRICT).
        """
        return _context(self.pem, checks_time)


@lru_cache(maxsize=4)
def _context(pem: bytes, checks_time: bool) -> ssl.SSLContext:
    """Made once: 20 ms for the certificates of a distribution."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    flags = context.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags = flags if checks_time else ssl.VerifyFlags(flags | NO_CHECK_TIME)
    if pem:
        context.load_verify_locations(cadata=pem.decode("ascii"))
    return context


def installed_at() -> float:
    """When this program was installed here, or later: by the time of this file. In seconds since 1970."""
    try:
        return os.stat(__file__).st_mtime
    except OSError:
        return 0.0


def places_of(
    ca_bundle: Path | None, environ: Mapping[str, str], *, exists: Exists = os.path.exists
) -> tuple[Place, ...]:
    """Where the certificates are that are trusted. None of these places has been read yet."""
    if ca_bundle is not None:
        return (Place(ca_bundle, _OPTION),)
    return tuple(_of_variables(environ, exists)) or (_of_the_system(exists),)


def _of_variables(environ: Mapping[str, str], exists: Exists) -> Iterator[Place]:
    for name in VARIABLES:
        text = environ.get(name, "")
        paths = [part for part in text.split(os.pathsep) if part] if name == _LIST else [text] if text else []
        yield from (Place(Path(path).absolute(), name) for path in list(filter(exists, paths)) or paths)


def _of_the_system(exists: Exists) -> Place:
    of_openssl = ssl.get_default_verify_paths()
    made_for = (of_openssl.openssl_cafile, of_openssl.openssl_capath)
    for path in (*_SYSTEM_FILES, *made_for):
        if exists(path):
            return Place(Path(path), "the system's")
    import certifi  # noqa: PLC0415 - only where the system has none

    return Place(Path(certifi.where()), "certifi's, since this system has none")


def load(places: Iterable[Place]) -> Trust:
    """The certificates in all of these places. Raises `UsageError`, which names a place that has none."""
    places = tuple(places)
    found: dict[bytes, None] = {}  # in their order, each once
    for place in places:
        found |= dict.fromkeys(_read(place))
    return Trust(b"\n".join(found), ", ".join(map(str, places)))


def _read(place: Place) -> list[bytes]:
    try:
        is_folder = place.path.is_dir()
        found = _of_folder(place.path) if is_folder else _certificates(place.path)
        # OpenSSL reads this folder as it needs it, so it may still be empty.
        if not found and not (is_folder and place.named_by == _LIST):
            raise ValueError("it has no certificate in PEM ('-----BEGIN CERTIFICATE-----')")
    except UsageError as error:
        raise UsageError(f"{place}: no usable certificates: {error}") from error
    except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{place}: no usable certificates: {reason}") from error
    return found


def _of_folder(folder: Path) -> list[bytes]:
    """Of files named by hashes, if there are any; else of all with a usual suffix. What is unusable is left out."""
    names = sorted(os.listdir(folder))
    hashed = [name for name in names if _HASHED.fullmatch(name)]
    found: list[bytes] = []
    for name in hashed or [name for name in names if Path(name).suffix.lower() in _SUFFIXES]:
        with suppress(OSError, ValueError):
            found += _certificates(folder / name)
    return found


def _certificates(path: Path) -> list[bytes]:
    """All certificates of a file. Raises `OSError`, or `ValueError` where one of them is none.

    `UsageError` for a file that is too large: what is left out of it might be the one that is needed.
    """
    with open(path, "rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise UsageError(f"{path}: more than {_MAX_FILE_BYTES >> 20} MiB, which is no list of certificates")
    found = [match[0] for match in _CERTIFICATE.finditer(data)]
    Trust(b"\n".join(found)).context()
    return found

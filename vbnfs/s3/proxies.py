"""Which proxy leads to a server, by the variables that curl reads (pure).

    http_proxy, HTTP_PROXY      for an http server         the first of them that is set and not empty; a variable's
    https_proxy, HTTPS_PROXY    for an https server        small letters come first
    all_proxy, ALL_PROXY        for both, after these
    no_proxy, NO_PROXY          servers that are asked without one

Only the variable that counts is read. So one that cannot be used matters only to servers that need it. Both clients
get the answer as a value, and read no variable themselves.

References: curl(1), "ENVIRONMENT" and "--proxy"; CURLOPT_PROXY(3), CURLOPT_NOPROXY(3).
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from vbnfs.errors import UsageError

DEFAULT_PORTS: Final = {"http": 80, "https": 443}  # of servers

# How schemes of proxies are understood. `socks` is what desktops and VPN clients write for version 5.
_SCHEMES: Final = {
    **{name: name for name in ("http", "https", "socks4", "socks4a", "socks5", "socks5h")},
    "socks": "socks5h",
}
_TLS_PORT: Final = 443
_PORT: Final = 1080  # of all other proxies, http among them: as curl has it
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_MOST_CREDENTIAL_BYTES: Final = 255  # RFC 1929, 2; Basic (RFC 7617) has no limit

_WANTED: Final = (
    "http://HOST:PORT or socks5h://HOST:PORT is wanted, or http://NAME:PASSWORD@HOST:PORT with % escapes (%40 for @)"
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and the `variable` that names it. Name and password are bytes, empty where there are none."""

    scheme: str  # http, https, socks4, socks4a, socks5 or socks5h
    host: str
    port: int
    variable: str
    name: bytes = b""
    password: bytes = field(default=b"", repr=False)

    @property
    def url(self) -> str:
        """Its URL without name and password."""
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host  # RFC 6874: a zone
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_http(self) -> bool:
        """Whether it speaks HTTP: it passes requests for http servers on, and makes tunnels to https servers."""
        return self.scheme in {"http", "https"}

    def passes_on(self, server_url: str) -> bool:
        """Whether requests for a server are for the proxy, which asks by itself (RFC 9112, 3.2.2)."""
        return self.is_http and urlsplit(server_url).scheme == "http"

    def __str__(self) -> str:
        return f"{self.url} ({self.variable})"


def proxy_for(server_url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy by which a server is asked; None: it is asked directly.

    Raises `UsageError`, which names the variable, for one that is needed and cannot be used. A proxy on another
    machine does not lead to a server on this one.
    """
    parts = urlsplit(server_url)
    host, port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
    variable = next((name for name in _variables(parts.scheme, environ) if environ.get(name, "").strip()), None)
    if variable is None or is_excepted(host, port, _exceptions(environ)):
        return None
    try:
        proxy = _parse(environ[variable], variable)
    except UsageError:
        if is_loopback(host):
            return None
        raise
    return None if is_loopback(host) and not is_loopback(proxy.host) else proxy


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name (RFC 6761, 6.3) or by its address."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _variables(scheme: str, environ: Mapping[str, str]) -> Iterator[str]:
    yield f"{scheme}_proxy"
    # A web server makes HTTP_PROXY of the field `Proxy` of a request to a CGI program (CVE-2016-5385).
    if scheme != "http" or "REQUEST_METHOD" not in environ:
        yield f"{scheme}_proxy".upper()
    yield from ("all_proxy", "ALL_PROXY")


def _exceptions(environ: Mapping[str, str]) -> str:
    return environ.get("no_proxy") or environ.get("NO_PROXY", "")


# The text of a variable


def _parse(text: str, variable: str) -> Proxy:
    """Raises `UsageError`. A text that may have a password is never quoted."""
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = "http", scheme
    known = _SCHEMES.get(scheme.lower())
    if known is None:
        raise _refusal(variable, text, f"proxies of the kind {scheme:.20}:// are not known")
    authority, *path = re.split(r"[/?#]", rest, maxsplit=1)
    if any("@" in more or (more and known.startswith("socks")) for more in path):  # a raw password; a Unix socket
        raise _refusal(variable, text, "there is more behind the host and port than a proxy can have")
    credentials, _, address = authority.rpartition("@")
    name, _, password = credentials.partition(":")
    host, port = _host_and_port(address, _TLS_PORT if known == "https" else _PORT, variable, text)
    proxy = Proxy(known, host, port, variable, unquote_to_bytes(name), unquote_to_bytes(password))
    is_long = max(len(proxy.name), len(proxy.password)) > _MOST_CREDENTIAL_BYTES
    if b"\0" in proxy.name + proxy.password or (is_long and not proxy.is_http):
        raise _refusal(variable, text, "the name or the password will not do")
    return proxy


def _host_and_port(address: str, default: int, variable: str, text: str) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[(?P<ip>[^]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]{0,5}))?", address)
    if match is None:
        raise _refusal(variable, text, "no host and port can be read from it")
    port = int(match["port"] or default)
    host = unquote(match["ip"]) if match["name"] is None else _ascii(match["name"])
    is_host = _is_ipv6(host) if match["name"] is None else _HOST_NAME.fullmatch(host) is not None
    if not is_host or not 0 < port < 1 << 16:
        raise _refusal(variable, text, "no host and port can be read from it")
    return host, port


def _ascii(name: str) -> str:
    with suppress(UnicodeError):
        return name.encode("idna").decode("ascii")
    return ""


def _refusal(variable: str, text: str, reason: str) -> UsageError:
    quoted = "" if "@" in text else f"{text!r:.200} will not do: "
    return UsageError(f"{variable}: {quoted}{reason}; {_WANTED}; or unset it")


# NO_PROXY


def is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Whether NO_PROXY names a host: by its name or a domain above it, by its address or network, or by `*`.

    A name may have a port. Names and networks are separated by commas or blanks (curl(1), "NO_PROXY").
    """
    host = host.lower().rstrip(".")
    names = [name for name in re.split(r"[,\s]+", exceptions.lower()) if name]
    return any(name == "*" or _names(name, host, port) or _has(name, host) for name in names)


def _names(name: str, host: str, port: int) -> bool:
    bare, colon, digits = name.rpartition(":")
    if colon and digits.isdecimal() and not _is_address(name):
        if int(digits) != port:
            return False
        name = bare
        if _has(name, host):
            return True
    name = name.strip("[]").removeprefix("*").strip(".")
    return bool(name) and (host == name or (host.endswith(f".{name}") and not _is_address(host)))


def _has(network: str, host: str) -> bool:
    """Whether a host is an address of a network, which may be a single address; brackets do not matter."""
    with suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(re.sub(r"[][]", "", network), strict=False)
    return False


def _is_address(text: str) -> bool:
    with suppress(ValueError):
        return bool(ipaddress.ip_address(text))
    return False


def _is_ipv6(text: str) -> bool:
    with suppress(ValueError):
        return bool(ipaddress.IPv6Address(text))
    return False

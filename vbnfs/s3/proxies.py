"""Which proxy leads to a server, by the usual variables: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY."""

import ipaddress
import re
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

DEFAULT_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


def proxy_for(server_url: str) -> str | None:
    """The proxy's URL that the variables name for a server; None: there is none."""
    parts, proxies = urlsplit(server_url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    if not proxy or is_excepted(parts.hostname or "", port, proxies.get("no", "")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


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
    name = name.strip("[]").removeprefix("*").strip(".")
    return bool(name) and (host == name or (host.endswith(f".{name}") and not _is_address(host)))


def _has(network: str, host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(network.strip("[]"), strict=False)
    return False


def _is_address(text: str) -> bool:
    with suppress(ValueError):
        return bool(ipaddress.ip_address(text))
    return False

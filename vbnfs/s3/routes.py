"""How a server is reached: by which proxy, and whose certificates are trusted. Decided once, for all requests."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from vbnfs.s3.proxies import Proxy, proxy_for
from vbnfs.s3.trust import Place, Trust, load, places_of


@dataclass(frozen=True, slots=True)
class Route:
    """The way to `server_url`. `places` is empty where no certificate is checked."""

    server_url: str
    proxy: Proxy | None
    places: tuple[Place, ...]

    def trust(self) -> Trust:
        """The certificates, read. Raises `UsageError`."""
        return load(self.places)

    def report(self) -> dict[str, str | None]:
        """Both in words, for `vbnfs status`."""
        return {
            "proxy": None if self.proxy is None else str(self.proxy),
            "certificates": ", ".join(map(str, self.places)) or None,
        }


def route_to(server_url: str, *, ca_bundle: Path | None, environ: Mapping[str, str]) -> Route:
    """The way to a server, as settings and variables have it. Raises `UsageError`, which names the variable.

    What is not needed is not read: certificates for a server without TLS, for example.
    """
    proxy = proxy_for(server_url, environ)
    has_tls = urlsplit(server_url).scheme == "https" or (proxy is not None and proxy.scheme == "https")
    places = places_of(ca_bundle, environ) if has_tls or ca_bundle is not None else ()
    return Route(server_url, proxy, places)

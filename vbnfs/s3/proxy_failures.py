"""What a failure of the proxy means, and which replies are the proxy's own (pure)."""

from http import HTTPStatus
from typing import Final

from vbnfs.errors import ProxyDeniedError, ProxyError, ProxyLoginError, StorageError
from vbnfs.s3.proxies import Proxy
from vbnfs.s3.replies import Head

# Statuses that proxies give of themselves (RFC 9110, 15.5 and 15.6); S3 gives two of them, too.
_OF_PROXIES: Final = frozenset({403, 407, 502, 503, 504})
_OF_S3: Final = ("x-amz-request-id", "x-amz-id-2")  # in each reply of S3 (Amazon S3 API, "Common response headers")


def absent(proxy: Proxy, reason: str) -> ProxyError:
    """There is no connection to the proxy."""
    return ProxyError(f"the proxy {proxy} cannot be reached: {reason}")


def failed(proxy: Proxy, server: str, reason: str) -> ProxyError:
    """The proxy is there, and made no connection to the server."""
    return ProxyError(f"the proxy {proxy} makes no connection to {server}: {reason}")


def denied(proxy: Proxy, server: str, reason: str) -> ProxyDeniedError:
    """The proxy does not allow this server."""
    return ProxyDeniedError(f"the proxy {proxy} does not let us reach {server}: {reason}")


def no_login(proxy: Proxy, reason: str) -> ProxyLoginError:
    """The proxy wants a name and a password, or others."""
    wants = "does not accept the name and the password" if proxy.name else "wants a name and a password"
    return ProxyLoginError(f"the proxy {proxy} {wants}: {reason}")


def of_status(proxy: Proxy, server: str, status: int) -> StorageError:
    """What a status of the proxy itself means: the answer to CONNECT, or one that is not S3's."""
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return no_login(proxy, f"HTTP {status}")
    if status == HTTPStatus.FORBIDDEN:
        return denied(proxy, server, f"HTTP {status}")
    return failed(proxy, server, f"HTTP {status}")


def of_reply(proxy: Proxy | None, server: str, head: Head, body: bytes) -> StorageError | None:
    """What a reply by way of a proxy means that is the proxy's own; None: it is the server's.

    `body` is the start of its body. A server that was asked through a tunnel answers itself.
    """
    if proxy is None or not proxy.passes_on(server) or head.status not in _OF_PROXIES:
        return None
    is_of_s3 = b"<Code>" in body or any(name in head.fields for name in _OF_S3)
    return (
        None
        if is_of_s3 and head.status != HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
        else of_status(proxy, server, head.status)
    )

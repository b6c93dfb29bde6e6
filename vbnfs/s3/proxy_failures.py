"""What a failure of the proxy means, and which replies are the proxy's own (pure)."""

import re
from http import HTTPStatus
from typing import Final

from vbnfs.errors import ProxyDeniedError, ProxyError, ProxyLoginError, StorageError
from vbnfs.s3.failures import is_no_tls
from vbnfs.s3.proxies import Proxy
from vbnfs.s3.replies import Head

# Statuses that proxies give of themselves (RFC 9110, 15.5 and 15.6); S3 gives two of them, too.
_OF_PROXIES: Final = frozenset({403, 407, 502, 503, 504})
# What a reply of S3 has: fields (Amazon S3 API, "Common response headers"), or the name of the server (RFC 9110,
# 10.2.4).
_OF_S3: Final = "x-amz-"
_SERVERS: Final = re.compile(r"(?:amazons3|minio|seaweedfs|ceph|garage|rgw)\b", re.IGNORECASE)


def absent(proxy: Proxy, reason: str) -> ProxyError:
    """There is no connection to the proxy."""
    if _is_without_tls(proxy, reason):
        return _without_tls(proxy)
    return ProxyError(f"the proxy {proxy} cannot be reached: {reason}")


def failed(proxy: Proxy, server: str, reason: str) -> ProxyError:
    """The proxy is there, and made no connection to the server."""
    if _is_without_tls(proxy, reason):
        return _without_tls(proxy)
    return ProxyError(f"the proxy {proxy} makes no connection to {server}: {reason}")


def _is_without_tls(proxy: Proxy, reason: str) -> bool:
    return proxy.scheme == "https" and is_no_tls(reason)


def _without_tls(proxy: Proxy) -> ProxyError:
    return ProxyError(f"the proxy {proxy} speaks no TLS at this port", remedy=f"write http:// in {proxy.variable}")


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
    if proxy is None or not may_be_its_own(proxy, server, head):
        return None
    is_of_s3 = b"<Code>" in body and head.status != HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
    return None if is_of_s3 else of_status(proxy, server, head.status)


def may_be_its_own(proxy: Proxy | None, server: str, head: Head) -> bool:
    """Whether a reply by way of a proxy may be the proxy's own, as far as its head says."""
    if proxy is None or not proxy.passes_on(server) or head.status not in _OF_PROXIES:
        return False
    is_of_s3 = any(name.startswith(_OF_S3) for name in head.fields) or _SERVERS.match(head.field("server"))
    return not is_of_s3 or head.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED

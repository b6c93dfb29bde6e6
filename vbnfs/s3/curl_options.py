"""The options that libcurl gets for a GET, and what its failures mean."""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Final

import pycurl

from vbnfs.errors import StorageError
from vbnfs.host.memory_file import MemoryFile
from vbnfs.s3 import proxy_failures
from vbnfs.s3.certificates import refused
from vbnfs.s3.failures import broken, unreachable
from vbnfs.s3.limits import CONNECT_SECONDS, KEEPALIVE
from vbnfs.s3.proxies import Proxy
from vbnfs.s3.ranges import RangeGet
from vbnfs.s3.trust import Trust

LIBCURL_VERSION: Final[str] = pycurl.version_info()[1]
_FILES: Final = (pycurl.CAINFO, pycurl.PROXY_CAINFO)
_FOLDERS: Final = (pycurl.CAPATH, pycurl.PROXY_CAPATH)
_BUFFER_BYTES: Final = 64 << 10  # libcurl takes ten of it from a connection at the most before the next one's turn
_SUPPRESS_CONNECT_HEADERS: Final = 265  # CURLOPT_SUPPRESS_CONNECT_HEADERS, curl/curl.h; pycurl has no name for it

_SOCKS5_AUTH: Final = 267  # CURLOPT_SOCKS5_AUTH; nor for this
_E_PROXY: Final = 97  # CURLE_PROXY; nor for this
# CURLPX_*: what went wrong with SOCKS (CURLINFO_PROXY_ERROR(3), curl/curl.h)
_IDENTD, _IDENTD_DIFFERS, _NO_LOGIN, _NOT_ALLOWED, _LOGIN_REFUSED = 7, 8, 12, 23, 33
_WANTS_LOGIN: Final = frozenset({_IDENTD, _IDENTD_DIFFERS, _NO_LOGIN, _LOGIN_REFUSED})
_DNS_CACHE_SECONDS: Final = 60  # as libcurl has it

_NO_PROXY_THERE: Final = frozenset({pycurl.E_COULDNT_RESOLVE_PROXY, pycurl.E_COULDNT_CONNECT})
_CONNECT_FAILURES: Final = frozenset(
    {
        pycurl.E_COULDNT_RESOLVE_PROXY, pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_CONNECT,
        pycurl.E_SSL_CONNECT_ERROR, pycurl.E_SSL_CACERT_BADFILE,
    }
)  # fmt: skip


@cache
def takes_folders() -> bool:
    """Whether libcurl takes a folder of certificates: with the TLS of Windows (Schannel) it does not."""
    try:
        pycurl.Curl().unsetopt(pycurl.CAPATH)
    except pycurl.error:  # CURLE_NOT_BUILT_IN
        return False
    return True


class Authorities:
    """The certificates that are trusted, as options of handles; they have to outlive these.

    They are a file in memory: libcurl parses a file once for all connections (CURLOPT_CA_CACHE_TIMEOUT(3)), and a
    blob for each of them, which takes 5 ms for a distribution's certificates. A blob where there is no such file.
    """

    def __init__(self, trust: Trust) -> None:
        self._file: MemoryFile | None = None
        self.options: dict[int, bytes | str]
        if not trust.pem:  # a folder that is none
            nothing = _FOLDERS if takes_folders() else _FILES
            self.options = dict.fromkeys(nothing, os.devnull)
            return
        self.options = {pycurl.CAINFO_BLOB: trust.pem, pycurl.PROXY_CAINFO_BLOB: trust.pem}
        with suppress(OSError):
            self._file = MemoryFile(trust.pem, name="certificates")
            self.options = {pycurl.CAINFO: self._file.path, pycurl.PROXY_CAINFO: self._file.path}


def new_handle(get: RangeGet, authorities: Authorities, proxy: Proxy | None) -> pycurl.Curl:
    """A handle for a GET, without the functions that take its reply (curl_easy_setopt(3))."""
    handle = pycurl.Curl()
    for option in (*_FILES, *(_FOLDERS if takes_folders() else ())):
        handle.unsetopt(option)  # the library's own
    options: dict[int, int | str | bytes | Sequence[str]] = {
        pycurl.URL: get.url,
        pycurl.PATH_AS_IS: 1,
        pycurl.HTTPHEADER: [f"{name}: {value}" for name, value in get.fields],
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.BUFFERSIZE: _BUFFER_BYTES,
        pycurl.NOPROXY: "",  # proxies.py has read it
        # A second try asks for the server's addresses anew: the network may be another one.
        pycurl.DNS_CACHE_TIMEOUT: 0 if get.request.is_anew else _DNS_CACHE_SECONDS,
        _SUPPRESS_CONNECT_HEADERS: 1,
        pycurl.NOSIGNAL: 1,
        pycurl.FRESH_CONNECT: int(get.request.is_anew),
        pycurl.CONNECTTIMEOUT_MS: int(CONNECT_SECONDS * 1000),
        **_proxy_options(proxy),
        **authorities.options,
    }
    for option, value in options.items():
        handle.setopt(option, value)
    handle.setopt(pycurl.SOCKOPTFUNCTION, _keep_alive)
    return handle


def _proxy_options(proxy: Proxy | None) -> dict[int, bytes | str | int]:
    """CURLOPT_PROXY; '' is none, whatever the environment has."""
    if proxy is None:
        return {pycurl.PROXY: ""}
    options: dict[int, bytes | str | int] = {pycurl.PROXY: proxy.url, _SOCKS5_AUTH: pycurl.HTTPAUTH_BASIC}
    if proxy.name or proxy.password:
        options |= {pycurl.PROXYUSERNAME: proxy.name, pycurl.PROXYPASSWORD: proxy.password}
    return options


def _keep_alive(descriptor: int, _purpose: int) -> int:
    """CURLOPT_SOCKOPTFUNCTION, of each new connection."""
    with suppress(OSError), socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as connection:  # or IPv6
        for option in KEEPALIVE:
            connection.setsockopt(*option)
    return pycurl.SOCKOPT_OK


def failure_of(
    get: RangeGet, handle: pycurl.Curl, number: int, message: str, *, proxy: Proxy | None = None
) -> StorageError:
    """What a failure of libcurl means (libcurl-errors(3))."""
    if proxy is not None and (failure := _failure_of_proxy(get, handle, number, message, proxy)) is not None:
        return failure
    if number == pycurl.E_PEER_FAILED_VERIFICATION:
        return refused(get.server, handle.getinfo(pycurl.SSL_VERIFYRESULT), message)
    if number == pycurl.E_OPERATION_TIMEDOUT:  # no other time is limited here
        return unreachable(get.server, f"no connection within {CONNECT_SECONDS:.0f} s")
    if number == pycurl.E_COULDNT_CONNECT and (errno := handle.getinfo(pycurl.OS_ERRNO)):
        return unreachable(get.server, os.strerror(errno))  # the message says only what was tried
    if number in _CONNECT_FAILURES:
        return unreachable(get.server, message)
    has_answered = handle.getinfo(pycurl.RESPONSE_CODE) != 0
    return broken(str(get.request.version), get.server, message, has_answered=has_answered)


def _failure_of_proxy(
    get: RangeGet, handle: pycurl.Curl, number: int, message: str, proxy: Proxy
) -> StorageError | None:
    """The failure, if the proxy is its cause: it refused the tunnel, or there is no way through it yet."""
    status = handle.getinfo(pycurl.HTTP_CONNECTCODE)
    if status and not 200 <= status < 300:
        return proxy_failures.of_status(proxy, get.server, status)
    if status or handle.getinfo(pycurl.REQUEST_SIZE):  # that does not count what was for the proxy alone
        return None
    if number == pycurl.E_PEER_FAILED_VERIFICATION:
        code = handle.getinfo(pycurl.PROXY_SSL_VERIFYRESULT) if proxy.scheme == "https" else 0
        return refused(f"the proxy {proxy}", code, message) if code else None
    if number in _NO_PROXY_THERE:
        errno = handle.getinfo(pycurl.OS_ERRNO)
        return proxy_failures.absent(proxy, os.strerror(errno) if errno else message)
    if number == pycurl.E_OPERATION_TIMEDOUT:
        return proxy_failures.failed(proxy, get.server, f"no connection within {CONNECT_SECONDS:.0f} s")
    return _failure_of_tunnel(get, handle, number, message, proxy)


def _failure_of_tunnel(
    get: RangeGet, handle: pycurl.Curl, number: int, message: str, proxy: Proxy
) -> StorageError | None:
    """The failure of a proxy that is there; with SOCKS others than CURLE_PROXY are the server's."""
    if proxy.is_http:
        return proxy_failures.failed(proxy, get.server, message)
    if number != _E_PROXY:
        return None
    code = handle.getinfo(pycurl.PROXY_ERROR)
    if code in _WANTS_LOGIN:
        return proxy_failures.no_login(proxy, message)
    return (proxy_failures.denied if code == _NOT_ALLOWED else proxy_failures.failed)(proxy, get.server, message)

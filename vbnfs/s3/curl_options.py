"""The options that libcurl gets for a GET, and what its failures mean."""

import os
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import pycurl

from vbnfs.errors import StorageError
from vbnfs.s3.failures import broken, unreachable, untrusted
from vbnfs.s3.limits import CONNECT_SECONDS, KEEPALIVE
from vbnfs.s3.ranges import RangeGet

_BUFFER_BYTES: Final = 64 << 10  # libcurl takes ten of it from a connection at the most before the next one's turn
_SUPPRESS_CONNECT_HEADERS: Final = 265  # CURLOPT_SUPPRESS_CONNECT_HEADERS, curl/curl.h; pycurl has no name for it

_CONNECT_FAILURES: Final = frozenset(
    {
        pycurl.E_COULDNT_RESOLVE_PROXY, pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_CONNECT,
        pycurl.E_SSL_CONNECT_ERROR, pycurl.E_SSL_CACERT_BADFILE,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trust:
    """The authorities that are trusted: as PEM, or a folder in which they are looked up by their names' hashes."""

    pem: bytes
    folder: str

    def options(self) -> dict[int, bytes | str]:
        """CURLOPT_CAINFO_BLOB or CURLOPT_CAPATH, for servers and for proxies."""
        if self.pem:
            return {pycurl.CAINFO_BLOB: self.pem, pycurl.PROXY_CAINFO_BLOB: self.pem}
        return {pycurl.CAPATH: self.folder, pycurl.PROXY_CAPATH: self.folder}


def trust_of(context: ssl.SSLContext) -> Trust:
    """What a context trusts. It lists no certificates where it looks them up in SSL_CERT_DIR as it needs them."""
    listed = context.get_ca_certs(binary_form=True)
    pem = b"".join(ssl.DER_cert_to_PEM_cert(der).encode() for der in listed)
    return Trust(pem, ssl.get_default_verify_paths().capath or os.devnull)


def new_handle(get: RangeGet, trust: Trust, proxy: str | None) -> pycurl.Curl:
    """A handle for a GET, without the functions that take its reply (curl_easy_setopt(3))."""
    handle = pycurl.Curl()
    handle.unsetopt(pycurl.CAINFO)  # those of the library itself
    options: dict[int, int | str | bytes | Sequence[str]] = {
        pycurl.URL: get.url,
        pycurl.PATH_AS_IS: 1,
        pycurl.HTTPHEADER: [f"{name}: {value}" for name, value in get.fields],
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.BUFFERSIZE: _BUFFER_BYTES,
        pycurl.PROXY: proxy or "",
        pycurl.NOPROXY: "",  # proxies.py has read it
        _SUPPRESS_CONNECT_HEADERS: 1,
        pycurl.NOSIGNAL: 1,
        pycurl.FRESH_CONNECT: int(get.request.is_anew),
        pycurl.CONNECTTIMEOUT_MS: int(CONNECT_SECONDS * 1000),
        **trust.options(),
    }
    for option, value in options.items():
        handle.setopt(option, value)
    handle.setopt(pycurl.SOCKOPTFUNCTION, _keep_alive)
    return handle


def _keep_alive(descriptor: int, _purpose: int) -> int:
    """CURLOPT_SOCKOPTFUNCTION, of each new connection."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
        for option in KEEPALIVE:
            connection.setsockopt(*option)
    return pycurl.SOCKOPT_OK


def failure_of(get: RangeGet, handle: pycurl.Curl, number: int, message: str) -> StorageError:
    """What a failure of libcurl means (libcurl-errors(3))."""
    if number == pycurl.E_PEER_FAILED_VERIFICATION:
        return untrusted(get.server, message)
    if number == pycurl.E_OPERATION_TIMEDOUT:  # no other time is limited here
        return unreachable(get.server, f"no connection within {CONNECT_SECONDS:.0f} s")
    if number == pycurl.E_COULDNT_CONNECT and (errno := handle.getinfo(pycurl.OS_ERRNO)):
        return unreachable(get.server, os.strerror(errno))  # the message says only what was tried
    if number in _CONNECT_FAILURES:
        return unreachable(get.server, message)
    return broken(str(get.request.version), get.server, message)

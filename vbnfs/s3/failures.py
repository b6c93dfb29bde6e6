"""What an exception means: no connection, no whole reply, no trust (pure)."""

import os
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Final

from vbnfs.errors import TransportError, UnreachableError

# How OpenSSL says that what came is no TLS (SSL_R_WRONG_VERSION_NUMBER, ...), and how the two clients say it of HTTP.
_NO_TLS: Final = re.compile(
    r"wrong.version.number|unknown.protocol|packet.length.too.long|http.request", re.IGNORECASE
)
_NO_HTTP: Final = re.compile(r"illegal status line|HTTP/0\.9", re.IGNORECASE)
_USE_HTTP: Final = (
    "write http:// in --endpoint-url, if the server speaks plain HTTP there; else something answers in its place:"
    " check the network and the proxy variables"
)
_USE_HTTPS: Final = (
    "write https:// in --endpoint-url, if the server speaks TLS there; else check the network, --endpoint-url and the"
    " proxy variables, and try again"
)


def is_no_tls(reason: str) -> bool:
    """Whether a connection failed because what answers speaks no TLS, but plain HTTP, most likely."""
    return _NO_TLS.search(reason) is not None


def unreachable(server: str, reason: str) -> UnreachableError:
    """There is no connection; what was to be asked does not matter."""
    if is_no_tls(reason):
        return UnreachableError(f"{server} speaks no TLS at this port, but plain HTTP, most likely", remedy=_USE_HTTP)
    return UnreachableError(f"{server} cannot be reached: {reason}")


def broken(about: str, server: str, reason: str, *, has_answered: bool = True) -> TransportError:
    """There was a connection, and no whole reply came by it; nothing at all, if it has not answered."""
    if is_no_tls(reason):
        return unreachable(server, reason)
    if server.startswith("http://") and _NO_HTTP.search(reason):
        text = f"{server} speaks no plain HTTP at this port, but TLS, most likely ({reason:.100})"
        return TransportError(text, remedy=_USE_HTTPS)
    may_want_tls = server.startswith("http://") and not has_answered
    return TransportError(f"{about}: {reason} (server: {server})", remedy=_USE_HTTPS if may_want_tls else None)


def reason_of(error: BaseException) -> str:
    """Why something failed, in the system's words where it has some for it."""
    causes = list(_causes(error))
    system = system_reason(error)
    text = next((text for cause in causes if (text := str(cause))), type(error).__name__)
    return f"{text}: {system}" if system and system not in text else text


def system_reason(error: BaseException) -> str:
    """The system's words for the innermost cause that has some, or ''. Others say only what was tried."""
    system = [_words(cause) for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror]
    return system[-1] if system else ""


def verification_of(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """The cause, if it is a certificate that is not trusted."""
    return next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLCertVerificationError)), None)


def _words(error: OSError) -> str:
    """The system's words alone: trio puts the address before those of a connection."""
    has_own_numbers = isinstance(error, ssl.SSLError | socket.gaierror)
    return str(error.strerror) if has_own_numbers or error.errno is None else os.strerror(error.errno)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        error = inner or error.__cause__ or error.__context__

"""What an exception means: no connection, no whole reply, no trust (pure)."""

import os
import socket
import ssl
from collections.abc import Iterator

from vbnfs.errors import TransportError


def unreachable(server: str, reason: str) -> TransportError:
    """There is no connection; what was to be asked does not matter."""
    return TransportError(f"{server} cannot be reached: {reason}")


def broken(about: str, server: str, reason: str) -> TransportError:
    """There was a connection, and no whole reply came by it."""
    return TransportError(f"{about}: {reason} (server: {server})")


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

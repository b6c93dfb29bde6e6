"""Having the kernel find out that the other end of an idle connection is gone: tcp(7)."""

import socket
from typing import Final

SocketOption = tuple[int, int, int]

_FIRST_SECONDS: Final = 10  # after which it asks for a sign of life ...
_NEXT_SECONDS: Final = 5  # ... and asks again
_MOST_QUESTIONS: Final = 3  # where the system knows no limit of time


def keepalive_options(silence_seconds: float) -> tuple[SocketOption, ...]:
    """Options that end a connection which owes an answer for too long, as (level, name, value) of setsockopt(2).

    The limit of time is Linux's (TCP_USER_TIMEOUT); elsewhere unanswered questions are counted. macOS has another
    name for the time of the first one.
    """
    wanted = {
        "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE": _FIRST_SECONDS,
        "TCP_KEEPINTVL": _NEXT_SECONDS,
        "TCP_USER_TIMEOUT" if hasattr(socket, "TCP_USER_TIMEOUT") else "TCP_KEEPCNT": (
            int(silence_seconds * 1000) if hasattr(socket, "TCP_USER_TIMEOUT") else _MOST_QUESTIONS
        ),
    }
    known = ((socket.IPPROTO_TCP, getattr(socket, name, None), value) for name, value in wanted.items())
    options = ((level, number, value) for level, number, value in known if number is not None)
    return ((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *options)

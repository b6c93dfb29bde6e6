"""Looking up names of hosts in threads of their own.

A name server that does not answer holds a thread until the system's resolver gives up, which may take half a minute;
being cancelled does not end it. In the threads that trio has for all, some dozens of such lookups would keep reads of
the cache waiting for the network. So lookups have few threads of their own.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import trio

_LOOKUPS_AT_ONCE: Final = 4


@contextmanager
def lookups_in_own_threads() -> Iterator[None]:
    """While entered, `trio.socket` uses these threads, in this trio run. Its streams, and httpx, take no resolver."""
    before = trio.socket.set_custom_hostname_resolver(_Resolver())
    try:
        yield
    finally:
        trio.socket.set_custom_hostname_resolver(before)


class _Resolver(trio.abc.HostnameResolver):
    """Resolves as the system does."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(_LOOKUPS_AT_ONCE)

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """See socket.getaddrinfo."""
        look_up = partial(socket.getaddrinfo, host, port, family, type, proto, flags)
        return await trio.to_thread.run_sync(look_up, abandon_on_cancel=True, limiter=self._threads)

    async def getnameinfo(self, sockaddr: tuple[Any, ...], flags: int) -> tuple[str, str]:
        """See socket.getnameinfo."""
        look_up = partial(socket.getnameinfo, sockaddr, flags)
        return await trio.to_thread.run_sync(look_up, abandon_on_cancel=True, limiter=self._threads)

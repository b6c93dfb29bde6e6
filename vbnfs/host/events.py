"""Waiting for many descriptors, epoll(7), and waking the thread that waits, eventfd(2).

Where a system has neither, the `selectors` of Python's library wait (kqueue(2) on macOS, select() on Windows), and a
pair of sockets wakes.
"""

import os
import select
import selectors
import socket
import weakref
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

# EPOLLIN, EPOLLOUT, EPOLLERR with EPOLLHUP of epoll_ctl(2).
READABLE: Final = 0x1
WRITABLE: Final = 0x4
BROKEN: Final = 0x18
_HAS_EPOLL: Final = hasattr(select, "epoll")
_HAS_EVENTFD: Final = hasattr(os, "eventfd")


class Poller(Protocol):
    """A set of descriptors, with what is waited for: `select.epoll`, as far as it is used here.

    `poll` gives those of which something happened, within so many seconds (None: without end). Methods raise
    `OSError`; a descriptor that is there already, or is not there, is a `FileExistsError` or `FileNotFoundError`.
    """

    def register(self, fd: int, eventmask: int, /) -> None:
        """Wait for a descriptor, too."""

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Wait for something else of it."""

    def unregister(self, fd: int, /) -> None:
        """Wait for it no more."""

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """Descriptors and events."""

    def close(self) -> None:
        """Forget all."""


def new_poller() -> Poller:
    """An empty set. Raises `OSError` without a descriptor left."""
    return select.epoll() if _HAS_EPOLL else _Selector()


class _Selector:
    """See `Poller`. Where nothing is waited for, time passes: select() of Windows takes no empty set."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, eventmask: int, /) -> None:
        try:
            self._selector.register(fd, _wanted(eventmask))
        except KeyError:
            raise FileExistsError(fd) from None

    def modify(self, fd: int, eventmask: int, /) -> None:
        try:
            self._selector.modify(fd, _wanted(eventmask))
        except KeyError:
            raise FileNotFoundError(fd) from None

    def unregister(self, fd: int, /) -> None:
        try:
            self._selector.unregister(fd)
        except KeyError:
            raise FileNotFoundError(fd) from None

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        try:
            found = self._selector.select(timeout) if self._selector.get_map() else []
        except OSError:
            self._forget_closed()
            return []
        return [(key.fd, _happened(events)) for key, events in found]

    def close(self) -> None:
        self._selector.close()

    def _forget_closed(self) -> None:
        """Forget descriptors that were closed, as epoll(7) does by itself."""
        for fd in [key.fd for key in self._selector.get_map().values()]:
            try:
                select.select([fd], [], [], 0)
            except (OSError, ValueError):
                self._selector.unregister(fd)


def _wanted(mask: int) -> int:
    """What `selectors` has for it. A connection that breaks is readable there."""
    return (selectors.EVENT_READ if mask & READABLE else 0) | (selectors.EVENT_WRITE if mask & WRITABLE else 0)


def _happened(events: int) -> int:
    return (READABLE if events & selectors.EVENT_READ else 0) | (WRITABLE if events & selectors.EVENT_WRITE else 0)


class Waker:
    """A descriptor that becomes readable when another thread calls `wake`. It is closed with its last user.

    Raises `OSError` without a descriptor left.
    """

    def __init__(self) -> None:
        self._pair: tuple[socket.socket, socket.socket] | None = None
        if _HAS_EVENTFD:
            self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            close = partial(os.close, self.descriptor)
        else:
            self._pair = ours, its = socket.socketpair()
            ours.setblocking(False)
            its.setblocking(False)
            self.descriptor = ours.fileno()
            close = partial(_close, self._pair)
        # Not `__del__`: in a cycle, the collector may end the sockets before this, which Python warns of.
        weakref.finalize(self, close).atexit = False

    def wake(self) -> None:
        """Make it readable."""
        if self._pair is None:
            os.eventfd_write(self.descriptor, 1)
            return
        with suppress(BlockingIOError):  # it is readable, and has not been cleared for long
            self._pair[1].send(b"\0")

    def clear(self) -> None:
        """Make it unreadable again."""
        if self._pair is None:
            os.eventfd_read(self.descriptor)
            return
        with suppress(BlockingIOError):
            while self._pair[0].recv(4096):
                pass


def _close(pair: tuple[socket.socket, socket.socket]) -> None:
    for one in pair:
        one.close()

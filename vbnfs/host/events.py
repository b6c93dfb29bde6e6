"""Waiting for many descriptors, epoll(7), and waking the thread that waits, eventfd(2)."""

import errno
import os
import select
from typing import Final

# EPOLLIN, EPOLLOUT, EPOLLERR with EPOLLHUP of epoll_ctl(2).
READABLE: Final = 0x1
WRITABLE: Final = 0x4
BROKEN: Final = 0x18


def new_poller() -> "select.epoll":
    """A set of descriptors to wait for. Raises `OSError` on a system without epoll, or without a descriptor left."""
    if not hasattr(select, "epoll"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return select.epoll()


class Waker:
    """A descriptor that becomes readable when another thread calls `wake`. It is closed with its last user.

    Raises `OSError` on a system without eventfd, or without a descriptor left.
    """

    def __init__(self) -> None:
        self.descriptor = -1
        if not hasattr(os, "eventfd"):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def wake(self) -> None:
        """Make it readable."""
        os.eventfd_write(self.descriptor, 1)

    def clear(self) -> None:
        """Make it unreadable again."""
        os.eventfd_read(self.descriptor)

"""A FUSE connection: the descriptor of /dev/fuse through which one mount is served (mounting.py makes it)."""

import errno
import fcntl
import os
import select
from collections.abc import Sequence
from typing import Final

from vbnfs.fuse.operations import Buffer
from vbnfs.fuse.protocol import (
    BACKING_CLOSE,
    BACKING_OPEN,
    HEADER_BYTES,
    REQUEST_BYTES,
    Header,
    backing_id,
    backing_map,
    parse_header,
    reply_header,
)

# What read(2) of the device says besides "none now": withdrawn before it was read (fuse(4)), interrupted, or no
# memory to hand it over, in which case the kernel has answered it itself.
_NO_REQUEST: Final = frozenset({errno.ENOENT, errno.EINTR, errno.ENOMEM})
_UNMOUNTED: Final = frozenset({errno.ENODEV, errno.ECONNABORTED})


class Unmounted(Exception):  # noqa: N818 - how every mount ends
    """The connection is over: unmounted, or aborted."""


class Device:
    """Requests from, and replies to, the kernel. Reading does not wait."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        os.set_inheritable(descriptor, False)
        os.set_blocking(descriptor, False)
        self._buffer = bytearray(REQUEST_BYTES)
        self._into = [self._buffer]
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # there may be no descriptor left at the end

    def read(self) -> tuple[Header, bytes] | None:
        """The next request, its header and its body; None if there is none now. Raises `Unmounted`, or an OSError."""
        try:
            length = os.readv(self.descriptor, self._into)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in _NO_REQUEST:
                return None
            if error.errno in _UNMOUNTED:
                raise Unmounted from error
            raise
        if length < HEADER_BYTES:
            raise Unmounted
        return parse_header(self._buffer), bytes(self._buffer[HEADER_BYTES:length])

    def is_readable(self) -> bool:
        """Whether `read` would return a request, or raise. Takes a microsecond."""
        return bool(self._poll.poll(0))

    def reply(self, unique: int, body: Buffer) -> None:
        """Answer a request. It is no error if no program waits for the answer any more."""
        self._write([reply_header(unique, len(body)), body])

    def refuse(self, unique: int, number: int) -> None:
        """Answer a request with an errno."""
        self._write([reply_header(unique, 0, errno=number)])

    def notify(self, notice: bytes) -> None:
        """Send a notice; it is no error if the kernel does not know the inode."""
        self._write([notice])

    def open_backing(self, descriptor: int) -> int:
        """The kernel's number of an open file that it may read itself: ioctl(2). The file may be closed then.

        Raises `OSError`. EPERM: only a process with CAP_SYS_ADMIN may do so, in the first user namespace. ELOOP: the
        file is on a file system that is stacked on another one.
        """
        return int(fcntl.ioctl(self.descriptor, BACKING_OPEN, backing_map(descriptor), True))

    def close_backing(self, number: int) -> None:
        """Give such a number back. The kernel goes on reading for files that are open. Raises `OSError`."""
        fcntl.ioctl(self.descriptor, BACKING_CLOSE, backing_id(number))

    def close(self) -> None:
        """End the connection: the kernel answers requests that still wait.

        The descriptor's number stays taken: a thread that is about to write a notice must not meet another file.
        """
        try:
            os.dup2(self._nothing, self.descriptor, inheritable=False)
        except OSError:  # prlimit(1) has set the limit of open files below this number: no other file gets it
            closing, self.descriptor = self.descriptor, self._nothing
            os.close(closing)

    def __del__(self) -> None:
        for descriptor in {self.descriptor, self._nothing}:
            os.close(descriptor)

    def _write(self, parts: Sequence[Buffer]) -> None:
        try:
            os.writev(self.descriptor, parts)  # not joined: a view of the cache is copied by the kernel alone
        except OSError as error:
            # ENOENT: withdrawn, or an inode unknown to the kernel. ENODEV, EPERM, ECONNABORTED: unmounted, which
            # the next read tells.
            if error.errno not in {errno.ENOENT, errno.ENODEV, errno.EPERM, errno.ECONNABORTED, errno.EPIPE}:
                raise

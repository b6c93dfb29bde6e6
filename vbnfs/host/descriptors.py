"""File descriptors: what a process runs out of before anything else, and then it is not the server that fails.

A failure to connect seldom tells its cause: libcurl and the system's resolver have no word for it. So it is tried.
"""

import errno
import os
from typing import Final

from vbnfs.errors import NoDescriptorError, ProxyError, TransportError

NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})
CROWDED: Final = "too many open files"
_ENOUGH: Final = 4  # a connection takes one, and looking up a name some more for a moment


def are_left() -> bool:
    """Whether this process could open a connection now."""
    opened: list[int] = []
    try:
        while len(opened) < _ENOUGH:
            opened.append(_open_one())
    except OSError as error:
        return error.errno not in NO_DESCRIPTOR
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return True


def explained(failure: TransportError) -> TransportError:
    """What failed: the network or the server; or this process can open no connection."""
    if type(failure) not in {TransportError, ProxyError} or are_left():
        return failure
    return NoDescriptorError(f"{failure}: {CROWDED}")


def _open_one() -> int:
    """A descriptor that needs nothing but its place in the table."""
    return os.eventfd(0, os.EFD_CLOEXEC) if hasattr(os, "eventfd") else os.open(os.devnull, os.O_RDONLY)

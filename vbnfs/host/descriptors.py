"""File descriptors: what a process runs out of before anything else, and then it is not the server that fails.

A failure to connect seldom tells its cause: libcurl and the system's resolver have no word for it. So it is tried.

And those that a process was started with, which a daemon must not hold: daemon(7).
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from vbnfs.errors import NoDescriptorError, ProxyError, TransportError, UnreachableError

NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})
CROWDED: Final = "too many open files"
_LAST_STANDARD: Final = 2
_OPEN: Final = "/proc/self/fd"
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
    if type(failure) not in {TransportError, UnreachableError, ProxyError} or are_left():
        return failure
    return NoDescriptorError(f"{failure}: {CROWDED}")


@contextmanager
def kept_back(count: int) -> Iterator[Callable[[], None]]:
    """Keep descriptors for a time when there may be no other. Less than `count` where there are hardly any now.

    What this yields gives them back. A process keeps them before it opens anything else: then their numbers are the
    lowest, and a limit that is lowered while the process runs (prlimit(1)) does not take them away.
    """
    with ExitStack() as kept:
        with suppress(OSError):
            for _ in range(count):
                kept.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        yield kept.close


def inherited() -> frozenset[int]:
    """The descriptors that this process was started with, but for the standard three. Raises no error.

    They are those that survive execve(2). What Python has opened since does not (FD_CLOEXEC, PEP 446).
    """
    try:
        numbers = [int(name) for name in os.listdir(_OPEN)]
    except OSError:  # no /proc, or no descriptor left
        return frozenset()
    return frozenset(number for number in numbers if number > _LAST_STANDARD and _survives(number))


def close_inherited(numbers: Iterable[int]) -> None:
    """Close descriptors that were `inherited`, but for those that were taken into use since (FD_CLOEXEC again)."""
    for number in numbers:
        if _survives(number):
            with suppress(OSError):  # an error of the file, which is closed all the same: close(2)
                os.close(number)


def _survives(descriptor: int) -> bool:
    """Whether a descriptor is open, and survives execve(2)."""
    try:
        return os.get_inheritable(descriptor)
    except OSError:  # that of the listing itself
        return False


def _open_one() -> int:
    """A descriptor that needs nothing but its place in the table."""
    return os.eventfd(0, os.EFD_CLOEXEC) if hasattr(os, "eventfd") else os.open(os.devnull, os.O_RDONLY)

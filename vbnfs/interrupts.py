"""Ctrl-C while a program begins.

Importing a command line takes some tenths of a second, and an exception that is raised within an import leaves a
traceback. So a program first calls `end_at_once`, then imports the rest, and calls `raise_again` where it catches
KeyboardInterrupt. This module imports no more than that needs.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_FIRST = 1  # the first process of a container (of a PID namespace)


def end_at_once(program: str, status: int) -> None:
    """From now on SIGINT ends this process, which is `program`, with `status`, unless it is ignored.

    In the first process of a container SIGTERM does so, too. There the kernel drops signals that have no handler
    (pid_namespaces(7)): what stops the container would wait, and then kill.
    """

    def end(number: int, frame: FrameType | None) -> None:
        try:
            os.write(2, f"{program}: interrupted\n".encode())
        finally:
            os._exit(status)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
        if os.getpid() == _FIRST:
            signal.signal(signal.SIGTERM, _as_ctrl_c)


def raise_again() -> None:
    """From now on SIGINT raises KeyboardInterrupt, unless it is ignored."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def at_sigterm_too() -> Iterator[None]:
    """While entered, SIGTERM does what Ctrl-C does, unless that is ignored: what was mounted is taken away first."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGTERM, _as_ctrl_c)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _as_ctrl_c(_number: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)

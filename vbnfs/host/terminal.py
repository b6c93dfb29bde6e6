"""Keys of a terminal, one by one, as they are pressed: termios(3)."""

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def keys() -> Iterator[Callable[[float], str | None]]:
    """While entered, gives what waits for a key for so many seconds; None if none was pressed.

    Ctrl-C is a signal, as always. Where standard input is no terminal, there are no keys.
    """
    try:
        before = termios.tcgetattr(sys.stdin.fileno())
    except (OSError, ValueError, termios.error):
        yield _no_key
        return
    descriptor = sys.stdin.fileno()
    try:
        tty.setcbreak(descriptor)
        yield lambda seconds: _key(descriptor, seconds)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _no_key(seconds: float) -> None:
    time.sleep(seconds)


def _key(descriptor: int, seconds: float) -> str | None:
    readable, _, _ = select.select([descriptor], [], [], seconds)
    if not readable:
        return None
    if not (data := os.read(descriptor, 1)):  # the terminal is gone
        raise KeyboardInterrupt
    return data.decode(errors="replace")

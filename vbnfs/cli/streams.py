"""Standard input, output and error as a command finds them: closed, full, without a reader, of any locale.

Where descriptors 0 to 2 are closed, they are opened before anything else. Otherwise the next file, socket or epoll
would get such a number, and output would go there. A closed stream has no reader: it becomes /dev/null, and writing
to it is no failure.
"""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any, Final, TextIO

# How writing fails on a full disk, at a limit, or on a terminal that is gone: write(2).
UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_LAST_STANDARD: Final = 2


def prepare() -> None:
    """Open the closed ones of the three, and have all accept any name. To be called before anything is opened."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD:
        os.set_inheritable(descriptor, True)  # as standard streams are
    os.close(descriptor)
    modules: Any = sys
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # as Python sets it where the descriptor is closed
            setattr(modules, name, os.fdopen(number, "w" if number else "r", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        _accept_any_name(stream)


def _accept_any_name(stream: TextIO) -> None:
    """Have a stream accept names in UTF-8, and paths of any bytes.

    An ASCII locale is no fact about the terminal: where Python may, it uses UTF-8 then as well (PEP 538, PEP 540).
    """
    if not isinstance(stream, io.TextIOWrapper):
        return
    if stream.encoding.lower() in {"ascii", "ansi_x3.4-1968", "646", "us-ascii"}:
        stream.reconfigure(encoding="utf-8")
    stream.reconfigure(errors="backslashreplace")


def discard(stream: TextIO) -> None:
    """Discard what is left in a stream's buffer: Python would report an error when it flushes it at the end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def say(line: str) -> None:
    """Write a line to standard error. That it cannot be written is no failure of the command."""
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            discard(sys.stderr)

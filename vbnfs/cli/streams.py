"""Standard input, output and error as a command finds them: closed, full, read by nobody, of any locale.

Descriptors 0 to 2 are taken first of all, where they are missing: else the next file, socket or epoll that is opened
would get such a number, and what is written to "standard output" would go there. Closed means that nobody wants to
read: it is written to /dev/null, and no failure.
"""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any, Final, TextIO

# What a full disk, a limit, or a terminal that is gone say of writing: write(2).
UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_LAST_STANDARD: Final = 2


def prepare() -> None:
    """Make what is missing of the three, and have them take any name. To be called before anything is opened."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD:
        os.set_inheritable(descriptor, True)  # as standard streams are
    os.close(descriptor)
    modules: Any = sys
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # so Python has it where the descriptor was closed
            setattr(modules, name, os.fdopen(number, "w" if number else "r", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        _take_any_name(stream)


def _take_any_name(stream: TextIO) -> None:
    """Names are in UTF-8, and paths may be any bytes.

    An ASCII locale says nothing of the terminal; where Python may, it takes UTF-8 for it as well (PEP 538, PEP 540).
    """
    if not isinstance(stream, io.TextIOWrapper):
        return
    if stream.encoding.lower() in {"ascii", "ansi_x3.4-1968", "646", "us-ascii"}:
        stream.reconfigure(encoding="utf-8")
    stream.reconfigure(errors="backslashreplace")


def let_go(stream: TextIO) -> None:
    """What is left in a stream's buffer goes nowhere: Python would complain of it at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def say(line: str) -> None:
    """Write a line to standard error. What cannot be said is no failure of what it is about."""
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            let_go(sys.stderr)

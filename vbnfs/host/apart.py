"""Asking about files of a mount whose daemon may not answer, by a process of its own.

A process that asks a stopped daemon cannot end, nor be killed, before the daemon goes on (`request_wait_answer`,
fs/fuse/dev.c). So another process asks, and is left behind if no answer comes.
"""

import errno
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vbnfs.host import apart_program

_END_SECONDS: Final = 1.0  # of a process that was killed, and waits for nothing
_PIECE_BYTES: Final = 64 << 10
_READ_ATTRIBUTE: Final = """
import os, sys
try:
    value = os.getxattr(sys.argv[1], sys.argv[2])
except OSError as error:
    sys.exit(error.errno)
sys.stdout.buffer.write(value)
"""
_FIRST_MISSING: Final = """
import os, sys
print(next((number for number, path in enumerate(sys.argv[1:]) if not os.path.lexists(path)), ""))
"""
_NAMES_IN: Final = """
import os, sys
sys.stdout.buffer.write(b"\\0".join(os.listdir(os.fsencode(sys.argv[1]))))
"""


@dataclass(frozen=True, slots=True)
class Found:
    """A file at or below the path of this number; `value` of an attribute, or None and the errno of reading it."""

    number: int
    path: str
    inode: int = 0
    size_bytes: int | None = None
    value: str | None = None
    errno: int = 0
    is_end: bool = False


def read_attribute(path: Path, name: str, *, seconds: float) -> bytes:
    """An extended attribute of a file. Raises `OSError`: TimeoutError where no answer comes in time."""
    with _program(["-c", _READ_ATTRIBUTE, os.fspath(path), name]) as process:
        value = _output_of(process, seconds)
    if process.returncode != 0:
        raise OSError(process.returncode, os.strerror(process.returncode), str(path))
    return value


def first_missing(paths: Sequence[Path], *, seconds: float) -> Path | None:
    """The first of some paths at which nothing is. Raises `TimeoutError`."""
    with _program(["-c", _FIRST_MISSING, *map(os.fspath, paths)]) as process:
        number = _output_of(process, seconds).strip()
    return paths[int(number)] if number else None


def names_in(folder: Path, *, seconds: float) -> list[str]:
    """The names in a folder; none where it cannot be listed. Raises `TimeoutError`."""
    with _program(["-c", _NAMES_IN, os.fspath(folder)]) as process:
        names = _output_of(process, seconds)
    return [os.fsdecode(name) for name in names.split(b"\0") if name]


def attributes_below(paths: Sequence[Path], name: str, *, seconds: float) -> Iterator[Found]:
    """An extended attribute of each file at and below some paths, by which links are followed, and no others.

    Raises `OSError` for a path or a folder that cannot be read, TimeoutError where nothing comes for so long.
    """
    with _program([apart_program.__file__, name, *map(os.fspath, paths)]) as process:
        for line in _lines_of(process, seconds):
            found = Found(**json.loads(line))
            if found.is_end:
                raise OSError(found.errno, os.strerror(found.errno), found.path)
            yield found


@contextmanager
def _program(words: Sequence[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A Python process that imports nothing of ours. It is killed at the end, and left behind if it cannot end."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the one who asks
    )
    assert process.stdout is not None
    try:
        with process.stdout:
            yield process
    finally:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)


def _output_of(process: "subprocess.Popen[bytes]", seconds: float) -> bytes:
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        raise _no_answer() from None


def _lines_of(process: "subprocess.Popen[bytes]", seconds: float) -> Iterator[bytes]:
    assert process.stdout is not None
    descriptor, rest = process.stdout.fileno(), b""
    while True:
        if not select.select([descriptor], [], [], seconds)[0]:
            raise _no_answer()
        piece = os.read(descriptor, _PIECE_BYTES)
        if not piece:
            return
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines


def _no_answer() -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

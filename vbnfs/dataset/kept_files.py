"""Small files that are kept for ever: manifests, and the sizes and times of objects.

A kept file is a line with the blake2b of the rest, then the rest. It is replaced as a whole (temporary file,
fsync, rename), so that several processes and a power cut leave one valid state or another; what is damaged all
the same counts as absent, since it can be fetched again.

A file of kept lines grows instead: each line is the blake2b of its text, a blank, the text. Several processes
append to it at the same time; a line that is damaged or torn counts as absent.

Where they are is said by a `Place`, or by a path, of which the folder is then checked anew each time.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vbnfs.host.atomic import replace_file
from vbnfs.host.places import Place, file_at


def read_kept(path: Path | Place) -> bytes | None:
    """What `write_kept` stored; None if there is nothing, or it is damaged."""
    try:
        digest, _, data = file_at(path).read_bytes().partition(b"\n")
    except OSError:
        return None
    return data if digest == _digest(data) else None


def write_kept(path: Path | Place, data: bytes) -> None:
    """Replace the file at `path`. Raises `OSError`; the old file then still stands."""
    replace_file(file_at(path), _digest(data) + b"\n" + data)


def read_kept_lines(path: Path | Place) -> Iterator[bytes]:
    """What `append_kept_line` stored, as far as it is whole."""
    with suppress(OSError):
        for line in file_at(path).read_bytes().split(b"\n"):
            digest, blank, text = line.partition(b" ")
            if blank and digest == _digest(text):
                yield text


def append_kept_line(path: Path | Place, text: bytes) -> None:
    """Add a line, for as much as is written of it in one go. Raises `OSError`."""
    place = file_at(path)
    place.parent.mkdir()
    descriptor = place.open(os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        # It starts a line of its own even behind a torn one.
        os.write(descriptor, b"\n" + _digest(text) + b" " + text + b"\n")
    finally:
        os.close(descriptor)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data).hexdigest().encode()

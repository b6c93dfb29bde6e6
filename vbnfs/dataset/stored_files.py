"""Small files below the cache directory that are never evicted: manifests, and the sizes and times of objects.

A stored file is a line with the blake2b of the rest, then the rest. It is replaced as a whole (temporary file,
fsync, rename), so that several processes and a power cut leave either the old state or the new one. A damaged file
counts as absent, since its content can be fetched again.

A file of stored lines grows instead: each line is the blake2b of its text, a blank, the text. Several processes may
append to it at the same time. A damaged or torn line counts as absent.

A file is named by a `Place`, or by a path; the folder of a path is checked at each call.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vbnfs.host.atomic import replace_file
from vbnfs.host.places import Place, file_at, folder_at
from vbnfs.logs import WarnOnce


def read_stored(path: Path | Place) -> bytes | None:
    """What `write_stored` wrote; None if the file is absent or damaged."""
    try:
        digest, _, data = file_at(path).read_bytes().partition(b"\n")
    except OSError:
        return None
    return data if digest == _digest(data) else None


def write_stored(path: Path | Place, data: bytes) -> None:
    """Replace the file at `path`. Raises `OSError`; the old file is then unchanged."""
    replace_file(file_at(path), _digest(data) + b"\n" + data)


def read_stored_lines(path: Path | Place) -> Iterator[bytes]:
    """The lines that `append_stored_line` wrote, less the damaged ones."""
    with suppress(OSError):
        for line in file_at(path).read_bytes().split(b"\n"):
            digest, blank, text = line.partition(b" ")
            if blank and digest == _digest(text):
                yield text


def append_stored_line(path: Path | Place, text: bytes) -> None:
    """Append a line by one write(2); a short write leaves a torn line. Raises `OSError`."""
    place = file_at(path)
    place.parent.mkdir()
    descriptor = place.open(os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        # The first newline ends a torn line, if one stands before.
        os.write(descriptor, b"\n" + _digest(text) + b" " + text + b"\n")
    finally:
        os.close(descriptor)


class StoredFolder:
    """A folder of stored files. A write that fails is logged once; the content is requested again later."""

    def __init__(self, directory: Path | Place) -> None:
        self.directory = folder_at(directory)
        self._warn_once = WarnOnce()

    def __truediv__(self, name: str) -> Place:
        """The file `name`."""
        return self.directory / name

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if it is absent or damaged."""
        return read_stored(self / name)

    def read_lines(self, name: str) -> Iterator[bytes]:
        """The lines of a file, less the damaged ones."""
        return read_stored_lines(self / name)

    def write(self, name: str, data: bytes) -> None:
        """Replace a file as a whole."""
        with self._failures_logged(name):
            write_stored(self / name, data)

    def append_line(self, name: str, text: bytes) -> None:
        """Append a line to a file."""
        with self._failures_logged(name):
            append_stored_line(self / name, text)

    @contextmanager
    def _failures_logged(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)  # without the temporary name, which differs each time
            self._warn_once("cannot be kept; it will be asked for again", file=str(self / name), reason=reason)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data).hexdigest().encode()

"""Small files that are kept for ever: manifests, and the sizes and times of objects.

A kept file is a line with the blake2b of the rest, then the rest. It is replaced as a whole (temporary file,
fsync, rename), so that several processes and a power cut leave one valid state or another; what is damaged all
the same counts as absent, since it can be fetched again.
"""

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path


def read_kept(path: Path) -> bytes | None:
    """What `write_kept` stored; None if there is nothing, or it is damaged."""
    try:
        digest, _, data = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    return data if digest == _digest(data) else None


def write_kept(path: Path, data: bytes) -> None:
    """Replace the file at `path`. Raises `OSError`; the old file then still stands."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".new", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_digest(data) + b"\n" + data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data).hexdigest().encode()

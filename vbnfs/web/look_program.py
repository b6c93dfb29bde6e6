"""A program: makes figures of HDF5 files that may have been made to do harm. looking.py starts it.

Each question is a line of JSON on standard input: an `AskedLook`, the size of its file, and how much processor time
there is for it. Before the answer, a line of JSON, come lines that ask for bytes, `{"read": [offset, size]}`: so many
follow on standard input. Once it runs it opens no file, loads no library, and takes no more than a bounded memory:
the kernel sees to that where it can (host/limits.py).
"""

import io
import json
from dataclasses import asdict
from typing import Any, BinaryIO, Final

import h5py
import numpy as np

from vbnfs.host.limits import open_nothing_more, take_little_memory, take_little_time
from vbnfs.web.look_figures import figures_of
from vbnfs.web.quick_looks import AskedLook

_MOST_MEMORY_BYTES: Final = 1 << 30
_PIECE_BYTES: Final = 4 << 20
_MOST_LETTERS: Final = 500  # of a message, which has names of the file
# What h5py and NumPy raise where a file has something else at a path than such files have.
_UNEXPECTED: Final = (*(ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError),)


class _Asked(io.RawIOBase):
    """A file whose bytes are asked for on `to`, and come from `source`."""

    def __init__(self, source: io.BufferedReader, to: BinaryIO, size_bytes: int) -> None:
        super().__init__()
        self._source = source
        self._to = to
        self._size_bytes = size_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}.get(whence, 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size_bytes - self._position))
        view = memoryview(buffer).cast("B")[:count]
        for start in range(0, count, _PIECE_BYTES):
            piece = view[start : start + _PIECE_BYTES]
            _say(self._to, {"read": [self._position + start, len(piece)]})
            if self._source.readinto(piece) < len(piece):
                raise EOFError
        self._position += count
        return count


def main() -> None:
    """Answer until nothing more is asked."""
    _get_ready()
    with open(0, "rb", closefd=False) as source, open(1, "wb", closefd=False) as to:
        while line := source.readline():
            question = json.loads(line)
            take_little_time(question["seconds"])
            file = _Asked(source, to, question["size_bytes"])
            _say(to, _answer(file, AskedLook(**question["asked"])))


def _get_ready() -> None:
    """Load what is loaded at its first use; then open nothing more."""
    with io.BytesIO() as trial, h5py.File(trial, "w") as file:
        file.create_dataset("x", data=np.arange(9.0), chunks=(3,), compression="gzip", shuffle=True)
        np.sort(file["x"][:])
    while h5py.h5pl.size():
        h5py.h5pl.remove(0)
    take_little_memory(_MOST_MEMORY_BYTES)
    open_nothing_more()


def _answer(given: _Asked, asked: AskedLook) -> dict[str, Any]:
    try:
        with h5py.File(given, "r") as file:
            figures, units = figures_of(file, asked)
        return {"figures": [asdict(one) for one in figures], "units": units}
    except MemoryError:
        return {"problem": "it needs more memory than a quick look may take"}
    except _UNEXPECTED as error:
        return {"problem": str(error)[:_MOST_LETTERS]}


def _say(to: BinaryIO, message: dict[str, Any]) -> None:
    to.write(json.dumps(message).encode() + b"\n")
    to.flush()


if __name__ == "__main__":
    main()

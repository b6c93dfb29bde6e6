"""An open file as fsspec's programs expect it: with small reads and lines answered from a piece that is at hand."""

import io
from collections.abc import Iterable
from typing import Any, Final, SupportsIndex

from fsspec.caching import BaseCache
from fsspec.spec import AbstractBufferedFile

from vbnfs.api.remote_file import RemoteFile, writable
from vbnfs.errors import ReadOnlyError
from vbnfs.hdf5.signature import SIGNATURE
from vbnfs.host.forking import LockOfProcess

# A part of a block: what is read around a small read never needs a block that the small read does not.
PIECE_BYTES: Final = 64 << 10


class BufferedFile(AbstractBufferedFile):
    """A file for reading, from `VbnfsFileSystem.open`: fsspec's own interface on a `RemoteFile`.

    It can be used by several threads, and pickled: the copy is of the same version and stands where this one stood.
    Blocks are kept in vbnfs's cache, so `cache_type` and `block_size` of fsspec change nothing of what is fetched.
    Methods raise what those of `RemoteFile` do.
    """

    DEFAULT_BLOCK_SIZE = PIECE_BYTES
    loc: int  # the position

    def __init__(self, fs: Any, path: str, remote: RemoteFile, block_size: int | None = None) -> None:
        self._remote = remote
        self._lock = LockOfProcess()  # of the position, and of the piece
        super().__init__(fs, path, "rb", block_size, cache_type="none", size=remote.size)
        # They know the remote file alone: a file that no program uses any more is closed then, with its piece.
        self.cache = self._pieces = _Pieces(lambda start, end: remote.read_at(start, end - start), remote.size)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        return _reopened, (self.fs, self.path, self.blocksize, self.loc)

    def read(self, length: int | None = -1) -> bytes:
        """Up to `length` bytes from the position on; all that are left for -1 and None."""
        with self._lock():
            data: bytes = super().read(length)
            return data

    def readinto(self, b: Any) -> int:
        """Fill a writable buffer from the position on; how many bytes there were, 0 at the end."""
        view = writable(b)
        with self._lock():
            if len(view) < PIECE_BYTES or self.closed:
                return int(super().readinto(view))
            self._remote.seek(self.loc)
            count = self._remote.readinto(view)
            self.loc += count
            return count

    def readline(self, size: int | None = -1) -> bytes:
        """The bytes up to the next line feed, with it; at most `size`, if it is not negative."""
        parts = list[bytes]()
        with self._lock():
            if self.closed:
                raise ValueError("I/O operation on closed file.")
            position, left = self.loc, self.size if size is None or size < 0 else size
            while left and position < self.size and not (parts and parts[-1].endswith(b"\n")):
                parts.append(self._pieces.up_to_line_end(position, left))
                left -= len(parts[-1])
                position += len(parts[-1])
            self.loc = position  # where a read fails on the way, the line is there for the next try
        return b"".join(parts)

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """The lines from the position on; with a `hint` that is positive, until they have so many bytes."""
        return io.IOBase.readlines(self, -1 if hint is None else hint)  # fsspec's own takes no hint

    def read_at(self, offset: SupportsIndex, size: SupportsIndex) -> bytes:
        """Up to `size` bytes from `offset` on; the position stays."""
        return self._remote.read_at(offset, size)

    def read_ranges(self, ranges: Iterable[tuple[SupportsIndex, SupportsIndex]]) -> list[bytes]:
        """The bytes of ranges, each an offset and a size: see `RemoteFile.read_ranges`. The position stays."""
        return self._remote.read_ranges(ranges)

    def write(self, data: Any) -> int:
        """Raises `ReadOnlyError`."""
        raise ReadOnlyError(f"{self.path}: a released dataset never changes: write to a file of your own")

    def close(self) -> None:
        """Read no more. What is cached stays."""
        with self._lock():  # another thread may be reading
            super().close()
            self._remote.close()


def _reopened(fs: Any, path: str, block_size: int, position: int) -> Any:
    file = fs.open(path, block_size=block_size)
    file.seek(position)
    return file


class _Pieces(BaseCache):
    """The last piece that was read around a small read. Large reads pass by it."""

    name = "none"

    def __init__(self, fetcher: Any, size: int) -> None:
        super().__init__(PIECE_BYTES, fetcher, size)
        self._first, self._data = 0, b""

    def _fetch(self, start: int | None, stop: int | None) -> bytes:
        start, stop = start or 0, self.size if stop is None else min(stop, self.size)
        if start >= stop:
            return b""
        if stop - start >= PIECE_BYTES or (start, stop) == (0, len(SIGNATURE)):  # of which `Reading` takes note
            data: bytes = self.fetcher(start, stop)
            return data
        return self._held(start, stop)[start - self._first : stop - self._first]

    def up_to_line_end(self, start: int, most: int) -> bytes:
        """Bytes from `start` on: to a line feed, or to the end of the piece, at most as many as are wanted."""
        data = self._held(start, start + 1)
        begin = start - self._first
        end = data.find(b"\n", begin, begin + most) + 1
        return data[begin : end or begin + most]

    def _held(self, start: int, stop: int) -> bytes:
        """The piece, or the two, that these bytes lie in: from `_first` on."""
        if not self._first <= start <= stop <= self._first + len(self._data):
            first = start - start % PIECE_BYTES
            self._first, self._data = first, self.fetcher(first, min(stop + -stop % PIECE_BYTES, self.size))
        return self._data

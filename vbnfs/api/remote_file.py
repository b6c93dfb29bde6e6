"""An open file of the dataset as Python's own file objects are: io.RawIOBase, which h5py, pynwb and pandas take."""

import io
import threading
from collections.abc import Iterable
from typing import Any, Final

from vbnfs.api.connection import Connection, Parts
from vbnfs.api.os_errors import as_os_errors
from vbnfs.dataset.manifest import DataFile
from vbnfs.objects import ByteRange, Content
from vbnfs.reading.file_reader import FileReader

_PIECE_BYTES: Final = 16 << 20  # of what is read to the end


class RemoteFile(io.RawIOBase):
    """Reads through the cache; only the blocks that are touched travel.

    It can be used by several threads, and pickled: the copy stands where this one stood. Methods raise `OSError` of
    docs/semantics.md's numbers where bytes cannot be had, `ValueError` after `close`.
    """

    def __init__(self, connection: Connection, entry: DataFile, position: int = 0) -> None:
        super().__init__()
        self._connection = connection
        self._entry = entry
        self.name: Final = "/".join(entry.path)
        self.mode: Final = "rb"
        self._position = position
        self._lock = threading.RLock()  # of the position
        with as_os_errors(self.name):
            self._content: Content = connection.run(_content, entry)
        self._reader: tuple[Parts, FileReader] | None = None  # with what it is of

    def __reduce__(self) -> tuple[Any, ...]:
        self._check_open()
        return RemoteFile, (self._connection, self._entry, self._position)

    def __repr__(self) -> str:
        return f"<vbnfs.RemoteFile {self.name}{' (closed)' if self.closed else ''}>"

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self._content.size_bytes

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position of the next `read`, in bytes."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position, and return it. Raises `ValueError` for one before the file's beginning."""
        self._check_open()
        with self._lock:
            base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}.get(whence)
            if base is None:
                raise ValueError(f"whence is {whence}, and can be 0, 1 and 2")
            if base + offset < 0:
                raise ValueError(f"position {base + offset} is before the file's beginning")
            self._position = base + offset
            return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes from the position on; all that are left for -1 and None."""
        with self._lock:
            data = self.read_at(self._position, self._left(size))
            self._position += len(data)
            return data

    def readall(self) -> bytes:
        """All bytes that are left."""
        return self.read()

    def readinto(self, buffer: Any) -> int:
        """Fill a writable buffer from the position on; how many bytes there were, 0 at the end."""
        view = memoryview(buffer).cast("B")
        with self._lock:
            data = self.read_at(self._position, len(view))
            view[: len(data)] = data
            self._position += len(data)
            return len(data)

    def read_at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` on, fewer only at the end. The position stays."""
        self._check_open()
        if offset < 0 or size < 0:
            raise ValueError("a negative offset or size")
        pieces, stop = list[bytes](), min(offset + size, self.size)
        with as_os_errors(self.name):
            while offset < stop:
                pieces.append(self._connection.run(self._read, offset, min(_PIECE_BYTES, stop - offset)))
                offset += len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_ranges(self, ranges: Iterable[tuple[int, int]]) -> list[bytes]:
        """The bytes of ranges, each an offset and a size; what is missing is fetched in one wave. The position stays.

        Raises `ValueError` for a negative number.
        """
        self._check_open()
        wanted = [(int(offset), int(size)) for offset, size in ranges]
        if any(offset < 0 or size < 0 for offset, size in wanted):
            raise ValueError("a range has a negative offset or size")
        with as_os_errors(self.name):
            return self._connection.run(_read_ranges, self._content, [ByteRange(o, o + n) for o, n in wanted])

    def write(self, data: Any) -> int:
        """Raises `io.UnsupportedOperation`: a released file never changes."""
        raise io.UnsupportedOperation(f"{self.name}: a dataset's files are read-only")

    def close(self) -> None:
        """Read no more. What is cached stays."""
        reader = self.__dict__.get("_reader")
        if not self.closed and reader is not None:  # also called by a destructor, in any thread
            self._connection.soon(reader[1].close)
        super().close()

    def _left(self, size: int | None) -> int:
        return max(0, self.size - self._position) if size is None or size < 0 else size

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"{self.name}: the file is closed")

    async def _read(self, parts: Parts, offset: int, size: int) -> bytes:
        if self._reader is None or self._reader[0] is not parts:
            self._reader = parts, parts.files.reader(self._content)
        return bytes(await self._reader[1].read(offset, size))


async def _content(parts: Parts, entry: DataFile) -> Content:
    return await parts.files.content(entry)


async def _read_ranges(parts: Parts, content: Content, ranges: list[ByteRange]) -> list[bytes]:
    return await parts.files.read_ranges(content, ranges)

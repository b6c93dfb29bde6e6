"""An open file of the dataset as Python's own file objects are: io.RawIOBase, which h5py, pynwb and pandas take."""

import io
import threading
from collections.abc import Iterable
from typing import Any, Final

from vbnfs.api.connection import Connection, Parts
from vbnfs.api.os_errors import as_os_errors
from vbnfs.api.reading import Reading
from vbnfs.dataset.manifest import DataFile
from vbnfs.objects import ByteRange, Content


class RemoteFile(io.RawIOBase):
    r"""Reads through the cache; only the blocks that are touched travel.

    It can be used by several threads, and pickled: the copy stands where this one stood. Methods raise `OSError` of
    docs/semantics.md's numbers where bytes cannot be had, `ValueError` after `close`.

    >>> file = vbnfs.Dataset().open("project_metadata/units.csv")
    >>> file.seek(-4, 2), file.read()
    (112, b'3.5\n')
    >>> file.read_ranges([(0, 4), (8, 7)])
    [b'unit', b'ecephys']
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
            content: Content = connection.run(_content, entry)
        self._size: Final = content.size_bytes
        self._reading = Reading(connection, content)

    def __reduce__(self) -> tuple[Any, ...]:
        self._check_open()
        return RemoteFile, (self._connection, self._entry, self._position)

    def __repr__(self) -> str:
        return f"<vbnfs.RemoteFile {self.name}{' (closed)' if self.closed else ''}>"

    @property
    def size(self) -> int:
        """How many bytes it has.

        >>> vbnfs.Dataset().open("project_metadata/units.csv").size
        116
        """
        return self._size

    def expect_structure(self) -> None:
        """It is about to be read as HDF5: what is known of its structure begins to come, in one wave.

        `File.h5` does this.

        >>> file = vbnfs.Dataset().session(1044385384).file.open()
        >>> file.expect_structure()
        >>> h5py.File(file)["units/spike_times"].shape
        (1000,)
        """
        self._check_open()
        with as_os_errors(self.name):
            self._reading.expect_structure()

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
            if whence == io.SEEK_SET:
                position = offset
            elif whence == io.SEEK_CUR:
                position = self._position + offset
            elif whence == io.SEEK_END:
                position = self._size + offset
            else:
                raise ValueError(f"whence is {whence}, and can be 0, 1 and 2")
            if position < 0:
                raise ValueError(f"position {position} is before the file's beginning")
            self._position = position
            return position

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
        self._check_open()
        view = memoryview(buffer).cast("B")
        with self._lock:
            count = min(len(view), max(0, self._size - self._position))
            if count:
                with as_os_errors(self.name):
                    self._reading.read_into(view[:count], self._position)
            self._position += count
            return count

    def read_at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` on, fewer only at the end. The position stays.

        >>> vbnfs.Dataset().open("project_metadata/units.csv").read_at(8, 7)
        b'ecephys'
        """
        self._check_open()
        if offset < 0 or size < 0:
            raise ValueError("a negative offset or size")
        count = min(size, self._size - offset)
        if count <= 0:
            return b""
        with as_os_errors(self.name):
            return self._reading.read(offset, count)

    def read_ranges(self, ranges: Iterable[tuple[int, int]]) -> list[bytes]:
        r"""The bytes of ranges, each an offset and a size; what is missing comes in one wave. The position stays.

        A range has fewer bytes only at the end of the file. Raises `ValueError` for a negative number.

        >>> vbnfs.Dataset().open("project_metadata/units.csv").read_ranges([(0, 7), (112, 100)])
        [b'unit_id', b'3.5\n']
        """
        self._check_open()
        wanted = [(int(offset), int(size)) for offset, size in ranges]
        if any(offset < 0 or size < 0 for offset, size in wanted):
            raise ValueError("a range has a negative offset or size")
        with as_os_errors(self.name):
            return self._reading.read_ranges([ByteRange(o, o + n).clip(self._size) for o, n in wanted])

    def write(self, data: Any) -> int:
        """Raises `io.UnsupportedOperation`: a released file never changes."""
        raise io.UnsupportedOperation(f"{self.name}: a dataset's files are read-only")

    def close(self) -> None:
        """Read no more. What is cached stays."""
        reading = self.__dict__.get("_reading")
        if not self.closed and reading is not None:  # also called by a destructor, in any thread
            reading.close()
        super().close()

    def _left(self, size: int | None) -> int:
        return max(0, self._size - self._position) if size is None or size < 0 else size

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"{self.name}: the file is closed")


async def _content(parts: Parts, entry: DataFile) -> Content:
    return await parts.files.content(entry)

"""An open file of the dataset as Python's own file objects are: io.RawIOBase, which h5py, pynwb and pandas take."""

import io
from collections.abc import Iterable, Sequence
from operator import index
from typing import Any, Final, SupportsIndex

from vbnfs.api.connection import Connection, Parts
from vbnfs.api.os_errors import as_os_errors, os_error
from vbnfs.api.reading import Reading, read_many
from vbnfs.dataset.manifest import DataFile
from vbnfs.errors import StorageError
from vbnfs.host.forking import LockOfProcess
from vbnfs.objects import ByteRange, Content

_LINE_BYTES: Final = 512  # is read for a line, then four times as much
_MOST_LINE_BYTES: Final = 1 << 20


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
        self._lock = LockOfProcess()  # of the position
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

    def seek(self, offset: SupportsIndex, whence: int = io.SEEK_SET) -> int:
        """Go to a position, and return it. Raises `ValueError` for one before the file's beginning."""
        self._check_open()
        offset = index(offset)  # NumPy's numbers overflow
        with self._lock():
            if whence == io.SEEK_SET:
                position = offset
            elif whence == io.SEEK_CUR:
                position = self._position + offset
            elif whence == io.SEEK_END:
                position = self._size + offset
            else:
                raise ValueError(f"whence is {whence!r}, and can be 0, 1 and 2")
            if position < 0:
                raise ValueError(f"position {position} is before the file's beginning")
            self._position = position
            return position

    def read(self, size: SupportsIndex | None = -1) -> bytes:
        """Up to `size` bytes from the position on; all that are left for -1 and None."""
        with self._lock():
            data = self.read_at(self._position, self._left(size))
            self._position += len(data)
            return data

    def readall(self) -> bytes:
        """All bytes that are left."""
        return self.read()

    def readinto(self, buffer: Any) -> int:
        """Fill a writable buffer from the position on; how many bytes there were, 0 at the end."""
        self._check_open()
        view = writable(buffer)
        with self._lock():
            count = min(len(view), max(0, self._size - self._position))
            if count and not self._reading.copy(view[:count], self._position):
                with as_os_errors(self.name):
                    self._reading.read_into(view[:count], self._position)
            self._position += count
            return count

    def readline(self, size: SupportsIndex | None = -1) -> bytes:
        """The bytes up to the next line feed, with it; at most `size`, if it is not negative."""
        self._check_open()
        parts, piece = list[bytes](), _LINE_BYTES
        with self._lock():
            position, left = self._position, self._left(size)
            while left and (data := self.read_at(position, min(piece, left))):
                parts.append(data[: data.find(b"\n") + 1 or None])
                position += len(parts[-1])
                if parts[-1].endswith(b"\n"):
                    break
                left, piece = left - len(data), min(4 * piece, _MOST_LINE_BYTES)
            self._position = position  # where a read fails on the way, the line is there for the next try
        return b"".join(parts)

    def read_at(self, offset: SupportsIndex, size: SupportsIndex) -> bytes:
        """Up to `size` bytes from `offset` on, fewer only at the end. The position stays.

        >>> vbnfs.Dataset().open("project_metadata/units.csv").read_at(8, 7)
        b'ecephys'
        """
        self._check_open()
        offset, size = index(offset), index(size)
        if offset < 0 or size < 0:
            raise ValueError("a negative offset or size")
        count = min(size, self._size - offset)
        if count <= 0:
            return b""
        with as_os_errors(self.name):
            return self._reading.read(offset, count)

    def read_ranges(self, ranges: Iterable[tuple[SupportsIndex, SupportsIndex]]) -> list[bytes]:
        r"""The bytes of ranges, each an offset and a size; what is missing comes in one wave. The position stays.

        Ranges come in any order, and may overlap; what is missing of very many comes in waves of 64 MiB. A range has
        fewer bytes only at the end of the file. Raises `ValueError` for a negative number.

        >>> vbnfs.Dataset().open("project_metadata/units.csv").read_ranges([(0, 7), (112, 100)])
        [b'unit_id', b'3.5\n']
        """
        self._check_open()
        wanted = [(index(offset), index(size)) for offset, size in ranges]
        if any(offset < 0 or size < 0 for offset, size in wanted):
            raise ValueError("a range has a negative offset or size")
        [found] = read_ranges_of([(self, [ByteRange(o, o + n) for o, n in wanted])])
        if isinstance(found, OSError):
            raise found
        return found

    def write(self, data: Any) -> int:
        """Raises `io.UnsupportedOperation`: a released file never changes."""
        raise io.UnsupportedOperation(f"{self.name}: a dataset's files are read-only")

    def close(self) -> None:
        """Read no more. What is cached stays."""
        reading = self.__dict__.get("_reading")
        if not self.closed and reading is not None:  # also called by a destructor, in any thread
            reading.close()
        super().close()

    def _left(self, size: SupportsIndex | None) -> int:
        wanted = -1 if size is None else index(size)
        return max(0, self._size - self._position) if wanted < 0 else wanted

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"{self.name}: the file is closed")


def read_ranges_of(
    wanted: Sequence[tuple[RemoteFile, Sequence[ByteRange]]], *, stops: bool = False
) -> list[list[bytes] | OSError]:
    """The bytes of ranges of several files of a dataset; what is missing comes in one wave.

    An error stands in the place of a file. With `stops` nothing more is fetched after one.
    """
    clipped = [(file._reading, [one.clip(file.size) for one in ranges]) for file, ranges in wanted]
    results = read_many(clipped, stops=stops)
    return [
        os_error(found, file.name) if isinstance(found, StorageError) else found
        for (file, _), found in zip(wanted, results, strict=True)
    ]


def writable(buffer: Any) -> memoryview:
    """The bytes of a buffer, which are to be written. Raises `TypeError` for one that cannot be, or has gaps."""
    view = memoryview(buffer)
    if view.readonly:
        raise TypeError(f"bytes are to be read into a writable buffer, and not into {type(buffer).__name__}")
    return view.cast("B") if view.nbytes else memoryview(bytearray())  # no empty array can be cast


async def _content(parts: Parts, entry: DataFile) -> Content:
    return await parts.files.content(entry)

"""Walks of files that are in memory, and what h5py reads of them."""

import io
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from typing import Any, BinaryIO, Final, Protocol

import h5py
import numpy as np

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.hdf5.branches import Bounds, Wanted
from vbnfs.hdf5.structure import Structure
from vbnfs.hdf5.walk import Walk

WIDE: Final = Bounds(fetched_bytes=1 << 40, index_bytes=1 << 40, block_bytes=1 << 40)
ALL: Final = Wanted()
Choose = Callable[[frozenset[int]], Iterable[int]]


class Data(Protocol):
    """The bytes of a file: in memory, or read when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


def structured(groups: int = 12, *, data_bytes: int = 300 << 10, is_deep: bool = False) -> bytes:
    """An HDF5 file of 3.7 MB, whose structure lies between its data; `is_deep`: each group in the one before it."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        group = file["/"]
        for number in range(groups):
            group = (group if is_deep else file).create_group(f"group{number}")
            group.attrs["number"] = number
            group["data"] = np.frombuffer(np.random.default_rng(number).bytes(data_bytes), "u1")
    return stream.getvalue()


class Waves:
    """A walk of `data`, whose blocks come when they are asked for: the waves, and what was found.

    `choose` says which of the blocks that are outstanding come next; by default all do.
    """

    def __init__(
        self,
        data: Data,
        *,
        block_bytes: int = BLOCK_BYTES,
        bounds: Bounds = WIDE,
        wanted: Wanted = ALL,
        here: Iterable[int] = (),
        choose: Choose = lambda outstanding: outstanding,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        def block(number: int) -> bytes:
            return data[number * block_bytes : (number + 1) * block_bytes]

        blocks = {number: block(number) for number in here}
        walk = Walk(len(data), blocks.get, bounds=bounds, wanted=wanted, clock=clock, block_bytes=block_bytes)
        self.waves = []
        for _ in count():
            if wave := walk.advance():
                self.waves.append(wave)
            coming = set(choose(walk.outstanding))
            if not coming:
                break
            blocks |= {number: block(number) for number in coming}
        self.structure: Structure = walk.result()
        self.extents = sorted(walk.extents(), key=lambda extent: extent[:2])
        self.asked = frozenset[int]().union(*self.waves)


_NARROW: Final = Bounds(fetched_bytes=64 << 10, index_bytes=16 << 10, objects=100, depth=8, reads=20_000)
_SMALL_BLOCK_BYTES: Final = 1024


def check(data: bytes) -> None:
    """Check that a walk of any bytes raises nothing, ends, and keeps within its bounds."""
    for wanted in (ALL, Wanted(places=True, values=True)):
        done = Waves(data, block_bytes=_SMALL_BLOCK_BYTES, bounds=_NARROW, wanted=wanted)
        found = done.structure
        assert len(done.asked) * _SMALL_BLOCK_BYTES <= _NARROW.fetched_bytes
        assert all(0 <= number * _SMALL_BLOCK_BYTES < max(1, len(data)) for number in done.asked)
        assert len(found.objects) <= _NARROW.objects
        assert sum(map(len, done.waves)) == len(done.asked)
        list(found.walk())
        for start, stop, row_bytes, rows, chunks, _ in done.extents:
            assert 0 <= start < stop <= len(data)
            assert list(chunks) == sorted(chunks)
            assert all(start <= each < stop for each in chunks)
            assert chunks[:1] in {(), (start,)}
            assert 0 <= row_bytes <= stop - start
            assert rows is None or 0 <= rows.start <= rows.start + rows.rows * rows.width <= len(data)


class RecordedFile(io.RawIOBase):
    """A file that records which blocks h5py reads of it."""

    def __init__(self, file: BinaryIO, block_bytes: int) -> None:
        self.blocks: set[int] = set()
        self._file = file
        self._block_bytes = block_bytes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any, /) -> int:
        start = self._file.tell()
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self.blocks.update(range(start // self._block_bytes, -(-(start + len(data)) // self._block_bytes)))
        return len(data)


def blocks_read_by_h5py(file: BinaryIO, block_bytes: int) -> set[int]:
    """Which blocks h5py reads to list all objects, and all attributes with their values."""
    recorded = RecordedFile(file, block_bytes)
    with h5py.File(recorded, "r") as opened:
        opened.visititems(lambda name, item: _read_attributes(item))
        _read_attributes(opened)
    return recorded.blocks


def _read_attributes(item: Any) -> None:
    for name in item.attrs:
        with suppress(TypeError, ValueError, OSError):  # of types that NumPy has not
            item.attrs[name]

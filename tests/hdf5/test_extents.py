"""Where the larger arrays of a file lie, and where the rows of ragged ones end."""

import io
from typing import Any

import h5py
import numpy as np
import pytest

from tests.hdf5.running import Waves
from vbnfs.hdf5.branches import Wanted
from vbnfs.hdf5.extents import LEAST_BYTES
from vbnfs.hdf5.structure import Extent, RowEnds

ENDS = np.array([0, 5000, 5000, 20_000], "<u4")


def written(version: str) -> bytes:
    """A file with arrays of all kinds, in old groups or new ones."""
    stream = io.BytesIO()
    with h5py.File(stream, "w", libver=version, userblock_size=512) as file:
        units = file.create_group("units")
        units["spike_times"] = np.arange(20_000.0)
        units["spike_times_index"] = ENDS
        units["waveform"] = np.zeros((100, 300, 2), ">f4")
        units["waveform_index"] = np.array([1.5, 2.5])  # no numbers of rows
        units["tags"] = np.arange(10_000, dtype="i8")
        units["tags_index"] = np.array([[1], [10_000]], ">i2")  # nor these
        file.create_dataset("chunked", data=np.zeros((100_000, 1)), chunks=(1000, 1))
        file.create_dataset("list", data=np.arange(10_000), chunks=(10_000,))
        file.create_dataset("list_index", data=np.array([7, 10_000], ">u2"), chunks=(2,))
        file.create_dataset("empty", shape=(100_000,), dtype="f8")
        file["small"] = np.zeros(100)
        file["scalar"] = "a" * LEAST_BYTES
    return stream.getvalue()


def extents_of(data: bytes) -> list[Extent]:
    """What a walk of all of a file finds."""
    return Waves(data, wanted=Wanted(places=True)).extents


def runs_of(item: Any) -> list[Extent]:
    """Where h5py says that chunks lie, adjacent ones joined, those that are large enough."""
    chunks = (item.id.get_chunk_info(number) for number in range(item.id.get_num_chunks()))
    runs: list[Extent] = []
    for start, size in sorted((chunk.byte_offset, chunk.size) for chunk in chunks):
        if runs and runs[-1].stop == start:
            runs[-1] = runs[-1]._replace(stop=start + size)
        else:
            runs.append(Extent(start, start + size, 0))
    return [run for run in runs if run.stop - run.start >= LEAST_BYTES]


def first_chunk(item: Any) -> int:
    """Where h5py says that it begins."""
    start: int = item.id.get_chunk_info(0).byte_offset
    return start


def place(item: Any) -> tuple[int, int]:
    """Where h5py says that an array lies; of a file with a user block, relative to its end."""
    start = item.id.get_offset()
    return start, start + item.nbytes


@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_larger_arrays_are_found_with_the_ends_of_their_rows(version: str) -> None:
    """Those of 64 KiB and more that are stored, with the length of a row, and chunks that lie in a row."""
    data = written(version)
    with h5py.File(io.BytesIO(data)) as file:
        units = file["units"]
        spikes, index = place(units["spike_times"]), units["spike_times_index"]
        expected = [
            Extent(*spikes, 8, RowEnds(place(index)[0], 4, 4, is_big_endian=False)),
            Extent(*place(units["waveform"]), 2400),
            Extent(*place(units["tags"]), 8),
            *runs_of(file["chunked"]),
            Extent(
                *runs_of(file["list"])[0][:2], 8, RowEnds(first_chunk(file["list_index"]), 2, 2, is_big_endian=True)
            ),
        ]
        assert len(expected) > 3
    assert extents_of(data) == sorted(expected, key=lambda extent: extent[:2])
    start, stop = spikes
    assert np.frombuffer(data[start:stop], "<f8").tolist() == list(range(20_000))


def test_what_lies_beyond_the_file_is_no_array() -> None:
    """Of a file that was cut, arrays have only bytes that are there."""
    data = written("earliest")
    whole = extents_of(data)
    cut = data[: whole[-1].stop - 1]
    assert {extent.start for extent in extents_of(cut)} <= {extent.start for extent in whole}
    assert all(extent.stop <= len(cut) for extent in extents_of(cut))

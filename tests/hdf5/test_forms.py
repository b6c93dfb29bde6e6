"""Forms of files that h5py does not write by itself: superblocks, nodes, shared messages, the oldest messages."""

import ctypes
import io
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pytest
from h5py import h5f, h5p

from tests.hdf5.running import Waves, blocks_read_by_h5py
from tests.hdf5.truth import comparable, objects_of
from vbnfs.hdf5.datatypes import read_datatype
from vbnfs.hdf5.fields import Fields, Sizes, UnparsableError
from vbnfs.hdf5.layouts import ChunkedLayout, CompactLayout, ContiguousLayout, read_layout
from vbnfs.hdf5.messages import Dataspace, read_attribute, read_dataspace, read_filters
from vbnfs.hdf5.structure import Datatype, Filter, Member

BLOCK_BYTES: Final = 1024
ATTRIBUTES, OTHERS = 1 << 0x0C, 1 << 0x01 | 1 << 0x03 | 1 << 0x05 | 1 << 0x0B


def hdf5_library() -> ctypes.CDLL:
    """The HDF5 library that h5py has loaded: not all of it can be reached by h5py."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    [path] = {line.split()[-1] for line in lines if "/libhdf5-" in line or "/libhdf5." in line}
    return ctypes.CDLL(path)


def write(path: Path, oldest: int, *, shares: bool, is_narrow: bool) -> None:
    """A file of many datasets with many attributes, which share what is the same, and have nodes with little room."""
    library = hdf5_library()
    creation, access = h5p.create(h5p.FILE_CREATE), h5p.create(h5p.FILE_ACCESS)
    access.set_libver_bounds(oldest, h5f.LIBVER_LATEST)
    identifier = ctypes.c_int64(creation.id)
    if shares:
        assert library.H5Pset_shared_mesg_nindexes(identifier, 2) >= 0
        assert library.H5Pset_shared_mesg_index(identifier, 0, OTHERS, 8) >= 0
        assert library.H5Pset_shared_mesg_index(identifier, 1, ATTRIBUTES, 8) >= 0
    if is_narrow:
        assert library.H5Pset_istore_k(identifier, 7) >= 0
        assert library.H5Pset_sym_k(identifier, 3, 2) >= 0
    with h5py.File(h5f.create(bytes(path), h5f.ACC_TRUNC, fcpl=creation, fapl=access)) as file:
        for number in range(20):
            _fill(file, number)


def _fill(file: Any, number: int) -> None:
    rows = np.dtype([("a", "i4"), ("t", h5py.string_dtype())])
    datatype = rows if number % 2 else np.dtype("f8")
    dataset = file.create_dataset(f"d{number}", (30,), datatype, chunks=(1,), compression="gzip")
    dataset[:20] = np.array([(1, "x")] * 20, rows) if number % 2 else np.zeros(20)
    for each in range(12 if number % 3 else 3):
        dataset.attrs[f"text {each}"] = "same text" * 3
        dataset.attrs[f"numbers {each}"] = np.arange(10)


@pytest.mark.parametrize("is_narrow", [False, True])
@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("oldest", [h5f.LIBVER_EARLIEST, h5f.LIBVER_LATEST])
def test_superblocks_and_shared_messages(tmp_path: Path, oldest: int, shares: bool, is_narrow: bool) -> None:
    """Superblocks 0 to 3, nodes of other sizes, and messages in a heap of the file's are read as h5py reads them."""
    path = tmp_path / "form.h5"
    write(path, oldest, shares=shares, is_narrow=is_narrow)
    data = path.read_bytes()
    versions = {(False, False): 0, (False, True): 1, (True, False): 2, (True, True): 2}
    assert data[8] == (3 if oldest == h5f.LIBVER_LATEST else versions[shares, is_narrow])
    walked = Waves(data, block_bytes=BLOCK_BYTES)
    assert {start: comparable(each) for start, each in walked.structure.objects.items()} == objects_of(path)
    assert walked.structure.is_complete
    assert blocks_read_by_h5py(io.BytesIO(data), BLOCK_BYTES) <= walked.structure.blocks
    assert len(walked.waves) <= 10


@pytest.mark.parametrize("strategy", [{"fs_strategy": "page", "fs_page_size": 4096}, {"fs_strategy": "fsm"}])
def test_strategies_of_file_space(tmp_path: Path, strategy: dict[str, Any]) -> None:
    """Files in pages, and those that store their free space, are read as h5py reads them, with no block missed."""
    path = tmp_path / "space.h5"
    with h5py.File(path, "w", fs_persist=True, **strategy) as file:
        for number in range(10):
            _fill(file, number)
        del file["d3"]
    data = path.read_bytes()
    walked = Waves(data, block_bytes=BLOCK_BYTES)
    assert {start: comparable(each) for start, each in walked.structure.objects.items()} == objects_of(path)
    assert walked.structure.is_complete
    assert blocks_read_by_h5py(io.BytesIO(data), BLOCK_BYTES) <= walked.structure.blocks


def fields(*parts: bytes | int) -> Fields:
    """Fields of a message: bytes, and numbers of 4 bytes."""
    data = b"".join(part if isinstance(part, bytes) else part.to_bytes(4, "little") for part in parts)
    return Fields(data, Sizes(), "message")


ADDRESS: Final = (4096).to_bytes(8, "little")


def test_layouts_of_versions_1_and_2() -> None:
    """Before 1.6.3, the dataspace says how large contiguous data are; a chunk's last number is the element's size."""
    for version in (b"\1", b"\2"):
        contiguous = fields(version, b"\2\1", bytes(5), ADDRESS, 10, 20)
        assert read_layout(contiguous) == ContiguousLayout(4096, None)
        chunked = fields(version, b"\3\2", bytes(5), ADDRESS, 10, 20, 8)
        assert read_layout(chunked) == ChunkedLayout((10, 20), 8, "B-tree 1", 4096)
        compact = fields(version, b"\1\0", bytes(5), 3, 3, b"abc")
        assert read_layout(compact) == CompactLayout(b"abc")


FLOAT: Final = (0x11.to_bytes(1, "little") + b"\x20\x3f\0", 8, bytes(12))
INTEGER: Final = (0x10.to_bytes(1, "little") + b"\x08\0\0", 4, bytes(4))


def test_compound_types_of_version_1() -> None:
    """A member of a compound type of version 1 has its own dimensions: it is an array where it has some."""
    shape = (b"\2\0\0\0", 0, 0, 2, 3, 0, 0)
    first = (b"x\0\0\0\0\0\0\0", 0, b"\0\0\0\0", 0, 0, 0, 0, 0, 0, *FLOAT)
    second = (b"matrix\0\0", 8, *shape, *INTEGER)
    number = Datatype("integer", 4, is_signed=True)
    assert read_datatype(fields(b"\x16\2\0\0", 32, *first, *second)) == Datatype(
        "compound",
        32,
        members=(
            Member("x", 0, Datatype("float", 8)),
            Member("matrix", 8, Datatype("array", 24, shape=(2, 3), base=number)),
        ),
    )


def test_attributes_of_all_versions() -> None:
    """Version 1 fills up its parts to multiples of 8 bytes, later ones do not; version 3 has a character set."""
    head = b"\5\0\x09\0\4\0"
    parts = b"unit\0", b"datatype!", b"spac"
    padded = b"".join(part + bytes(-len(part) % 8) for part in parts)
    for body in (b"\1\0" + head + padded, b"\2\1" + head + b"".join(parts), b"\3\1" + head + b"\0" + b"".join(parts)):
        found = read_attribute(fields(body, b"value"))
        assert (found.name, found.datatype.body, found.dataspace.body, found.value) == ("unit", *parts[1:], b"value")
        assert found.datatype.is_shared == (body[0] > 1)


def test_filters_of_both_versions() -> None:
    """Version 1 has a name for each filter and fills up odd numbers of values; version 2 names those of others."""
    first = fields(b"\1\2", bytes(6), b"\1\0\x08\0\1\0\1\0deflate\0", 9, 0, b"\2\0\0\0\0\0\2\0", 4, 5)
    assert read_filters(first) == (Filter(1, (9,)), Filter(2, (4, 5)))
    second = fields(b"\2\2", b"\1\0\1\0\1\0", 9, b"\0\x7d\3\0\0\0\1\0abc", 7)
    assert read_filters(second) == (Filter(1, (9,)), Filter(32000, (7,)))


def test_dataspaces() -> None:
    """A scalar has no dimensions; a null dataspace has no elements; a dimension may be unlimited."""
    assert read_dataspace(fields(b"\1\0\0\0", 0)) == Dataspace((), ())
    assert read_dataspace(fields(b"\2\0\0\2")) == Dataspace(None, None)
    shape, most = (5).to_bytes(8, "little"), b"\xff" * 8
    assert read_dataspace(fields(b"\2\1\1\1", shape, most)) == Dataspace((5,), (None,))


@pytest.mark.parametrize("read", [read_layout, read_datatype, read_attribute, read_filters, read_dataspace])
def test_unknown_versions(read: Any) -> None:
    """A version that is not known is not parsed, and no message without bytes."""
    for body in (b"\xf9" * 64, b""):
        with pytest.raises(UnparsableError):
            read(fields(body))

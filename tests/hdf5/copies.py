"""Copies of HDF5 files in other forms, whose large data are holes or zeros: of the real size, made in a moment."""

import math
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import h5py
from h5py import h5d, h5p, h5s

_LARGE_BYTES: Final = 1 << 16
_CHUNK_BYTES: Final = 1 << 20
_COMPRESSED_CHUNK_BYTES: Final = 4 << 20  # as hdmf has them, before they are compressed
_GZIP_LEVEL: Final = 4
_PARTS: Final = (0.9, 0.5, 0.7, 0.8, 0.6)  # of a chunk that compression leaves

# In one piece, in chunks, or in chunks that are shuffled and compressed.
Form: TypeAlias = Literal["contiguous", "chunks", "compressed"]


def copy(source: Path, target: Path, *, version: str, form: Form = "contiguous", longer: int = 1) -> None:
    """Copy a file, written for a `version` of the library. Its larger arrays are `longer` times as long, and holes.

    All chunks are stored. What is declared to be compressed is zeros of sizes that differ, and cannot be read.
    """
    with h5py.File(source) as old, h5py.File(target, "w", libver=version) as new:
        _copy_attributes(old, new)

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                made = new.require_group(name)
            elif item.shape and item.dtype.kind in "fiu" and item.nbytes >= _LARGE_BYTES:
                made = _hole(new, name, item, form, longer)
            else:
                made = new.create_dataset(name, data=item[()], dtype=item.dtype)
            _copy_attributes(item, made)

        old.visititems(visit)


def _hole(new: Any, name: str, item: Any, form: Form, longer: int) -> Any:
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_alloc_time(h5d.ALLOC_TIME_INCR if form == "compressed" else h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5d.FILL_TIME_NEVER)
    shape = (item.shape[0] * longer, *item.shape[1:])
    if form != "contiguous":
        row_bytes = item.dtype.itemsize * math.prod(shape[1:])
        chunk_bytes = _COMPRESSED_CHUNK_BYTES if form == "compressed" else _CHUNK_BYTES
        properties.set_chunk((min(shape[0], max(1, chunk_bytes // row_bytes)), *shape[1:]))
    if form == "compressed":
        properties.set_shuffle()
        properties.set_deflate(_GZIP_LEVEL)
    parent, _, last = name.rpartition("/")
    group = new.require_group(parent) if parent else new
    most = (h5s.UNLIMITED, *shape[1:]) if form == "chunks" else shape
    made = h5d.create(group.id, last.encode(), item.id.get_type(), h5s.create_simple(shape, most), properties)
    if form == "compressed":
        _store_chunks(made, item.dtype.itemsize)
    return h5py.Dataset(made)


def _store_chunks(made: Any, element_bytes: int) -> None:
    chunk = made.get_create_plist().get_chunk()
    whole_bytes = element_bytes * math.prod(chunk)
    for number, row in enumerate(range(0, made.shape[0], chunk[0])):
        stored = bytes(int(whole_bytes * _PARTS[number % len(_PARTS)]))
        made.write_direct_chunk((row, *(0 for _ in chunk[1:])), stored)


def _copy_attributes(old: Any, new: Any) -> None:
    for name in old.attrs:
        value = old.attrs[name]
        if isinstance(value, h5py.Reference):
            value = new.file["/"].ref  # which is as good: it refers to something
        new.attrs.create(name, value, dtype=old.attrs.get_id(name).dtype)

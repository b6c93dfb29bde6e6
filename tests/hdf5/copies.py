"""Copies of HDF5 files in other forms, whose large data are holes: of the size of the real ones, made in a moment."""

import math
from pathlib import Path
from typing import Any, Final

import h5py
from h5py import h5d, h5p, h5s

_LARGE_BYTES: Final = 1 << 16
_CHUNK_BYTES: Final = 1 << 20


def copy(source: Path, target: Path, *, version: str, chunks: bool = False, longer: int = 1) -> None:
    """Copy a file, written for a `version` of the library. Its larger arrays are `longer` times as long, and holes.

    `chunks`: they stand in chunks of 1 MiB, all of which are stored.
    """
    with h5py.File(source) as old, h5py.File(target, "w", libver=version) as new:
        _copy_attributes(old, new)

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                made = new.require_group(name)
            elif item.shape and item.dtype.kind in "fiu" and item.nbytes >= _LARGE_BYTES:
                made = _hole(new, name, item, chunks=chunks, longer=longer)
            else:
                made = new.create_dataset(name, data=item[()], dtype=item.dtype)
            _copy_attributes(item, made)

        old.visititems(visit)


def _hole(new: Any, name: str, item: Any, *, chunks: bool, longer: int) -> Any:
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5d.FILL_TIME_NEVER)
    shape = (item.shape[0] * longer, *item.shape[1:])
    if chunks:
        row_bytes = item.dtype.itemsize * math.prod(shape[1:])
        properties.set_chunk((min(shape[0], max(1, _CHUNK_BYTES // row_bytes)), *shape[1:]))
    parent, _, last = name.rpartition("/")
    group = new.require_group(parent) if parent else new
    most = (h5s.UNLIMITED, *shape[1:]) if chunks else shape
    made = h5d.create(group.id, last.encode(), item.id.get_type(), h5s.create_simple(shape, most), properties)
    return h5py.Dataset(made)


def _copy_attributes(old: Any, new: Any) -> None:
    for name in old.attrs:
        value = old.attrs[name]
        if isinstance(value, h5py.Reference):
            value = new.file["/"].ref  # which is as good: it refers to something
        new.attrs.create(name, value, dtype=old.attrs.get_id(name).dtype)

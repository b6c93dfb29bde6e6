"""Arrays of an HDF5 file that is open in h5py: numbers that are in this file itself, and no more than a look needs.

The file may have been made to do harm. A link into another file, values that are in another one (external raw
storage, virtual datasets), a filter that a library would be loaded for, chunks that would fill the memory: each is
refused before it is used. Everything that a look reads is asked for here.
"""

import math
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import h5py
import numpy as np

from vbnfs.amounts import size
from vbnfs.web.figures import Floats

_MOST_LINKS: Final = 16  # that lead to links
_MOST_VALUES: Final = 8_000_000  # that are read of one array
_MOST_CHUNK_BYTES: Final = 64 << 20
_NUMBERS: Final = "biuf"  # kinds of NumPy's types
# HDF5's own (Z_FILTER_DEFLATE ... of H5Zpublic.h), and LZF, which h5py has.
_FILTERS: Final = frozenset({1, 2, 3, 4, 5, 6, 32000})


def object_at(group: Any, path: str) -> Any:
    """What is at a path below a group. Raises `LookupError` for nothing, `ValueError` for what is elsewhere."""
    here, parts, links = group, deque(path.split("/")), 0
    while parts:
        if (part := parts.popleft()) in {"", "."}:
            continue
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
        match link:
            case h5py.HardLink():
                here = here[part]
            case h5py.SoftLink() if links < _MOST_LINKS:
                links += 1
                here = group.file if link.path.startswith("/") else here
                parts.extendleft(reversed(link.path.split("/")))
            case h5py.SoftLink():
                raise ValueError(f"{path}: links lead to links without an end")
            case h5py.ExternalLink():
                raise ValueError(f"{path} leads into another file, which is not read")
            case _:
                raise LookupError(f"it has no {path}")
    return here


def groups_in(group: Any, path: str) -> Iterator[Any]:
    """The groups in one. Links that lead nowhere, in a circle or elsewhere are passed over."""
    outer = object_at(group, path)
    for name in outer if isinstance(outer, h5py.Group) else ():
        with suppress(LookupError, ValueError, RuntimeError):
            if isinstance(found := object_at(outer, name), h5py.Group):
                yield found


def array_at(group: Any, path: str) -> Any:
    """The dataset of numbers at a path. Raises `LookupError`; for what is not read `TypeError`, `ValueError`."""
    found = object_at(group, path)
    if not isinstance(found, h5py.Dataset):
        raise TypeError(f"{path} is no array")
    stored = found.id.get_create_plist()
    if stored.get_layout() == h5py.h5d.VIRTUAL:
        raise ValueError(f"{path} has its values in other datasets, which are not read")
    if stored.get_external_count():
        raise ValueError(f"{path} has its values in another file, which is not read")
    if found.dtype.kind not in _NUMBERS or not found.shape:
        raise ValueError(f"{path} has no numbers")
    for number in range(stored.get_nfilters()):
        if (code := stored.get_filter(number)[0]) not in _FILTERS:
            raise ValueError(f"{path} is stored by a filter ({code}) that is not read here")
    chunk_bytes = math.prod(found.chunks or ()) * found.dtype.itemsize
    if chunk_bytes > _MOST_CHUNK_BYTES:
        raise ValueError(f"{path} has chunks of {size(chunk_bytes)}, which is too much for a quick look")
    return found


def values_of(array: Any, start: int = 0, stop: int | None = None) -> Floats:
    """Rows of an array. Raises `ValueError` where that is too much for a look."""
    rows = (array.shape[0] if stop is None else stop) - start
    count = rows * math.prod(array.shape[1:])
    if count > _MOST_VALUES:
        raise ValueError(f"{count:,} values are too many for a quick look")
    return np.asarray(array[start : start + rows], dtype=np.float64)


def number_at(array: Any, name: str, default: float) -> float:
    """The number that an attribute is. Raises `ValueError` for one that is none."""
    if name not in array.attrs:
        return default
    found = array.attrs.get_id(name)
    if math.prod(found.shape) != 1 or found.dtype.kind not in _NUMBERS:
        raise ValueError(f"{array.name}: its {name} is no number")
    return float(np.asarray(array.attrs[name]).item())

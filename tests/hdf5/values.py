"""Values of attributes as h5py reads them, in the values of `vbnfs.hdf5.structure`."""

from typing import Any

import h5py
import numpy as np

from vbnfs.hdf5.structure import Attribute, Reference, Value


def of_h5py(value: Any) -> Value:  # noqa: PLR0911 - one for each kind of value
    """A value that h5py has read, as a walk gives it. Where references lead is not compared."""
    match value:
        case h5py.RegionReference():
            return Reference(0, is_region=True)
        case h5py.Reference():
            return Reference(0)
        case h5py.Empty():
            return None
        case np.ndarray() if value.dtype.names:
            return [of_h5py(one) for one in value]
        case np.ndarray() | list():
            return [of_h5py(one) for one in value]
        case np.void() if value.dtype.names:
            return {name: of_h5py(value[name]) for name in value.dtype.names}
        case np.void():
            return bytes(value)
        case np.generic():
            return of_h5py(value.item())
        case bytes():
            return value.decode("utf-8", "surrogateescape")
    return value  # type: ignore[no-any-return]


def comparable(value: Value) -> Value:
    match value:
        case Reference(start, is_region):
            return Reference(0 if start is not None else None, is_region)
        case list():
            return [comparable(one) for one in value]
        case dict():
            return {name: comparable(one) for name, one in value.items()}
    return value


def is_as_h5py_reads_it(one: Attribute, name: str, attributes: Any) -> bool:
    """Whether an attribute has the value that h5py reads, as far as h5py can say it.

    It gives the numbers of enums, does not swap the bytes of lists, and cannot read types that NumPy lacks.
    """
    try:
        truth = of_h5py(attributes[name])
    except (TypeError, OSError, ValueError):
        return True
    is_list = one.datatype.kind == "sequence" and one.datatype.base is not None and one.datatype.base.is_big_endian
    return one.is_cut or is_list or one.datatype.kind == "enum" or repr(comparable(one.value)) == repr(truth)

"""Print the HDF5 library's version and a digest of each dataset of a file. Runs where nothing but h5py is installed.

python read_everything.py FILE true|false      with file locking or without
"""

import hashlib
import json
import sys
from typing import Any

import h5py


def plain(dataset: h5py.Dataset, dtype: Any, values: Any) -> list[Any]:
    """Values as Python's own, references as the names of what they refer to."""
    is_reference = h5py.check_ref_dtype(dtype) is h5py.Reference
    return [dataset.file[value].name if is_reference else value for value in getattr(values, "flat", [values])]


def digest(dataset: h5py.Dataset) -> str:
    """A digest of a dataset's values; of references, the names of what they refer to."""
    if fields := dataset.dtype.names:
        values = [plain(dataset, dataset.dtype[field], dataset[()][field]) for field in fields]
        return hashlib.sha256(repr(values).encode()).hexdigest()
    if h5py.check_ref_dtype(dataset.dtype) is h5py.Reference:
        return hashlib.sha256(repr(plain(dataset, dataset.dtype, dataset[()])).encode()).hexdigest()
    if dataset.dtype.kind == "O":
        text = dataset.asstr()[()]
        return hashlib.sha256(repr(text if isinstance(text, str) else text.tolist()).encode()).hexdigest()
    return hashlib.sha256(dataset[()].tobytes()).hexdigest()


digests = {}
with h5py.File(sys.argv[1], locking={"true": True, "false": False}[sys.argv[2]]) as file:
    file.visititems(
        lambda name, item: digests.update({name: digest(item)}) if isinstance(item, h5py.Dataset) else None
    )
print(json.dumps({"library": h5py.version.hdf5_version, "digests": digests}))

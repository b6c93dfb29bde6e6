"""Print the HDF5 library's version and a digest of each dataset of a file. Runs where nothing but h5py is installed.

python read_everything.py FILE true|false      with file locking or without
"""

import hashlib
import json
import sys

import h5py


def digest(dataset: h5py.Dataset) -> str:
    """A digest of a dataset's values; of references, the names of what they refer to."""
    if h5py.check_ref_dtype(dataset.dtype) is h5py.Reference:
        values = dataset[()]
        names = [dataset.file[reference].name for reference in getattr(values, "flat", [values])]
        return hashlib.sha256(repr(names).encode()).hexdigest()
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

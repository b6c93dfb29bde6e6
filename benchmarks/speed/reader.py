"""One reading job, in a process of its own, with the libraries that users have: run by .venv-bench's Python.

    python reader.py JOB LOCATION         prints {"seconds": ...}, without what importing takes

JOB: with h5py spikes (of one unit), lfp (ten seconds of one channel), walk (all names, attributes and scalars); with
pynwb open.
LOCATION: a path; remfile:URL, fsspec:URL, s3fs-python:URL; or lindi:PATH, of a file's .lindi.json.
"""

import json
import sys
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import h5py
import pynwb

with suppress(ImportError):  # measured where they are installed
    import fsspec
    import remfile
with suppress(ImportError):
    import lindi
with suppress(ImportError):
    import s3fs

LFP_SAMPLES = 12_500  # ten seconds


def open_location(location: str) -> Any:
    """The file as h5py has it, or as lindi does in its place."""
    library, _, address = location.partition(":")
    if library == "lindi":
        return lindi.LindiH5pyFile.from_lindi_file(address)
    if library == "remfile":
        return h5py.File(remfile.File(address), "r")
    if library == "fsspec":
        return h5py.File(fsspec.filesystem("http").open(address, block_size=4 << 20), "r")
    if library == "s3fs-python":
        parts = urlsplit(address)
        bucket = s3fs.S3FileSystem(anon=True, endpoint_url=f"{parts.scheme}://{parts.netloc}")
        return h5py.File(bucket.open(parts.path.removeprefix("/"), block_size=4 << 20), "r")
    return h5py.File(location, "r")


def spikes(location: str) -> None:
    """One unit's spike times."""
    with open_location(location) as file:
        index = file["units/spike_times_index"]
        assert len(file["units/spike_times"][index[49] : index[50]])


def lfp(location: str) -> None:
    """Ten seconds of one channel: one value of 4 bytes of each row."""
    with open_location(location) as file:
        probe = next(iter(file["acquisition"].values()))
        series = next(item for item in probe.values() if "data" in item)
        assert len(series["data"][:LFP_SAMPLES, 5]) == LFP_SAMPLES


def walk(location: str) -> None:
    """Every object by its name, its attributes with their values, and the values of scalars."""
    with open_location(location) as file:
        assert walked(file) > 100


def walked(group: Any) -> int:
    """How many objects are below a group. Links that lead elsewhere are left alone, as h5py's visititems does."""
    count, _ = 1, dict(group.attrs)
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        item = group[name]
        if isinstance(item, h5py.Group):
            count += walked(item)
            continue
        count, _ = count + 1, dict(item.attrs)
        if item.shape == ():
            item[()]
    return count


def open_nwb(location: str) -> None:
    """Open the session as pynwb does, with all its objects."""
    with open_location(location) as file, pynwb.NWBHDF5IO(file=file, mode="r") as io:
        assert len(io.read().units)


JOBS = {"spikes": spikes, "lfp": lfp, "walk": walk, "open": open_nwb}

if __name__ == "__main__":
    began = time.monotonic()
    JOBS[sys.argv[1]](sys.argv[2])
    print(json.dumps({"seconds": time.monotonic() - began}))

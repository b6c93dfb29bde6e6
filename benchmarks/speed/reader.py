"""One reading job, in a process of its own, with the libraries that users have: run by .venv-bench's Python.

    python reader.py JOB LOCATION         prints {"seconds": ...}, without what importing takes

JOB: spikes (of one unit, h5py), lfp (ten seconds of one channel, h5py), open (pynwb).
LOCATION: a path, or remfile:URL, fsspec:URL.
"""

import json
import sys
import time
from contextlib import suppress
from typing import Any

import h5py
import pynwb

with suppress(ImportError):  # measured where they are installed
    import fsspec
    import remfile

LFP_SAMPLES = 12_500  # ten seconds


def open_location(location: str) -> Any:
    """What h5py takes: a path or a file object."""
    library, _, address = location.partition(":")
    if library == "remfile":
        return remfile.File(address)
    if library == "fsspec":
        return fsspec.filesystem("http").open(address, block_size=4 << 20)
    return location


def spikes(location: str) -> None:
    """One unit's spike times."""
    with h5py.File(open_location(location), "r") as file:
        index = file["units/spike_times_index"]
        assert len(file["units/spike_times"][index[49] : index[50]])


def lfp(location: str) -> None:
    """Ten seconds of one channel: one value of 4 bytes of each row."""
    with h5py.File(open_location(location), "r") as file:
        probe = next(iter(file["acquisition"].values()))
        series = next(item for item in probe.values() if "data" in item)
        assert len(series["data"][:LFP_SAMPLES, 5]) == LFP_SAMPLES


def open_nwb(location: str) -> None:
    """Open the session as pynwb does, with all its objects."""
    with h5py.File(open_location(location), "r") as file, pynwb.NWBHDF5IO(file=file, mode="r") as io:
        assert len(io.read().units)


JOBS = {"spikes": spikes, "lfp": lfp, "open": open_nwb}

if __name__ == "__main__":
    began = time.monotonic()
    JOBS[sys.argv[1]](sys.argv[2])
    print(json.dumps({"seconds": time.monotonic() - began}))

"""One reading job, in a process of its own, with the libraries that users have: run by .venv-bench's Python.

    python reader.py JOB LOCATION         prints {"seconds": ...}, without what importing takes

JOB: with h5py spikes (of one unit), lfp (ten seconds of one channel), walk (all names, attributes and scalars); with
pynwb open; ranges (many at random places) without either.
LOCATION: a path; LIBRARY:URL with one of those of `addresses.py`; lindi:PATH, of a file's .lindi.json; h5coro:URL.
"""

import importlib
import json
import random
import sys
import time
from typing import Any

import h5py
import pynwb
from addresses import LIBRARIES, read_each

LFP_SAMPLES = 12_500  # ten seconds
RANGES, RANGE_BYTES = 200, 64 << 10


def open_location(location: str) -> Any:
    """The file as h5py has it, or as lindi does in its place."""
    library, _, address = location.partition(":")
    if library == "lindi":
        return sys.modules["lindi"].LindiH5pyFile.from_lindi_file(address)
    return LIBRARIES[library].open_h5(address) if library in LIBRARIES else h5py.File(location, "r")


def load(location: str) -> None:
    """Import what reads there."""
    library = location.partition(":")[0]
    if library in LIBRARIES:
        LIBRARIES[library].load()
    for name in {"lindi": ("lindi",), "h5coro": ("h5coro.h5coro", "h5coro.webdriver")}.get(library, ()):
        importlib.import_module(name)


def h5coro_file(location: str) -> Any:
    """The file as h5coro has it, which knows no objects of h5py's."""
    driver = sys.modules["h5coro.webdriver"].HTTPDriver
    return sys.modules["h5coro.h5coro"].H5Coro(location.partition(":")[2], driver)


def h5coro_array(file: Any, dataset: str) -> Any:
    """All of a dataset. Of a part of one that is stored in one piece, h5coro 1.0.7 gives zeros."""
    return file.readDatasets([dataset])[dataset]


def spikes(location: str) -> None:
    """One unit's spike times."""
    if location.startswith("h5coro:"):
        coro = h5coro_file(location)
        index = h5coro_array(coro, "units/spike_times_index")
        assert h5coro_array(coro, "units/spike_times")[index[49] : index[50]].any()
        return
    with open_location(location) as file:
        index = file["units/spike_times_index"]
        assert len(file["units/spike_times"][index[49] : index[50]])


def lfp(location: str) -> None:
    """Ten seconds of one channel: one value of 4 bytes of each row."""
    if location.startswith("h5coro:"):
        coro, path = h5coro_file(location), "acquisition"
        for _ in ("probe", "series"):
            path = f"{path}/{next(iter(coro.list(path, w_attr=False)[2]))}"
        assert h5coro_array(coro, f"{path}/data")[:LFP_SAMPLES, 5].any()
        return
    with open_location(location) as file:
        probe = next(iter(file["acquisition"].values()))
        series = next(item for item in probe.values() if "data" in item)
        assert len(series["data"][:LFP_SAMPLES, 5]) == LFP_SAMPLES


def ranges(location: str) -> None:
    """Many short ranges at places that are drawn, and the same in every run: by what the library has for many."""
    library, _, address = location.partition(":")
    file = LIBRARIES[library].open(address) if library in LIBRARIES else open(location, "rb")  # noqa: SIM115 - the program ends
    file.seek(0, 2)
    size_bytes, draw = file.tell(), random.Random(7)
    wanted = [(draw.randrange(size_bytes - RANGE_BYTES), RANGE_BYTES) for _ in range(RANGES)]
    found = LIBRARIES[library].read_ranges(address, wanted) if library in LIBRARIES else read_each(file, wanted)
    assert [len(data) for data in found] == [RANGE_BYTES] * RANGES


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


JOBS = {"spikes": spikes, "lfp": lfp, "walk": walk, "open": open_nwb, "ranges": ranges}

if __name__ == "__main__":
    load(sys.argv[2])
    began = time.monotonic()
    JOBS[sys.argv[1]](sys.argv[2])
    print(json.dumps({"seconds": time.monotonic() - began}))

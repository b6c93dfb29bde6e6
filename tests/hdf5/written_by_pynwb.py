"""A program: writes NWB files of a session's shape with any pynwb from 2.5 on, whose Python runs it.

    python written_by_pynwb.py FORM PATH SEED UNITS [PATH SEED UNITS ...]

In the form `plain` the arrays are in one piece each, as AllenSDK writes them, and the groups as old as the library
makes them. In the form `compressed` they are in compressed chunks, as hdmf chooses them, and the groups are new.
2,100 units make about 1 GB.
"""

import sys
from datetime import UTC, datetime

import h5py
import numpy as np
import pynwb
from hdmf.backends.hdf5 import H5DataIO
from pynwb.core import VectorData, VectorIndex
from pynwb.file import Subject
from pynwb.misc import Units

SPIKES, SAMPLES, SECONDS, LEAST_CHUNKED = 11_000, 82, 9000, 4096
METRICS = ("snr", "firing_rate", *(f"metric_{number}" for number in range(20)))


class Writer:
    """Makes the parts of a file."""

    def __init__(self, seed: int, units: int, form: str) -> None:
        self._random = np.random.default_rng(seed)
        self._units = units
        self._is_compressed = form == "compressed"

    def file(self) -> pynwb.NWBFile:
        """All of it."""
        file = pynwb.NWBFile("a session", "1", datetime(2026, 11, 30, tzinfo=UTC))
        file.subject = Subject(subject_id="1", species="Mus musculus", age="P100D")
        file.add_electrode_column("local_index", "the channel")
        for probe in "ABCDEF":
            device = file.create_device(f"probe{probe}")
            group = file.create_electrode_group(f"probe{probe}", "a probe", "VISp", device)
            for number in range(64):
                file.add_electrode(x=0.0, y=0.0, z=1.0 * number, group=group, location="VISp", local_index=number)
        file.units = self._table_of_units()
        file.add_trial_column("hit", "whether")
        for number in range(500):
            file.add_trial(start_time=float(number), stop_time=number + 0.5, hit=True)
        for module in ("running", "licking", "rewards", "eye_tracking"):
            processing = file.create_processing_module(module, module)
            for number in range(int(self._random.integers(3, 6))):
                times = np.arange(0.0, SECONDS, 0.01 * (number + 2))
                data = self._data(np.round(self._random.random(times.size), 4))
                series = pynwb.TimeSeries(f"series_{number}", data=data, unit="V", timestamps=self._data(times))
                processing.add(series)
        return file

    def _table_of_units(self) -> Units:
        counts = self._random.integers(SPIKES // 2, SPIKES * 3 // 2, self._units)
        total = int(counts.sum())
        columns = [
            *self._ragged("spike_times", self._random.integers(0, SECONDS * 30_000, total) / 30_000, counts),
            *self._ragged("spike_amplitudes", np.full(total, 1e-4), counts),
            *self._ragged("waveform_mean", np.zeros((self._units * SAMPLES, 384)), np.full(self._units, SAMPLES)),
        ]
        columns += [
            VectorData(name=name, description=name, data=self._random.random(self._units)) for name in METRICS
        ]
        return Units(name="units", description="units", columns=columns, id=list(range(self._units)))

    def _ragged(self, name: str, values: np.ndarray, counts: np.ndarray) -> list[VectorData]:
        data = VectorData(name=name, description=name, data=self._data(values))
        return [data, VectorIndex(name=f"{name}_index", target=data, data=np.cumsum(counts))]

    def _data(self, values: np.ndarray) -> "np.ndarray | H5DataIO":
        is_chunked = self._is_compressed and values.size >= LEAST_CHUNKED
        return H5DataIO(values, compression="gzip", compression_opts=1, chunks=True) if is_chunked else values


def main(form: str, *files: str) -> None:
    """Write them."""
    library = "latest" if form == "compressed" else "earliest"
    for path, seed, units in zip(files[::3], files[1::3], files[2::3], strict=True):
        with h5py.File(path, "w", libver=library) as opened, pynwb.NWBHDF5IO(file=opened, mode="w") as io:
            io.write(Writer(int(seed), int(units), form).file())


if __name__ == "__main__":
    main(*sys.argv[1:])

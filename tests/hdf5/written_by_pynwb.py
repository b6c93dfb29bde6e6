"""A program: writes an NWB file of a session's shape with any pynwb from 2.5 on, whose Python runs it.

    python written_by_pynwb.py PATH

Its arrays are in one piece each, as AllenSDK writes them, and its groups as old as the library makes them.
"""

import sys
from datetime import UTC, datetime

import numpy as np
import pynwb
from pynwb.file import Subject

UNITS, SPIKES, SECONDS = 600, 2000, 3000


def main(path: str) -> None:
    """Write it."""
    random = np.random.default_rng(17)
    file = pynwb.NWBFile("a session", "1", datetime(2026, 11, 30, tzinfo=UTC))
    file.subject = Subject(subject_id="1", species="Mus musculus", age="P100D")
    device = file.create_device("probe")
    group = file.create_electrode_group("probeA", "a probe", "VISp", device)
    file.add_electrode_column("local_index", "the channel")
    for number in range(384):
        file.add_electrode(x=0.0, y=0.0, z=float(number), group=group, location="VISp", local_index=number)
    for name in ("snr", "firing_rate", *(f"metric_{number}" for number in range(20))):
        file.add_unit_column(name, name)
    for _ in range(UNITS):
        times = np.sort(random.random(SPIKES) * SECONDS)
        file.add_unit(spike_times=times, **{name: 1.0 for name in file.units.colnames if name != "spike_times"})
    file.add_trial_column("hit", "whether")
    for number in range(500):
        file.add_trial(start_time=float(number), stop_time=number + 0.5, hit=True)
    for module in ("running", "licking", "rewards", "eye_tracking"):
        processing = file.create_processing_module(module, module)
        for number in range(4):
            data = random.random(200_000)
            series = pynwb.TimeSeries(f"series_{number}", data=data, unit="V", timestamps=np.arange(200_000.0))
            processing.add(series)
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)


if __name__ == "__main__":
    main(sys.argv[1])

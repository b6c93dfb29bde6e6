"""The LFP of one probe: an NWB file beside its session's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pynwb.ecephys import LFP, ElectricalSeries

from vbnfs.demo.chance import stream
from vbnfs.demo.cohort import Cohort
from vbnfs.demo.extensions import extension_type
from vbnfs.demo.nwb import Change, Floats, new_file, series, unchanged, write
from vbnfs.demo.session_file import add_electrodes

_CSD_SAMPLES = 100


def write_lfp(
    path: Path,
    cohort: Cohort,
    session: dict[str, Any],
    probe: dict[str, Any],
    volts: float,
    change: Change = unchanged,
) -> None:
    """Write the file of one probe, given as rows of the tables, after a last change.

    `volts` is what one step of the converter means.
    """
    probe_id, rate = int(probe["ecephys_probe_id"]), float(probe["lfp_sampling_rate"])
    channels = cohort.channels_of(int(session["ecephys_session_id"]))
    channels = channels[channels["ecephys_probe_id"] == probe_id]
    channels = channels.iloc[:: max(1, len(channels) // cohort.scale.lfp_channels)][: cohort.scale.lfp_channels]
    file = new_file(int(session["ecephys_session_id"]), session)
    add_electrodes(file, cohort.probes[cohort.probes["ecephys_probe_id"] == probe_id], channels)
    steps = _steps(stream(cohort.seed, "lfp", probe_id), int(cohort.scale.lfp_seconds * rate), len(channels))
    region = file.create_electrode_table_region(list(range(len(channels))), "channels with LFP")
    recorded = ElectricalSeries(
        name=f"probe_{probe_id}_lfp_data",
        data=steps.astype(np.float32) * np.float32(volts),
        electrodes=region,
        timestamps=np.arange(len(steps)) / rate,
    )
    lfp = LFP(name=f"probe_{probe_id}_lfp")
    file.add_acquisition(lfp)
    lfp.add_electrical_series(recorded)
    module = file.create_processing_module("current_source_density", "Precalculated current source density")
    module.add(_current_source_density(steps[:_CSD_SAMPLES].astype(np.float64) * volts, channels, rate))
    change(file)
    write(path, file)


def _current_source_density(volts: Floats, channels: pd.DataFrame, rate: float) -> Any:
    """Second differences along the probe of `volts`, shape (samples, channels), at all channels but the outer two."""
    density = -np.diff(volts, n=2, axis=1)
    inner = channels.iloc[1:-1]
    return extension_type("EcephysCSD")(
        name="ecephys_csd",
        time_series=series("current_source_density", density, "V/cm^2", np.arange(len(density)) / rate),
        virtual_electrode_x_positions=inner["probe_horizontal_position"].to_numpy(np.float32),
        virtual_electrode_x_positions__unit="um",
        virtual_electrode_y_positions=inner["probe_vertical_position"].to_numpy(np.float32),
        virtual_electrode_y_positions__unit="um",
    )


def _steps(random: np.random.Generator, samples: int, channels: int) -> npt.NDArray[np.int16]:
    """Draw the converter's readings, shape (samples, channels): slow waves that all channels share, and noise."""
    time = np.arange(samples) / 1250
    waves = 300 * np.sin(2 * np.pi * 4 * time) + 80 * np.sin(2 * np.pi * 40 * time)
    depth = np.linspace(1, -1, channels, dtype=np.float32)
    noise = random.standard_normal((samples, channels), dtype=np.float32) * 40
    return np.rint(noise + np.outer(waves.astype(np.float32), depth)).astype(np.int16)

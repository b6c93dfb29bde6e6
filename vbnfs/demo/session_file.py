"""A session's own NWB file: behavior, and in an ecephys session also probes, units and the eye.

LFP has files of its own, as in the dataset (see lfp_file).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pynwb import NWBFile
from pynwb.ecephys import ElectrodesTable
from pynwb.epoch import TimeIntervals
from pynwb.misc import Units

from vbnfs.demo.behavior import add_behavior, draw_task, presentations
from vbnfs.demo.chance import stream
from vbnfs.demo.cohort import Cohort, records
from vbnfs.demo.extensions import extension_type
from vbnfs.demo.nwb import Change, Floats, columns, new_file, ragged, series, unchanged, write

_WAVEFORM_SAMPLES = 82
_OF_THE_CHANNEL = (  # columns of the table of units that the file has in its electrodes only
    *("anterior_posterior_ccf_coordinate", "dorsal_ventral_ccf_coordinate", "left_right_ccf_coordinate"),
    *("probe_horizontal_position", "probe_vertical_position", "structure_acronym", "structure_id", "valid_data"),
)
_EYE_SECONDS = 1 / 30
_TASK_PART = 0.6  # of an ecephys session; then come stimuli without a task


@dataclass(frozen=True, slots=True)
class Processing:
    """What two releases of one session may differ in: the rewards' volume in ml, and the scale of waveforms in µV."""

    reward_volume: float = 0.005
    waveform_scale: float = 1.0


def write_behavior_session(path: Path, cohort: Cohort, row: dict[str, Any]) -> None:
    """Write the file of a behavior-only session, given as a row of the table of behavior sessions."""
    session_id = int(row["behavior_session_id"])
    random = stream(cohort.seed, "behavior file", session_id)
    file = new_file(session_id, row)
    task = draw_task(random, cohort.scale.session_seconds, str(row["image_set"]))
    add_behavior(file, task, random, cohort.scale.template_shape, Processing().reward_volume)
    write(path, file)


def write_ecephys_session(
    path: Path, cohort: Cohort, row: dict[str, Any], processing: Processing, change: Change = unchanged
) -> None:
    """Write the file of an ecephys session, given as a row of the table of ecephys sessions, after a last change."""
    session_id = int(row["ecephys_session_id"])
    random = stream(cohort.seed, "session file", session_id)
    file = new_file(session_id, row)
    seconds = cohort.scale.session_seconds
    task = draw_task(random, seconds * _TASK_PART, str(row["image_set"]))
    add_behavior(file, task, random, cohort.scale.template_shape, processing.reward_volume)
    _add_passive_stimuli(file, float(task.flash_times[-1]) + 1, seconds, random)
    _add_eye(file, seconds, random)
    _add_optotagging(file, seconds, random)
    add_electrodes(file, cohort.probes_of(session_id), cohort.channels_of(session_id))
    file.units = _units(cohort, session_id, random, processing.waveform_scale)
    change(file)
    write(path, file)


def add_electrodes(file: NWBFile, probes: pd.DataFrame, channels: pd.DataFrame) -> None:
    """Add a device and an electrode group for each probe, and the table of the channels; its ids are theirs."""
    groups = {}
    for probe in records(probes):
        device = extension_type("EcephysProbe")(
            name=str(probe["name"]),
            description="Neuropixels 1.0 probe",
            probe_id=int(probe["ecephys_probe_id"]),
            sampling_rate=float(probe["sampling_rate"]),
        )
        group = extension_type("EcephysElectrodeGroup")(
            name=str(probe["name"]),
            description="Ecephys Electrode Group",
            location="See electrode locations",
            device=device,
            has_lfp_data=bool(probe["has_lfp_data"]),
            lfp_sampling_rate=float(probe["lfp_sampling_rate"]),
            probe_id=int(probe["ecephys_probe_id"]),
        )
        file.add_device(device)
        file.add_electrode_group(group)
        groups[probe["ecephys_probe_id"]] = group
    group_of = [groups[probe_id] for probe_id in channels["ecephys_probe_id"]]
    values = {
        "location": channels["structure_acronym"].tolist(),
        "group": group_of,
        "group_name": [group.name for group in group_of],
        "x": channels["anterior_posterior_ccf_coordinate"].to_numpy(np.float32),
        "y": channels["dorsal_ventral_ccf_coordinate"].to_numpy(np.float32),
        "z": channels["left_right_ccf_coordinate"].to_numpy(np.float32),
        "probe_id": channels["ecephys_probe_id"].to_numpy(),
        "probe_channel_number": channels["probe_channel_number"].to_numpy(),
        "probe_vertical_position": channels["probe_vertical_position"].to_numpy(),
        "probe_horizontal_position": channels["probe_horizontal_position"].to_numpy(),
        "valid_data": channels["valid_data"].to_numpy(),
    }
    file.electrodes = ElectrodesTable(columns=columns(values), id=channels["ecephys_channel_id"].tolist())


def _units(cohort: Cohort, session_id: int, random: np.random.Generator, waveform_scale: float) -> Units:
    units = cohort.units_of(session_id)
    scale = cohort.scale
    times, counts = _spike_times(len(units), scale.spikes_per_unit, scale.session_seconds, random)
    amplitudes = np.round(random.normal(1e-4, 2e-5, size=times.size), 9)
    samples = np.full(len(units), _WAVEFORM_SAMPLES)
    metrics: dict[str, Any] = {}
    for name in units.columns.drop(["unit_id", "ecephys_probe_id", "ecephys_session_id", *_OF_THE_CHANNEL]):
        column = units[name]
        metrics[name] = column.to_numpy() if column.dtype.kind in "fib" else column.tolist()
    metrics["peak_channel_id"] = metrics.pop("ecephys_channel_id")
    values = {
        "spike_times": ragged(times, counts),
        "spike_amplitudes": ragged(amplitudes, counts),
        "waveform_mean": ragged(_waveforms(units, scale.channels_per_probe, waveform_scale), samples),
        "cluster_id": units["local_index"].to_numpy(),
        **metrics,
    }
    return Units(name="units", description="Units", columns=columns(values), id=units["unit_id"].tolist())


def _spike_times(units: int, mean_spikes: int, seconds: float, random: np.random.Generator) -> tuple[Floats, Any]:
    """Draw ascending spike times, in samples of 30 kHz, unit after unit; and how many each unit has."""
    counts = random.integers(mean_spikes // 2, mean_spikes * 3 // 2, size=units)
    times = [np.sort(random.integers(int(seconds * 30_000), size=count)) for count in counts]
    return np.concatenate(times) / 30_000, counts


def _waveforms(units: pd.DataFrame, channels: int, scale: float) -> Floats:
    """Return mean waveforms in µV, shape (units * 82, channels): largest on the unit's channel, smaller beside it."""
    time = np.arange(_WAVEFORM_SAMPLES) - 20.0
    shape = -np.exp(-((time / 4) ** 2)) + 0.4 * np.exp(-(((time - 14) / 9) ** 2))
    peak = units["probe_vertical_position"].to_numpy(np.float64)[:, None] / 10
    decay = np.exp(-np.abs(np.arange(channels) - peak) / 8)
    footprint = decay * units["amplitude"].to_numpy(np.float64)[:, None] * scale
    return np.ascontiguousarray(shape[None, :, None] * footprint[:, None, :]).reshape(-1, channels)


def _add_passive_stimuli(file: NWBFile, start: float, stop: float, random: np.random.Generator) -> None:
    """Add grey screens, drifting gabors and full-field flashes from `start` to `stop`."""
    third = (stop - start) / 3
    pauses = np.array([start, start + 2 * third])
    gabors = np.arange(start + third / 4, start + 2 * third, 0.25)
    flashes = np.arange(start + 2.25 * third, stop, 2.0)
    file.add_time_intervals(presentations("spontaneous", pauses, third / 4, block=1))
    file.add_time_intervals(
        presentations(
            "gabor_20_deg_250ms",
            gabors,
            0.25,
            block=2,
            position_x=random.choice(np.arange(-40.0, 41, 10), size=gabors.size),
            position_y=random.choice(np.arange(-40.0, 41, 10), size=gabors.size),
            orientation=random.choice([0.0, 45.0, 90.0], size=gabors.size),
            spatial_frequency=np.full(gabors.size, 0.08),
            temporal_frequency=np.full(gabors.size, 4.0),
            contrast=np.full(gabors.size, 0.8),
        )
    )
    colors = random.choice([-1.0, 1.0], size=flashes.size)
    file.add_time_intervals(presentations("flash_250ms", flashes, 0.25, block=4, color=colors))


def _add_eye(file: NWBFile, seconds: float, random: np.random.Generator) -> None:
    """Add the ellipses of eye, pupil and reflection, blinks, and the rig's geometry."""
    times = np.arange(0.0, seconds, _EYE_SECONDS)
    eye = _ellipses("eye_tracking", times, 150.0, random)
    pupil = _ellipses("pupil_tracking", eye, 30.0, random)
    reflection = _ellipses("corneal_reflection_tracking", eye, 8.0, random)
    blinks = series("likely_blink", random.random(times.size) < 0.02, "N/A", eye)
    tracking = extension_type("EllipseEyeTracking")(
        eye_tracking=eye, pupil_tracking=pupil, corneal_reflection_tracking=reflection, likely_blink=blinks
    )
    file.add_acquisition(tracking)
    places = {
        "camera_position": (102.8, 74.7, 31.6),
        "camera_rotation": (0.0, 0.0, 2.8),
        "led_position": (246.0, 92.3, 52.6),
        "monitor_position": (118.6, 86.2, 31.6),
        "monitor_rotation": (0.0, 0.0, 0.0),
    }
    units = {f"{name}__unit_of_measurement": "deg" if "rotation" in name else "mm" for name in places}
    name = "eye_tracking_rig_metadata"
    rig = file.create_processing_module(name, "Eye tracking rig metadata module")
    values = {place: np.array(coordinates) for place, coordinates in places.items()}
    rig.add(extension_type("OphysEyeTrackingRigMetadata")(name=name, equipment="VBNFS.0", **values, **units))


def _ellipses(name: str, times: Any, radius: float, random: np.random.Generator) -> Any:
    """Make a series of ellipses about as large as a circle of `radius` pixels; `times`, or a series that has them."""
    count = len(times) if isinstance(times, np.ndarray) else len(times.timestamps)
    width, height = np.round(random.normal(radius, radius / 20, size=(2, count)), 4)
    area = np.round(np.pi * width * height, 4)
    return extension_type("EllipseSeries")(
        name=name,
        data=np.round(random.normal((320, 240), 4, size=(count, 2)), 4),
        area=area,
        area_raw=area,
        width=width,
        height=height,
        angle=np.round(random.normal(0, 0.1, size=count), 4),
        timestamps=times,
        unit="pixels",
        reference_frame="nose",
    )


def _add_optotagging(file: NWBFile, seconds: float, random: np.random.Generator) -> None:
    starts = seconds - 10 + np.arange(0, 9, 0.5)
    module = file.create_processing_module("optotagging", "optogenetic stimulation data")
    pulses = series("optotagging", np.full(starts.size, 0.01), "seconds", starts)
    module.add(pulses)
    table = TimeIntervals(name="optogenetic_stimulation", description="laser pulses")
    for name in ("condition", "level", "stimulus_name", "duration"):
        table.add_column(name=name, description=name.replace("_", " "))
    for start, level in zip(starts, random.choice([0.8, 1.0, 1.3], size=starts.size), strict=True):
        table.add_interval(
            start_time=start,
            stop_time=start + 0.01,
            condition="a single square pulse",
            level=level,
            stimulus_name="pulse",
            duration=0.01,
            tags=["optical_stimulation"],
            timeseries=[pulses],
        )
    module.add(table)

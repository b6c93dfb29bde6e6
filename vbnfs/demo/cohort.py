"""Mice, sessions and probes: the five metadata tables of a release, for all its versions.

The tables have the real columns and consistent ids; the NWB files are written from them. All values are drawn; no
animal was recorded. `file_id` is absent, since it depends on the dataset version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd

from vbnfs.demo.chance import stream
from vbnfs.demo.scale import ReleaseScale

_PACIFIC = timezone(timedelta(hours=-7))
_FIRST_DAY = datetime(2020, 6, 30, 11, 7, 43, tzinfo=_PACIFIC)
_GENOTYPES = (
    "wt/wt",
    "Vip-IRES-Cre/wt;Ai32(RCL-ChR2(H134R)_EYFP)/wt",
    "Sst-IRES-Cre/wt;Ai32(RCL-ChR2(H134R)_EYFP)/wt",
)
_STRUCTURES = {  # from the tip of each probe to its top
    "probeA": ("MB", "TH", "DG", "CA1", "VISam"),
    "probeB": ("APN", "LP", "DG", "CA1", "VISpm"),
    "probeC": ("LGd", "LP", "CA3", "CA1", "VISp"),
    "probeD": ("MGd", "PO", "DG", "CA1", "VISl"),
    "probeE": ("SGN", "POL", "CA3", "CA1", "VISal"),
    "probeF": ("MRN", "SUB", "ProS", "CA1", "VISrl"),
}
_METRICS = {  # name of a column of the units: the range that its values are drawn from
    "amplitude_cutoff": (0.0, 0.5),
    "cumulative_drift": (10.0, 900.0),
    "d_prime": (1.0, 9.0),
    "firing_rate": (0.1, 30.0),
    "isi_violations": (0.0, 2.0),
    "isolation_distance": (10.0, 150.0),
    "l_ratio": (0.0, 0.3),
    "max_drift": (5.0, 70.0),
    "nn_hit_rate": (0.5, 1.0),
    "nn_miss_rate": (0.0, 0.05),
    "presence_ratio": (0.7, 1.0),
    "silhouette_score": (-0.1, 0.4),
    "snr": (0.5, 6.0),
    "amplitude": (50.0, 400.0),
    "waveform_duration": (0.1, 1.1),
    "waveform_halfwidth": (0.05, 0.4),
    "PT_ratio": (0.2, 1.2),
    "recovery_slope": (-0.4, 0.0),
    "repolarization_slope": (0.1, 1.5),
    "spread": (20.0, 150.0),
    "velocity_above": (-2.0, 2.0),
    "velocity_below": (-2.0, 2.0),
}
_CCF = ("anterior_posterior", "dorsal_ventral", "left_right")


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """The five tables, each with its id as first column; and the seed and scale that they were drawn with."""

    seed: int
    scale: ReleaseScale
    ecephys_sessions: pd.DataFrame
    behavior_sessions: pd.DataFrame
    probes: pd.DataFrame
    channels: pd.DataFrame
    units: pd.DataFrame

    def probes_of(self, session_id: int) -> pd.DataFrame:
        """Return the rows of an ecephys session's probes."""
        return self.probes[self.probes["ecephys_session_id"] == session_id]

    def channels_of(self, session_id: int) -> pd.DataFrame:
        """Return the rows of an ecephys session's channels."""
        return self.channels[self.channels["ecephys_session_id"] == session_id]

    def units_of(self, session_id: int) -> pd.DataFrame:
        """Return the rows of an ecephys session's units."""
        return self.units[self.units["ecephys_session_id"] == session_id]

    def behavior_only(self) -> pd.DataFrame:
        """Return the behavior sessions that are not part of an ecephys session."""
        return self.behavior_sessions[self.behavior_sessions["ecephys_session_id"].isna()]


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table by the names of its columns."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def make_cohort(seed: int, scale: ReleaseScale) -> Cohort:
    """Draw the tables. There is one behavior-only session more than any dataset version has files of."""
    extra = scale.behavior_sessions + 1 if scale.behavior_sessions else 0
    trainings = _sessions(seed, extra, recorded=False)
    recorded = _sessions(seed, scale.ecephys_sessions, recorded=True)
    sessions = pd.DataFrame(recorded)
    probes = _probes(seed, sessions, scale)
    channels = _channels(seed, probes, scale)
    units = _units(seed, sessions, channels, scale)
    probes = _with_counts(probes, "ecephys_probe_id", channels, units)
    channels = channels.assign(unit_count=_counted(channels, "ecephys_channel_id", units))
    return Cohort(
        seed=seed,
        scale=scale,
        ecephys_sessions=_ecephys_sessions(sessions, probes, channels, units),
        behavior_sessions=pd.DataFrame([*trainings, *recorded]),
        probes=probes,
        channels=channels,
        units=units,
    )


def _sessions(seed: int, count: int, *, recorded: bool) -> list[dict[str, object]]:
    """Draw behavior sessions, one mouse each; `recorded` ones have probes in, and so an ecephys session id."""
    return [_session(seed, index, recorded) for index in range(count)]


def _session(seed: int, index: int, recorded: bool) -> dict[str, object]:
    random = stream(seed, "session", index, recorded)
    day = _FIRST_DAY + timedelta(days=7 * index + (0 if recorded else 400), seconds=int(random.integers(3600)))
    image_set = "H" if recorded and index % 3 == 2 else "G"  # mice are trained with G
    stage = f"EPHYS_1_images_{image_set}_5uL_reward" if recorded else "TRAINING_4_images_G_training"
    rig = f"NP.{int(random.integers(2))}" if recorded else f"BEH.{'BDFG'[index % 4]}-Box{index % 6 + 1}"
    number = int(random.integers(28, 60)) if recorded else int(random.integers(5, 25))
    ecephys_session_id = 1_044_000_000 + 2_000_000 * index + int(random.integers(999_999))
    return {
        "behavior_session_id": 1_000_000_000 + 40_000 * index + int(random.integers(19_000)) + recorded * 20_000,
        "ecephys_session_id": ecephys_session_id if recorded else pd.NA,
        "date_of_acquisition": day,
        "equipment_name": rig,
        "session_type": stage,
        "mouse_id": 524_000 + 137 * index + (0 if recorded else 51),
        "genotype": _GENOTYPES[index % len(_GENOTYPES)],
        "sex": "MF"[index % 2],
        "age_in_days": int(random.integers(120, 180)),
        "session_number": number,
        "prior_exposures_to_session_type": 0 if recorded else int(random.integers(6)),
        "prior_exposures_to_image_set": float(random.integers(10, 40)) if image_set == "G" else 0.0,
        "prior_exposures_to_omissions": 0,
        "image_set": image_set,
    }


def _probes(seed: int, sessions: pd.DataFrame, scale: ReleaseScale) -> pd.DataFrame:
    rows = []
    for index, session_id in enumerate(sessions["ecephys_session_id"]):
        for place in range(max(1, scale.probes - index % 2)):
            random = stream(seed, "probe", session_id, place)
            rows.append(
                {
                    "ecephys_probe_id": int(session_id) + 100_000 + 37 * place + int(random.integers(30)),
                    "ecephys_session_id": int(session_id),
                    "name": list(_STRUCTURES)[place],
                    "sampling_rate": 30_000 + float(random.normal(0, 0.05)),
                    "lfp_sampling_rate": 1250 + float(random.normal(0, 0.002)),
                    "phase": "1.0",
                    "has_lfp_data": True,
                }
            )
    if len(rows) > 1:
        _last_of_second(rows)["has_lfp_data"] = False  # as 4 in 100 real ones
    return pd.DataFrame(rows)


def _last_of_second(probes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The last probe of the second session; of the first one if there is no other."""
    sessions = list(dict.fromkeys(probe["ecephys_session_id"] for probe in probes))
    return [probe for probe in probes if probe["ecephys_session_id"] == sessions[:2][-1]][-1]


def _channels(seed: int, probes: pd.DataFrame, scale: ReleaseScale) -> pd.DataFrame:
    parts = [_channels_of(seed, probe, number, scale) for number, probe in enumerate(records(probes))]
    return pd.concat(parts, ignore_index=True)


def _channels_of(seed: int, probe: dict[str, Any], number: int, scale: ReleaseScale) -> pd.DataFrame:
    count = scale.channels_per_probe
    place = np.arange(count)
    random = stream(seed, "channels", probe["ecephys_probe_id"])
    structures = _STRUCTURES[str(probe["name"])]
    ccf = random.integers(2000, 9000, size=3)[:, None] + np.outer([2, -8, 3], place)
    return pd.DataFrame(
        {
            "ecephys_channel_id": 850_000_000 + 1_000_000 * (seed % 90) + 1000 * number + 2 * place,
            "ecephys_probe_id": probe["ecephys_probe_id"],
            "ecephys_session_id": probe["ecephys_session_id"],
            "probe_channel_number": place,
            "probe_vertical_position": 20 * (place // 2 + 1),
            "probe_horizontal_position": np.array([43, 11, 59, 27])[place % 4],
            **{f"{axis}_ccf_coordinate": ccf[row].astype(float) for row, axis in enumerate(_CCF)},
            "structure_acronym": np.array(structures)[place * len(structures) // count],
            "unit_count": 0,
            "valid_data": random.random(count) > 0.02,
        }
    )


def _units(seed: int, sessions: pd.DataFrame, channels: pd.DataFrame, scale: ReleaseScale) -> pd.DataFrame:
    parts = []
    for index, session_id in enumerate(sessions["ecephys_session_id"]):
        mine = channels[channels["ecephys_session_id"] == session_id]
        random = stream(seed, "units", session_id)
        rows = np.sort(random.integers(len(mine), size=scale.units_per_session))
        numbers = 1_061_000_000 + 1_000_000 * index + 2 * np.arange(scale.units_per_session)
        parts.append(_units_on(mine.iloc[rows].reset_index(drop=True), numbers, random))
    return pd.concat(parts, ignore_index=True)


def _units_on(peak: pd.DataFrame, unit_ids: np.typing.NDArray[np.int64], random: np.random.Generator) -> pd.DataFrame:
    """Draw a unit for each of the rows of `peak`, its channel with the largest waveform."""
    table = pd.DataFrame({"unit_id": unit_ids})
    for column in ("ecephys_channel_id", "ecephys_probe_id", "ecephys_session_id"):
        table[column] = peak[column]
    for name, (low, high) in _METRICS.items():
        table[name] = np.round(random.uniform(low, high, size=len(table)), 6)
    for column in (*(f"{axis}_ccf_coordinate" for axis in _CCF), "structure_acronym"):
        table[column] = peak[column]
    for column in ("probe_horizontal_position", "probe_vertical_position"):
        table[column] = peak[column]
    table["structure_id"] = peak["structure_acronym"].map(_structure_id)
    table["local_index"] = table.groupby("ecephys_probe_id").cumcount()
    table["quality"] = np.where(random.random(len(table)) < 0.8, "good", "noise")
    table["valid_data"] = True
    return table


def _structure_id(acronym: str) -> int:
    names = sorted({name for names in _STRUCTURES.values() for name in names})
    return 300 + 7 * names.index(acronym)


def _ecephys_sessions(
    sessions: pd.DataFrame, probes: pd.DataFrame, channels: pd.DataFrame, units: pd.DataFrame
) -> pd.DataFrame:
    """Complete the recorded behavior sessions to ecephys sessions; the second one has two abnormalities."""
    ids = "ecephys_session_id"
    rows = range(len(sessions))
    return _with_counts(sessions, ids, channels, units).assign(
        project_code="NeuropixelVisualBehavior",
        probe_count=_counted(sessions, ids, probes),
        experience_level=sessions["image_set"].map({"G": "Familiar", "H": "Novel"}),
        abnormal_histology=["['VISp']" if row == 1 else float("nan") for row in rows],
        abnormal_activity=["[341.5, 342.25]" if row == 1 else float("nan") for row in rows],
    )


def _with_counts(table: pd.DataFrame, key: str, channels: pd.DataFrame, units: pd.DataFrame) -> pd.DataFrame:
    """Add how many units and channels belong to each row, and the structures that they are in, as a list's repr."""
    structures = channels.groupby(key)["structure_acronym"].agg(lambda names: str(sorted(set(names))))
    return table.assign(
        unit_count=_counted(table, key, units),
        channel_count=_counted(table, key, channels),
        structure_acronyms=table[key].map(structures),
    )


def _counted(table: pd.DataFrame, key: str, parts: pd.DataFrame) -> pd.Series[int]:
    return table[key].map(parts[key].value_counts()).fillna(0).astype(int)

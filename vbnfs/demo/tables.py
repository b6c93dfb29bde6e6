"""The five metadata tables of one dataset version, as csv files with the real columns in their real order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from vbnfs.demo.cohort import Cohort

NO_FILE = -999  # what the real tables hold as file_id where there is no file

_CCF = ("anterior_posterior_ccf_coordinate", "dorsal_ventral_ccf_coordinate", "left_right_ccf_coordinate")
_COLUMNS = {
    "units": (
        *("unit_id", "ecephys_channel_id", "ecephys_probe_id", "ecephys_session_id", "amplitude_cutoff", *_CCF),
        *("cumulative_drift", "d_prime", "structure_acronym", "structure_id", "firing_rate", "isi_violations"),
        *("isolation_distance", "l_ratio", "local_index", "max_drift", "nn_hit_rate", "nn_miss_rate"),
        *("presence_ratio", "probe_horizontal_position", "probe_vertical_position", "silhouette_score", "snr"),
        *("quality", "valid_data", "amplitude", "waveform_duration", "waveform_halfwidth", "PT_ratio"),
        *("recovery_slope", "repolarization_slope", "spread", "velocity_above", "velocity_below"),
    ),
    "probes": (
        *("ecephys_probe_id", "ecephys_session_id", "name", "sampling_rate", "lfp_sampling_rate", "phase"),
        *("has_lfp_data", "unit_count", "channel_count", "structure_acronyms", "file_id"),
    ),
    "channels": (
        *("ecephys_channel_id", "ecephys_probe_id", "ecephys_session_id", "probe_channel_number"),
        *("probe_vertical_position", "probe_horizontal_position", *_CCF, "structure_acronym", "unit_count"),
        "valid_data",
    ),
    "ecephys_sessions": (
        *("ecephys_session_id", "behavior_session_id", "date_of_acquisition", "equipment_name", "session_type"),
        *("mouse_id", "genotype", "sex", "project_code", "age_in_days", "unit_count", "probe_count"),
        *("channel_count", "structure_acronyms", "image_set", "prior_exposures_to_image_set", "session_number"),
        *("experience_level", "prior_exposures_to_omissions", "file_id", "abnormal_histology"),
        "abnormal_activity",
    ),
    "behavior_sessions": (
        *("behavior_session_id", "equipment_name", "genotype", "mouse_id", "sex", "age_in_days"),
        *("session_number", "prior_exposures_to_session_type", "prior_exposures_to_image_set"),
        *("prior_exposures_to_omissions", "ecephys_session_id", "date_of_acquisition", "session_type"),
        *("image_set", "file_id"),
    ),
}
STEMS = tuple(_COLUMNS)  # in the order of the real manifests


def write_tables(directory: Path, cohort: Cohort, version: tuple[int, ...], file_ids: Mapping[int, int]) -> None:
    """Write `<stem>.csv` for each of STEMS; `file_ids` maps the id of a session or probe to that of its file.

    Before 0.4.0 probes and behavior sessions name no files; before 0.5.0 units have no quality; and 0.1.0 does not
    know where in the brain its units are, which is all that 0.2.0 changes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for stem, columns in _COLUMNS.items():
        table: pd.DataFrame = getattr(cohort, stem)
        table = table.assign(file_id=[file_ids.get(key, NO_FILE) for key in table[columns[0]]])
        if stem == "units" and version < (0, 2, 0):
            table[list(_CCF)] = float("nan")
        kept = [column for column in columns if column not in _later_columns(stem, version)]
        table[kept].to_csv(directory / f"{stem}.csv", index=False)


def _later_columns(stem: str, version: tuple[int, ...]) -> set[str]:
    if stem in {"probes", "behavior_sessions"} and version < (0, 4, 0):
        return {"file_id"}
    return {"quality"} if stem == "units" and version < (0, 5, 0) else set()

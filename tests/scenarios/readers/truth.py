"""What the files of a release say when they are read where they were made, on a local disk."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd


@dataclass
class Truth:
    """The original files of a dataset version, by path in the version's folder; and values of its first session."""

    originals: dict[str, Path]

    @cached_property
    def session_path(self) -> str:
        """The path of the session's file."""
        return min(path for path in self.originals if "/ecephys_session_" in path)

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self.session_path.split("/")[1]

    @property
    def lfp_path(self) -> str:
        """The path of the session's first LFP file."""
        return f"behavior_ecephys_sessions/{self.session_id}/probe_probeA_lfp.nwb"

    @cached_property
    def units(self) -> pd.DataFrame:
        """The table of units."""
        return self.table("units")

    def table(self, stem: str) -> pd.DataFrame:
        """One of the five tables."""
        return pd.read_csv(self.originals[f"project_metadata/{stem}.csv"])

    def array(self, name: str) -> npt.NDArray[Any]:
        """A dataset of the session's file."""
        with h5py.File(self.originals[self.session_path]) as file:
            array: npt.NDArray[Any] = file[name][()]
            return array

    def texts(self, name: str) -> list[str]:
        """A dataset of texts of the session's file."""
        with h5py.File(self.originals[self.session_path]) as file:
            return list(file[name].asstr()[()])

    def lfp(self) -> npt.NDArray[np.float32]:
        """The first LFP file's samples, shape (times, channels), in volts."""
        with h5py.File(self.originals[self.lfp_path]) as file:
            [group] = file["acquisition"].values()
            [series] = group.values()
            samples: npt.NDArray[np.float32] = series["data"][()]
            return samples

    def spike_times(self, unit: int) -> npt.NDArray[np.float64]:
        """The spike times of one of the session's units, in seconds."""
        ends = [0, *self.array("units/spike_times_index")]
        return self.array("units/spike_times")[ends[unit] : ends[unit + 1]]

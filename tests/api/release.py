"""A small release of two versions, with a genuine session, for what is written about the Python API."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import h5py
import numpy as np
import pynwb

from tests.fakes.dataset import serve
from tests.fakes.s3_server import FakeS3Server
from tests.fakes.store import Data

SESSION_ID: Final = 1044385384
FOLDER: Final = f"behavior_ecephys_sessions/{SESSION_ID}"
SESSION: Final = f"{FOLDER}/ecephys_session_{SESSION_ID}.nwb"
LFP: Final = f"{FOLDER}/probe_probeA_lfp.nwb"
UNITS: Final = "project_metadata/units.csv"
_TABLES: Final = {
    "ecephys_sessions": "ecephys_session_id,mouse_id,experience_level,unit_count,file_id\n"
    f"{SESSION_ID},524761,Novel,2,0\n1044594870,524762,Familiar,1,-999\n",
    "behavior_sessions": f"behavior_session_id,ecephys_session_id,mouse_id\n1,{SESSION_ID},524761\n2,,524762\n",
    "probes": f"ecephys_probe_id,ecephys_session_id,name,file_id\n1000,{SESSION_ID},probeA,1\n",
    "channels": "ecephys_channel_id,ecephys_probe_id,structure_acronym\n100,1000,VISp\n101,1000,CA1\n",
    "units": "unit_id,ecephys_session_id,ecephys_channel_id,snr\n"
    f"10,{SESSION_ID},100,1.5\n11,{SESSION_ID},101,2.5\n12,1044594870,102,3.5\n",
}


def write_session(path: Path) -> None:
    """An NWB file with one unit of 1,000 spikes, one every half second."""
    began = datetime(2020, 8, 19, tzinfo=UTC)
    file = pynwb.NWBFile("a small session", str(SESSION_ID), began, session_id=str(SESSION_ID))
    file.add_unit(spike_times=np.arange(1000) / 2)
    with pynwb.NWBHDF5IO(path, "w") as opened:
        opened.write(file)


@contextmanager
def serving(directory: Path) -> Iterator[FakeS3Server]:
    """A server of the release; its files are made in `directory`."""
    write_session(directory / "session.nwb")
    with h5py.File(directory / "lfp.nwb", "w") as lfp:
        lfp["data"] = np.arange(10_000, dtype="f4").reshape(2500, 4)
    new: dict[str, Data] = {f"project_metadata/{name}.csv": text.encode() for name, text in _TABLES.items()}
    new |= {SESSION: (directory / "session.nwb").read_bytes(), LFP: (directory / "lfp.nwb").read_bytes()}
    old = new | {UNITS: new[UNITS][:].replace(b"1.5", b"1.4")}
    with serve({"0.4.0": old, "0.5.0": new}) as server:
        yield server

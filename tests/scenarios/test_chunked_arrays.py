"""What parts of compressed arrays of pynwb's cost: ten seconds of one LFP channel, the spikes of one unit."""

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from hdmf.backends.hdf5 import H5DataIO
from pynwb import NWBFile

from tests.fakes.s3_server import FakeS3Server
from tests.fixtures_mount import Mounts
from tests.hdf5 import written_by_pynwb
from tests.scenarios.hdf5_programs import LFP_SAMPLES, Programs, read_one_channel, read_one_unit
from tests.scenarios.opening import measure, serving
from vbnfs.demo.cohort import make_cohort, records
from vbnfs.demo.lfp_file import write_lfp
from vbnfs.demo.scale import ReleaseScale

pytestmark = pytest.mark.slow
TRIES = 2
BESIDE_BYTES = 3_000_000  # structure, and what the kernel reads behind a chunk


def compress(file: NWBFile) -> None:
    """Have an LFP stored in compressed chunks of 4 MiB, as hdmf makes them."""
    [lfp] = file.acquisition.values()
    [series] = lfp.electrical_series.values()
    series.set_data_io("data", H5DataIO, {"compression": "gzip", "compression_opts": 1, "chunks": True})


@pytest.fixture(scope="module")
def lfp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LFP of a minute."""
    cohort = make_cohort(17, replace(ReleaseScale.real_session(), units_per_session=100, lfp_seconds=60))
    session = records(cohort.ecephys_sessions)[0]
    probes = records(cohort.probes_of(int(session["ecephys_session_id"])))
    path = tmp_path_factory.mktemp("lfp") / "lfp.nwb"
    write_lfp(path, cohort, session, next(probe for probe in probes if probe["has_lfp_data"]), 1e-7, compress)
    return path


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session with the spikes of 300 units, 50 of which share a chunk."""
    path = tmp_path_factory.mktemp("units") / "units.nwb"
    program = [sys.executable, "-W", "ignore", written_by_pynwb.__file__, "compressed", path, "5", "300"]
    subprocess.run(program, check=True)
    return path


def chunk_bytes(dataset: h5py.Dataset, start: int, stop: int) -> int:
    """How much of the file the chunks take that have some rows of an array."""
    rows = dataset.chunks[0]
    firsts = range(start // rows * rows, stop, rows)
    others = (0,) * (dataset.ndim - 1)
    return sum(dataset.id.get_chunk_info_by_coord((first, *others)).size for first in firsts)


def asked_bytes(server: FakeS3Server) -> int:
    """How many bytes were asked for, whether they have come or not."""
    spans = (re.findall(r"\d+", each.headers["range"]) for each in server.requests if each.kind == "get_range")
    return sum(int(last) + 1 - int(first) for first, last in spans)


def least_cost(
    mounts: Mounts, path: Path, work: Callable[[str], None], directory: Path, needed_bytes: int
) -> tuple[int, int]:
    """The rounds and bytes of a work that finds nothing cached: the least of some.

    A walk is behind programs for the processor. Where all of it is wanted, it may be too late for one.
    """
    copies: Mapping[str, Path] = {f"{number}": directory / f"{number}.nwb" for number in range(TRIES)}
    costs = []
    for number, copy in enumerate(copies.values()):
        copy.write_bytes(path.read_bytes() + bytes(number))  # another content
    with serving(copies) as server, Programs() as programs:
        mount = mounts(server.endpoint_url)
        for name in copies:
            rounds = measure(mount, server, programs, name, work).rounds
            costs.append((asked_bytes(server), rounds))
            print(needed_bytes, costs)
        mount.umount()
    return min(costs)


def test_one_channel_of_a_compressed_lfp(mounts: Mounts, lfp: Path, tmp_path: Path) -> None:
    """The two chunks come in which its ten seconds are, in at most 8 rounds, and nothing behind them."""
    with h5py.File(lfp) as file:
        [probe] = file["acquisition"].values()
        [series] = (item for item in probe.values() if "data" in item)
        needed_bytes = chunk_bytes(series["data"], 0, LFP_SAMPLES)
        assert needed_bytes < series["data"].id.get_storage_size() / 3
    asked, rounds = least_cost(mounts, lfp, read_one_channel, tmp_path, needed_bytes)
    assert asked <= needed_bytes + BESIDE_BYTES
    assert rounds <= 8


def test_one_unit_of_compressed_spikes(mounts: Mounts, units: Path, tmp_path: Path) -> None:
    """The index comes, and then the one chunk or two in which its spikes are."""
    with h5py.File(units) as file:
        index, times = (file["units"][name] for name in ("spike_times_index", "spike_times"))
        needed_bytes = chunk_bytes(times, int(index[99]), int(index[100]))
    asked, rounds = least_cost(mounts, units, read_one_unit, tmp_path, needed_bytes)
    assert asked <= needed_bytes + 2 * BESIDE_BYTES
    assert rounds <= 8
